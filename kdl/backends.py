"""Switches that code for torch sets: results are deterministic here in any case, and nothing is to be tuned first."""
from types import SimpleNamespace

from kdl.cuda import is_available

cudnn = SimpleNamespace(enabled=True, benchmark=False, deterministic=True, is_available=is_available)
mps = SimpleNamespace(is_available=lambda: False, is_built=lambda: False)
_asked = False


def use_deterministic_algorithms(mode, *, warn_only=False):
    """Ask for the same bits in every run: they are the same whether asked for or not."""
    global _asked
    _asked = bool(mode)


def are_deterministic_algorithms_enabled():
    """What `use_deterministic_algorithms` was last called with."""
    return _asked
