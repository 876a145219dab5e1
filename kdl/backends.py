"""Switches that code for torch sets: threads; and those that change nothing, for results are always deterministic."""
from types import SimpleNamespace

from kdl.cuda import is_available
from kdl.errors import expect

cudnn = SimpleNamespace(enabled=True, benchmark=False, deterministic=True, is_available=is_available)
mps = SimpleNamespace(is_available=lambda: False, is_built=lambda: False)
_asked = False


def use_deterministic_algorithms(mode, *, warn_only=False):
    """Ask for the same bits in every run with so many threads: they are the same whether asked for or not."""
    global _asked
    _asked = bool(mode)


def are_deterministic_algorithms_enabled():
    """What `use_deterministic_algorithms` was last called with."""
    return _asked


def get_num_threads():
    """How many threads CPU kernels use."""
    import numba

    from kdl.kernels.cpu import threads
    return 1 if threads.none else numba.get_num_threads()


def set_num_threads(num_threads):
    """Let CPU kernels, and NumPy's BLAS, use so many threads, at most those that there are. Raises ValueError."""
    expect(isinstance(num_threads, int) and num_threads > 0, "set_num_threads", "an int above 0",
           num_threads=num_threads)
    import numba

    from kdl.kernels.cpu import blas, threads
    num_threads = min(num_threads, numba.config.NUMBA_NUM_THREADS)
    numba.set_num_threads(num_threads)
    threads.none = num_threads == 1
    if blas._openblas():
        blas._openblas()[1](num_threads)
