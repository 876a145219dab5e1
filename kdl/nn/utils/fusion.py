"""Batch normalization in evaluation mode taken into the layer before it: w' = w g / s, b' = (b - m) g / s + beta.

m and s = sqrt(variance + eps) are the running statistics, g and beta the learned scale and shift.
"""
import copy

from kdl.autograd import no_grad
from kdl.errors import expect
from kdl.nn.parameter import Parameter
from kdl.ops.creation import zeros_like

__all__ = ["fuse_conv_bn_eval", "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights"]


def fuse_conv_bn_eval(conv, bn, transpose=False):
    """A convolution, transposed or not, that computes bn(conv(x)), both in evaluation mode. Raises ValueError."""
    return _fused("fuse_conv_bn_eval", conv, bn, int(transpose))


def fuse_linear_bn_eval(linear, bn):
    """A linear layer that computes bn(linear(x)), both in evaluation mode. Raises ValueError."""
    return _fused("fuse_linear_bn_eval", linear, bn, 0)


def fuse_conv_bn_weights(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, transpose=False):
    """The weight and bias of `fuse_conv_bn_eval`; None stands for a bias of 0, a scale of 1 and a shift of 0."""
    return _fused_weights(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, int(transpose))


def fuse_linear_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b):
    """The weight and bias of `fuse_linear_bn_eval`; None stands for a bias of 0, a scale of 1 and a shift of 0."""
    return _fused_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 0)


def _fused(op, layer, bn, dim):
    expect(not (layer.training or bn.training), op, "both in evaluation mode; use .eval()", layer=layer.training,
           bn=bn.training)
    expect(bn.running_mean is not None and bn.num_features == layer.weight.shape[dim], op,
           "running statistics of the layer's outputs", weight=layer.weight, num_features=bn.num_features)
    fused = copy.deepcopy(layer)
    fused.weight, fused.bias = _fused_weights(layer.weight, layer.bias, bn.running_mean, bn.running_var, bn.eps,
                                              bn.weight, bn.bias, dim)
    return fused


@no_grad()
def _fused_weights(weight, bias, mean, variance, eps, scale, shift, dim):
    factor = (variance + eps).rsqrt() * (1 if scale is None else scale)
    shape = [1] * weight.ndim
    shape[dim] = -1
    bias = ((zeros_like(mean) if bias is None else bias) - mean) * factor + (0 if shift is None else shift)
    return (Parameter((weight * factor.reshape(shape)).to(weight.dtype), weight.requires_grad),
            Parameter(bias.to(weight.dtype), weight.requires_grad))
