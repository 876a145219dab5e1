"""Runnable systems on real data: one file each, run by `kdl train <name>`."""
import pkgutil

SHARED = ("common", "gallery", "text")


def names():
    """The names of all recipes."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in SHARED)
