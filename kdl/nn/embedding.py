"""Embedding and EmbeddingBag: a learned row for every number."""
from kdl.autograd import no_grad
from kdl.errors import expect
from kdl.nn import functional as F
from kdl.nn import init
from kdl.nn.module import Module
from kdl.nn.parameter import Parameter, new_parameter

__all__ = ["Embedding", "EmbeddingBag"]


class _Embedding(Module):
    """The table: num_embeddings rows of embedding_dim, which start normal, the one at padding_idx zero."""

    def __init__(self, num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse,
                 weight, device, dtype):
        super().__init__()
        name = type(self).__name__
        expect(padding_idx is None or -num_embeddings <= padding_idx < num_embeddings, name,
               "padding_idx within num_embeddings", padding_idx=padding_idx, num_embeddings=num_embeddings)
        expect(not sparse, name, "sparse False: gradients are dense", sparse=sparse)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = padding_idx if padding_idx is None else padding_idx % num_embeddings
        self.max_norm, self.norm_type, self.scale_grad_by_freq = max_norm, norm_type, scale_grad_by_freq
        self.sparse = sparse
        if weight is None:
            self.weight = new_parameter(num_embeddings, embedding_dim, device=device, dtype=dtype)
            self.reset_parameters()
        else:
            expect(weight.shape == (num_embeddings, embedding_dim), name, "a weight of (num_embeddings, embedding_dim)",
                   weight=weight, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
            self.weight = Parameter(weight)

    def reset_parameters(self):
        """Draw the rows anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0

    @classmethod
    def from_pretrained(cls, embeddings, freeze=True, **options):
        """A layer over rows that exist: a tensor (num_embeddings, embedding_dim), which learns unless frozen."""
        expect(embeddings.ndim == 2, f"{cls.__name__}.from_pretrained", "embeddings of two dimensions",
               embeddings=embeddings)
        layer = cls(*embeddings.shape, _weight=embeddings, **options)
        layer.weight.requires_grad = not freeze
        return layer

    def extra_repr(self):
        parts = [f"{self.num_embeddings}, {self.embedding_dim}"]
        for name, usual in self.shown:
            if getattr(self, name) != usual:
                parts.append(f"{name}={getattr(self, name)}")
        return ", ".join(parts)


class Embedding(_Embedding):
    """F.embedding: (...) numbers to (..., embedding_dim)."""
    shown = (("padding_idx", None), ("max_norm", None), ("norm_type", 2), ("scale_grad_by_freq", False))

    def __init__(self, num_embeddings, embedding_dim, padding_idx=None, max_norm=None, norm_type=2.0,
                 scale_grad_by_freq=False, sparse=False, _weight=None, _freeze=False, device=None, dtype=None):
        super().__init__(num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse,
                         _weight, device, dtype)
        self.weight.requires_grad = not _freeze

    def forward(self, input):
        return F.embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type,
                           self.scale_grad_by_freq)


class EmbeddingBag(_Embedding):
    """F.embedding_bag: bags of numbers to (bags, embedding_dim)."""
    shown = (("max_norm", None), ("norm_type", 2), ("scale_grad_by_freq", False))

    def __init__(self, num_embeddings, embedding_dim, max_norm=None, norm_type=2.0, scale_grad_by_freq=False,
                 mode="mean", sparse=False, _weight=None, include_last_offset=False, padding_idx=None, device=None,
                 dtype=None):
        super().__init__(num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse,
                         _weight, device, dtype)
        expect(mode in ("sum", "mean", "max"), "EmbeddingBag", "mode 'sum', 'mean' or 'max'", mode=mode)
        self.mode, self.include_last_offset = mode, include_last_offset

    def forward(self, input, offsets=None, per_sample_weights=None):
        return F.embedding_bag(input, self.weight, offsets, self.max_norm, self.norm_type, self.scale_grad_by_freq,
                               self.mode, False, per_sample_weights, self.include_last_offset, self.padding_idx)

    def extra_repr(self):
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{super().extra_repr()}, mode={self.mode!r}{padding}"
