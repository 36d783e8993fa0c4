"""Functions that run around a module's forward and backward, for one module or for all.

The gradient of a module's inputs and outputs is seen by passing both through identities that know the module: the one behind
the outputs is reached first on the way back, the one before the inputs last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tensor.autograd.modes import is_grad_enabled
from tensor.autograd.node import Node, OutputNode
from tensor.autograd.tensor import RemovableHandle, Tensor
from tensor.nn.state import StateHook

if TYPE_CHECKING:
    from tensor.nn.module import Module

__all__ = [
    "EVERYWHERE", "Hook", "Hookable", "add_hook", "call_with_hooks", "register_module_forward_hook",
    "register_module_forward_pre_hook", "register_module_full_backward_hook", "register_module_full_backward_pre_hook",
]  # fmt: skip


class Hook:
    """One registered function; compared by identity, so that the same function may be registered twice.

    ``kind``: "forward_pre", "forward", "backward_pre" or "backward".
    """

    __slots__ = ("always_call", "function", "kind", "with_kwargs")

    def __init__(self, kind: str, function: Callable[..., Any], with_kwargs: bool = False, always_call: bool = False) -> None:
        self.kind, self.function, self.with_kwargs, self.always_call = kind, function, with_kwargs, always_call


#: The hooks of all modules; they run before a module's own.
EVERYWHERE: list[Hook] = []


def add_hook(hooks: list[Any], hook: Any, prepend: bool = False) -> RemovableHandle:
    """Register a hook last, or first; the handle takes it away again."""
    handle = RemovableHandle(hooks, hook)
    if prepend:
        hooks.insert(0, hooks.pop())
    return handle


def register_module_forward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(module, args)`` before the forward of every module there is; see `Module.register_forward_pre_hook`."""
    return add_hook(EVERYWHERE, Hook("forward_pre", hook))


def register_module_forward_hook(
    hook: Callable[..., Any], *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """Call ``hook(module, args, output)`` after the forward of every module there is; see `Module.register_forward_hook`.

    >>> import tensor as T
    >>> seen = []
    >>> with register_module_forward_hook(lambda module, args, output: seen.append(module)):
    ...     _ = T.nn.Sequential(T.nn.Tanh(), T.nn.ReLU())(T.ones(1))
    >>> [type(module).__name__ for module in seen]
    ['Tanh', 'ReLU', 'Sequential']
    """
    return add_hook(EVERYWHERE, Hook("forward", hook, with_kwargs, always_call))


def register_module_full_backward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(module, grad_output)`` for every module; see `Module.register_full_backward_pre_hook`."""
    return add_hook(EVERYWHERE, Hook("backward_pre", hook))


def register_module_full_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(module, grad_input, grad_output)`` for every module; see `Module.register_full_backward_hook`."""
    return add_hook(EVERYWHERE, Hook("backward", hook))


class Hookable:
    """What registers hooks: the base of `Module`, which runs them."""

    _hooks: list[Hook]
    _state_hooks: list[StateHook]

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args)`` before each forward; what it returns replaces the arguments.

        With ``with_kwargs`` it is ``hook(module, args, kwargs)`` and returns both. Returns a handle whose ``remove()``
        ends it. ``prepend`` puts it before the hooks there are.
        """
        return add_hook(self._hooks, Hook("forward_pre", hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after each forward; what it returns replaces the output.

        With ``with_kwargs`` it is ``hook(module, args, kwargs, output)``; with ``always_call`` it is called even when the
        forward raises. Returns a handle whose ``remove()`` ends it.
        """
        return add_hook(self._hooks, Hook("forward", hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` when the gradients of the outputs are there; what it returns replaces them."""
        return add_hook(self._hooks, Hook("backward_pre", hook), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` when the gradients of the inputs are there.

        Both are tuples, None for whatever is no tensor that requires a gradient; keyword arguments are not among the inputs.
        What the hook returns replaces ``grad_input``. Where no input requires a gradient, it runs as soon as ``grad_output``
        is there.

        >>> import tensor as T
        >>> layer = T.nn.Linear(2, 1)
        >>> seen = []
        >>> handle = layer.register_full_backward_hook(lambda module, grad_input, grad_output: seen.append(grad_output))
        >>> layer(T.ones(1, 2)).sum().backward()
        >>> seen
        [(tensor([[1.]]),)]
        """
        return add_hook(self._hooks, Hook("backward", hook), prepend)

    register_backward_hook = register_full_backward_hook

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` before this module's state is collected."""
        return add_hook(self._state_hooks, StateHook("save_pre", hook))

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, metadata)`` after; it may change the dictionary. ``metadata`` is empty."""
        return add_hook(self._state_hooks, StateHook("save", hook))

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, metadata, strict, missing_keys, unexpected_keys, error_msgs)`` before loading.

        It may rename or add entries in a copy of the dictionary, and add to the lists.
        """
        return add_hook(self._state_hooks, StateHook("load_pre", hook))

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, result)`` after loading, with the names that were missing or unexpected."""
        return add_hook(self._state_hooks, StateHook("load", hook))


# --- running them --------------------------------------------------------------------------------------------------------


def call_with_hooks(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A module's forward with its hooks, and those of all modules, around it."""
    hooks = [*EVERYWHERE, *module._hooks]  # a copy: a hook may remove itself
    after = [hook for hook in hooks if hook.kind == "forward"]
    result = None
    try:
        for hook in hooks:
            if hook.kind == "forward_pre":
                args, kwargs = _before(hook, module, args, kwargs)
        passage = None
        if is_grad_enabled() and any(hook.kind.startswith("backward") for hook in hooks):
            passage = _Passage(module, hooks)
            args = passage.enter(args)
        result = module.forward(*args, **kwargs)
        while after:
            result = _after(after.pop(0), module, args, kwargs, result)
    except Exception:
        for hook in after:
            if hook.always_call:
                _after(hook, module, args, kwargs, result)
        raise
    return result if passage is None else passage.leave(result)


def _before(hook: Hook, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    if not hook.with_kwargs:
        replaced = hook.function(module, args)
        if replaced is not None:
            args = replaced if isinstance(replaced, tuple) else (replaced,)
        return args, kwargs
    replaced = hook.function(module, args, kwargs)
    if replaced is None:
        return args, kwargs
    if not (isinstance(replaced, tuple) and len(replaced) == 2):
        who, given = type(module).__name__, type(replaced).__name__
        msg = f"{who}: expected a pair (args, kwargs) or None from a forward pre-hook, got {given}"
        raise RuntimeError(msg)
    return replaced


def _after(hook: Hook, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    seen = (module, args, kwargs, result) if hook.with_kwargs else (module, args, result)
    replaced = hook.function(*seen)
    return result if replaced is None else replaced


class _Identity(Node):
    """Values handed on as they are; on the way back ``act`` sees, and may replace, their gradients (None where none arrived)."""

    __slots__ = ("act",)

    def __init__(self, values: list[Tensor], act: Callable[..., Any]) -> None:
        self.setup(tuple(v._node for v in values), (), None)
        self.act = act

    def backward(self, g: dict[int, Any]) -> tuple[Any, ...]:
        grads: tuple[Any, ...] = self.act(tuple(g.get(i) for i in range(len(self.edges))))
        return grads

    def outputs(self, values: list[Tensor]) -> list[Tensor]:
        """The values as made by this node."""
        results = []
        for i, v in enumerate(values):
            t = v.detach()  # the same memory and version counter
            t._node = OutputNode(self, i, v._array.shape, v._array.dtype)
            results.append(t)
        return results


def _routed(values: tuple[Any, ...], act: Callable[..., Any]) -> tuple[tuple[Any, ...], list[int]]:
    """The values, those that require a gradient passed through an identity; and where these are."""
    places = [i for i, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad]
    if places:
        through = [values[i] for i in places]
        routed = dict(zip(places, _Identity(through, act).outputs(through), strict=True))
        values = tuple(routed.get(i, v) for i, v in enumerate(values))
    return values, places


class _Passage:
    """One call of a module whose gradients are watched."""

    def __init__(self, module: Module, hooks: list[Hook]) -> None:
        self.module, self.hooks = module, hooks
        self.inputs, self.outputs = 0, 0
        self.inside: list[int] = []  #: which arguments gradients come back to
        self.outside: list[int] = []
        self.grad_output: tuple[Any, ...] = ()

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        args, self.inside = _routed(args, self.entered)
        self.inputs = len(args)
        return args

    def leave(self, result: Any) -> Any:
        several = isinstance(result, (tuple, list))
        values = tuple(result) if several else (result,)
        self.outputs = len(values)
        values, self.outside = _routed(values, self.left)
        if not several:
            return values[0]
        return type(result)(*values) if hasattr(result, "_fields") else type(result)(values)

    def left(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        """The gradients of the outputs have arrived."""
        given: Any = _spread(grads, self.outside, self.outputs)
        for hook in self.hooks:
            if hook.kind == "backward_pre":
                given = self._replaced(hook.function(self.module, given), given)
        self.grad_output = given
        if not self.inside:  # nothing will arrive at the inputs
            self._finish((None,) * self.inputs)
        return tuple(given[i] for i in self.outside)

    def entered(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        """The gradients of the inputs have arrived."""
        found = self._finish(_spread(grads, self.inside, self.inputs))
        return tuple(found[i] for i in self.inside)

    def _finish(self, grad_input: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook in self.hooks:
            if hook.kind == "backward":
                grad_input = self._replaced(hook.function(self.module, grad_input, self.grad_output), grad_input)
        return grad_input

    def _replaced(self, replaced: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        if replaced is None:
            return given
        values = tuple(replaced) if isinstance(replaced, (tuple, list)) else (replaced,)
        if len(values) != len(given):
            msg = f"{type(self.module).__name__}: expected {len(given)} gradients from a backward hook, got {len(values)}"
            raise RuntimeError(msg)
        return values


def _spread(grads: tuple[Any, ...], places: list[int], n: int) -> tuple[Any, ...]:
    """The gradients at their places among ``n`` values, None elsewhere."""
    found = dict(zip(places, grads, strict=True))
    return tuple(found.get(i) for i in range(n))
