"""Schedules that go up and down: warm restarts, one cycle, many cycles."""
import math
from itertools import pairwise

from kdl.errors import expect, expect_type
from kdl.optim.optimizer import Optimizer
from kdl.optim.schedule import LRScheduler, per_group, state_of


class CosineAnnealingWarmRestarts(LRScheduler):
    """The cosine from base lr to eta_min over T_0 epochs, started again and T_mult times as long each time.

    `step(epoch)` takes a fractional epoch for a schedule within epochs. (Loshchilov and Hutter, 2017.)
    """

    def __init__(self, optimizer, T_0, T_mult=1, eta_min=0.0, last_epoch=-1):
        expect(isinstance(T_0, int) and T_0 > 0, "CosineAnnealingWarmRestarts", "an int T_0 > 0", T_0=T_0)
        expect(isinstance(T_mult, int) and T_mult >= 1, "CosineAnnealingWarmRestarts", "an int T_mult >= 1",
               T_mult=T_mult)
        self.T_0, self.T_i, self.T_mult, self.eta_min, self.T_cur = T_0, T_0, T_mult, eta_min, last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    _first_lr = get_lr

    def step(self, epoch=None):
        """Move on by one, or go to `epoch`, and set the rates."""
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            expect(epoch >= 0, "CosineAnnealingWarmRestarts.step", "epoch >= 0", epoch=epoch)
            if self.T_mult == 1:
                self.T_i, self.T_cur = self.T_0, epoch % self.T_0 if epoch >= self.T_0 else epoch
            else:
                n = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult)) if epoch >= self.T_0 else 0
                self.T_i = self.T_0 * self.T_mult**n
                self.T_cur = epoch - self.T_0 * (self.T_mult**n - 1) / (self.T_mult - 1)
        self.last_epoch = math.floor(epoch)
        self._set(self.get_lr())


class OneCycleLR(LRScheduler):
    """Up from max_lr / div_factor to max_lr in the first `pct_start` of the steps, then down to the start divided by
    `final_div_factor`; call `step()` after every batch.

    `three_phase` comes down to the start first. With `cycle_momentum` the momentum (or beta1) goes the other way, from
    max_momentum to base_momentum and back. (Smith and Topin, 2019.)
    """

    def __init__(self, optimizer, max_lr, total_steps=None, epochs=None, steps_per_epoch=None, pct_start=0.3,
                 anneal_strategy="cos", cycle_momentum=True, base_momentum=0.85, max_momentum=0.95, div_factor=25.0,
                 final_div_factor=1e4, three_phase=False, last_epoch=-1):
        if total_steps is None:
            expect(epochs is not None and steps_per_epoch is not None, "OneCycleLR",
                   "total_steps, or epochs and steps_per_epoch", epochs=epochs, steps_per_epoch=steps_per_epoch)
        for name, value in (("total_steps", total_steps), ("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
            expect(value is None or (isinstance(value, int) and value > 0), "OneCycleLR", f"an int {name} > 0",
                   **{name: value})
        expect(isinstance(pct_start, float) and 0 <= pct_start <= 1, "OneCycleLR", "a float pct_start in [0, 1]",
               pct_start=pct_start)
        expect(anneal_strategy in ("cos", "linear"), "OneCycleLR", "anneal_strategy 'cos' or 'linear'",
               anneal_strategy=anneal_strategy)
        self.total_steps = epochs * steps_per_epoch if total_steps is None else total_steps
        self.anneal_strategy, self.cycle_momentum = anneal_strategy, cycle_momentum
        up = float(pct_start * self.total_steps) - 1
        rates, momenta = ["initial_lr", "max_lr", "min_lr"], ["max_momentum", "base_momentum", "max_momentum"]
        ends = [up, self.total_steps - 1]
        if three_phase:
            rates.insert(2, "initial_lr")
            momenta.append("max_momentum")
            ends.insert(1, 2 * up)
        self.phases = [[end, *lrs, *momentum] for end, lrs, momentum in
                       zip(ends, pairwise(rates), pairwise(momenta), strict=True)]
        if last_epoch == -1:
            for group, peak in zip(optimizer.param_groups, per_group("max_lr", max_lr, optimizer), strict=True):
                start = peak / div_factor
                group.update(initial_lr=start, max_lr=peak, min_lr=start / final_div_factor)
        if cycle_momentum:
            self.use_beta1 = "betas" in optimizer.defaults
            expect(self.use_beta1 or "momentum" in optimizer.defaults, "OneCycleLR",
                   "an optimizer with momentum or betas when cycle_momentum", optimizer=type(optimizer).__name__)
            low = per_group("base_momentum", base_momentum, optimizer)
            high = per_group("max_momentum", max_momentum, optimizer)
            for group, a, b in zip(optimizer.param_groups, low, high, strict=True) if last_epoch == -1 else ():
                group.update(base_momentum=a, max_momentum=b)
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        expect(self.last_epoch <= self.total_steps, "OneCycleLR.step", "at most total_steps steps",
               step=self.last_epoch, total_steps=self.total_steps)
        start, number = 0.0, 0
        while self.last_epoch > self.phases[number][0] and number < len(self.phases) - 1:
            start, number = self.phases[number][0], number + 1
        end, lr_from, lr_to, momentum_from, momentum_to = self.phases[number]
        part = (self.last_epoch - start) / (end - start) if end > start else 1.0
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                momentum = self._between(group[momentum_from], group[momentum_to], part)
                set_momentum(group, momentum, self.use_beta1)
        return [self._between(group[lr_from], group[lr_to], part) for group in self.optimizer.param_groups]

    _first_lr = get_lr

    def _between(self, start, end, part):
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2 * (math.cos(math.pi * part) + 1)
        return (end - start) * part + start


class CyclicLR(LRScheduler):
    """Up from base_lr to max_lr in step_size_up steps, down in step_size_down, and again; call `step()` after batches.

    "triangular" keeps the height, "triangular2" halves it each cycle, "exp_range" multiplies it by gamma every step;
    or scale_fn(number of the cycle, from 1, or of the step, as scale_mode says) gives the factor. With `cycle_momentum`
    the momentum (or beta1) goes the other way, from max_momentum to base_momentum and back. (Smith, 2017.)
    """

    def __init__(self, optimizer, base_lr, max_lr, step_size_up=2000, step_size_down=None, mode="triangular", gamma=1.0,
                 scale_fn=None, scale_mode="cycle", cycle_momentum=True, base_momentum=0.8, max_momentum=0.9,
                 last_epoch=-1):
        expect_type(isinstance(optimizer, Optimizer), "CyclicLR", "an Optimizer", optimizer=type(optimizer).__name__)
        base_lrs = per_group("base_lr", base_lr, optimizer)
        self.max_lrs = per_group("max_lr", max_lr, optimizer)
        up = float(step_size_up)
        self.total_size = up + (up if step_size_down is None else float(step_size_down))
        self.step_ratio = up / self.total_size
        expect(scale_fn is not None or mode in ("triangular", "triangular2", "exp_range"), "CyclicLR",
               "mode 'triangular', 'triangular2' or 'exp_range', or a scale_fn", mode=mode)
        self.mode, self.gamma, self._scale_fn_custom, self.scale_mode = mode, gamma, scale_fn, scale_mode
        if scale_fn is None:
            self.scale_mode = "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.use_beta1 = "betas" in optimizer.defaults
            expect(self.use_beta1 or "momentum" in optimizer.defaults, "CyclicLR",
                   "an optimizer with momentum or betas when cycle_momentum", optimizer=type(optimizer).__name__)
            self.base_momentums = per_group("base_momentum", base_momentum, optimizer)
            self.max_momentums = per_group("max_momentum", max_momentum, optimizer)
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, base_lrs, strict=True):
                group["lr"] = lr
            if cycle_momentum:
                for group, low, high in zip(optimizer.param_groups, self.base_momentums, self.max_momentums,
                                            strict=True):
                    set_momentum(group, high, self.use_beta1)
                    group.update(base_momentum=low, max_momentum=high)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x):
        """The factor on the height of cycle or step x."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        return {"triangular": 1.0, "triangular2": 0.5**(x - 1), "exp_range": self.gamma**x}[self.mode]

    def get_lr(self):
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1 + self.last_epoch / self.total_size - cycle
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        height *= self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            for group, low, high in zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums,
                                        strict=True):
                set_momentum(group, high - (high - low) * height, self.use_beta1)
        return [low + (high - low) * height for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]

    _first_lr = get_lr

    def state_dict(self):
        function = self._scale_fn_custom
        return super().state_dict() | {"_scale_fn_custom": None if function is None else state_of(function)}

    def load_state_dict(self, state_dict):
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "_scale_fn_custom"})
        if state_dict["_scale_fn_custom"] is not None:
            self._scale_fn_custom.__dict__.update(state_dict["_scale_fn_custom"])


def set_momentum(group, momentum, use_beta1):
    """Set a group's momentum, or its beta1."""
    group.update({"betas": (momentum, *group["betas"][1:])} if use_beta1 else {"momentum": momentum})
