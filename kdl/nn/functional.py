"""The functions behind the layers, under the names of torch.nn.functional."""
from kdl.ops.activation import *
from kdl.ops.attention import *
from kdl.ops.batchnorm import *
from kdl.ops.conv import *
from kdl.ops.ctc import *
from kdl.ops.distance import pdist as pdist
from kdl.ops.dropout import *
from kdl.ops.embedding import *
from kdl.ops.fractional_pool import *
from kdl.ops.gemm import bilinear as bilinear
from kdl.ops.gemm import linear as linear
from kdl.ops.grid import *
from kdl.ops.loss import *
from kdl.ops.lp_pool import *
from kdl.ops.margin import *
from kdl.ops.norm import *
from kdl.ops.pad import *
from kdl.ops.patches import *
from kdl.ops.pool import *
from kdl.ops.resample import *
from kdl.ops.softmax import *
from kdl.ops.sorting import one_hot as one_hot
from kdl.ops.stochastic import *
