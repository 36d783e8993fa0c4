"""The graph from outside: its nodes, hooks on several gradients, and hooks on what is kept for backward."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from tensor.autograd.engine import watch
from tensor.autograd.node import FREED, MAKERS, Node, OpNode, RemovableHandle, Version, version_of
from tensor.autograd.tensor import Tensor
from tensor.device import move

__all__ = ["Node", "register_multi_grad_hook", "save_on_cpu", "saved_tensors_hooks"]


# --- several gradients ---------------------------------------------------------------------------------------------------


class _Handles:
    """Several handles as one."""

    def __init__(self, handles: list[RemovableHandle]) -> None:
        self._handles = handles

    def remove(self) -> None:
        """Take all the hooks away."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> _Handles:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def register_multi_grad_hook(tensors: Sequence[Tensor], fn: Callable[[Any], None], *, mode: str = "all") -> _Handles:
    """Call ``fn`` when the gradients of several tensors are there.

    With mode "all" it gets the list of them, None for a tensor that the backward pass did not reach; with "any" the first.

    >>> import tensor as T
    >>> a, b = T.ones(2, requires_grad=True), T.ones(2, requires_grad=True)
    >>> handle = register_multi_grad_hook([a, b], lambda grads: print(grads))
    >>> (a * b * 3).sum().backward()
    [tensor([3., 3.]), tensor([3., 3.])]
    """
    if mode not in ("all", "any"):
        msg = f"register_multi_grad_hook: expected mode 'all' or 'any', got {mode!r}"
        raise ValueError(msg)
    state = threading.local()

    def finish() -> None:
        grads, state.grads = state.grads, None
        if mode == "all":
            fn(grads)

    def arrived(i: int, g: Any) -> None:
        if getattr(state, "grads", None) is None:
            state.grads = [None] * len(tensors)
            watch.finished.append(finish)
            if mode == "any":
                fn(g)
        state.grads[i] = g

    return _Handles([t.register_hook(lambda g, i=i: arrived(i, g)) for i, t in enumerate(tensors)])  # type: ignore[misc]


# --- what is kept for backward --------------------------------------------------------------------------------------------


class _Hooks(threading.local):
    def __init__(self) -> None:
        self.pairs: list[tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = []


_hooks = _Hooks()
_users = 0


class _Packed:
    """A value as the hook packed it, and how to get it back as it was kept."""

    __slots__ = ("kept", "node", "unpack")

    def __init__(self, kept: Any, unpack: Callable[[Any], Tensor], node: Any) -> None:
        self.kept, self.unpack, self.node = kept, unpack, node

    def tensor(self) -> Tensor:
        """The value, with the history that it had."""
        t = self.unpack(self.kept)
        if not isinstance(t, Tensor):
            msg = f"saved_tensors_hooks: expected unpack to return a tensor, got {type(t).__name__}"
            raise TypeError(msg)
        return Tensor(t._array, self.node)


class _PackedNode(OpNode):
    """A node whose saved values went through hooks."""

    __slots__ = ()

    def backward(self, g: Any) -> tuple[Any, ...]:
        packed = self.saved
        if packed is not FREED:
            self.saved = tuple(map(_unpacked, packed))
        try:
            return super().backward(g)
        finally:
            self.saved = packed


def _packed_value(entry: Any, own: OpNode) -> Any:
    """An entry of `OpNode.saved`: (tensor, version) for an input, (array, counter, version) for an output."""
    if type(entry) is list:
        return [_packed_value(e, own) for e in entry]
    if type(entry) is not tuple or not (
        (len(entry) == 3 and type(entry[1]) is Version) or (len(entry) == 2 and isinstance(entry[0], Tensor))
    ):
        return entry
    pack, unpack = _hooks.pairs[-1]
    if len(entry) == 2:
        return _Packed(pack(entry[0].detach()), unpack, entry[0]._node)
    return _Output(pack(Tensor(entry[0])), unpack, None)


class _Output(_Packed):
    """The operation's own output."""

    __slots__ = ()


def _unpacked(entry: Any) -> Any:
    if type(entry) is list:
        return [_unpacked(e) for e in entry]
    if not isinstance(entry, _Packed):
        return entry
    t = entry.tensor()
    version = version_of(t)
    return (t._array, version, version.value) if type(entry) is _Output else (t, version.value)


class _PackingNode(OpNode):
    """A node whose saved values go through hooks as they are set."""

    __slots__ = ()

    @property
    def saved(self) -> Any:
        return _stored.__get__(self)

    @saved.setter
    def saved(self, saved: Any) -> None:
        _stored.__set__(self, tuple(_packed_value(entry, self) for entry in saved))
        kind: Any = _PackedNode if saved else OpNode
        self.__class__ = kind


_stored: Any = OpNode.__dict__["saved"]


def _new_node() -> OpNode:
    return _PackingNode() if _hooks.pairs else OpNode()


class saved_tensors_hooks:
    """A block in which what operators keep for backward goes through ``pack``, and comes back through ``unpack``.

    ``pack`` takes a tensor and may return anything; ``unpack`` makes a tensor of the same shape and values of that. Operators
    with several outputs, and `Function`, keep their values as always.

    >>> import tensor as T
    >>> x = T.tensor([2.0], requires_grad=True)
    >>> with saved_tensors_hooks(lambda t: t.tolist(), T.tensor):
    ...     y = x * x
    >>> y.backward()
    >>> x.grad
    tensor([4.])
    """

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]) -> None:
        self._pair = (pack_hook, unpack_hook)

    def __enter__(self) -> None:
        _hooks.pairs.append(self._pair)
        _count(1)

    def __exit__(self, *exc: object) -> None:
        _hooks.pairs.pop()
        _count(-1)


def _count(change: int) -> None:
    """Nodes are made by the packing function while any thread is in such a block."""
    global _users
    _users += change
    for namespace in MAKERS:
        if "new_node" in namespace:
            namespace["new_node"] = _new_node if _users else OpNode


class save_on_cpu(saved_tensors_hooks):
    """A block in which what operators keep for backward waits in main memory, to spare that of a CUDA device."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        def pack(t: Tensor) -> Any:
            return t.device, Tensor(move(t._array, "cpu"))

        def unpack(packed: Any) -> Tensor:
            device, t = packed
            return Tensor(move(t._array, device))

        super().__init__(pack, unpack)
