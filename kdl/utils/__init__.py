"""Pictures of training and of networks, summaries, and gradient checkpointing."""
from kdl.utils import plots
from kdl.utils.checkpoint import checkpoint, checkpoint_sequential
from kdl.utils.summary import summary

__all__ = ["checkpoint", "checkpoint_sequential", "plots", "summary"]
