"""A module tree's state as a flat dictionary, and back: PyTorch's names and layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tensor.autograd.data import to_array
from tensor.autograd.inplace import bump
from tensor.autograd.tensor import Tensor
from tensor.device import move
from tensor.naming import instead, quoted

if TYPE_CHECKING:
    from tensor.nn.module import Module

__all__ = ["EXTRA", "LoadResult", "StateHook", "collect", "load"]

#: Under this name a module's extra state is kept.
EXTRA = "_extra_state"


class LoadResult(NamedTuple):
    """What `Module.load_state_dict` did not find (``missing_keys``) or had no place for (``unexpected_keys``)."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class StateHook:
    """A function called around saving or loading; ``kind``: "save_pre", "save", "load_pre" or "load"."""

    __slots__ = ("function", "kind")

    def __init__(self, kind: str, function: Callable[..., Any]) -> None:
        self.kind, self.function = kind, function


def _run(module: Module, kind: str, *args: Any) -> None:
    for hook in list(module._state_hooks):
        if hook.kind == kind:
            hook.function(module, *args)


def _own(module: Module) -> Iterator[tuple[str, Tensor]]:
    """A module's own parameters and persistent buffers."""
    for name, p in module._parameters.items():
        if p is not None:
            yield name, p
    for name, b in module._buffers.items():
        if b is not None and name not in module._transient:
            yield name, b


def _has_extra(module: Module, method: str) -> bool:
    from tensor.nn.module import Module

    return getattr(type(module), method) is not getattr(Module, method)


def collect(module: Module, prefix: str, keep_vars: bool, destination: dict[str, Any]) -> dict[str, Any]:
    """Fill ``destination`` with the state of a module and all below it."""
    _run(module, "save_pre", prefix, keep_vars)
    for name, t in _own(module):
        destination[prefix + name] = t if keep_vars else t.detach()
    if _has_extra(module, "get_extra_state"):
        destination[prefix + EXTRA] = module.get_extra_state()
    for name, child in module._modules.items():
        if child is not None:
            collect(child, f"{prefix}{name}.", keep_vars, destination)
    _run(module, "save", destination, prefix, {})
    return destination


def load(module: Module, state_dict: Mapping[str, Any], strict: bool, assign: bool) -> LoadResult:
    """Copy a state into a module tree, or raise one error that says everything that is wrong; see `Module.load_state_dict`."""
    who = type(module).__name__
    if not isinstance(state_dict, Mapping):
        msg = f"{who}.load_state_dict: expected a mapping from names to tensors, got {type(state_dict).__name__}"
        raise TypeError(msg)
    given = dict(state_dict)  # hooks may rename what is in it
    result, errors = LoadResult([], []), list[str]()
    tree = list(module.named_modules(remove_duplicate=False))
    for path, part in tree:
        _run(part, "load_pre", given, f"{path}." if path else "", {}, strict, *result, errors)
    own = {(f"{path}.{name}" if path else name): t for path, part in tree for name, t in _own(part)}
    extra = {(f"{path}.{EXTRA}" if path else EXTRA): part for path, part in tree if _has_extra(part, "set_extra_state")}
    known = [*own, *extra]
    result.missing_keys.extend(name for name in known if name not in given)
    result.unexpected_keys.extend(name for name in given if name not in own and name not in extra)
    arrays = {name: _fitting(name, given[name], t, errors) for name, t in own.items() if name in given}
    if strict:
        if result.missing_keys:
            errors.insert(0, f"missing: {quoted(result.missing_keys)}")
        if result.unexpected_keys:
            near = result.missing_keys or known
            errors.append(f"unexpected: {', '.join(_with_nearest(name, near) for name in result.unexpected_keys)}")
    if errors:
        msg = f"{who}.load_state_dict: {'; '.join(errors)}"
        raise RuntimeError(msg)
    for name, array in arrays.items():
        _write(own[name], array, assign)
    for name, part in extra.items():
        if name in given:
            part.set_extra_state(given[name])
    for _, part in tree:
        _run(part, "load", result)
    return result


def _fitting(name: str, value: Any, t: Tensor, errors: list[str]) -> Any:
    """The value as an array of the tensor's shape; what is wrong with it joins the errors."""
    try:
        array = to_array(value, copy=False)
    except (TypeError, ValueError):
        errors.append(f"not a tensor: {name!r} is {type(value).__name__}")
        return None
    if array.shape == (1,) and t.ndim == 0:  # as PyTorch saved scalars before it had 0-d tensors
        array = array.reshape(())
    if array.shape != tuple(t.shape):
        errors.append(f"shape mismatch: {name!r} expected {list(t.shape)}, got {list(array.shape)}")
    return array


def _with_nearest(name: str, candidates: list[str]) -> str:
    hint = instead(name, candidates)
    return f"{name!r} ({hint})" if hint.startswith("did") else repr(name)


def _write(t: Tensor, array: Any, assign: bool) -> None:
    if assign:
        t.data = Tensor(array)
    else:
        t._array[...] = move(array, t.device)
        bump(t)
