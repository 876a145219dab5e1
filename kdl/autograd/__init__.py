"""The tape: what a computation recorded, and the walk that turns it into gradients.

Every differentiable operation is a `Function` instance, and that instance is the tape node (`function.py`). A backward
pass walks the nodes (`walk.py`); `mode.py` says whether anything is recorded, `check.py` compares a recorded gradient
with finite differences.
"""
from kdl.autograd import functional as functional
from kdl.autograd.check import gradcheck
from kdl.autograd.function import Function
from kdl.autograd.mode import enable_grad, inference_mode, is_grad_enabled, is_inference_mode_enabled, no_grad
from kdl.autograd.mode import set_grad_enabled as set_grad_enabled
from kdl.autograd.walk import backward, grad

__all__ = ["Function", "backward", "enable_grad", "grad", "gradcheck", "inference_mode", "is_grad_enabled",
           "is_inference_mode_enabled", "no_grad", "set_grad_enabled"]
