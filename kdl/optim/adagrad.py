"""Optimisers that divide each gradient by the size of its past: Adagrad, RMSprop, Adadelta.

In all of them weight decay adds weight_decay p to g, and `maximize` turns g round.
"""
from kdl.errors import expect
from kdl.optim.optimizer import Optimizer


class Adagrad(Optimizer):
    """p <- p - lr_t g / (sqrt(s) + eps), with s <- s + g^2 and lr_t = lr / (1 + (t - 1) lr_decay).

    (Duchi et al., 2011.)
    """

    def __init__(self, params, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10, *,
                 maximize=False, **torch_only):
        super().__init__(params, {"lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
                                  "initial_accumulator_value": initial_accumulator_value, "maximize": maximize},
                         torch_only)

    def _prepare(self, p, state, group):
        step = state["step"] = state.get("step", 0) + 1
        return (self._average(state, "sum", p, group["initial_accumulator_value"]),), (step,)

    def _update(self, k, lists, numbers, group):
        k.adagrad_step(*lists, *numbers, group["lr"], group["lr_decay"], group["eps"], group["weight_decay"],
                       group["maximize"])


class RMSprop(Optimizer):
    """p <- p - lr b, with b <- momentum b + g / (sqrt(v) + eps) and v <- alpha v + (1 - alpha) g^2.

    With `centered`, the square of the running average of g is taken from v first: an estimate of the variance.
    (Hinton, Coursera lecture 6e, 2012; centered: Graves, 2013.)
    """

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False, *,
                 maximize=False, **torch_only):
        super().__init__(params, {"lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
                                  "weight_decay": weight_decay, "maximize": maximize}, torch_only)

    def _prepare(self, p, state, group):
        state["step"] = state.get("step", 0) + 1
        mean = self._average(state, "grad_avg", p) if group["centered"] else None
        buffer = self._average(state, "momentum_buffer", p) if group["momentum"] > 0 else None
        return (self._average(state, "square_avg", p), mean, buffer), ()

    def _update(self, k, lists, numbers, group):
        k.rmsprop_step(*lists, group["lr"], group["alpha"], group["eps"], group["weight_decay"], group["momentum"],
                       group["maximize"])


class Adadelta(Optimizer):
    """p <- p - lr d, with d = g sqrt(a + eps) / sqrt(v + eps), v and a the running averages of g^2 and d^2.

    (Zeiler, 2012.)
    """

    def __init__(self, params, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0, *, maximize=False, **torch_only):
        expect(rho <= 1, "Adadelta", "rho <= 1", rho=rho)
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay,
                                  "maximize": maximize}, torch_only)

    def _prepare(self, p, state, group):
        state["step"] = state.get("step", 0) + 1
        return (self._average(state, "square_avg", p), self._average(state, "acc_delta", p)), ()

    def _update(self, k, lists, numbers, group):
        k.adadelta_step(*lists, group["lr"], group["rho"], group["eps"], group["weight_decay"], group["maximize"])
