"""Random orders."""
import numpy as np

from kdl import random


def draw_seed(generator=None):
    """A seed drawn from the generator, or from the default one: one draw however long the order."""
    return int(random.randint(2**62, (), generator=generator))


def permutation(n, generator=None, seed=None):
    """0 ... n - 1 in random order, from a seed or from one drawn from the generator."""
    return np.random.default_rng(draw_seed(generator) if seed is None else seed).permutation(n)
