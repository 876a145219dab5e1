"""Dropout as layers: nothing happens in evaluation mode (Srivastava et al., 2014)."""
from kdl.errors import expect
from kdl.nn import functional as F
from kdl.nn.module import Module

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]


class _Dropout(Module):

    def __init__(self, p=0.5, inplace=False):
        super().__init__()
        expect(0 <= p <= 1, type(self).__name__, "0 <= p <= 1", p=p)
        self.p, self.inplace = p, inplace

    def extra_repr(self):
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """F.dropout: every element is 0 with probability p, the others are divided by 1 - p."""

    def forward(self, input):
        return F.dropout(input, self.p, self.training, self.inplace)


class Dropout1d(_Dropout):
    """F.dropout1d: whole channels of (N, C, L) or (C, L) are dropped."""

    def forward(self, input):
        return F.dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(_Dropout):
    """F.dropout2d: whole channels of (N, C, H, W) or (C, H, W) are dropped."""

    def forward(self, input):
        return F.dropout2d(input, self.p, self.training, self.inplace)


class Dropout3d(_Dropout):
    """F.dropout3d: whole channels of (N, C, D, H, W) or (C, D, H, W) are dropped."""

    def forward(self, input):
        return F.dropout3d(input, self.p, self.training, self.inplace)


class AlphaDropout(_Dropout):
    """F.alpha_dropout: for SELU networks, mean and variance are kept. (Klambauer et al., 2017.)"""

    def forward(self, input):
        return F.alpha_dropout(input, self.p, self.training)


class FeatureAlphaDropout(_Dropout):
    """F.feature_alpha_dropout: AlphaDropout of whole channels."""

    def forward(self, input):
        return F.feature_alpha_dropout(input, self.p, self.training)
