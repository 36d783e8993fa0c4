"""The tensors that a module owns and an optimizer updates."""

from __future__ import annotations

from typing import Any

from tensor import cuda
from tensor.autograd.data import to_array
from tensor.autograd.node import version_of
from tensor.autograd.tensor import Tensor

__all__ = ["Buffer", "Parameter"]


class Parameter(Tensor):
    """A leaf tensor that a `Module` registers when it is assigned to an attribute.

    It shares the memory of ``data`` (a tensor, an array or nested numbers; nothing for an empty one). Its identity is
    what optimizers and registries hold on to; its array may be swapped. Raises RuntimeError when it should require a
    gradient but is not of a floating dtype.

    >>> import tensor as T
    >>> Parameter(T.ones(2))
    Parameter containing:
    tensor([1., 1.], requires_grad=True)
    """

    __slots__ = ()

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        super().__init__(to_array([] if data is None else data, copy=False))
        if isinstance(data, Tensor):
            self._version = version_of(data)  # one memory, one counter
        if requires_grad:
            self.requires_grad_()


class Buffer(Tensor):
    """A tensor that a `Module` registers as a buffer when it is assigned to an attribute: state that is not learnt.

    It shares the memory of ``data``. A module's state dictionary leaves it out unless ``persistent``.

    >>> import tensor as T
    >>> module = T.nn.Module()
    >>> module.seen = Buffer(T.zeros(1))
    >>> list(module.state_dict())
    ['seen']
    """

    __slots__ = ("persistent",)

    def __init__(self, data: Any = None, *, persistent: bool = True) -> None:
        super().__init__(to_array([] if data is None else data, copy=False))
        if isinstance(data, Tensor):
            self._version = version_of(data)
        self.persistent = persistent

    def __deepcopy__(self, memo: dict[int, Any]) -> Buffer:
        copy: Buffer = super().__deepcopy__(memo)  # type: ignore[assignment]
        copy.persistent = self.persistent
        return copy

    def __reduce__(self) -> Any:
        return _rebuild_buffer, (cuda.to_host(self._array), self.persistent)


def _rebuild_buffer(array: Any, persistent: bool) -> Buffer:
    return Buffer(array, persistent=persistent)
