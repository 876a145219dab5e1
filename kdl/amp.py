"""Mixed precision under the names of torch.amp: autocast, and GradScaler for float16.

Small gradients are 0 in float16. GradScaler multiplies the loss by a scale, the gradients by its inverse, leaves out
the steps whose gradients are not finite, and sets the scale: times backoff_factor after such a step, times
growth_factor after growth_interval steps without one. (Micikevicius et al., 2018.)
"""
import math
import warnings

import numpy as np

from kdl.autograd.autocast import autocast as autocast
from kdl.errors import expect
from kdl.kernels import cuda
from kdl.tensor import Tensor, array_module
from kdl.types import bfloat16, float16, float32

__all__ = ["GradScaler", "autocast", "is_autocast_available"]


def is_autocast_available(device_type):
    """Whether there is an autocast for the kind of device."""
    return device_type in ("cpu", "cuda")


class GradScaler:
    """Keeps float16 gradients from vanishing: `scale(loss).backward()`, `step(optimizer)`, `update()`.

    `unscale_(optimizer)` before `step` gives the true gradients, to clip them. With enabled=False everything passes
    unchanged; so it is for "cuda" without a GPU. Raises ValueError, RuntimeError.
    """

    def __init__(self, device="cuda", init_scale=2.0**16, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000,
                 enabled=True):
        self._device = device
        if enabled and device == "cuda" and not cuda.available():
            warnings.warn("GradScaler: no GPU can be used; disabled", stacklevel=2)
            enabled = False
        self._enabled = enabled
        if enabled:
            expect(growth_factor > 1, "GradScaler", "growth_factor > 1", growth_factor=growth_factor)
            expect(backoff_factor < 1, "GradScaler", "backoff_factor < 1", backoff_factor=backoff_factor)
        self._scale, self._growth_factor, self._backoff_factor = float(init_scale), growth_factor, backoff_factor
        self._growth_interval, self._growth_tracker = growth_interval, 0
        self._found = {}  # of each optimiser since the last update: whether infinities were found, and its last call

    def scale(self, outputs):
        """A tensor times the scale, or a list or tuple of such."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            return outputs * Tensor(array_module(outputs.array).asarray(self._scale, float32))
        expect(isinstance(outputs, (list, tuple)), "GradScaler.scale", "a tensor or a sequence of tensors",
               outputs=type(outputs).__name__)
        return type(outputs)([self.scale(x) for x in outputs])

    def unscale_(self, optimizer):
        """Divide the gradients of an optimiser's parameters by the scale, once before its step.

        Raises RuntimeError when it was done since the last update, ValueError for float16 gradients.
        """
        if not self._enabled:
            return
        if id(optimizer) in self._found:
            done = self._found[id(optimizer)][1]
            raise RuntimeError("GradScaler.unscale_: unscale_() was already called on this optimizer since the last "
                               "update()" if done == "unscale_" else
                               "GradScaler.unscale_: unscale_() is called after step()")
        self._found[id(optimizer)] = self._unscaled(optimizer), "unscale_"

    def _unscaled(self, optimizer):
        """Whether a gradient is not finite; all are divided by the scale."""
        inverse, infinite = float32.type(1 / self._scale), None
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                g = p.grad.array
                if g.dtype == float16:
                    raise ValueError("GradScaler.unscale_: expected parameters of a wider dtype, got float16 "
                                     "gradients; autocast casts them where they are used")
                g[...] = g * inverse if g.dtype != bfloat16 else g.astype(float32) * inverse
                p.grad.version[0] += 1
                finite = array_module(g).isfinite(g).all()
                infinite = ~finite if infinite is None else infinite | ~finite
        return infinite

    def step(self, optimizer, *args, **kwargs):
        """Unscale, unless done, and step the optimiser where all gradients are finite; what its step returned or None.

        Raises RuntimeError for a closure, and for a second step before `update`.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs or args:
            raise RuntimeError("GradScaler.step: a closure cannot be used with an enabled GradScaler")
        if self._found.get(id(optimizer), (None, ""))[1] == "step":
            raise RuntimeError("GradScaler.step: step() was already called since the last update()")
        if id(optimizer) not in self._found:
            self.unscale_(optimizer)
        infinite = self._found[id(optimizer)][0]
        if infinite is None:
            raise RuntimeError("GradScaler.step: no gradients were found; call backward first")
        result = None if bool(infinite) else optimizer.step(**kwargs)
        self._found[id(optimizer)] = infinite, "step"
        return result

    def update(self, new_scale=None):
        """Set the scale for the next step: new_scale, or by whether infinities were found. Raises RuntimeError."""
        if not self._enabled:
            return
        if new_scale is not None:
            self._scale = float(new_scale)
        else:
            found = [infinite for infinite, _ in self._found.values() if infinite is not None]
            if not found:
                raise RuntimeError("GradScaler.update: call step or unscale_ first")
            self._move(any(bool(infinite) for infinite in found))
        self._found = {}

    def _move(self, infinite):
        if infinite:
            self._scale, self._growth_tracker = float(np.float32(self._scale * self._backoff_factor)), 0
            return
        self._growth_tracker += 1
        if self._growth_tracker == self._growth_interval:
            grown = float(np.float32(self._scale * self._growth_factor))
            self._scale, self._growth_tracker = grown if math.isfinite(grown) else self._scale, 0

    def get_scale(self):
        """The scale, a float; 1 where not enabled."""
        return self._scale if self._enabled else 1.0

    def get_growth_factor(self):
        """What the scale is multiplied by after growth_interval steps without infinities."""
        return self._growth_factor

    def set_growth_factor(self, new_factor):
        """Change the growth factor."""
        self._growth_factor = new_factor

    def get_backoff_factor(self):
        """What the scale is multiplied by after a step with infinities."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor):
        """Change the backoff factor."""
        self._backoff_factor = new_factor

    def get_growth_interval(self):
        """How many steps without infinities it takes to grow the scale."""
        return self._growth_interval

    def set_growth_interval(self, new_interval):
        """Change the growth interval."""
        self._growth_interval = new_interval

    def is_enabled(self):
        """Whether the scaler does anything."""
        return self._enabled

    def state_dict(self):
        """The scale, the factors and the counts, as plain values; empty where not enabled."""
        if not self._enabled:
            return {}
        return {"scale": self._scale, "growth_factor": self._growth_factor, "backoff_factor": self._backoff_factor,
                "growth_interval": self._growth_interval, "_growth_tracker": self._growth_tracker}

    def load_state_dict(self, state_dict):
        """Go on from such a state, which may be torch's. Raises RuntimeError for an empty one."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError("GradScaler.load_state_dict: the state is empty; it is that of a disabled scaler")
        self._scale, self._growth_tracker = float(state_dict["scale"]), state_dict["_growth_tracker"]
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
