"""Learning-rate schedules: each step sets the `lr` of every parameter group.

Like torch's, most schedules compute the next rate from the present one, so that several can be applied in turn and the
rate may be changed from outside. Call `step()` after the optimiser's.
"""
import math
from bisect import bisect_right
from collections import Counter
from itertools import pairwise

from kdl.errors import expect, expect_type
from kdl.optim.optimizer import Optimizer

__all__ = ["ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "ExponentialLR", "LRScheduler", "LambdaLR",
           "LinearLR", "MultiStepLR", "OneCycleLR", "ReduceLROnPlateau", "SequentialLR", "StepLR"]


class LRScheduler:
    """The base class: a subclass gives `get_lr()`, the list of rates at `last_epoch`, one per group.

    `base_lrs` are the rates at the start (the groups' `initial_lr`). `last_epoch` other than -1 continues a schedule
    and needs groups that have an `initial_lr`.
    """

    def __init__(self, optimizer, last_epoch=-1):
        expect_type(isinstance(optimizer, Optimizer), self._name, "an Optimizer", optimizer=type(optimizer).__name__)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"{self._name}: expected 'initial_lr' in parameter group {i} to continue from "
                               f"last_epoch {last_epoch}; load the optimizer's state first")
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._start()

    @property
    def _name(self):
        return type(self).__name__

    @property
    def _lrs(self):
        return [group["lr"] for group in self.optimizer.param_groups]

    def _start(self):
        """The step that makes `last_epoch` 0 (or the next, when continuing); `_starting` says that it is running."""
        self._starting = True
        self._step_count = 0
        self.step()
        self._starting = False

    def get_lr(self):
        """The rates at `last_epoch`, which `step` has just moved on."""
        raise NotImplementedError(f"{self._name}: get_lr is not defined")

    def _restart(self):
        """Go to epoch 0, whatever the present rate."""
        self.last_epoch = 0
        self._set(self._first_lr())

    def _first_lr(self):
        return list(self.base_lrs)

    def _set(self, lrs):
        for group, lr in zip(self.optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr
        self._last_lr = list(lrs)

    def get_last_lr(self):
        """The rates set by the last step."""
        return self._last_lr

    def step(self):
        """Move on by one and set the rates."""
        self._step_count += 1
        self.last_epoch += 1
        self._set(self.get_lr())

    def state_dict(self):
        """Everything but the optimiser, as plain values."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict):
        """Continue where `state_dict` was taken; the rates themselves come with the optimiser's state."""
        self.__dict__.update(state_dict)


class LambdaLR(LRScheduler):
    """lr = base lr * lr_lambda(epoch); a function, or one per group.

    Functions are not part of the state; the attributes of callable objects are.
    """

    def __init__(self, optimizer, lr_lambda, last_epoch=-1):
        self.lr_lambdas = _per_group("lr_lambda", lr_lambda, optimizer)
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        return [base * function(self.last_epoch) for function, base in zip(self.lr_lambdas, self.base_lrs, strict=True)]

    _first_lr = get_lr

    def state_dict(self):
        state = super().state_dict()
        state["lr_lambdas"] = [None if type(f).__name__ == "function" else dict(f.__dict__) for f in self.lr_lambdas]
        return state

    def load_state_dict(self, state_dict):
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "lr_lambdas"})
        for function, attributes in zip(self.lr_lambdas, state_dict["lr_lambdas"], strict=True):
            if attributes is not None:
                function.__dict__.update(attributes)


class StepLR(LRScheduler):
    """lr <- lr * gamma every `step_size` epochs."""

    def __init__(self, optimizer, step_size, gamma=0.1, last_epoch=-1):
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        if self.last_epoch == 0 or self.last_epoch % self.step_size != 0:
            return self._lrs
        return [lr * self.gamma for lr in self._lrs]


class MultiStepLR(LRScheduler):
    """lr <- lr * gamma at each of the milestones (epochs; twice at one that is given twice)."""

    def __init__(self, optimizer, milestones, gamma=0.1, last_epoch=-1):
        self.milestones, self.gamma = dict(Counter(milestones)), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        return [lr * self.gamma**self.milestones.get(self.last_epoch, 0) for lr in self._lrs]

    def _first_lr(self):
        return [lr * self.gamma**self.milestones.get(0, 0) for lr in self.base_lrs]


class ConstantLR(LRScheduler):
    """lr = base lr * factor for `total_iters` epochs, then base lr."""

    def __init__(self, optimizer, factor=1 / 3, total_iters=5, last_epoch=-1):
        expect(0 <= factor <= 1, "ConstantLR", "0 <= factor <= 1", factor=factor)
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        if self.last_epoch == 0:
            return [lr * self.factor for lr in self._lrs]
        if self.last_epoch != self.total_iters:
            return self._lrs
        return [lr * (1 / self.factor) for lr in self._lrs]

    def _first_lr(self):
        return [lr * (self.factor if self.total_iters > 0 else 1) for lr in self.base_lrs]


class LinearLR(LRScheduler):
    """lr goes in a straight line from base lr * start_factor to base lr * end_factor over `total_iters` epochs."""

    def __init__(self, optimizer, start_factor=1 / 3, end_factor=1.0, total_iters=5, last_epoch=-1):
        expect(0 < start_factor <= 1, "LinearLR", "0 < start_factor <= 1", start_factor=start_factor)
        expect(0 <= end_factor <= 1, "LinearLR", "0 <= end_factor <= 1", end_factor=end_factor)
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        if self.last_epoch == 0:
            return [lr * self.start_factor for lr in self._lrs]
        if self._starting or self.last_epoch > self.total_iters:
            return self._lrs
        rise = self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (self.last_epoch - 1) * rise
        return [lr * (1 + rise / before) for lr in self._lrs]

    def _first_lr(self):
        return [lr * self.start_factor for lr in self.base_lrs]


class ExponentialLR(LRScheduler):
    """lr <- lr * gamma every epoch."""

    def __init__(self, optimizer, gamma, last_epoch=-1):
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        return self._lrs if self._starting else [lr * self.gamma for lr in self._lrs]


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (base lr - eta_min) (1 + cos(pi epoch / T_max)) / 2: down, and up again after T_max.

    (Loshchilov and Hutter, 2017, without restarts.)
    """

    def __init__(self, optimizer, T_max, eta_min=0.0, last_epoch=-1):
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        if self._starting:
            return self._lrs
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # from the minimum, where the ratio is 0 / 0
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [lr + (base - self.eta_min) * rise for base, lr in zip(self.base_lrs, self._lrs, strict=True)]
        ratio = ((1 + math.cos(math.pi * self.last_epoch / self.T_max))
                 / (1 + math.cos(math.pi * (self.last_epoch - 1) / self.T_max)))
        return [ratio * (lr - self.eta_min) + self.eta_min for lr in self._lrs]


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
            for group, peak in zip(optimizer.param_groups, _per_group("max_lr", max_lr, optimizer), strict=True):
                start = peak / div_factor
                group.update(initial_lr=start, max_lr=peak, min_lr=start / final_div_factor)
        if cycle_momentum:
            self.use_beta1 = "betas" in optimizer.defaults
            expect(self.use_beta1 or "momentum" in optimizer.defaults, "OneCycleLR",
                   "an optimizer with momentum or betas when cycle_momentum", optimizer=type(optimizer).__name__)
            low = _per_group("base_momentum", base_momentum, optimizer)
            high = _per_group("max_momentum", max_momentum, optimizer)
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
                group.update({"betas": (momentum, *group["betas"][1:])} if self.use_beta1 else {"momentum": momentum})
        return [self._between(group[lr_from], group[lr_to], part) for group in self.optimizer.param_groups]

    _first_lr = get_lr

    def _between(self, start, end, part):
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2 * (math.cos(math.pi * part) + 1)
        return (end - start) * part + start


class SequentialLR(LRScheduler):
    """One schedule after the other: the next begins, from its epoch 0, at each of the milestones."""

    def __init__(self, optimizer, schedulers, milestones, last_epoch=-1):
        expect(len(schedulers) > 0 and len(milestones) == len(schedulers) - 1, "SequentialLR",
               "one milestone between every two schedulers", schedulers=len(schedulers), milestones=len(milestones))
        for i, scheduler in enumerate(schedulers):
            expect_type(isinstance(scheduler, LRScheduler), "SequentialLR", "schedulers",
                        scheduler=type(scheduler).__name__, index=i)
            expect(not isinstance(scheduler, ReduceLROnPlateau), "SequentialLR",
                   "schedulers that step without a metric", scheduler="ReduceLROnPlateau", index=i)
            expect(scheduler.optimizer is optimizer, "SequentialLR", "schedulers of the same optimizer", index=i)
        self.optimizer, self.schedulers, self.milestones = optimizer, list(schedulers), list(milestones)
        self.last_epoch = last_epoch + 1
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        self._undo()
        first = self.schedulers[bisect_right(self.milestones, 0)]
        first._start()
        self._last_lr = first.get_last_lr()

    def _undo(self):
        """Take back the step that every schedule made when it was constructed."""
        for scheduler in self.schedulers:
            if isinstance(scheduler, SequentialLR):
                scheduler._undo()
            else:
                scheduler.last_epoch -= 1

    def _restart(self):
        self.last_epoch = 0
        first = self.schedulers[bisect_right(self.milestones, 0)]
        first._restart()
        self._last_lr = first.get_last_lr()

    _start = _restart

    def step(self):
        """Move on by one: the schedule whose turn it is sets the rates."""
        self.last_epoch += 1
        number = bisect_right(self.milestones, self.last_epoch)
        scheduler = self.schedulers[number]
        if number > 0 and self.milestones[number - 1] == self.last_epoch:
            scheduler._restart()
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()

    def state_dict(self):
        state = super().state_dict()
        state["schedulers"] = [scheduler.state_dict() for scheduler in self.schedulers]
        return state

    def load_state_dict(self, state_dict):
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "schedulers"})
        for scheduler, state in zip(self.schedulers, state_dict["schedulers"], strict=True):
            scheduler.load_state_dict(state)


class ReduceLROnPlateau(LRScheduler):
    """lr <- max(lr * factor, min_lr) when the metric given to `step` has not improved for more than `patience` epochs.

    Better means lower (`mode="min"`) or higher ("max") than the best so far by `threshold`, relative to it ("rel") or
    not ("abs"). After a reduction `cooldown` epochs do not count; changes below `eps` are not made.
    """

    def __init__(self, optimizer, mode="min", factor=0.1, patience=10, threshold=1e-4, threshold_mode="rel", cooldown=0,
                 min_lr=0, eps=1e-8):
        expect(factor < 1, "ReduceLROnPlateau", "factor < 1", factor=factor)
        expect(mode in ("min", "max"), "ReduceLROnPlateau", "mode 'min' or 'max'", mode=mode)
        expect(threshold_mode in ("rel", "abs"), "ReduceLROnPlateau", "threshold_mode 'rel' or 'abs'",
               threshold_mode=threshold_mode)
        expect_type(isinstance(optimizer, Optimizer), "ReduceLROnPlateau", "an Optimizer",
                    optimizer=type(optimizer).__name__)
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown, self.eps = threshold, threshold_mode, cooldown, eps
        self.min_lrs = _per_group("min_lr", min_lr, optimizer)
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = self.num_bad_epochs = self.last_epoch = 0
        self._last_lr = self._lrs

    def _is_better(self, a, best):
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            bound = best * (1 + sign * self.threshold)
        else:
            bound = best + sign * self.threshold
        return a > bound if self.mode == "max" else a < bound

    def step(self, metrics):
        """Take note of this epoch's metric, and reduce the rates when it is time."""
        metric = float(metrics)
        self.last_epoch += 1
        if self._is_better(metric, self.best):
            self.best, self.num_bad_epochs = metric, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                lr = max(group["lr"] * self.factor, least)
                if group["lr"] - lr > self.eps:
                    group["lr"] = lr
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self._lrs


def _per_group(name, value, optimizer):
    """A list with one value per parameter group, from such a list or from one value for all. Raises ValueError."""
    n = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * n
    expect(len(value) == n, "lr_scheduler", f"one {name} per parameter group", given=len(value), groups=n)
    return list(value)
