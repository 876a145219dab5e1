"""First values for parameters. Every function fills the tensor in place, unrecorded, and returns it.

fan_in is the number of inputs of one output (columns of a matrix; input channels per group x kernel size for a
convolution), fan_out the number of outputs of one input.
"""
import math

from kdl.autograd import no_grad
from kdl.errors import expect
from kdl.random import randperm
from kdl.tensor import Tensor, array_module

__all__ = ["calculate_gain", "constant_", "dirac_", "eye_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_",
           "orthogonal_", "sparse_", "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_"]

_GAINS = {"linear": 1, "conv1d": 1, "conv2d": 1, "conv3d": 1, "conv_transpose1d": 1, "conv_transpose2d": 1,
          "conv_transpose3d": 1, "sigmoid": 1, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}


def calculate_gain(nonlinearity, param=None):
    """The factor that keeps the variance through an activation; `param` is leaky_relu's slope. Raises ValueError."""
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        expect(isinstance(slope, (int, float)) and not isinstance(slope, bool), "calculate_gain",
               "a number as negative slope", param=param)
        return math.sqrt(2 / (1 + slope**2))
    expect(nonlinearity in _GAINS, "calculate_gain", f"one of {', '.join((*_GAINS, 'leaky_relu'))}",
           nonlinearity=nonlinearity)
    return _GAINS[nonlinearity]


@no_grad
def uniform_(tensor, a=0.0, b=1.0, generator=None):
    """Uniform between a and b."""
    return tensor.uniform_(a, b, generator=generator)


@no_grad
def normal_(tensor, mean=0.0, std=1.0, generator=None):
    """Normal with this mean and standard deviation."""
    return tensor.normal_(mean, std, generator=generator)


@no_grad
def trunc_normal_(tensor, mean=0.0, std=1.0, a=-2.0, b=2.0, generator=None):
    """Normal with this mean and standard deviation, drawn again until between a and b. Raises ValueError unless a < b.

    Where less than 0.3 of the normal distribution lies between, uniform candidates are accepted with probability
    proportional to its density: fewer are thrown away.
    """
    expect(a < b and std > 0, "trunc_normal_", "a < b and std > 0", a=a, b=b, std=std)
    xp, values = array_module(tensor.array), tensor.array
    inside = (math.erf((b - mean) / (std * math.sqrt(2))) - math.erf((a - mean) / (std * math.sqrt(2)))) / 2
    peak = max(a, min(mean, b))

    def drawn(function, *bounds):
        return function(Tensor(xp.empty_like(values)), *bounds, generator=generator).array
    pending = xp.ones(tensor.shape, bool)
    while pending.any():
        if inside > 0.3:
            candidates = drawn(Tensor.normal_, mean, std)
            accepted = (candidates >= values.dtype.type(a)) & (candidates <= values.dtype.type(b))
        else:
            candidates = drawn(Tensor.uniform_, a, b)
            density = ((peak - mean) / std)**2 / 2 - ((candidates - mean) / std)**2 / 2
            accepted = xp.log(drawn(Tensor.uniform_)) <= density
        accepted &= pending
        values[accepted] = candidates[accepted]
        pending &= ~accepted
    tensor.version[0] += 1
    return tensor


def constant_(tensor, val):
    """The same value everywhere."""
    return _fill(tensor, val)


def ones_(tensor):
    """Ones."""
    return _fill(tensor, 1)


def zeros_(tensor):
    """Zeros."""
    return _fill(tensor, 0)


def eye_(tensor):
    """The identity matrix, as far as the shape goes. Raises ValueError unless 2-D."""
    expect(tensor.ndim == 2, "eye_", "a 2-D tensor", tensor=tensor)
    return _fill(tensor, array_module(tensor.array).eye(*tensor.shape))


def dirac_(tensor, groups=1):
    """A convolution kernel that copies as many input channels as it can to the output, in each group.

    Raises ValueError unless 3-D to 5-D with a first length that the groups divide.
    """
    expect(tensor.ndim in (3, 4, 5), "dirac_", "a 3-D, 4-D or 5-D tensor", tensor=tensor)
    expect(tensor.shape[0] % groups == 0, "dirac_", "groups to divide the first length", tensor=tensor, groups=groups)
    _fill(tensor, 0)
    middle = tuple(length // 2 for length in tensor.shape[2:])
    outputs = tensor.shape[0] // groups
    for group in range(groups):
        for channel in range(min(outputs, tensor.shape[1])):
            tensor.array[(group * outputs + channel, channel, *middle)] = 1
    return tensor


def xavier_uniform_(tensor, gain=1.0, generator=None):
    """Uniform within +-gain sqrt(6 / (fan_in + fan_out)). (Glorot and Bengio, 2010.)"""
    return uniform_(tensor, *_symmetric(gain * math.sqrt(6 / sum(_fans("xavier_uniform_", tensor)))), generator)


def xavier_normal_(tensor, gain=1.0, generator=None):
    """Normal with standard deviation gain sqrt(2 / (fan_in + fan_out)). (Glorot and Bengio, 2010.)"""
    return normal_(tensor, 0, gain * math.sqrt(2 / sum(_fans("xavier_normal_", tensor))), generator)


def kaiming_uniform_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Uniform within +-gain sqrt(3 / fan); `a` is leaky_relu's slope. (He et al., 2015.)"""
    if tensor.array.size == 0:
        return tensor
    gain = calculate_gain(nonlinearity, a)
    return uniform_(tensor, *_symmetric(gain * math.sqrt(3 / _fan("kaiming_uniform_", tensor, mode))), generator)


def kaiming_normal_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Normal with standard deviation gain / sqrt(fan); `a` is leaky_relu's slope. (He et al., 2015.)"""
    if tensor.array.size == 0:
        return tensor
    gain = calculate_gain(nonlinearity, a)
    return normal_(tensor, 0, gain / math.sqrt(_fan("kaiming_normal_", tensor, mode)), generator)


def orthogonal_(tensor, gain=1, generator=None):
    """A random orthogonal matrix (rows by all other dimensions; its rows or columns are orthonormal), times gain.

    Q of the QR decomposition of a normal matrix, with the signs that make it uniform over the orthogonal group. Raises
    ValueError for fewer than two dimensions. (Saxe et al., 2014; Mezzadri, 2007.)
    """
    expect(tensor.ndim >= 2, "orthogonal_", "at least two dimensions", tensor=tensor)
    if tensor.array.size == 0:
        return tensor
    xp, rows = array_module(tensor.array), tensor.shape[0]
    drawn = normal_(Tensor(xp.empty((rows, tensor.array.size // rows), tensor.dtype)), generator=generator).array
    drawn = drawn.astype("float64")
    wide = rows < drawn.shape[1]
    q, r = xp.linalg.qr(drawn.T if wide else drawn)
    q *= xp.sign(xp.diagonal(r))
    return _fill(tensor, gain * (q.T if wide else q).reshape(tensor.shape))


def sparse_(tensor, sparsity, std=0.01, generator=None):
    """Normal with mean 0, but a part `sparsity` of every column, at random places, 0. (Martens, 2010.)

    Raises ValueError unless the tensor is a matrix.
    """
    expect(tensor.ndim == 2, "sparse_", "a matrix", tensor=tensor)
    rows, columns = tensor.shape
    normal_(tensor, 0, std, generator)
    zeros = math.ceil(sparsity * rows)
    for column in range(columns):
        tensor.array[randperm(rows, generator=generator).array[:zeros], column] = 0
    return tensor


def _fill(tensor, values):
    tensor.array[...] = values
    tensor.version[0] += 1
    return tensor


def _fans(op, tensor):
    """(fan_in, fan_out) of a weight."""
    expect(tensor.ndim >= 2, op, "at least two dimensions to count inputs and outputs", tensor=tensor)
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _fan(op, tensor, mode):
    expect(mode in ("fan_in", "fan_out"), op, "mode 'fan_in' or 'fan_out'", mode=mode)
    return _fans(op, tensor)[mode == "fan_out"]


def _symmetric(bound):
    return -bound, bound
