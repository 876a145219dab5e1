"""The GPUs, under the names of torch.cuda: which there are, which one is current, its streams.

Everything stands on CuPy: a stream or device chosen here is CuPy's own choice, and the other way round.
"""
from contextlib import contextmanager

from kdl import random, types
from kdl.kernels import cuda as _kernels

__all__ = ["Stream", "current_device", "current_stream", "device", "device_count", "empty_cache", "get_arch_list",
           "get_device_capability", "get_device_name", "is_available", "is_bf16_supported", "manual_seed",
           "manual_seed_all", "mem_get_info", "memory_allocated", "memory_reserved", "set_device", "stream",
           "synchronize"]


def is_available():
    """Whether tensors can be moved to a GPU and computed with there; `kdl doctor` says why not."""
    return _kernels.available()


def device_count():
    """How many GPUs there are; 0 where they cannot be used."""
    return _cupy().cuda.runtime.getDeviceCount() if is_available() else 0


def current_device():
    """The number of the GPU that new tensors lie on. Raises RuntimeError without one."""
    return _cupy().cuda.runtime.getDevice()


def set_device(device):
    """Make a GPU, given by its number or as 'cuda:1', the current one. Raises RuntimeError, ValueError."""
    _device(device).use()


def device(device):
    """A context: the GPU is the current one inside. Raises RuntimeError, ValueError."""
    return _device(device)


def get_device_name(device=None):
    """The GPU's name, of the current one by default. Raises RuntimeError, ValueError."""
    name = _properties(device)["name"]
    return name.decode() if isinstance(name, bytes) else name


def get_device_capability(device=None):
    """The GPU's compute capability as (major, minor). Raises RuntimeError, ValueError."""
    properties = _properties(device)
    return properties["major"], properties["minor"]


def get_arch_list():
    """The architectures the kernels were compiled for: 'sm_90', or 'compute_90' for code the driver compiles."""
    try:
        targets = [target.partition("-") for target in _kernels.architectures().split()]
    except ImportError:
        return []
    return [("compute_" if kind == "virtual" else "sm_") + name for name, _, kind in targets]


def synchronize(device=None):
    """Wait until everything that was started on the GPU is done. Raises RuntimeError, ValueError."""
    with _device(device):
        _cupy().cuda.runtime.deviceSynchronize()


def Stream(**options):
    """A new stream: `with kdl.cuda.stream(s):` starts kernels on it. It is CuPy's. Raises RuntimeError."""
    return _cupy().cuda.Stream(**{"non_blocking": True, **options})


def current_stream():
    """The stream that kernels are started on: CuPy's current one. Raises RuntimeError."""
    return _cupy().cuda.get_current_stream()


@contextmanager
def stream(stream):
    """A context: kernels are started on the stream inside."""
    with stream:
        yield stream


def empty_cache():
    """Give memory that CuPy keeps for later arrays back to the driver; nothing without a GPU."""
    if is_available():
        _cupy().get_default_memory_pool().free_all_blocks()


def memory_allocated(device=None):
    """The bytes of a GPU's memory that arrays take; 0 without a GPU."""
    return _pool_bytes("used_bytes", device)


def memory_reserved(device=None):
    """The bytes of a GPU's memory that CuPy holds, for arrays of now and later; 0 without a GPU."""
    return _pool_bytes("total_bytes", device)


def mem_get_info(device=None):
    """The free and all bytes of a GPU's memory. Raises RuntimeError, ValueError."""
    with _device(device):
        return _cupy().cuda.runtime.memGetInfo()


def is_bf16_supported():
    """Whether there is a GPU: all that the kernels run on compute with bfloat16."""
    return is_available()


def manual_seed(seed):
    """Seed the default generator: numbers for GPUs are drawn from it too."""
    random.manual_seed(seed)


manual_seed_all = manual_seed


def _pool_bytes(name, device):
    if not is_available():
        return 0
    with _device(device):
        return getattr(_cupy().get_default_memory_pool(), name)()


def _device(device):
    """CuPy's device for a number, a name or None. Raises RuntimeError, ValueError."""
    if isinstance(device, (str, types.device)):
        device = types.device(device) if isinstance(device, str) else device
        if device.type != "cuda":
            raise ValueError(f"cuda: expected a CUDA device, got {device}")
        device = device.index
    cupy = _cupy()
    count = cupy.cuda.runtime.getDeviceCount()
    if device is not None and not 0 <= device < count:
        raise ValueError(f"cuda: expected a device below cuda:{count}, got cuda:{device}")
    return cupy.cuda.Device(device)


def _properties(device):
    return _cupy().cuda.runtime.getDeviceProperties(_device(device).id)


def _cupy():
    """CuPy, where a GPU can be used. Raises RuntimeError."""
    if not is_available():
        raise RuntimeError(_kernels.problem())
    import cupy
    return cupy
