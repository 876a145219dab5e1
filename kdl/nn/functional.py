"""The functions behind the layers, under the names of torch.nn.functional."""
from kdl.ops.activation import *
from kdl.ops.pad import *
from kdl.ops.pool import *
