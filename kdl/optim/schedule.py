"""LRScheduler: what all learning-rate schedules share."""
from kdl.errors import expect, expect_type
from kdl.optim.optimizer import Optimizer


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

    def _undo(self):
        """Take back the step that the schedule made when it was constructed."""
        self.last_epoch -= 1

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


def per_group(name, value, optimizer):
    """A list with one value per parameter group, from such a list or from one value for all. Raises ValueError."""
    n = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * n
    expect(len(value) == n, "lr_scheduler", f"one {name} per parameter group", given=len(value), groups=n)
    return list(value)


def state_of(function):
    """What the state keeps of a callable: nothing of a function, the attributes of an object."""
    return None if type(function).__name__ == "function" else dict(function.__dict__)
