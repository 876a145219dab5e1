"""NumPy's BLAS: small products by one thread, several at a time where there are several, large ones by all threads.

OpenBLAS's threads wait for each other by spinning and yielding. That is fine on an idle machine, but beside one busy
process a product of 64 x 64 by 64 x 3136 took 24 ms on two threads instead of 0.12; on one it takes 0.20, always.
"""
import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from glob import glob
from math import prod
from threading import Lock

import numba
import numpy as np

_LARGE = 1 << 25  # multiplications from which one product is worth all threads: 0.5 ms on one
_FEW = 1 << 12  # elements up to which np.dot, which first fills them with zeros, takes 0.4 us less than np.matmul
_SHARED = 1 << 21  # multiplications from which waking other threads (50 us) pays


@cache
def _openblas():
    """OpenBLAS's functions that get and set its number of threads; None where NumPy uses another BLAS."""
    home = os.path.dirname(np.__file__)
    for path in glob(f"{home}.libs/*openblas*") + glob(f"{home}/.dylibs/*openblas*"):
        library = ctypes.PyDLL(path)
        for name in ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads64_", "openblas_{}_num_threads"):
            if hasattr(library, name.format("set")):
                return getattr(library, name.format("get")), getattr(library, name.format("set"))
    return None


class _OneThread:
    """While anyone is inside, OpenBLAS uses the calling thread only. The setting is global, so entries are counted."""

    def __init__(self):
        self.lock, self.inside, self.before = Lock(), 0, 0

    def needless(self):
        """Whether OpenBLAS uses one thread anyway, and nobody inside will change that."""
        return self.inside == 0 and _openblas() is not None and _openblas()[0]() == 1

    def __enter__(self):
        with self.lock:
            self.inside += 1
            if self.inside == 1 and _openblas():
                get, set_threads = _openblas()
                self.before = get()
                set_threads(1)

    def __exit__(self, *exception):
        with self.lock:
            self.inside -= 1
            if self.inside == 0 and _openblas():
                _openblas()[1](self.before)


_one_thread = _OneThread()


@cache
def _pool():
    return ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS, thread_name_prefix="kdl")


def _after_fork():
    """Only the thread that forked lives on in the child: the pool's are gone, and nobody would release the lock."""
    _pool.cache_clear()
    _one_thread.lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _share(function, items, multiplications):
    """Call the function for every item of a list, on as many threads as Numba may use, with one BLAS thread in each."""
    workers = min(len(items), numba.get_num_threads()) if multiplications >= _SHARED and _openblas() else 1
    if workers == 1 and _one_thread.needless():
        for item in items:
            function(item)
        return
    left = iter(items)

    def work():
        for item in left:
            function(item)

    with _one_thread:
        others = [_pool().submit(copy_context().run, work) for _ in range(workers - 1)]
        try:
            work()
        finally:
            for other in others:
                other.result()


def _matmul(a, b, y):
    """y = a b, for (..., M, K) and (..., K, N); leading dimensions broadcast."""
    if a.shape[-1] == 1:
        np.multiply(a, b, out=y)  # BLAS takes three times as long for a batch of outer products
        return
    if y.ndim == 2 and y.size <= _FEW and _one_thread.needless():
        np.dot(a, b, y)
        return
    each, products = a.shape[-2] * a.shape[-1] * b.shape[-1], prod(y.shape[:-2])
    if each >= _LARGE:
        np.matmul(a, b, out=y)
    elif each * products < _SHARED or products == 1:
        if _one_thread.needless():
            np.matmul(a, b, out=y)
        else:
            with _one_thread:
                np.matmul(a, b, out=y)
    else:
        axis = int(np.argmax(y.shape[:-2]))
        a, b = [np.broadcast_to(m, y.shape[:-2] + m.shape[-2:]).swapaxes(0, axis) for m in (a, b)]
        y = y.swapaxes(0, axis)
        _share(lambda some: np.matmul(a[some], b[some], out=y[some]), _parts(len(y), 16), each * products)


def _parts(length, count):
    """Slices that together cover a length, `count` of them at most."""
    count = min(length, count)
    return [slice(length * i // count, length * (i + 1) // count) for i in range(count)]
