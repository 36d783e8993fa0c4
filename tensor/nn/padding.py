"""Padding layers: the last dimensions lengthened by a constant, a reflection, the border, or the other end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tensor.autograd.tensor import Tensor
from tensor.nn.options import Options
from tensor.ops.padding import pad

__all__ = [
    "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d", "ReflectionPad1d",
    "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d", "ReplicationPad3d", "ZeroPad1d", "ZeroPad2d",
    "ZeroPad3d",
]  # fmt: skip


class _Pad(Options):
    """Padding of the last ``_n`` dimensions: one width for all sides, or (before, after) pairs, the last dimension first."""

    _n: ClassVar[int]
    _mode: ClassVar[str]
    value: float | None = None

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        self.padding = (padding,) * (2 * self._n) if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != 2 * self._n:
            msg = f"{type(self).__name__}: expected a number or {2 * self._n} numbers, got {padding!r}"
            raise ValueError(msg)

    def forward(self, x: Tensor) -> Tensor:
        return pad(x, self.padding, self._mode, self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    _mode = "constant"
    _shown = ("padding", "value")

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return Options.extra_repr(self)


class _ZeroPad(_Pad):
    _mode = "constant"


class ConstantPad1d(_ConstantPad):
    """[..., channels, length] padded with a constant: ``ConstantPad1d(padding, value)``.

    >>> import tensor as T
    >>> ConstantPad1d((2, 0), 7.0)(T.ones(1, 2))
    tensor([[7., 7., 1., 1.]])
    """

    _n = 1


class ConstantPad2d(_ConstantPad):
    """[..., channels, height, width] padded with a constant: ``ConstantPad2d(padding, value)``."""

    _n = 2


class ConstantPad3d(_ConstantPad):
    """[..., channels, depth, height, width] padded with a constant: ``ConstantPad3d(padding, value)``."""

    _n = 3


class ZeroPad1d(_ZeroPad):
    """[..., channels, length] padded with zeros.

    >>> import tensor as T
    >>> ZeroPad1d((0, 2))(T.ones(1, 2))
    tensor([[1., 1., 0., 0.]])
    """

    _n = 1


class ZeroPad2d(_ZeroPad):
    """[..., channels, height, width] padded with zeros."""

    _n = 2


class ZeroPad3d(_ZeroPad):
    """[..., channels, depth, height, width] padded with zeros."""

    _n = 3


class ReflectionPad1d(_Pad):
    """[..., channels, length] padded with its mirror image, without the border itself.

    >>> import tensor as T
    >>> ReflectionPad1d(2)(T.arange(3.0).reshape(1, 3))
    tensor([[2., 1., 0., 1., 2., 1., 0.]])
    """

    _n, _mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """[..., channels, height, width] padded with its mirror image, without the border itself."""

    _n, _mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """[..., channels, depth, height, width] padded with its mirror image, without the border itself."""

    _n, _mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """[..., channels, length] padded with the element at the border.

    >>> import tensor as T
    >>> ReplicationPad1d(2)(T.arange(3.0).reshape(1, 3))
    tensor([[0., 0., 0., 1., 2., 2., 2.]])
    """

    _n, _mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """[..., channels, height, width] padded with the element at the border."""

    _n, _mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """[..., channels, depth, height, width] padded with the element at the border."""

    _n, _mode = 3, "replicate"


class CircularPad1d(_Pad):
    """[..., channels, length] padded with what is at the other end.

    >>> import tensor as T
    >>> CircularPad1d((2, 0))(T.arange(3.0).reshape(1, 3))
    tensor([[1., 2., 0., 1., 2.]])
    """

    _n, _mode = 1, "circular"


class CircularPad2d(_Pad):
    """[..., channels, height, width] padded with what is at the other end."""

    _n, _mode = 2, "circular"


class CircularPad3d(_Pad):
    """[..., channels, depth, height, width] padded with what is at the other end."""

    _n, _mode = 3, "circular"
