"""kdl: a deep-learning layer library on hand-written kernels, for NumPy and CuPy arrays, with torch's names."""
from math import e, inf, nan, pi

from numpy import dtype, newaxis

from kdl import autograd, kernels
from kdl.autograd import (enable_grad, grad, inference_mode, is_grad_enabled, is_inference_mode_enabled, no_grad,
                          set_grad_enabled)
from kdl.kernels import explain
from kdl.ops.activation import (celu, celu_, hardshrink, prelu, relu, relu_, selu, selu_, sigmoid, sigmoid_, tanh,
                                tanh_, threshold, threshold_)
from kdl.ops.arrange import *
from kdl.ops.compare import *
from kdl.ops.contract import *
from kdl.ops.convert import *
from kdl.ops.creation import *
from kdl.ops.decomposition import cholesky_inverse, cholesky_solve, logdet, pinverse, slogdet
from kdl.ops.distance import *
from kdl.ops.elementwise import *
from kdl.ops.extremum import *
from kdl.ops.conv import get_conv_precision, set_conv_precision
from kdl.ops.gemm import (addmm, baddbmm, bmm, dot, get_float32_matmul_precision, matmul, mm, mv, outer,
                          set_float32_matmul_precision)
from kdl.ops.indexing import *
from kdl.ops.inplace import *
from kdl.ops.join import *
from kdl.ops.linalg import *
from kdl.ops.maths import *
from kdl.ops.place import *
from kdl.ops.recurrent import *
from kdl.ops.reduce import *
from kdl.ops.scan import *
from kdl.ops.select import *
from kdl.ops.shape import *
from kdl.ops.softmax import log_softmax, softmax
from kdl.ops.sorting import *
from kdl.ops.special import *
from kdl.ops.stochastic import rrelu, rrelu_
from kdl.ops.typed import *
from kdl.random import *
from kdl.serialization import load, save
from kdl.tensor import Size, Tensor, set_printoptions
from kdl.types import (MemoryFormat as memory_format, bfloat16, boolean as bool, channels_last, channels_last_3d,
                       contiguous_format, device, finfo, float16, float32, float64, get_default_dtype, iinfo, int8,
                       int16, int32, int64, preserve_format, promote_types, result_type, set_default_dtype, uint8)
from kdl import amp, backends, cuda, data, distributions, linalg, nn, optim, torch, utils
from kdl.amp import GradScaler
from kdl.autograd.autocast import (autocast, clear_autocast_cache, get_autocast_dtype, is_autocast_cache_enabled,
                                   is_autocast_enabled)
from kdl.backends import (are_deterministic_algorithms_enabled, get_num_threads, set_num_threads,
                          use_deterministic_algorithms)
from kdl.nn.functional import (adaptive_avg_pool1d, avg_pool1d, bilinear, channel_shuffle, conv1d, conv2d, conv3d,
                               conv_transpose1d, conv_transpose2d, conv_transpose3d, cosine_similarity, group_norm,
                               layer_norm, max_pool1d, max_pool1d_with_indices, max_pool2d, max_pool3d,
                               pairwise_distance, pixel_shuffle, pixel_unshuffle, rms_norm)
from kdl.torch import from_torch, to_torch
from kdl.utils.summary import summary

half, float, double = float16, float32, float64
short, int, long = int16, int32, int64
ger = outer

__version__ = "0.1.0"


def __getattr__(name):
    """kdl.onnx, imported when it is first used: it needs the onnx package."""
    if name == "onnx":
        from importlib import import_module
        return import_module("kdl.onnx")
    raise AttributeError(f"module 'kdl' has no attribute {name!r}")
