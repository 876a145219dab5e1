"""Stochastic gradient descent, with momentum."""
from kdl.errors import expect
from kdl.optim.optimizer import Optimizer


class SGD(Optimizer):
    """p <- p - lr b, with b <- momentum b + (1 - dampening) g, and b = g at the first step and without momentum.

    With `nesterov` the step is along g + momentum b. Weight decay adds weight_decay p to g; `maximize` turns g round.
    (Robbins and Monro, 1951; Polyak, 1964; Sutskever et al., 2013, in torch's form: b is not scaled by lr.)
    """

    def __init__(self, params, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, *, maximize=False,
                 **torch_only):
        expect(not nesterov or (momentum > 0 and dampening == 0), "SGD", "momentum > 0 and dampening 0 with nesterov",
               momentum=momentum, dampening=dampening)
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
                                  "nesterov": nesterov, "maximize": maximize}, torch_only)

    def _prepare(self, p, state, group):
        if group["momentum"] == 0:
            return (None,), (group["dampening"],)
        dampening = group["dampening"] if state.get("momentum_buffer") is not None else 0
        return (self._average(state, "momentum_buffer", p),), (dampening,)

    def _update(self, k, lists, numbers, group):
        k.sgd_step(*lists, group["lr"], group["momentum"], *numbers, group["weight_decay"], group["nesterov"],
                   group["maximize"])
