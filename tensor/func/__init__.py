"""Transforms of functions: gradients, Jacobians, and `vmap`; they nest in any order."""

from tensor.func.modules import functional_call, stack_module_state
from tensor.func.transforms import grad, grad_and_value, hessian, jacfwd, jacrev, jvp, vjp
from tensor.func.vmap import vmap

__all__ = [
    "functional_call", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "stack_module_state", "vjp", "vmap",
]  # fmt: skip
