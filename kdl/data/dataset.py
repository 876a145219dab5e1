"""Datasets: examples by index, and ways to divide them."""
import math

import numpy as np

from kdl.errors import expect, expect_type
from kdl.random import randperm
from kdl.tensor import Tensor, array_module

__all__ = ["Dataset", "Subset", "TensorDataset", "default_collate", "random_split", "train_test_split"]


class Dataset:
    """The base class: a subclass gives `__len__` and `__getitem__(index)`, one example.

    A DataLoader asks for whole batches by `batch`; overriding it saves the way through single examples.
    """

    def __getitem__(self, index):
        raise NotImplementedError(f"{type(self).__name__}: __getitem__ is not defined")

    def batch(self, indices):
        """The examples at an integer array of indices, put together by `default_collate`."""
        return default_collate([self[int(i)] for i in indices])


class TensorDataset(Dataset):
    """Tensors (or arrays) of one length: example i is the tuple of their i-th elements.

    Batches are cut out of whole arrays. Raises ValueError for different lengths.
    """

    def __init__(self, *tensors):
        expect(tensors, "TensorDataset", "at least one tensor", tensors=0)
        self.tensors = tuple([x if isinstance(x, Tensor) else Tensor(x) for x in tensors])
        shapes = [tuple(x.shape) for x in self.tensors]
        expect(all(shape[:1] == shapes[0][:1] != () for shape in shapes), "TensorDataset",
               "tensors with one first length", shapes=shapes)

    def __len__(self):
        return len(self.tensors[0])

    def __getitem__(self, index):
        return tuple([x[index] for x in self.tensors])

    def batch(self, indices):
        """The elements of every tensor at an integer array of indices, as a list of tensors."""
        if type(self).__getitem__ is not TensorDataset.__getitem__:  # a subclass changes its examples
            return super().batch(indices)
        return [Tensor(_take(x.array, indices)) for x in self.tensors]


class Subset(Dataset):
    """The examples of a dataset at the given indices."""

    def __init__(self, dataset, indices):
        self.dataset, self.indices = dataset, np.asarray(indices, np.int64)

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, index):
        return self.dataset[int(self.indices[index])]

    def batch(self, indices):
        """The examples at an integer array of indices into the subset."""
        if isinstance(self.dataset, Dataset):
            return self.dataset.batch(self.indices[indices])
        return super().batch(indices)


def _take(array, indices):
    xp = array_module(array)
    return xp.take(array, xp.asarray(indices), axis=0)


def default_collate(samples):
    """A list of examples as one batch of the same structure: tensors, arrays and numbers are stacked along a new first
    dimension, tuples and lists become lists, dicts stay dicts, strings stay a list.

    Python floats become float64, ints int64. Raises ValueError for examples of different shapes, TypeError for others.
    """
    first = samples[0]
    if isinstance(first, Tensor):
        return Tensor(_stack([x.array for x in samples]))
    if isinstance(first, np.ndarray):
        return Tensor(_stack(samples))
    if isinstance(first, (bool, int, float, np.generic)):
        return Tensor(np.asarray(samples))
    if isinstance(first, (str, bytes)):
        return samples
    if isinstance(first, dict):
        return {key: default_collate([x[key] for x in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        lengths = {len(x) for x in samples}
        expect(len(lengths) == 1, "default_collate", "examples of one length", lengths=sorted(lengths))
        parts = [default_collate(list(part)) for part in zip(*samples, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else parts
    raise TypeError(f"default_collate: expected tensors, arrays, numbers, strings, or tuples, lists and dicts of them, "
                    f"got {type(first).__name__}; pass a collate_fn")


def _stack(arrays):
    shapes = {array.shape for array in arrays}
    expect(len(shapes) == 1, "default_collate", "examples of one shape; pass a collate_fn for others",
           shapes=sorted(shapes))
    return array_module(arrays[0]).stack(arrays)


def random_split(dataset, lengths, generator=None):
    """Subsets of the given lengths, or fractions that sum to 1, drawn without replacement.

    Of fractions each subset gets the floor, and the first ones what is left over, one each. Raises ValueError.
    """
    n = len(dataset)
    if lengths and all(0 <= part <= 1 for part in lengths) and math.isclose(sum(lengths), 1):
        fractions, lengths = lengths, [math.floor(n * part) for part in lengths]
        for i in range(n - sum(lengths)):
            lengths[i % len(fractions)] += 1
    expect(sum(lengths) == n, "random_split", "lengths that sum to the dataset's, or fractions that sum to 1",
           lengths=list(lengths), dataset=n)
    order = randperm(n, generator=generator).array
    ends = np.cumsum(lengths)
    return [Subset(dataset, order[end - length:end]) for end, length in zip(ends, lengths, strict=True)]


def train_test_split(*arrays, test_size=0.25, generator=None):
    """Divide arrays or tensors of one length by one random order: train, test, train, test, ... in the order given.

    `test_size` is a fraction (rounded up) or a number of examples. Raises ValueError, TypeError.
    """
    expect(arrays, "train_test_split", "at least one array", arrays=0)
    for x in arrays:
        expect_type(hasattr(x, "shape"), "train_test_split", "arrays or tensors", one=type(x).__name__)
    lengths = [len(x) for x in arrays]
    n = lengths[0]
    expect(lengths == [n] * len(lengths), "train_test_split", "arrays of one length", lengths=lengths)
    tests = math.ceil(test_size * n) if isinstance(test_size, float) else test_size
    expect(0 < tests < n, "train_test_split", "at least one example on either side", test_size=test_size, examples=n)
    order = randperm(n, generator=generator).array
    parts = []
    for x in arrays:
        for indices in (order[tests:], order[:tests]):
            parts.append(Tensor(_take(x.array, indices)) if isinstance(x, Tensor) else _take(x, indices))
    return parts
