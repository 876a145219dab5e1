"""Memory that kernels work in: each thread keeps its last room, whose pages are in place then."""
import threading

import numpy as np

_KEPT = 1 << 26  # bytes: more is given back after the call
_local = threading.local()


def room(size):
    """So many uninitialised float32, the caller's until this thread asks for the next room."""
    kept = getattr(_local, "kept", None)
    if kept is None or kept.size < size:
        kept = np.empty(size, np.float32)
        if kept.nbytes <= _KEPT:
            _local.kept = kept
    return kept[:size]
