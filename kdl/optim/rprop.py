"""Rprop and ASGD: steps of their own size for every weight, and the average of the path."""
import math

from kdl.errors import expect
from kdl.optim.optimizer import Optimizer


class Rprop(Optimizer):
    """Only the gradient's sign counts: a weight's step grows by etaplus while it stays, and shrinks by etaminus else.

    Where it turned, the weight rests for one step. `step_sizes` bounds the steps. (Riedmiller and Braun, 1993.)
    """

    def __init__(self, params, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50), *, maximize=False, **torch_only):
        expect(0 < etas[0] < 1 < etas[1], "Rprop", "0 < etaminus < 1 < etaplus", etas=etas)
        super().__init__(params, {"lr": lr, "maximize": maximize}, torch_only)
        self.defaults |= {"etas": tuple(etas), "step_sizes": tuple(step_sizes)}
        for group in self.param_groups:
            for name in ("etas", "step_sizes"):
                group.setdefault(name, self.defaults[name])

    def _prepare(self, p, state, group):
        state["step"] = state.get("step", 0) + 1
        return (self._average(state, "prev", p), self._average(state, "step_size", p, group["lr"])), ()

    def _update(self, k, lists, numbers, group):
        xp, (shrink, grow), (least, most) = k.xp, group["etas"], group["step_sizes"]
        for g, p, before, size in zip(*lists, strict=True):
            g = -g if group["maximize"] else g
            turned = xp.sign(g * before)
            size *= xp.where(turned > 0, grow, xp.where(turned < 0, shrink, 1)).astype(p.dtype)
            xp.clip(size, least, most, out=size)
            before[...] = xp.where(turned < 0, 0, g)
            p -= xp.sign(before) * size


class ASGD(Optimizer):
    """SGD with a falling rate, eta = lr / (1 + lambd lr t)^alpha, that also keeps the average `ax` of the path from t0.

    (Polyak and Juditsky, 1992.)
    """

    def __init__(self, params, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0, *, maximize=False,
                 **torch_only):
        super().__init__(params, {"lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay,
                                  "maximize": maximize}, torch_only)

    def _prepare(self, p, state, group):
        step = state["step"] = state.get("step", 0) + 1
        eta = state.get("eta", group["lr"])
        mu = 1 / max(1, step - 1 - group["t0"])
        state["eta"] = group["lr"] / math.pow(1 + group["lambd"] * group["lr"] * step, group["alpha"])
        return (self._average(state, "ax", p),), (eta, mu)

    def _update(self, k, lists, numbers, group):
        eta, mu = numbers
        for g, p, average in zip(*lists, strict=True):
            g = (-g if group["maximize"] else g) + group["weight_decay"] * p
            p *= 1 - group["lambd"] * eta
            p -= eta * g
            average += (p - average) * p.dtype.type(mu)
