"""Computing without NumPy's warnings: overflow and invalid values are inf and NaN, as IEEE 754 says."""
from functools import wraps

import numpy as np

try:  # what np.errstate sets, set directly: 0.2 us a call instead of 0.7, of 3 us for a small addition
    from numpy._core.umath import _extobj_contextvar, _make_extobj
    IGNORED = _make_extobj(all="ignore")
    set_errors, reset_errors = _extobj_contextvar.set, _extobj_contextvar.reset
except ImportError:
    IGNORED = "ignore"

    def set_errors(value):
        return np.seterr(all=value)

    def reset_errors(before):
        np.seterr(**before)


def quiet(function):
    """Let a function that is no Function's forward or backward compute without warnings; those do already."""
    @wraps(function)
    def call(*args, **kwargs):
        before = set_errors(IGNORED)
        try:
            return function(*args, **kwargs)
        finally:
            reset_errors(before)
    return call
