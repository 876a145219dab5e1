"""MultiheadAttention (Vaswani et al., 2017)."""
from kdl.errors import expect
from kdl.nn import functional as F
from kdl.nn import init
from kdl.nn.gemm import Linear
from kdl.nn.module import Module
from kdl.nn.parameter import new_parameter
from kdl.ops.attention import attend

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Attention of several heads: queries (L, N, E) look at keys (S, N, kdim) and get values (S, N, vdim).

    With batch_first it is (N, L, E); N may be missing. add_bias_kv learns one more key and value, add_zero_attn adds
    one of zeros. dropout acts on the weights.
    """

    def __init__(self, embed_dim, num_heads, dropout=0.0, bias=True, add_bias_kv=False, add_zero_attn=False, kdim=None,
                 vdim=None, batch_first=False, device=None, dtype=None):
        super().__init__()
        expect(embed_dim > 0 and num_heads > 0 and embed_dim % num_heads == 0, "MultiheadAttention",
               "embed_dim > 0 and num_heads > 0 that divides it", embed_dim=embed_dim, num_heads=num_heads)
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
        self.head_dim, self.add_zero_attn = embed_dim // num_heads, add_zero_attn
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self._qkv_same_embed_dim = self.kdim == self.vdim == embed_dim

        def new(*shape):
            return new_parameter(*shape, device=device, dtype=dtype)
        together = self._qkv_same_embed_dim
        self.register_parameter("in_proj_weight", new(3 * embed_dim, embed_dim) if together else None)
        for name, width in (("q_proj_weight", embed_dim), ("k_proj_weight", self.kdim), ("v_proj_weight", self.vdim)):
            self.register_parameter(name, None if together else new(embed_dim, width))
        self.register_parameter("in_proj_bias", new(3 * embed_dim) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype)
        for name in ("bias_k", "bias_v"):
            self.register_parameter(name, new(1, 1, embed_dim) if add_bias_kv else None)
        self._reset_parameters()

    def _reset_parameters(self):
        """Draw the parameters anew: the projections by Xavier, with zero biases."""
        weights = [self.in_proj_weight] if self._qkv_same_embed_dim else [self.q_proj_weight, self.k_proj_weight,
                                                                          self.v_proj_weight]
        for weight in weights:
            init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)
        for bias in (self.bias_k, self.bias_v):
            if bias is not None:
                init.xavier_normal_(bias)

    def forward(self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None,
                average_attn_weights=True, is_causal=False):
        """The output, and the weights (N, L, S), of each head unless averaged: (N, num_heads, L, S), or None.

        Masks are bool, True where not to look, or are added: key_padding_mask (N, S), attn_mask (L, S) or
        (N num_heads, L, S). is_causal is a hint that attn_mask hides what comes later.
        """
        expect(query.shape[-1] == self.embed_dim and key.shape[-1] == self.kdim and value.shape[-1] == self.vdim,
               "MultiheadAttention", "last dimensions of embed_dim, kdim and vdim", query=query, key=key, value=value,
               embed_dim=self.embed_dim, kdim=self.kdim, vdim=self.vdim)
        separate = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        dropout = self.dropout if self.training else 0.0
        masks = key_padding_mask, need_weights, attn_mask
        if self.batch_first:
            weights = self.in_proj_weight if self._qkv_same_embed_dim else separate
            return attend(query, key, value, self.num_heads, weights, self.in_proj_bias, self.bias_k, self.bias_v,
                          self.add_zero_attn, dropout, self.out_proj.weight, self.out_proj.bias, *masks, None, None,
                          average_attn_weights, is_causal)
        return F.multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight, self.in_proj_bias, self.bias_k,
            self.bias_v, self.add_zero_attn, dropout, self.out_proj.weight, self.out_proj.bias, True, *masks,
            not self._qkv_same_embed_dim, *separate, None, None, average_attn_weights, is_causal)
