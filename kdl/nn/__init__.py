"""Layers, losses and their initialisation, under the names of torch.nn."""
from kdl.nn import functional
