"""Tensors that record, and the gradients of what was recorded."""

from tensor.autograd import function, functional, graph
from tensor.autograd.anomaly import detect_anomaly, is_anomaly_enabled, set_detect_anomaly
from tensor.autograd.engine import backward, grad
from tensor.autograd.function import Function
from tensor.autograd.gradcheck import gradcheck, gradgradcheck
from tensor.autograd.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from tensor.autograd.variable import Variable

__all__ = [
    "Function", "Variable", "backward", "detect_anomaly", "enable_grad", "function", "functional", "grad", "gradcheck",
    "gradgradcheck", "graph", "inference_mode", "is_anomaly_enabled", "is_grad_enabled", "is_inference_mode_enabled", "no_grad",
    "set_detect_anomaly", "set_grad_enabled",
]  # fmt: skip
