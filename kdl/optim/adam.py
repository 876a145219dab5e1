"""Adam and its relatives: running averages m of g and v of g^2, corrected for their start at zero.

m <- m + (1 - beta1) (g - m), v <- beta2 v + (1 - beta2) g^2, m^ = m / (1 - beta1^t), v^ = v / (1 - beta2^t).
In all of them weight decay adds weight_decay p to g, unless it is decoupled: then p is first multiplied by
1 - lr weight_decay, which keeps the decay out of the averages. `maximize` turns g round.
"""
from kdl.optim.optimizer import Optimizer


class Adam(Optimizer):
    """p <- p - lr m^ / (sqrt(v^) + eps); with `amsgrad` the largest v so far stands for v.

    Decay through g is not weight decay here, because it is scaled like g: see AdamW. (Kingma and Ba, 2015; amsgrad:
    Reddi et al., 2018.)
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, *, maximize=False,
                 decoupled_weight_decay=False, **torch_only):
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
                                  "amsgrad": amsgrad, "maximize": maximize,
                                  "decoupled_weight_decay": decoupled_weight_decay}, torch_only)

    def _prepare(self, p, state, group):
        step = state["step"] = state.get("step", 0) + 1
        largest = self._average(state, "max_exp_avg_sq", p) if group["amsgrad"] else None
        return (self._average(state, "exp_avg", p), self._average(state, "exp_avg_sq", p), largest), (step,)

    def _update(self, k, lists, numbers, group):
        k.adam_step(*lists, *numbers, group["lr"], *group["betas"], group["eps"], group["weight_decay"],
                    group["decoupled_weight_decay"], group["maximize"])


class AdamW(Adam):
    """Adam with decoupled weight decay. (Loshchilov and Hutter, 2019.)"""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, *,
                 maximize=False, **torch_only):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True,
                         **torch_only)


class NAdam(Optimizer):
    """Adam with Nesterov's momentum: the step is along mu_(t+1) m^ + (1 - mu_t) g^, over sqrt(v^) + eps.

    mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2), and the products of the mu correct m and g. (Dozat, 2016.)
    """

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, momentum_decay=4e-3,
                 decoupled_weight_decay=False, *, maximize=False, **torch_only):
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
                                  "momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay,
                                  "maximize": maximize}, torch_only)

    def _prepare(self, p, state, group):
        step = state["step"] = state.get("step", 0) + 1
        mu = group["betas"][0] * (1 - 0.5 * 0.96**(step * group["momentum_decay"]))
        product = state["mu_product"] = state.get("mu_product", 1.0) * mu
        return (self._average(state, "exp_avg", p), self._average(state, "exp_avg_sq", p)), (step, product)

    def _update(self, k, lists, numbers, group):
        k.nadam_step(*lists, *numbers, group["lr"], *group["betas"], group["eps"], group["weight_decay"],
                     group["momentum_decay"], group["decoupled_weight_decay"], group["maximize"])


class RAdam(Optimizer):
    """Adam whose adaptive rate is rectified while its variance is large, and left out while that is infinite.

    (Liu et al., 2020.)
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled_weight_decay=False, *,
                 maximize=False, **torch_only):
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
                                  "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize}, torch_only)

    def _prepare(self, p, state, group):
        step = state["step"] = state.get("step", 0) + 1
        return (self._average(state, "exp_avg", p), self._average(state, "exp_avg_sq", p)), (step,)

    def _update(self, k, lists, numbers, group):
        k.radam_step(*lists, *numbers, group["lr"], *group["betas"], group["eps"], group["weight_decay"],
                     group["decoupled_weight_decay"], group["maximize"])


class Adamax(Optimizer):
    """p <- p - lr m^ / u, with u <- max(beta2 u, |g| + eps). (Kingma and Ba, 2015, section 7.1.)"""

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, *, maximize=False, **torch_only):
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
                                  "maximize": maximize}, torch_only)

    def _prepare(self, p, state, group):
        step = state["step"] = state.get("step", 0) + 1
        return (self._average(state, "exp_avg", p), self._average(state, "exp_inf", p)), (step,)

    def _update(self, k, lists, numbers, group):
        k.adamax_step(*lists, *numbers, group["lr"], *group["betas"], group["eps"], group["weight_decay"],
                      group["maximize"])
