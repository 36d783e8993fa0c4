"""The base of optimizers: groups of parameters, their options, hooks, and the state that a checkpoint holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from tensor.autograd.modes import enable_grad
from tensor.autograd.node import Leaf
from tensor.autograd.tensor import RemovableHandle, Tensor
from tensor.device import move
from tensor.naming import quoted

__all__ = ["Optimizer", "Params"]

Params = Iterable[Tensor] | Iterable[Mapping[str, Any]] | Iterable[tuple[str, Tensor]]

#: What a group may hold besides the optimizer's options: names, and what schedules keep there.
BESIDE_OPTIONS = {
    "params", "param_names", "initial_lr", "max_lr", "min_lr", "swa_lr", "max_momentum", "base_momentum",
}  # fmt: skip


class Optimizer:
    """Updates parameters by their gradients.

    ``params`` are tensors, pairs ``(name, tensor)``, or groups: dicts with "params" and options of their own. ``defaults`` are
    the options of groups that do not set them. ``param_groups`` may be changed between steps.

    An optimizer of your own writes `step`, keeps what it needs in ``state[p]``, a dict for each parameter, and so has
    `state_dict`, hooks and schedules. Raises TypeError or ValueError for what cannot be optimised.

    >>> import tensor as T
    >>> class SignDescent(Optimizer):
    ...     def step(self, closure=None):
    ...         with T.no_grad():
    ...             for group in self.param_groups:
    ...                 for p in group["params"]:
    ...                     p -= group["lr"] * p.grad.sign()
    >>> w = T.tensor([1.0, -2.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> SignDescent([w], {"lr": 0.5}).step()
    >>> w.detach()
    tensor([ 0.5000, -1.5000])
    """

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self.defaults = {name: _plain(value) for name, value in defaults.items()}
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        self._step_hooks: tuple[list[Any], list[Any]] = [], []
        self.check(self.defaults)
        if isinstance(params, Tensor):
            msg = f"{self._name}: expected an iterable of parameters, got one tensor of shape {list(params.shape)}"
            raise TypeError(msg)
        if callable(params) and not isinstance(params, Iterable):
            msg = (
                f"{self._name}: expected parameters, such as net.parameters(), got a {type(params).__name__} that was not called"
            )
            raise TypeError(msg)
        given: list[Any] = list(params)
        if not given:
            msg = f"{self._name}: got an empty list of parameters"
            raise ValueError(msg)
        if not isinstance(given[0], Mapping):
            given = [{"params": params if isinstance(params, set) else given}]
        for group in given:
            self.add_param_group(group)

    # --- what a subclass may write ------------------------------------------------------------------------------

    def check(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError for options that make no sense."""

    def check_state(self, saved: Mapping[str, Any], p: Tensor, number: int, group: Mapping[str, Any]) -> None:
        """Raise ValueError for a parameter's saved state that does not fit it; ``group`` has the options to be."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have a gradient; returns what ``closure``, if given called first, returned."""
        raise NotImplementedError

    # --- groups -------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add parameters with options of their own; options left out are the optimizer's defaults.

        Raises TypeError or ValueError for what cannot be optimised, parameters met twice, unknown options and bad
        values.
        """
        group = {name: _plain(value) if name != "params" else value for name, value in param_group.items()}
        if isinstance(group["params"], set):
            msg = f"{self._name}: expected parameters in an order that the state can follow, got a set"
            raise TypeError(msg)
        params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        if params and isinstance(params[0], tuple):  # from named_parameters()
            group["param_names"], params = [n for n, _ in params], [p for _, p in params]
        unknown = group.keys() - self.defaults.keys() - BESIDE_OPTIONS
        if unknown:
            msg = f"{self._name}: unknown options {quoted(sorted(unknown))}; expected {quoted(self.defaults)}"
            raise ValueError(msg)
        self._check_params(params)
        group["params"] = params
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        self.check(group)
        self.param_groups.append(group)

    def _check_params(self, params: list[Any]) -> None:
        if not params:
            msg = f"{self._name}: got a group without parameters"
            raise ValueError(msg)
        known = {id(p) for p in self._params()}
        for i, p in enumerate(params):
            self._check_param(p, i)
            if id(p) in known:
                msg = f"{self._name}: parameter {i} of shape {list(p.shape)} is given twice"
                raise ValueError(msg)
            known.add(id(p))
        _check_apart(params, self._name)

    def _check_param(self, p: Any, i: int) -> None:
        if not isinstance(p, Tensor):
            hint = "; net.parameters() gives those of a module" if hasattr(p, "parameters") else ""
            msg = f"{self._name}: expected tensors, got {type(p).__name__} as parameter {i}{hint}"
            raise TypeError(msg)
        if not p.is_leaf:
            msg = f"{self._name}: parameter {i} of shape {list(p.shape)} is no leaf: an operation made it"
            raise ValueError(msg)
        if not (p.is_floating_point() or p.is_complex()):
            msg = f"{self._name}: parameter {i} has dtype {p.dtype}; only floating-point tensors can be learnt"
            raise TypeError(msg)

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    # --- learning -----------------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or replace them by zeros; gradients that are handed out elsewhere stay as they are."""
        for group in self.param_groups:
            for p in group["params"]:
                node = p._node
                if set_to_none and node.__class__ is Leaf:
                    node.grad = None
                elif set_to_none or p.grad is None:
                    p.grad = None
                else:
                    p.grad = p.grad.detach().new_zeros(p.shape)

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step; it may return changed ``(args, kwargs)`` for `step`.

        >>> import tensor as T
        >>> optimizer = T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.1)
        >>> handle = optimizer.register_step_pre_hook(lambda optimizer, args, kwargs: print("before the step"))
        >>> optimizer.step()
        before the step
        >>> handle.remove()
        >>> optimizer.step()
        """
        return self._hook_step(0, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return self._hook_step(1, hook)

    def _hook_step(self, when: int, hook: Callable[..., Any]) -> RemovableHandle:
        vars(self)["step"] = partial(_step_with_hooks, self)  # before the class's own: without hooks, nothing is asked
        return RemovableHandle(self._step_hooks[when], hook)

    def __getstate__(self) -> dict[str, Any]:
        """All but the hooks: copies have none."""
        return {**{name: value for name, value in vars(self).items() if name != "step"}, "_step_hooks": ([], [])}

    # --- state --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The state by the parameters' numbers and the groups' options, in PyTorch's layout; tensors are copies.

        >>> import tensor as T
        >>> w = T.ones(1, requires_grad=True)
        >>> optimizer = T.optim.SGD([w], lr=0.5, momentum=0.9)
        >>> w.backward()
        >>> optimizer.step()
        >>> optimizer.state_dict()["state"]
        {0: {'step': tensor(1.), 'momentum_buffer': tensor([1.])}}
        """
        numbers = {id(p): i for i, p in enumerate(self._params())}
        state = {numbers[id(p)]: _copy(kept) for p, kept in self.state.items()}
        groups = [
            {
                **{key: value for key, value in group.items() if key != "params"},
                "params": [numbers[id(p)] for p in group["params"]],
            }
            for group in self.param_groups
        ]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; parameters are matched by their order. Tensors (or arrays) are copied.

        Raises ValueError when groups, numbers of parameters, names of moments or shapes differ; nothing is changed
        then.
        """
        groups, state = state_dict["param_groups"], state_dict["state"]
        sizes = [len(g["params"]) for g in self.param_groups], [len(g["params"]) for g in groups]
        if sizes[0] != sizes[1]:
            msg = f"{self._name}.load_state_dict: expected groups of {sizes[0]} parameters, got {sizes[1]}"
            raise ValueError(msg)
        states: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        for mine, theirs in zip(self.param_groups, groups, strict=True):
            self.check({**self.defaults, **theirs})
            for number, p in zip(theirs["params"], mine["params"], strict=True):
                if number in state:
                    self.check_state(state[number], p, number, {**mine, **theirs})
                    states[p] = {name: value if name == "step" else _fit(value, p) for name, value in state[number].items()}
        for mine, theirs in zip(self.param_groups, groups, strict=True):
            mine.update({key: value for key, value in theirs.items() if key != "params"})
        self.state = states

    def __repr__(self) -> str:
        lines = [f"{self._name} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key not in ("params", "param_names")]
        return "\n".join([*lines, ")"])


def evaluate(closure: Callable[[], Any] | None) -> Any:
    """What the closure of a step returns, with gradients recorded whatever the mode; None for none."""
    if closure is None:
        return None
    with enable_grad():
        return closure()


def _step_with_hooks(optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
    before, after = optimizer._step_hooks
    for hook in tuple(before):
        changed = hook(optimizer, args, kwargs)
        if changed is not None:
            if not (isinstance(changed, tuple) and len(changed) == 2):
                msg = f"{optimizer._name}.step: expected None or (args, kwargs) from a pre-hook, got {changed!r}"
                raise RuntimeError(msg)
            args, kwargs = changed
    result = type(optimizer).step(optimizer, *args, **kwargs)
    for hook in tuple(after):
        hook(optimizer, args, kwargs)
    return result


def _plain(value: Any) -> Any:
    """An option without its tensor: rates may be given as 0-d tensors."""
    return value.item() if isinstance(value, Tensor) and value.ndim == 0 else value


def _copy(value: Any) -> Any:
    """State with copies of its tensors."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _fit(value: Any, p: Tensor) -> Any:
    """Saved state as a parameter can use it: tensors and arrays of numbers get its dtype and device, and are copied."""
    if isinstance(value, Tensor | np.ndarray):
        array = value._array if isinstance(value, Tensor) else value
        like_p = array.ndim > 0 and array.dtype.kind == p._array.dtype.kind  # a single number keeps its precision
        return Tensor(move(array.astype(p._array.dtype if like_p else array.dtype), p.device))
    if isinstance(value, Mapping):
        return {key: _fit(item, p) for key, item in value.items()}
    return [_fit(item, p) for item in value] if isinstance(value, list) else value


def _check_apart(params: list[Tensor], who: str) -> None:
    """Refuse parameters over the same memory: the flat buffer would silently break that tie."""
    host = [(byte_bounds(p._array), i) for i, p in enumerate(params) if isinstance(p._array, np.ndarray) and p._array.size]
    host.sort()
    for ((_, end), i), ((start, _), j) in pairwise(host):
        if start < end:
            pair = f"parameters {min(i, j)} and {max(i, j)}"
            msg = f"{who}: {pair} share memory; to tie weights, use one Parameter in both places"
            raise ValueError(msg)
