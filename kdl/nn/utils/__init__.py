"""Helpers around modules, under the names of torch.nn.utils."""
from kdl.nn.utils import rnn as rnn
from kdl.nn.utils.gradients import *
