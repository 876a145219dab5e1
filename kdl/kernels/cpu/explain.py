"""What the CPU kernels tell `kdl.explain`: the way that each convolution goes."""
from contextvars import ContextVar

_told = ContextVar("told", default=None)


def tell(kernel, first, second, way):
    """Note a kernel's choice for two arrays, where somebody asked."""
    told = _told.get()
    if told is not None:
        told.append(f"{kernel} {first.shape} {second.shape}: {way}\n")


def explain(function, *args, **kwargs):
    """Run function(*args, **kwargs) and return what was told."""
    token = _told.set([])
    try:
        function(*args, **kwargs)
        return "".join(_told.get())
    finally:
        _told.reset(token)
