"""Mixed precision: inside `autocast` products compute in a low precision, what would lose by that in float32.

The tape casts what a Function gets, by its policy on the inputs' device: LOWER (products, convolutions, attention,
recurrent layers) to the low dtype; WIDER (losses; on GPUs also softmax and norms) to float32; FIRST (norms on the CPU)
to the dtype of the first input. Elementwise functions and reductions compute halves in float32 anyway: those of
WIDER_OPS do not round the result back. Everything else promotes its operands, as it does outside. float64 is never
cast. The lists are torch's. (Micikevicius et al., 2018.)
"""
import warnings
from functools import cache, wraps

import numpy as np

from kdl import types
from kdl.autograd.mode import current
from kdl.kernels import cuda
from kdl.tensor import Tensor

active = []  # one entry for every autocast that some thread is inside of: nothing is looked up while it is empty

_PRODUCTS = {"Attention", "Convolution", "ConvolutionTranspose", "GRU", "LSTM", "Linear", "MatMul", "PReLU", "RNN"}
_LOSSES = {"CTCLoss", "CrossEntropy", "MultiLabelMargin", "MultiMargin", "NLLLoss", "SoftCrossEntropy"}
_NORMS = {"GroupNorm", "LayerNorm", "RMSNorm"}
LOWER = {"cpu": _PRODUCTS, "cuda": _PRODUCTS | {"MatVec"}}
WIDER = {"cpu": _LOSSES | {"Euclidean"},
         "cuda": _LOSSES | _NORMS | {"Euclidean", "LogSoftmax", "Resample", "Softmax", "Softplus"}}
FIRST = {"cpu": _NORMS, "cuda": set()}

_LOSS_OPS = {"binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss",
             "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "margin_ranking_loss", "mse_loss",
             "multi_margin_loss", "multilabel_margin_loss", "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss",
             "triplet_margin_loss"}
WIDER_OPS = {"cpu": _LOSS_OPS | {"cdist", "prod"},
             "cuda": _LOSS_OPS | {"acos", "asin", "cdist", "cosh", "cosine_similarity", "cumprod", "cumsum", "dist",
                                  "erfinv", "exp", "expm1", "log", "log10", "log1p", "log2", "logsumexp", "norm",
                                  "pow", "prod", "reciprocal", "renorm", "rsqrt", "sinh", "sum", "tan"}}
MIXING = {"baddbmm", "addmm", "bmm", "bilinear", "cosine_similarity", "cdist", "cross_entropy", "group_norm", "gru",
          "gru_cell", "instance_norm", "layer_norm", "linear", "lstm", "lstm_cell", "matmul", "mm",
          "multi_margin_loss", "mv", "nll_loss", "prelu", "rms_norm", "rnn_relu", "rnn_relu_cell", "rnn_tanh",
          "rnn_tanh_cell", "scaled_dot_product_attention", "multi_head_attention_forward",
          *(f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3))}
_SUPPORTED = {"cpu": types.HALVES, "cuda": types.HALVES}
_USUAL = {"cpu": types.bfloat16, "cuda": types.float16}


class autocast:
    """Mixed precision on a kind of device, "cpu" or "cuda", inside a block, or inside a function as a decorator.

    dtype is the low precision: bfloat16 on the CPU and float16 on GPUs unless given. With enabled=False the block
    computes as usual. Low copies of leaves that require grad are kept until the outermost block ends, unless
    cache_enabled is False. Backward needs no autocast. Raises ValueError, RuntimeError.
    """

    def __init__(self, device_type, dtype=None, enabled=True, cache_enabled=None):
        if not isinstance(device_type, str):
            raise ValueError(f"autocast: expected device_type to be a string, got {device_type!r}")
        if device_type not in _USUAL:
            raise RuntimeError(f"autocast: expected device_type 'cpu' or 'cuda', got {device_type!r}")
        self.device_type, self.cache_enabled = device_type, cache_enabled
        self.dtype = _USUAL[device_type] if dtype is None else types.as_dtype(dtype)
        if enabled and device_type == "cuda" and not cuda.available():
            warnings.warn("autocast: no GPU can be used; disabled", stacklevel=2)
            enabled = False
        if enabled and self.dtype not in _SUPPORTED[device_type]:
            warnings.warn(f"autocast: expected float16 or bfloat16, got {self.dtype}; disabled", stacklevel=2)
            enabled = False
        self.enabled = bool(enabled)
        self.before = []

    def __enter__(self):
        self.before.append((current.low, current.keep_casts))
        current.low = {**current.low, self.device_type: self.dtype if self.enabled else None}
        if self.cache_enabled is not None:
            current.keep_casts = self.cache_enabled
        active.append(None)
        return self

    def __exit__(self, *exception):
        active.pop()
        current.low, current.keep_casts = self.before.pop()
        if not current.low:
            clear_autocast_cache()

    def __call__(self, function):
        @wraps(function)
        def wrapped(*args, **kwargs):
            with autocast(self.device_type, self.dtype, self.enabled, self.cache_enabled):
                return function(*args, **kwargs)
        return wrapped


def is_autocast_enabled(device_type="cuda"):
    """Whether this thread is inside an enabled `autocast` for the kind of device."""
    return current.low.get(device_type) is not None


def get_autocast_dtype(device_type):
    """The low precision of the innermost `autocast` for the kind of device, or what it would be."""
    return current.low.get(device_type) or _USUAL[device_type]


def is_autocast_cache_enabled():
    """Whether low copies of parameters are kept."""
    return current.keep_casts


def clear_autocast_cache():
    """Forget the low copies of parameters."""
    current.casts = None


# --- what the tape and the operations ask while `active` is not empty ---
def cast_inputs(function, inputs):
    """The inputs of a Function, cast by its policy. Raises TypeError where float64 meets what was cast."""
    kind = next((x.device.type for x in inputs if isinstance(x, Tensor)), "cpu")
    low = current.low.get(kind)
    policy = _policy(type(function), kind) if low is not None else None
    if policy is None:
        return inputs
    floats = [x.dtype for x in inputs if getattr(x, "dtype", None) in types.FLOATS]
    if not floats:
        return inputs
    target = {"lower": low, "wider": types.float32, "first": floats[0]}[policy]
    if types.float64 in floats:
        if any(dtype != types.float64 for dtype in floats):
            raise TypeError(f"autocast: {type(function).__name__} cannot compute with float64 and {target}")
        return inputs
    return tuple([x if getattr(x, "dtype", target) == target or x.dtype not in types.FLOATS else _cast(x, target)
                  for x in inputs])


@cache
def _policy(cls, kind):
    """"lower", "wider", "first" or None, of a Function of kdl's on a kind of device."""
    if not cls.__module__.startswith("kdl.ops."):
        return None
    return next((policy for policy, names in (("lower", LOWER), ("wider", WIDER), ("first", FIRST))
                 if cls.__name__ in names[kind]), None)


def _cast(x, dtype):
    if not isinstance(x, Tensor):
        return x.astype(dtype)
    if not (current.keep_casts and x.is_leaf and x._requires_grad and not x.is_view and x.array.dtype == types.float32):
        return x.to(dtype)
    if current.casts is None:
        current.casts = {}
    key = id(x), dtype, current.enabled
    kept = current.casts.get(key)
    if kept is None or kept[0] is not x or kept[1] is not x.version or kept[2] != x.version[0]:
        kept = current.casts[key] = x, x.version, x.version[0], x.to(dtype)
    return kept[3]


def mixes(op):
    """Whether an operation takes tensors of different floating-point dtypes here: its Function casts them."""
    return op in MIXING and any(current.low.values())


def widens(op, x):
    """Whether an operation gives float32 for halves: then what it computed in float32 is not rounded back to them."""
    kind = "cpu" if type(x.array) is np.ndarray else "cuda"
    return current.low.get(kind) is not None and op in WIDER_OPS[kind]


def widened(op, *tensors):
    """The tensors that a composite operation starts from, halves in float32 where it gives float32 for them."""
    return [x.to(types.float32) if x.dtype in types.HALVES and widens(op, x) else x for x in tensors]
