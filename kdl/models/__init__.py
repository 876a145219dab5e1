"""Named networks: small readable classes with the usual constructor names."""
from kdl.models.lenet5 import LeNet5

__all__ = ["LeNet5"]
