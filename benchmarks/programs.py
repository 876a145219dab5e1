"""What a row runs, written once for every library: `lib` is kdl or torch, whose names and semantics are the same.

A program gives its passes as functions without arguments that return tensors. This file imports neither library: a
process that times torch must not hold kdl, nor the other way round.
"""
import numpy as np

from benchmarks import models
from tests.optable import Array

SEED = 0


def inputs(row, dtype):
    """The row's arrays, the same in every process, and whether each wants a gradient.

    They go by position or name; those of a list, by the list's and their own in it.
    """
    rng = np.random.default_rng(SEED)
    arrays = {}

    def add(position, value):
        if isinstance(value, Array):
            array = value.build(rng, np.float64)
            floating = array.dtype.kind == "f"
            arrays[position] = array.astype(dtype) if floating else array, value.grad and floating
        elif isinstance(value, list):
            for j, part in enumerate(value):
                add((position, j), part)
    for position, value in (*enumerate(row.case.args), *row.case.kwargs.items()):
        add(position, value)
    return arrays


def filled(position, value, tensors):
    """An argument with tensors in the place of its array recipes."""
    if isinstance(value, list):
        return [filled((position, j), part, tensors) for j, part in enumerate(value)]
    return tensors.get(position, value)


def channels_last(array):
    """The same values with the channels innermost in memory; fewer than four dimensions have no such layout."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1) if array.ndim in (4, 5) else array


def call(lib, row, dtype, to_tensor, after=lambda y: y, wrap=lambda function: function):
    """One public function: `forward`, `recorded` (forward with a tape), `backward`, `step`, `dx`, `dw`."""
    function = wrap(getattr(lib.nn.functional, row.name, None) or getattr(lib, row.name))
    tensors = {p: to_tensor(a).requires_grad_(g) for p, (a, g) in inputs(row, dtype).items()}
    args = [filled(i, value, tensors) for i, value in enumerate(row.case.args)]
    kwargs = {name: filled(name, value, tensors) for name, value in row.case.kwargs.items()}
    leaves = [x for x in tensors.values() if x.requires_grad]
    grad = lib.autograd.grad

    def forward():
        y = function(*args, **kwargs)
        return after(y[0] if isinstance(y, tuple) else y)

    def step():
        return grad(forward(), leaves, gy)

    y = forward()
    gy = None
    if y.ndim:
        gy = to_tensor(np.random.default_rng(SEED + 1).standard_normal(tuple(y.shape)).astype(dtype))
    passes = {"forward": forward, "recorded": forward, "step": step,
              "backward": lambda: grad(y, leaves, gy, retain_graph=True)}
    for position, operand in enumerate(("dx", "dw")):
        if position in tensors and tensors[position].requires_grad:
            passes[operand] = lambda x=tensors[position]: grad(y, [x], gy, retain_graph=True)
    return passes


def then_relu(lib, row, dtype, to_tensor):
    """One public function, then a ReLU."""
    return call(lib, row, dtype, to_tensor, lib.relu)


def flipped(row, which):
    """The share of a pass's elements that may be another number altogether: behind a ReLU, where rounding decides
    whether its input is above 0."""
    return 1e-5 if row.program == "then_relu" and which == "backward" else 0


def products(xp, row, dtype, to_array):
    """The row by the array library's own matrix product, `xp` being numpy or cupy; no pass where it is no product."""
    if row.name not in ("matmul", "linear"):
        return {}
    arrays = [to_array(a) for a, _ in inputs(row, dtype).values()]
    x, w = arrays[0], arrays[1]
    if w.ndim == 1 or (row.name == "matmul" and w.ndim != x.ndim):
        return {"forward": lambda: xp.matmul(x, w)} if row.name == "matmul" else {}
    if row.name == "linear":
        gy = to_array(np.random.default_rng(SEED + 1).standard_normal((len(x), len(w))).astype(dtype))
        forward = (lambda: x @ w.T + arrays[2]) if len(arrays) > 2 else lambda: x @ w.T
        return {"forward": forward, "dx": lambda: gy @ w, "dw": lambda: gy.T @ x}
    shape = (*x.shape[:-1], w.shape[-1])
    gy = to_array(np.random.default_rng(SEED + 1).standard_normal(shape).astype(dtype))
    return {"forward": lambda: x @ w, "dx": lambda: gy @ w.swapaxes(-1, -2), "dw": lambda: x.swapaxes(-1, -2) @ gy}


def onednn(torch, row, dtype, to_tensor):
    """The row by oneDNN itself, where torch's dispatch takes MKL or its own kernels: forward of linear and conv2d,
    and the products of linear's gradients. Weights are plain, as in every other variant."""
    with_grad = inputs(row, dtype)
    x, w, *rest = [to_tensor(a) for a, _ in with_grad.values()]
    b = rest[0] if rest else None
    if row.name == "linear" or (row.name == "matmul" and x.ndim == w.ndim == 2):
        linear = torch.ops.mkldnn._linear_pointwise
        transposed = w if row.name == "linear" else w.t()
        shape = (len(x), len(transposed))
        gy = to_tensor(np.random.default_rng(SEED + 1).standard_normal(shape).astype(dtype))
        gw = (lambda: linear(gy.t(), x.t(), None, "none", [], "")) if row.name == "linear" else (
            lambda: linear(x.t(), gy.t(), None, "none", [], ""))
        return {"forward": lambda: linear(x, transposed, b, "none", [], ""),
                "dx": lambda: linear(gy, transposed.t(), None, "none", [], ""), "dw": gw}
    if row.name == "conv2d":
        pair = {k: [v, v] if isinstance(v, int) else list(v) for k, v in row.case.kwargs.items() if k != "groups"}
        return {"forward": lambda: torch.mkldnn_convolution(
            x, w, b, pair.get("padding", [0, 0]), pair.get("stride", [1, 1]), pair.get("dilation", [1, 1]),
            row.case.kwargs.get("groups", 1))}
    return {}


def optimizer_step(lib, row, dtype, to_tensor, **options):
    """Steps of an optimiser, by its class's name, over parameters with gradients; outputs are the parameters."""
    arrays = [a for a, _ in inputs(row, dtype).values()]
    parameters = [to_tensor(a) for a in arrays]
    rng = np.random.default_rng(SEED + 1)
    for p, a in zip(parameters, arrays, strict=True):
        p.requires_grad_()
        p.grad = to_tensor(rng.standard_normal(a.shape).astype(dtype))
    optimizer = getattr(lib.optim, row.name)(parameters, **row.case.kwargs, **options)

    def step():
        optimizer.step()
        return parameters
    return {"step": step}


def training_step(lib, row, dtype, to_tensor, layout=None):
    """Whole steps of training: forward, loss, gradients, SGD with momentum; the output is the loss before the step."""
    shape, options = row.case.args[0].shape, row.case.kwargs
    rng = np.random.default_rng(SEED)
    x = to_tensor(rng.standard_normal(shape).astype(dtype))
    target = to_tensor(rng.integers(0, options["classes"], (shape[0], *shape[2:]) if "dense" in options else shape[:1]))
    model = getattr(models, row.name)(lib, shape[1], options["classes"]).to(x.dtype)
    if layout is not None:
        model = model.to(memory_format=layout)
    with lib.no_grad():
        for p in model.parameters():
            scale = np.prod(p.shape[1:]) ** -0.5
            values = scale * rng.standard_normal(tuple(p.shape)) if p.ndim > 1 else np.full(p.shape, 0.5)
            p.copy_(to_tensor(values.astype(dtype)))
    optimizer = lib.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step():
        loss = lib.nn.functional.cross_entropy(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss
    return {"step": step}
