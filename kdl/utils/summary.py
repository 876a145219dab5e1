"""summary: what a network consists of, layer by layer: shapes, parameters, arithmetic, memory."""
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod

import kdl
from kdl import kernels
from kdl.autograd import no_grad
from kdl.errors import expect_type
from kdl.tensor import Tensor

__all__ = ["Summary", "summary"]


def summary(model, *inputs, dtype=None):
    """Run the model once, in evaluation mode, and return its `Summary`; print it to read it.

    Every input is a tensor, or a shape that stands for one of zeros. FLOPs are those of matrix products and
    convolutions, two for a multiply-add, wherever they occur. Raises TypeError for other inputs.
    """
    tensors = [x if isinstance(x, Tensor) else kdl.zeros(_shape(x), dtype=dtype) for x in inputs]
    names = {id(module): name for name, module in model.named_modules()}
    rows, running, handles, training = [], [], [], [m for m in model.modules() if m.training]

    def enter(module, args):
        row = Row(names[id(module)], type(module).__name__, names[id(module)].count(".") + bool(names[id(module)]))
        rows.append(row)
        running.append(row)

    def leave(module, args, result):
        row = running.pop()
        row.output = _shapes(result)
        own = [p for p in module._parameters.values() if p is not None]
        row.parameters = sum(p.numel() for p in own)
        row.bytes = sum(y.array.nbytes for y in _tensors(result))

    try:
        for module in model.modules():
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        with no_grad(), _counting(lambda flops: setattr(running[-1], "flops", running[-1].flops + flops)):
            model.eval()
            model(*tensors)
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True
    parameters = list(model.parameters())
    return Summary(rows, sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad),
                   sum(row.flops for row in rows), sum(p.array.nbytes for p in parameters),
                   sum(row.bytes for row in rows if not any(r.name.startswith(f"{row.name}.") or not row.name
                                                            for r in rows if r is not row)))


@dataclass
class Row:
    """One call of a module: where it stands, its output's shape, and what is its own, without its children's."""
    name: str
    kind: str
    depth: int
    output: str = ""
    parameters: int = 0
    flops: int = 0
    bytes: int = 0


@dataclass
class Summary:
    """The rows, and the totals; `activation_bytes` are the outputs of the innermost layers."""
    rows: list = field(repr=False)
    parameters: int
    trainable: int
    flops: int
    parameter_bytes: int
    activation_bytes: int

    def __str__(self):
        table = [("layer", "output", "parameters", "FLOPs")]
        table += [("  " * row.depth + (f"{row.name.rpartition('.')[2]}: " if row.name else "") + row.kind, row.output,
                   f"{row.parameters:,}" if row.parameters else "", f"{row.flops:,}" if row.flops else "")
                  for row in self.rows]
        widths = [max(len(line[i]) for line in table) for i in range(4)]
        lines = [f"{layer:{widths[0]}}  {output:{widths[1]}}  {parameters:>{widths[2]}}  {flops:>{widths[3]}}".rstrip()
                 for layer, output, parameters, flops in table]
        rule = "-" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:], rule,
                          f"{self.parameters:,} parameters ({self.trainable:,} trainable), "
                          f"{_size(self.parameter_bytes)}",
                          f"{self.flops:,} FLOPs forward, {_size(self.activation_bytes)} of outputs"])


def _shape(given):
    shape = (given,) if isinstance(given, int) else given
    expect_type(isinstance(shape, (tuple, list)) and all(isinstance(n, int) for n in shape), "summary",
                "tensors or shapes", input=given)
    return tuple(shape)


def _tensors(result):
    if isinstance(result, Tensor):
        return [result]
    return [x for part in result for x in _tensors(part)] if isinstance(result, (tuple, list)) else []


def _shapes(result):
    return ", ".join(str(tuple(x.shape)) for x in _tensors(result))


def _size(n):
    for unit in ("bytes", "KB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:.1f} {unit}" if unit != "bytes" else f"{n} bytes"
        n /= 1000


# --- counting ---
def _of_matmul(a, b, y, *rest):
    return 2 * y.size * a.shape[-1]


def _of_linear(x, w, b, y, *rest):
    return 2 * y.size * w.shape[1]


def _of_conv(x, w, b, y, *rest):
    return 2 * y.size * prod(w.shape[1:])


def _of_conv_backward_x(gy, w, gx, *rest):
    return 2 * gy.size * prod(w.shape[1:])  # transposed convolution


def _of_attention(q, k, v, *rest):
    return 2 * q.size * k.shape[2] + 2 * v.size * q.shape[2]


_COUNTED = {"matmul_forward": _of_matmul, "linear_forward": _of_linear, "conv2d_forward": _of_conv,
            "conv3d_forward": _of_conv, "conv2d_backward_x": _of_conv_backward_x,
            "conv3d_backward_x": _of_conv_backward_x, "attention_forward": _of_attention}


@contextmanager
def _counting(add):
    """While it lasts, every product and convolution of host arrays tells `add` its FLOPs."""
    namespace = kernels.of()
    real = {name: getattr(namespace, name) for name in _COUNTED}

    def counted(name):
        def kernel(*args, **kwargs):
            add(_COUNTED[name](*args, **kwargs))
            return real[name](*args, **kwargs)
        return kernel

    for name in _COUNTED:
        setattr(namespace, name, counted(name))
    try:
        yield
    finally:
        for name, kernel in real.items():
            setattr(namespace, name, kernel)
