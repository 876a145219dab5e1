"""L-BFGS: steps along an estimate of Newton's direction that is built from the last few changes of the gradient."""
from dataclasses import dataclass

import numpy as np

from kdl.autograd import enable_grad
from kdl.autograd.quiet import quiet
from kdl.errors import expect
from kdl.optim.optimizer import Optimizer
from kdl.tensor import Tensor, array_module

_ARMIJO, _CURVATURE = 1e-4, 0.9  # of the strong Wolfe conditions


class LBFGS(Optimizer):
    """d = -H g with H of `history_size` pairs s = p_new - p_old and y = g_new - g_old, by the two-loop recursion.

    One `step(closure)` makes up to `max_iter` iterations and `max_eval` calls of the closure, which clears the
    gradients, computes the loss, calls backward and returns it. The step is lr along d (1 / |g|_1 at most at the very
    first), or with line_search_fn="strong_wolfe" one that meets the strong Wolfe conditions. It ends early where the
    largest gradient is at most `tolerance_grad`, or the change at most `tolerance_change`. All parameters are one
    group. Raises ValueError for several groups or another line search. (Nocedal and Wright, 2006, algorithms 7.4, 3.5
    and 3.6.)
    """

    def __init__(self, params, lr=1, max_iter=20, max_eval=None, tolerance_grad=1e-7, tolerance_change=1e-9,
                 history_size=100, line_search_fn=None):
        expect(line_search_fn in (None, "strong_wolfe"), "LBFGS", "line_search_fn None or 'strong_wolfe'",
               line_search_fn=line_search_fn)
        super().__init__(params, {"lr": lr, "max_iter": max_iter,
                                  "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
                                  "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change,
                                  "history_size": history_size})
        expect(len(self.param_groups) == 1, "LBFGS", "one group of parameters", groups=len(self.param_groups))
        self.param_groups[0]["line_search_fn"] = line_search_fn

    @property
    def _params(self):
        return self.param_groups[0]["params"]

    @quiet
    def step(self, closure):
        """Iterate as the class says; returns the loss before the first iteration."""
        group, state = self.param_groups[0], self.state[self._params[0]]
        state.setdefault("n_iter", 0)
        state.setdefault("func_evals", 0)
        evaluate = _Counted(closure)
        start = loss = evaluate()
        g = self._gradient()
        for iteration in range(1, group["max_iter"] + 1):
            if _largest(g) <= group["tolerance_grad"]:
                break
            state["n_iter"] += 1
            d, t = self._direction(state, g, group)
            slope = float(g @ d)
            if slope > -group["tolerance_change"]:
                break
            state["prev_flat_grad"], state["d"], previous = Tensor(g), Tensor(d), loss
            if group["line_search_fn"] is not None:
                here, most = _Point(0.0, float(loss), g, slope), group["max_eval"] - evaluate.count
                found = self._search(evaluate, here, t, d, group["tolerance_change"], most)
                t, loss, g = found.t, found.f, found.g
                self._move(d, t)
            else:
                self._move(d, t)
                if iteration < group["max_iter"]:  # the last point is not evaluated: nothing would be done with it
                    loss, g = float(evaluate()), self._gradient()
            state["t"] = t
            if (evaluate.count >= group["max_eval"] or _largest(d) * t <= group["tolerance_change"]
                    or abs(float(loss) - float(previous)) < group["tolerance_change"]):
                break
        state["func_evals"] += evaluate.count
        return start

    def _direction(self, state, g, group):
        """The direction -H g and the first step to try along it; the history takes the last change in."""
        if state["n_iter"] == 1:
            state["history"], state["H_diag"] = [], 1.0
            return -g, min(1.0, 1 / float(abs(g).sum())) * group["lr"]
        y, s = g - state["prev_flat_grad"].array, state["d"].array * state["t"]
        curvature = float(y @ s)
        if curvature > 1e-10:
            state["history"] = [*state["history"], [Tensor(s), Tensor(y), 1 / curvature]][-group["history_size"]:]
            state["H_diag"] = curvature / float(y @ y)
        q, weights = -g, []
        for s, y, rho in reversed(state["history"]):
            weights.append(float(s.array @ q) * rho)
            q = q - weights[-1] * y.array
        d = q * state["H_diag"]
        for (s, y, rho), weight in zip(state["history"], reversed(weights), strict=True):
            d = d + s.array * (weight - float(y.array @ d) * rho)
        return d, group["lr"]

    def _search(self, evaluate, start, t, d, tolerance, most):
        """A point along d that meets the strong Wolfe conditions; the parameters are back where they were after it."""
        before = [p.array.copy() for p in self._params]

        def at(t):
            self._move(d, t)
            loss = float(evaluate())
            g = self._gradient()
            for p, array in zip(self._params, before, strict=True):
                p.array[...] = array
            return _Point(t, loss, g, float(g @ d))
        return _strong_wolfe(at, start, t, _largest(d), tolerance, most)

    def _gradient(self):
        """The gradients of all parameters as one vector."""
        xp = array_module(self._params[0].array)
        parts = [xp.zeros(p.array.size, p.array.dtype) if p.grad is None else p.grad.array.reshape(-1)
                 for p in self._params]
        return xp.concatenate(parts)

    def _move(self, d, t):
        """p <- p + t d."""
        at = 0
        for p in self._params:
            n = p.array.size
            p.array[...] += (d[at:at + n] * t).reshape(p.array.shape)
            p.version[0] += 1
            at += n


class _Counted:
    """The closure, recorded, and how often it was called."""

    def __init__(self, closure):
        self.closure, self.count = closure, 0

    def __call__(self):
        self.count += 1
        with enable_grad():
            return self.closure()


def _largest(x):
    return float(abs(x).max()) if x.size else 0.0


# --- the line search ---
@dataclass
class _Point:
    """A step, and there the loss, the gradient and the slope along the direction."""
    t: float
    f: float
    g: np.ndarray
    slope: float


def _strong_wolfe(at, start, t, size, tolerance, most):
    """First steps are lengthened until they enclose a good one, then the enclosing pair is narrowed (3.5 and 3.6)."""
    decreases = lambda p: p.f <= start.f + _ARMIJO * p.t * start.slope
    is_flat = lambda p: abs(p.slope) <= -_CURVATURE * start.slope
    previous, new, tries = start, at(t), 0
    low = high = None
    while tries < most:
        if not decreases(new) or (tries > 1 and new.f >= previous.f):
            low, high = previous, new
            break
        if is_flat(new):
            return new
        if new.slope >= 0:
            low, high = previous, new
            break
        longer = _cubic_minimum(previous, new, new.t + 0.01 * (new.t - previous.t), 10 * new.t)
        previous, new, tries = new, at(longer), tries + 1
    if low is None:
        low, high = start, new
    if low.f > high.f:
        low, high = high, low
    was_near_an_end = False
    while tries < most and abs(high.t - low.t) * size >= tolerance:
        left, right = sorted((low.t, high.t))
        t, margin = _cubic_minimum(*sorted((low, high), key=lambda p: p.t), left, right), 0.1 * (right - left)
        near = min(right - t, t - left) < margin
        if near and (was_near_an_end or t >= right or t <= left):  # twice at an end: away from it
            t, near = (right - margin if abs(t - right) < abs(t - left) else left + margin), False
        was_near_an_end = near
        new, tries = at(t), tries + 1
        if not decreases(new) or new.f >= low.f:
            high = new
            if low.f > high.f:
                low, high = high, low
            continue
        if is_flat(new):
            return new
        if new.slope * (high.t - low.t) >= 0:
            high = low
        low = new
    return low


def _cubic_minimum(a, b, least, most):
    """Where the cubic through two points with their slopes is least, between the bounds; their middle if nowhere."""
    if a.t > b.t:
        a, b = b, a
    d1 = a.slope + b.slope - 3 * (a.f - b.f) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (least + most) / 2
    d2 = square ** 0.5
    t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
    return min(max(t, least), most)
