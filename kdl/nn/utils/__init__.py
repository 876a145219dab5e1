"""Helpers around modules, under the names of torch.nn.utils."""
from kdl.nn.utils import parametrizations as parametrizations
from kdl.nn.utils import parametrize as parametrize
from kdl.nn.utils import rnn as rnn
from kdl.nn.utils.fusion import *
from kdl.nn.utils.gradients import *
from kdl.nn.utils.hooks import *
