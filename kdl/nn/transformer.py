"""The transformer and its layers (Vaswani et al., 2017; with norm_first: Xiong et al., 2020)."""
import copy
import math

import numpy as np

from kdl import types
from kdl.errors import expect, expect_type
from kdl.nn import functional as F
from kdl.nn import init
from kdl.nn.attention import MultiheadAttention
from kdl.nn.containers import ModuleList
from kdl.nn.dropout import Dropout
from kdl.nn.gemm import Linear
from kdl.nn.module import Module
from kdl.nn.norm import LayerNorm
from kdl.tensor import Tensor

__all__ = ["Transformer", "TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder",
           "TransformerEncoderLayer"]


class _Layer(Module):
    """What both layers share: a residual branch, and the feed-forward branch."""

    def _set_up(self, d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first,
                bias, device, dtype, crossed):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **place)
        if crossed:
            self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **place)
        self.linear1 = Linear(d_model, dim_feedforward, bias, **place)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **place)
        self.norm_first = norm_first
        branches = range(1, 4 if crossed else 3)
        for i in branches:
            setattr(self, f"norm{i}", LayerNorm(d_model, layer_norm_eps, bias=bias, **place))
        for i in branches:
            setattr(self, f"dropout{i}", Dropout(dropout))
        if isinstance(activation, str):
            expect(activation in ("relu", "gelu"), type(self).__name__, "activation 'relu', 'gelu' or a function",
                   activation=activation)
            activation = getattr(F, activation)
        expect_type(callable(activation), type(self).__name__, "activation to be a name or a function",
                    activation=activation)
        self.activation = activation

    def _residual(self, x, norm, branch):
        """x + branch(norm(x)), or norm(x + branch(x))."""
        return x + branch(norm(x)) if self.norm_first else norm(x + branch(x))

    def _attended(self, attention, dropout, x, memory, mask, padding, causal):
        key = x if memory is None else memory
        return dropout(attention(x, key, key, key_padding_mask=padding, need_weights=False, attn_mask=mask,
                                 is_causal=causal)[0])

    def _fed_forward(self, x, dropout):
        return dropout(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerEncoderLayer(_Layer):
    """Self-attention and a feed-forward network, each with a residual connection, dropout and layer norm.

    Shapes: (S, N, E), (N, S, E) with batch_first, or (S, E). norm_first normalises before the branches, not after.
    """

    def __init__(self, d_model, nhead, dim_feedforward=2048, dropout=0.1, activation=F.relu, layer_norm_eps=1e-5,
                 batch_first=False, norm_first=False, bias=True, device=None, dtype=None):
        self._set_up(d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first,
                     bias, device, dtype, crossed=False)

    def forward(self, src, src_mask=None, src_key_padding_mask=None, is_causal=False):
        """Masks as in MultiheadAttention."""
        x = self._residual(src, self.norm1, lambda x: self._attended(
            self.self_attn, self.dropout1, x, None, src_mask, src_key_padding_mask, is_causal))
        return self._residual(x, self.norm2, lambda x: self._fed_forward(x, self.dropout2))


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to the encoder's output, and a feed-forward network; see TransformerEncoderLayer."""

    def __init__(self, d_model, nhead, dim_feedforward=2048, dropout=0.1, activation=F.relu, layer_norm_eps=1e-5,
                 batch_first=False, norm_first=False, bias=True, device=None, dtype=None):
        self._set_up(d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first,
                     bias, device, dtype, crossed=True)

    def forward(self, tgt, memory, tgt_mask=None, memory_mask=None, tgt_key_padding_mask=None,
                memory_key_padding_mask=None, tgt_is_causal=False, memory_is_causal=False):
        """Masks as in MultiheadAttention; memory is the encoder's output."""
        x = self._residual(tgt, self.norm1, lambda x: self._attended(
            self.self_attn, self.dropout1, x, None, tgt_mask, tgt_key_padding_mask, tgt_is_causal))
        x = self._residual(x, self.norm2, lambda x: self._attended(
            self.multihead_attn, self.dropout2, x, memory, memory_mask, memory_key_padding_mask, memory_is_causal))
        return self._residual(x, self.norm3, lambda x: self._fed_forward(x, self.dropout3))


class TransformerEncoder(Module):
    """num_layers copies of an encoder layer, one after the other, then norm if given.

    enable_nested_tensor and mask_check choose between implementations in torch and have no effect here.
    """

    def __init__(self, encoder_layer, num_layers, norm=None, enable_nested_tensor=True, mask_check=True):
        super().__init__()
        self.layers = _copies(encoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm

    def forward(self, src, mask=None, src_key_padding_mask=None, is_causal=None):
        """The masks go to every layer."""
        for layer in self.layers:
            src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask, is_causal=bool(is_causal))
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """num_layers copies of a decoder layer, one after the other, then norm if given."""

    def __init__(self, decoder_layer, num_layers, norm=None):
        super().__init__()
        self.layers = _copies(decoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm

    def forward(self, tgt, memory, tgt_mask=None, memory_mask=None, tgt_key_padding_mask=None,
                memory_key_padding_mask=None, tgt_is_causal=None, memory_is_causal=False):
        """The masks go to every layer."""
        for layer in self.layers:
            tgt = layer(tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask,
                        tgt_key_padding_mask=tgt_key_padding_mask, memory_key_padding_mask=memory_key_padding_mask,
                        tgt_is_causal=bool(tgt_is_causal), memory_is_causal=memory_is_causal)
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Module):
    """An encoder that reads src and a decoder that reads tgt and the encoder's output.

    Shapes: src (S, N, E), tgt (T, N, E), or (N, S, E) and (N, T, E) with batch_first; the output is like tgt. Weights
    start by Xavier.
    """

    def __init__(self, d_model=512, nhead=8, num_encoder_layers=6, num_decoder_layers=6, dim_feedforward=2048,
                 dropout=0.1, activation=F.relu, custom_encoder=None, custom_decoder=None, layer_norm_eps=1e-5,
                 batch_first=False, norm_first=False, bias=True, device=None, dtype=None):
        super().__init__()
        options = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias,
                   device, dtype)

        def norm():
            return LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.encoder = custom_encoder if custom_encoder is not None else TransformerEncoder(
            TransformerEncoderLayer(*options), num_encoder_layers, norm())
        self.decoder = custom_decoder if custom_decoder is not None else TransformerDecoder(
            TransformerDecoderLayer(*options), num_decoder_layers, norm())
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def forward(self, src, tgt, src_mask=None, tgt_mask=None, memory_mask=None, src_key_padding_mask=None,
                tgt_key_padding_mask=None, memory_key_padding_mask=None, src_is_causal=None, tgt_is_causal=None,
                memory_is_causal=False):
        """Masks as in MultiheadAttention, for attention within src, within tgt, and from tgt to the memory."""
        batch = 0 if self.batch_first else 1
        expect(src.ndim == tgt.ndim and (src.ndim != 3 or src.shape[batch] == tgt.shape[batch]), "Transformer",
               "src and tgt of one batch", src=src, tgt=tgt)
        expect(src.shape[-1] == tgt.shape[-1] == self.d_model, "Transformer", "last dimensions of d_model", src=src,
               tgt=tgt, d_model=self.d_model)
        memory = self.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal)
        return self.decoder(tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask,
                            tgt_key_padding_mask=tgt_key_padding_mask, memory_key_padding_mask=memory_key_padding_mask,
                            tgt_is_causal=tgt_is_causal, memory_is_causal=memory_is_causal)

    @staticmethod
    def generate_square_subsequent_mask(sz, device=None, dtype=None):
        """A mask (sz, sz) to be added: -inf where the key comes after the query, 0 elsewhere."""
        dtype = types.get_default_dtype() if dtype is None else types.as_dtype(dtype)
        mask = Tensor(np.triu(np.full((sz, sz), -math.inf), 1).astype(dtype))
        return mask if device is None else mask.to(device)


def _copies(layer, n):
    return ModuleList([copy.deepcopy(layer) for _ in range(n)])
