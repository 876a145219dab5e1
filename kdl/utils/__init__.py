"""Pictures of training and of networks."""
from kdl.utils import plots

__all__ = ["plots"]
