"""Attention: every query takes a mean of the values, weighted by how well their keys fit it (Vaswani et al., 2017).

forward   s = scale q k' + mask;  p = softmax(s), then dropout;  y = p v
backward  gv = p' gy;  gp = gy v', through dropout;  gs = p (gp - sum(p gp)) along each row;
          gq = scale gs k;  gk = scale gs' q;  gmask = gs, summed where it was broadcast

Without dropout sum(p gp) = y gy, so a kernel needs the scores of a few queries at a time alone, and keeps none of them
(Dao et al., 2022); otherwise, and on a GPU, it is products and softmax.

Shapes: q (..., L, E), k (..., S, E), v (..., S, V), mask broadcasting to (..., L, S), giving (..., L, V); scale is
1 / sqrt(E) unless given. Several heads are a dimension before L and S: queries, keys and values of width E are
projected, cut into heads of E / heads, attended to, put together and projected again.
"""
import math

import numpy as np

from kdl import types
from kdl.autograd import Function
from kdl.autograd.autocast import active, mixes
from kdl.errors import expect, expect_type
from kdl.ops.common import floating, unbroadcast
from kdl.ops.creation import zeros
from kdl.ops.dropout import kept
from kdl.ops.gemm import linear, product
from kdl.ops.join import cat
from kdl.ops.loss import wide
from kdl.ops.pad import pad
from kdl.tensor import Tensor

__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]


def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None,
                                 enable_gqa=False):
    """softmax(scale query key' + mask) value, along the last two dimensions of (..., L, E), (..., S, E), (..., S, V).

    attn_mask says where to look (bool), or is added (of query's dtype); is_causal lets query i see the keys up to i. A
    query that may look nowhere gets 0. dropout_p applies always. With enable_gqa keys and values may have fewer heads
    (dimension -3), each for as many queries in turn. Raises TypeError, ValueError.
    """
    op = "scaled_dot_product_attention"
    floating(op, query=query, key=key, value=value)
    expect(0 <= dropout_p <= 1, op, "dropout_p in [0, 1]", dropout_p=dropout_p)
    expect(min(query.ndim, key.ndim, value.ndim) >= 2, op, "tensors of at least two dimensions", query=query, key=key,
           value=value)
    expect(query.shape[-1] == key.shape[-1] and key.shape[-2] == value.shape[-2], op,
           "query (..., L, E), key (..., S, E) and value (..., S, V)", query=query, key=key, value=value)
    if enable_gqa:
        expect(min(query.ndim, key.ndim, value.ndim) > 2 and key.shape[-3] > 0 and value.shape[-3] > 0
               and query.shape[-3] % key.shape[-3] == 0 and query.shape[-3] % value.shape[-3] == 0, op,
               "numbers of heads that divide query.shape[-3]", query=query, key=key, value=value)
        key, value = [x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value)]
    shapes = [x.shape[:-2] for x in (query, key, value)]
    expect(_broadcast(*shapes), op, "leading dimensions that broadcast", query=query, key=key, value=value)
    if attn_mask is not None:
        expect(not is_causal, op, "either attn_mask or is_causal", attn_mask=attn_mask, is_causal=True)
        _check_mask(op, "attn_mask", attn_mask, query)
        scores = (*np.broadcast_shapes(*shapes[:2]), query.shape[-2], key.shape[-2])
        expect(_broadcast(attn_mask.shape, scores) and np.broadcast_shapes(attn_mask.shape, scores) == scores, op,
               f"an attn_mask that broadcasts to {scores}", attn_mask=attn_mask)
    return Attention(scale, is_causal, dropout_p)(query, key, value, attn_mask)


def multi_head_attention_forward(query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, bias_k,
                                 bias_v, add_zero_attn, dropout_p, out_proj_weight, out_proj_bias, training=True,
                                 key_padding_mask=None, need_weights=True, attn_mask=None,
                                 use_separate_proj_weight=False, q_proj_weight=None, k_proj_weight=None,
                                 v_proj_weight=None, static_k=None, static_v=None, average_attn_weights=True,
                                 is_causal=False):
    """Attention of several heads between (L, N, E), (S, N, E) and (S, N, E): the output and the weights, or None.

    The arguments are those of `nn.MultiheadAttention`, which says what they mean. static_k and static_v
    (N num_heads, S, head) stand for the projected keys and values.
    """
    expect(query.shape[-1] == embed_dim_to_check, "multi_head_attention_forward", f"queries of {embed_dim_to_check}",
           query=query)
    weights = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else in_proj_weight
    batch = [x.transpose(0, 1) if x.ndim == 3 else x for x in (query, key, value)]
    if key is query:
        batch[1] = batch[0]
    if value is key:
        batch[2] = batch[1]
    y, p = attend(*batch, num_heads, weights, in_proj_bias, bias_k, bias_v, add_zero_attn, dropout_p * training,
                  out_proj_weight, out_proj_bias, key_padding_mask, need_weights, attn_mask, static_k, static_v,
                  average_attn_weights, is_causal)
    return y.transpose(0, 1) if y.ndim == 3 else y, p


def attend(query, key, value, heads, weights, bias, bias_k, bias_v, add_zero, dropout_p, out_weight, out_bias,
           key_padding_mask, need_weights, attn_mask, static_k, static_v, average, is_causal):
    """`multi_head_attention_forward` for (N, L, E): what nn.MultiheadAttention does when the batch comes first."""
    op = "multi_head_attention_forward"
    floating(op, query=query, key=key, value=value)
    alone = query.ndim == 2
    expect(query.ndim in (2, 3) and key.ndim == value.ndim == query.ndim, op, "2 or 3 dimensions, the same for all",
           query=query, key=key, value=value)
    same = key is query, value is key
    if alone:
        query = query.unsqueeze(0)
        key = query if same[0] else key.unsqueeze(0)
        value = key if same[1] else value.unsqueeze(0)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    N, L, E = query.shape
    expect(E % heads == 0, op, "a number of heads that divides the width", width=E, heads=heads)
    expect(len(key) == len(value) == N and key.shape[1] == value.shape[1], op,
           "keys and values of one length, and the queries' batch", query=query, key=key, value=value)
    expect(not is_causal or attn_mask is not None, op, "attn_mask besides the hint is_causal", attn_mask=attn_mask)
    mask = _mask(op, attn_mask, N, heads, (L, key.shape[1]), query)
    padding = _padding_mask(op, key_padding_mask, (N, key.shape[1]), query)
    if is_causal and padding is None and not need_weights:
        mask = None
    else:
        is_causal = False
    q, k, v = _project(query, key, value, weights, bias, same)
    if bias_k is not None:
        k, v = [cat([x, b.reshape(1, 1, E).expand(N, 1, E)], 1) for x, b in ((k, bias_k), (v, bias_v))]
    q, k, v = [x.reshape(N, x.shape[1], heads, E // heads).transpose(1, 2) for x in (q, k, v)]
    k, v = [x if static is None else static.reshape(N, heads, *static.shape[1:])
            for x, static in ((k, static_k), (v, static_v))]
    if add_zero:
        nothing = zeros(N, heads, 1, E // heads, dtype=k.dtype, device=k.device)
        k, v = cat([k, nothing], 2), cat([v, nothing], 2)
    more = (bias_k is not None) + bool(add_zero)  # keys at the end, which every query sees
    mask, padding = [m if m is None or not more else pad(m, (0, more), value=False if m.dtype == types.boolean else 0.0)
                     for m in (mask, padding)]
    mask = _combined(mask, padding, query.dtype)
    y = Attention(None, is_causal, dropout_p, need_weights)(q, k, v, mask)
    y, p = y if need_weights else (y, None)
    y = linear(y.transpose(1, 2).reshape(N, L, E), out_weight, out_bias)
    if need_weights and average:
        p = p.mean(1)
    return (y.squeeze(0), None if p is None else p.squeeze(0)) if alone else (y, p)


def _project(query, key, value, weights, bias, same):
    """Queries, keys and values through their projections, in one product where they are the same tensor."""
    E = query.shape[-1]
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    if isinstance(weights, tuple):
        return [linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]
    if all(same):
        return linear(query, weights, bias).chunk(3, -1)
    if same[1]:
        q, kv = weights.split([E, 2 * E])
        b = None if bias is None else bias[E:]
        return linear(query, q, biases[0]), *linear(key, kv, b).chunk(2, -1)
    return [linear(x, w, b) for x, w, b in zip((query, key, value), weights.chunk(3), biases, strict=True)]


# --- masks: bool ones are True where not to look, as nn.MultiheadAttention has it ---
def _check_mask(op, name, mask, query):
    expect_type(isinstance(mask, Tensor), op, f"{name} to be a Tensor", **{name: type(mask).__name__})
    fits = mask.dtype in (types.boolean, query.dtype) or (active and mixes(op))
    expect_type(fits, op, f"{name} of dtype bool or that of the queries", **{name: mask.dtype, "query": query.dtype})


def _mask(op, mask, N, heads, size, query):
    """attn_mask, (L, S) or (N heads, L, S), as it broadcasts to (N, heads, L, S)."""
    if mask is None:
        return None
    _check_mask(op, "attn_mask", mask, query)
    expect(mask.shape in (size, (N * heads, *size)), op, f"attn_mask of shape {size} or {(N * heads, *size)}",
           attn_mask=mask)
    return mask if mask.ndim == 2 else mask.reshape(N, heads, *size)


def _padding_mask(op, mask, size, query):
    """key_padding_mask (N, S) as it broadcasts to (N, heads, L, S)."""
    if mask is None:
        return None
    _check_mask(op, "key_padding_mask", mask, query)
    expect(mask.shape == size, op, f"key_padding_mask of shape {size}", key_padding_mask=mask)
    return mask.reshape(size[0], 1, 1, size[1])


def _combined(mask, padding, dtype):
    """One mask in the form of scaled_dot_product_attention: bool, True where to look, or to be added."""
    masks = [m for m in (mask, padding) if m is not None]
    if not masks:
        return None
    if all(m.dtype == types.boolean for m in masks):
        return ~masks[0] if len(masks) == 1 else ~(masks[0] | masks[1])
    added = [m if m.dtype != types.boolean else zeros(m.shape, dtype=dtype, device=m.device).masked_fill(m, -math.inf)
             for m in masks]
    return added[0] if len(added) == 1 else added[0] + added[1]


def _broadcast(*shapes):
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        return False
    return True


# --- Function ---
class Attention(Function):
    """y, or with `weights` (y, p after dropout); a row that is masked throughout is NaN then, and 0 without."""

    def __init__(self, scale, causal, dropout, weights=False):
        self.scale, self.causal, self.p, self.weights = scale, causal, dropout, weights

    def forward(self, q, k, v, mask):
        xp = self.k.xp
        if self.scale is None:
            self.scale = 1 / math.sqrt(q.shape[-1]) if q.shape[-1] else 1.0
        self.scale = q.dtype.type(self.scale)
        self.fused = self._is_fused(q, k, v)
        if self.fused:
            return self._forward_fused(q, k, v, mask)
        q = q * self.scale  # in place of the products, which are more
        s = product(self.k, q, k.swapaxes(-1, -2))
        if self.causal:
            s += _added(xp, xp.tri(*s.shape[-2:], dtype=bool), s.dtype)
        if mask is not None:
            s += _added(xp, mask, s.dtype) if mask.dtype == types.boolean else mask
        probabilities = xp.empty_like(s)
        self.k.softmax_forward(_rows(s), _rows(probabilities))
        if mask is not None and not self.weights and s.shape[-1]:
            if xp is not np or xp.isnan(probabilities[..., 0]).any():  # where a row has no key to look at
                probabilities[xp.isneginf(s.max(-1))] = 0
        self.q, self.key, self.v, self.probabilities = q, k, v, probabilities
        self.mask_shape = None if mask is None else mask.shape
        dropped = probabilities
        if self.p > 0:
            self.kept = kept(s, self.p)
            dropped = self.drop(probabilities)
        y = product(self.k, dropped, v)
        return (y, dropped) if self.weights else y

    def drop(self, array):
        """m / (1 - p) times the array."""
        return array * self.kept * array.dtype.type(1 / (1 - self.p) if self.p < 1 else 0.0)

    def _is_fused(self, q, k, v):
        """Whether the kernel has it: nobody else needs the scores, and there is one key and value for every query."""
        return ("attention_forward" in self.k.functions and not self.weights and self.p == 0
                and not self.needs_input_grad[3] and q.ndim <= 4 and q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
                and 0 not in (*q.shape, *k.shape, *v.shape))

    def _forward_fused(self, q, k, v, mask):
        y = self.k.empty((*q.shape[:-1], v.shape[-1]), q.dtype)
        log_total = self.k.empty(_four(y).shape[:-1], wide(q.dtype))
        if mask is not None:
            mask = _four(_added(self.k.xp, mask, q.dtype) if mask.dtype == types.boolean else mask)
        self.saved = q, k, v, mask, y, log_total
        self.k.attention_forward(*[_heads(x) for x in (q, k, v)], mask, _four(y), log_total, float(self.scale),
                                 self.causal)
        return y

    def _backward_fused(self, gy):
        q, k, v, mask, y, log_total = self.saved
        grads = [self.k.empty(x.shape, x.dtype) for x in (q, k, v)]
        self.k.attention_backward(*[_heads(x) for x in (q, k, v)], mask, _four(y), log_total,
                                  _four(self.k.xp.ascontiguousarray(gy)), *[_four(g) for g in grads],
                                  float(self.scale), self.causal)
        return *grads, None

    def backward(self, gy, wanted):
        if self.fused:
            return self._backward_fused(gy)
        q, k, v, probabilities = self.q, self.key, self.v, self.probabilities
        gy, gp = gy if self.weights else (gy, None)
        gq = gk = gv = gmask = None
        if wanted[2] and gy is not None:
            dropped = probabilities if self.p == 0 else self.drop(probabilities)
            gv = unbroadcast(product(self.k, dropped.swapaxes(-1, -2), gy), v.shape)
        if not (wanted[0] or wanted[1] or wanted[3]):
            return None, None, gv, None
        if gy is not None:
            through = product(self.k, gy, v.swapaxes(-1, -2))
            gp = through if gp is None else gp + through
        if gp.shape != probabilities.shape:
            gp = unbroadcast(gp, probabilities.shape)
        if self.p > 0:
            gp = self.drop(gp)
        gs = self.k.xp.empty_like(probabilities)
        self.k.softmax_backward(_rows(probabilities), _rows(self.k.xp.ascontiguousarray(gp)), _rows(gs))
        if wanted[3]:
            gmask = unbroadcast(gs, self.mask_shape)
        if wanted[0]:
            gq = unbroadcast(product(self.k, gs, k), q.shape)
            gq *= self.scale
        if wanted[1]:
            gk = unbroadcast(product(self.k, gs.swapaxes(-1, -2), q), k.shape)
        return gq, gk, gv, gmask


def _added(xp, mask, dtype):
    """What is added for a mask that is True where to look."""
    return xp.where(mask, dtype.type(0), dtype.type(-math.inf))


def _four(array):
    """(N, H, rows, columns), a view."""
    return array.reshape((1,) * (4 - array.ndim) + array.shape)


def _heads(array):
    """The same, or a copy of it where the elements of a row are not side by side."""
    item = array.dtype.itemsize
    dense = array.strides[-1] == item and all(stride % item == 0 for stride in array.strides)
    return _four(array if dense and array.strides[-2] >= array.shape[-1] * item else np.ascontiguousarray(array))


def _rows(array):
    """(rows, cols, 1), as the kernels of softmax take it."""
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1], 1)
