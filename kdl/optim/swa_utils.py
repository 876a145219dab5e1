"""Averages of a model's weights over training: stochastic weight averaging, and exponential moving averages.

    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    ... after every step: ema.update_parameters(model)
    ... at the end, for models with batch normalisation: update_bn(loader, ema)

(Izmailov et al., 2018; Polyak and Juditsky, 1992.)
"""
import copy
import math

import kdl
from kdl.autograd import no_grad
from kdl.errors import expect, expect_type
from kdl.nn import Module
from kdl.nn.batchnorm import _BatchNorm
from kdl.optim.lr_scheduler import LRScheduler

__all__ = ["SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn", "update_bn"]


def get_swa_avg_fn():
    """a <- a + (w - a) / (n + 1): the plain mean of all weights so far."""
    return lambda average, w, n: average + (w - average) / (n + 1)


def get_ema_avg_fn(decay=0.999):
    """a <- decay a + (1 - decay) w. Raises ValueError for a decay outside [0, 1]."""
    expect(0 <= decay <= 1, "get_ema_avg_fn", "decay in [0, 1]", decay=decay)
    return lambda average, w, n: decay * average + (1 - decay) * w


def get_ema_multi_avg_fn(decay=0.999):
    """`get_ema_avg_fn` for the lists of all averages and weights at once."""
    one = get_ema_avg_fn(decay)

    def every(averages, weights, n):
        for average, w in zip(averages, weights, strict=True):
            average.copy_(one(average, w, n))
    return every


class AveragedModel(Module):
    """A copy of the model whose parameters (and, if wanted, buffers) are averages of those of `update_parameters`."""

    def __init__(self, model, device=None, avg_fn=None, multi_avg_fn=None, use_buffers=False):
        super().__init__()
        expect(avg_fn is None or multi_avg_fn is None, "AveragedModel", "avg_fn or multi_avg_fn, not both",
               avg_fn=avg_fn, multi_avg_fn=multi_avg_fn)
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module.to(device)
        self.register_buffer("n_averaged", kdl.tensor(0))
        self.avg_fn, self.multi_avg_fn = avg_fn or get_swa_avg_fn(), multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)

    @no_grad()
    def update_parameters(self, model):
        """Take the model's present weights into the averages; buffers are copied unless they are averaged too."""
        averages, weights = list(self.module.parameters()), list(model.parameters())
        if self.use_buffers:
            averages, weights = averages + list(self.module.buffers()), weights + list(model.buffers())
        else:
            for mine, theirs in zip(self.module.buffers(), model.buffers(), strict=True):
                mine.copy_(theirs)
        n = int(self.n_averaged)
        averages, weights = ([x.detach() for x in tensors] for tensors in (averages, weights))
        if n and self.multi_avg_fn is not None:
            self.multi_avg_fn(averages, weights, n)
        else:
            for average, w in zip(averages, weights, strict=True):
                average.copy_(self.avg_fn(average, w, n) if n else w)
        self.n_averaged += 1


@no_grad()
def update_bn(loader, model, device=None):
    """Set the running statistics of a model's batch normalisations anew: the mean over all batches of the loader."""
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    if not layers:
        return
    training, momenta = model.training, [m.momentum for m in layers]
    for m in layers:
        m.reset_running_stats()
        m.momentum = None  # the plain mean
    model.train()
    for batch in loader:
        x = batch[0] if isinstance(batch, (tuple, list)) else batch
        model(x if device is None else x.to(device))
    for m, momentum in zip(layers, momenta, strict=True):
        m.momentum = momentum
    model.train(training)


class SWALR(LRScheduler):
    """The rate goes to `swa_lr` over `anneal_epochs`, linearly or along a cosine, and stays there."""

    def __init__(self, optimizer, swa_lr, anneal_epochs=10, anneal_strategy="cos", last_epoch=-1):
        expect(anneal_strategy in ("cos", "linear"), "SWALR", "anneal_strategy 'cos' or 'linear'",
               anneal_strategy=anneal_strategy)
        expect_type(isinstance(anneal_epochs, int) and anneal_epochs >= 0, "SWALR", "an int anneal_epochs >= 0",
                    anneal_epochs=anneal_epochs)
        groups = optimizer.param_groups
        rates = swa_lr if isinstance(swa_lr, (tuple, list)) else [swa_lr] * len(groups)
        for group, rate in zip(groups, rates, strict=True):
            group["swa_lr"] = rate
        self.anneal_epochs, self.anneal_strategy = anneal_epochs, anneal_strategy
        super().__init__(optimizer, last_epoch)

    def _share(self, epoch):
        """How much of the way is behind, after so many epochs."""
        t = min(1.0, max(0.0, epoch / max(1, self.anneal_epochs)))
        return t if self.anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self):
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._share(max(0, step - 1)), self._share(step)
        rates = []
        for group in self.optimizer.param_groups:
            lr, target = group["lr"], group["swa_lr"]
            start = lr if before == 1 else (lr - before * target) / (1 - before)  # undo what was done
            rates.append(target * now + start * (1 - now))
        return rates
