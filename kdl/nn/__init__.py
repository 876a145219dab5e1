"""Layers, losses and their initialisation, under the names of torch.nn."""
from kdl.nn import functional
from kdl.nn.module import Module
from kdl.nn.parameter import Parameter
