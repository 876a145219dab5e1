"""Layers, losses and their initialisation, under the names of torch.nn."""
from kdl.nn import functional, init, utils
from kdl.nn.activation import *
from kdl.nn.adaptive import *
from kdl.nn.attention import *
from kdl.nn.batchnorm import *
from kdl.nn.containers import *
from kdl.nn.conv import *
from kdl.nn.dropout import *
from kdl.nn.embedding import *
from kdl.nn.gemm import *
from kdl.nn.lazy import *
from kdl.nn.loss import *
from kdl.nn.module import Module
from kdl.nn.norm import *
from kdl.nn.pad import *
from kdl.nn.parameter import Buffer, Parameter
from kdl.nn.pool import *
from kdl.nn.recurrent import *
from kdl.nn.resample import *
from kdl.nn.shape import *
from kdl.nn.softmax import *
from kdl.nn.transformer import *
