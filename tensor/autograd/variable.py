"""``Variable``, from the time when it and ``Tensor`` were two."""

from __future__ import annotations

from typing import Any

from tensor.autograd.tensor import Tensor

__all__ = ["Variable"]


class VariableType(type):
    """Calling the class gives a tensor, and every tensor counts as its instance."""

    def __call__(cls, data: Tensor, requires_grad: bool = False, volatile: bool = False) -> Tensor:
        """The tensor's memory without its history; with ``volatile``, as without ``requires_grad``, nothing is recorded."""
        if not isinstance(data, Tensor):
            msg = f"Variable: expected a tensor, got {type(data).__name__}"
            raise TypeError(msg)
        t = data.detach()
        return t.requires_grad_() if requires_grad and not volatile else t

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor)


class Variable(metaclass=VariableType):
    """What had to be wrapped around a tensor to record what was done with it; today that is the tensor itself.

    >>> import tensor as T
    >>> x = Variable(T.ones(2), requires_grad=True)
    >>> (x * 3).sum().backward()
    >>> x.grad.data
    tensor([3., 3.])
    """
