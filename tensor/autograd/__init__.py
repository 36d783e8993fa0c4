"""Tensors that record, and the gradients of what was recorded."""

from tensor.autograd.engine import backward, grad
from tensor.autograd.function import Function
from tensor.autograd.gradcheck import gradcheck, gradgradcheck
from tensor.autograd.modes import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from tensor.autograd.variable import Variable

__all__ = [
    "Function", "Variable", "backward", "enable_grad", "grad", "gradcheck", "gradgradcheck", "is_grad_enabled", "no_grad",
    "set_grad_enabled",
]  # fmt: skip
