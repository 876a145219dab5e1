"""Learning-rate schedules: each step sets the `lr` of every parameter group.

Like torch's, most schedules compute the next rate from the present one, so that several can be applied in turn and the
rate may be changed from outside. Call `step()` after the optimiser's.
"""
import math
from bisect import bisect_right
from collections import Counter

from kdl.errors import expect, expect_type
from kdl.optim.cyclic import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from kdl.optim.optimizer import Optimizer
from kdl.optim.schedule import LRScheduler, per_group, state_of

__all__ = ["ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR",
           "ExponentialLR", "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "MultiplicativeLR", "OneCycleLR",
           "PolynomialLR", "ReduceLROnPlateau", "SequentialLR", "StepLR"]


class LambdaLR(LRScheduler):
    """lr = base lr * lr_lambda(epoch); a function, or one per group.

    Functions are not part of the state; the attributes of callable objects are.
    """

    def __init__(self, optimizer, lr_lambda, last_epoch=-1):
        self.lr_lambdas = per_group("lr_lambda", lr_lambda, optimizer)
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        return [base * function(self.last_epoch) for function, base in zip(self.lr_lambdas, self.base_lrs, strict=True)]

    _first_lr = get_lr

    def state_dict(self):
        state = super().state_dict()
        state["lr_lambdas"] = [state_of(f) for f in self.lr_lambdas]
        return state

    def load_state_dict(self, state_dict):
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "lr_lambdas"})
        for function, attributes in zip(self.lr_lambdas, state_dict["lr_lambdas"], strict=True):
            if attributes is not None:
                function.__dict__.update(attributes)


class MultiplicativeLR(LambdaLR):
    """lr <- lr * lr_lambda(epoch) every epoch; a function, or one per group."""

    def __init__(self, optimizer, lr_lambda, last_epoch=-1):
        super().__init__(optimizer, lr_lambda, last_epoch)
        for function in self.lr_lambdas:
            expect_type(callable(function), "MultiplicativeLR", "a function", lr_lambda=type(function).__name__)

    def get_lr(self):
        return self._lrs if self._starting else self._first_lr()

    def _first_lr(self):
        return [lr * function(self.last_epoch) for function, lr in zip(self.lr_lambdas, self._lrs, strict=True)]


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


class PolynomialLR(LRScheduler):
    """lr = base lr * (1 - epoch / total_iters)^power, and 0 from total_iters on."""

    def __init__(self, optimizer, total_iters=5, power=1.0, last_epoch=-1):
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        if self._starting or self.last_epoch > self.total_iters:
            return self._lrs
        left = 1 - self.last_epoch / self.total_iters
        before = 1 - (self.last_epoch - 1) / self.total_iters
        return [lr * (left / before)**self.power for lr in self._lrs]


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
        for scheduler in self.schedulers:
            scheduler._undo()

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


class ChainedScheduler(LRScheduler):
    """Several schedules at once: every step is one step of each, in their order."""

    def __init__(self, schedulers, optimizer=None):
        expect(len(schedulers) > 0, "ChainedScheduler", "one or more schedulers", schedulers=len(schedulers))
        for i, scheduler in enumerate(schedulers):
            expect_type(isinstance(scheduler, LRScheduler), "ChainedScheduler", "schedulers",
                        scheduler=type(scheduler).__name__, index=i)
        optimizer = optimizer or schedulers[0].optimizer
        for i, scheduler in enumerate(schedulers):
            expect(not isinstance(scheduler, ReduceLROnPlateau), "ChainedScheduler",
                   "schedulers that step without a metric", scheduler="ReduceLROnPlateau", index=i)
            expect(scheduler.optimizer is optimizer, "ChainedScheduler", "schedulers of the same optimizer", index=i)
        self._schedulers, self.optimizer = list(schedulers), optimizer
        self._last_lr = self._lrs

    def _undo(self):
        for scheduler in self._schedulers:
            scheduler._undo()

    def _restart(self):
        raise TypeError("ChainedScheduler: cannot start over; it can only be the first of a SequentialLR")

    def step(self):
        """Step every schedule."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._lrs

    def state_dict(self):
        return super().state_dict() | {"_schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}

    def load_state_dict(self, state_dict):
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "_schedulers"})
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
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
        self.min_lrs = per_group("min_lr", min_lr, optimizer)
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
