"""The functions behind the layers, under the names of torch.nn.functional."""
from kdl.ops.activation import *
