"""`weight_norm` and `spectral_norm` as they were before parametrizations: a hook writes the weight before each forward.

Kept for their names in state dictionaries (``weight_g``, ``weight_v``; ``weight_orig``, ``weight_u``, ``weight_v``). New programs
use `tensor.nn.utils.parametrizations`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensor.autograd.modes import no_grad
from tensor.autograd.tensor import Tensor
from tensor.nn.module import Module
from tensor.nn.parameter import Parameter
from tensor.nn.utils.parametrizations import as_matrix, norm_except_dim, power_iteration, usual_dim
from tensor.ops.normalization import normalize

__all__ = ["remove_spectral_norm", "remove_weight_norm", "spectral_norm", "weight_norm"]


class _Before:
    """A hook that computes a weight before each forward. It holds no module, so that a copied module has a hook of its own."""

    def __init__(self, who: str, name: str, compute: Callable[[Module], Tensor], parts: tuple[str, ...]) -> None:
        self.who, self.name, self.compute, self.parts = who, name, compute, parts

    def __call__(self, module: Module, args: Any) -> None:
        setattr(module, self.name, self.compute(module))


def _install(module: Module, hook: _Before) -> Module:
    hook(module, ())
    module.register_forward_pre_hook(hook)
    return module


def _uninstall(module: Module, who: str, name: str) -> Module:
    for hook in module._hooks:
        found = hook.function
        if isinstance(found, _Before) and (found.who, found.name) == (who, name):
            break
    else:
        msg = f"remove_{who}: {type(module).__name__} has no {who} of {name!r}"
        raise ValueError(msg)
    with no_grad():
        weight = found.compute(module).detach().clone()
    module._hooks.remove(hook)
    for attribute in (name, *found.parts):
        delattr(module, attribute)
    module.register_parameter(name, Parameter(weight))
    return module


def _weight(module: Module, who: str, name: str) -> Parameter:
    weight = module._parameters.get(name)
    if weight is None:
        msg = f"{who}: expected the name of a parameter of {type(module).__name__}, got {name!r}"
        raise ValueError(msg)
    return weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Learn a weight as lengths ``weight_g`` and directions ``weight_v`` (arXiv 1602.07868); returns ``module``.

    >>> import tensor as T
    >>> list(weight_norm(T.nn.Linear(3, 2)).state_dict())
    ['bias', 'weight_g', 'weight_v']
    """
    weight = _weight(module, "weight_norm", name)
    delattr(module, name)
    module.register_parameter(name + "_g", Parameter(norm_except_dim(weight.detach(), dim)))
    module.register_parameter(name + "_v", Parameter(weight.detach()))

    def compute(module: Module) -> Tensor:
        g, v = getattr(module, name + "_g"), getattr(module, name + "_v")
        result: Tensor = v * (g / norm_except_dim(v, dim))
        return result

    return _install(module, _Before("weight_norm", name, compute, (name + "_g", name + "_v")))


def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """Make the weight an ordinary parameter again; ValueError where there is no `weight_norm`."""
    return _uninstall(module, "weight_norm", name)


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """Divide a weight, learnt as ``weight_orig``, by its largest singular value (arXiv 1802.05957); returns ``module``.

    >>> import tensor as T
    >>> list(spectral_norm(T.nn.Linear(3, 2)).state_dict())
    ['bias', 'weight_orig', 'weight_u', 'weight_v']
    """
    weight = _weight(module, "spectral_norm", name)
    rows = usual_dim(module) if dim is None else dim
    matrix = as_matrix(weight.detach(), rows)
    delattr(module, name)
    module.register_parameter(name + "_orig", weight)
    for part, n in zip(("_u", "_v"), matrix.shape, strict=True):
        module.register_buffer(name + part, normalize(matrix.new_empty((n,)).normal_(), dim=0, eps=eps))

    def compute(module: Module) -> Tensor:
        original, u, v = (getattr(module, name + part) for part in ("_orig", "_u", "_v"))
        matrix = as_matrix(original, rows)
        if module.training:
            power_iteration(matrix.detach(), u, v, n_power_iterations, eps)
        result: Tensor = original / u.clone().dot(matrix.mv(v.clone()))
        return result

    return _install(module, _Before("spectral_norm", name, compute, (name + "_orig", name + "_u", name + "_v")))


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """Make the weight an ordinary parameter again; ValueError where there is no `spectral_norm`."""
    return _uninstall(module, "spectral_norm", name)
