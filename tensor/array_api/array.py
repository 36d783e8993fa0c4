"""The array object of the standard: a `Tensor` whose operators promote as the standard says.

A Tensor promotes as in PyTorch, where a 0-d tensor is weak: int8 of shape (2,) plus int64 of shape () is int8. The standard's
promotion looks at dtypes alone, its ``//`` is ``floor(a / b)`` at infinities too, and its slices also count down. So what the
functions of this namespace return is an `Array`, a Tensor with the operators of the standard and nothing more: it has no state of
its own, goes wherever a Tensor goes, and records gradients as Tensors do. Tensors are accepted wherever an Array is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import numpy as np

from tensor import dtypes
from tensor.autograd.interop import asarray as shared
from tensor.autograd.interop import to_device
from tensor.autograd.tensor import Tensor
from tensor.ops import binary, matmul, unary
from tensor.ops.record import inplace_method

__all__ = ["NUMBERS", "Array", "as_array", "floor_divide", "promoted", "standard", "tensors"]

P = ParamSpec("P")
R = TypeVar("R")

NUMBERS = (bool, int, float, complex)


class Array(Tensor):
    """A tensor with the operators of the Array API standard; see the module."""

    __slots__ = ()

    __hash__ = Tensor.__hash__  # which the comparisons attached below would take away

    def __getitem__(self, index: Any) -> Array:
        forward, turned = _forward_index(self, index)
        part = Tensor.__getitem__(self, forward)
        return as_array(part.flip(turned) if turned else part)

    def __setitem__(self, index: Any, value: Any) -> None:
        forward, turned = _forward_index(self, index)
        if turned:
            shape = Tensor.__getitem__(self, forward).shape
            value = shared(value, dtype=self.dtype).expand(shape).flip(turned)
        Tensor.__setitem__(self, forward, value)

    def __iter__(self) -> Iterator[Tensor]:
        return (as_array(part) for part in super().__iter__())

    @property
    def T(self) -> Array:  # type: ignore[override]
        """The transpose of a matrix, a view."""
        if self.ndim != 2:
            msg = f"T: expected a matrix, got {self.ndim} dimensions; use mT or permute_dims"
            raise ValueError(msg)
        return as_array(self.transpose(0, 1))

    @property
    def mT(self) -> Array:  # type: ignore[override]
        """The last two dimensions swapped, a view."""
        if self.ndim < 2:
            msg = f"mT: expected at least two dimensions, got {self.ndim}"
            raise ValueError(msg)
        return as_array(self.transpose(-2, -1))

    def to_device(self, device: Any, /, *, stream: Any = None) -> Array:
        """This array on a device; itself when it is there already."""
        return as_array(to_device(self, device, stream=stream))


def _forward_index(x: Tensor, index: Any) -> tuple[Any, tuple[int, ...]]:
    """An index as Tensors take it, and the dimensions of what it reads that are to be turned round after.

    As in PyTorch, Tensors step forwards only and take uint8 for masks; the standard also counts down, and only bools are masks.
    """
    parts = index if type(index) is tuple else (index,)
    if any(isinstance(i, Tensor) and i.dtype is dtypes.uint8 for i in parts):
        parts = tuple(i.to(dtypes.int64) if isinstance(i, Tensor) and i.dtype is dtypes.uint8 else i for i in parts)
        index = parts if type(index) is tuple else parts[0]
    if not any(type(i) is slice and i.step is not None and i.step < 0 for i in parts):
        return index, ()
    if not all(i is None or i is ... or type(i) in (int, slice) for i in parts):
        msg = f"getitem: slices that count down cannot be mixed with index arrays, got {index!r}"
        raise IndexError(msg)
    used = sum(i is not None and i is not ... for i in parts)
    rest = [slice(None)] * (x.ndim - used)
    at = next((k for k, i in enumerate(parts) if i is ...), len(parts))
    full = [*parts[:at], *rest, *(i for i in parts[at:] if i is not ...)]
    forward: list[Any] = []
    turned: list[int] = []
    axis = place = 0  # in what is read, and in the result
    for i in full:
        if type(i) is slice and i.step is not None and i.step < 0:
            places = range(*i.indices(x.shape[axis]))
            i = slice(places[-1], places[0] + 1, -i.step) if places else slice(0, 0)
            turned.append(place)
        forward.append(i)
        axis += i is not None
        place += type(i) is not int
    return tuple(forward), tuple(turned)


def as_array(t: Tensor, inputs: tuple[Any, ...] = ()) -> Array:
    """A fresh result as an `Array`; a tensor that somebody else holds stays what it is, and a view of it is returned."""
    if type(t) is Array:
        return t
    fresh = t if type(t) is Tensor and not any(t is x for x in inputs) else Tensor.__getitem__(t, ...)
    fresh.__class__ = Array
    assert isinstance(fresh, Array)
    return fresh


def standard(function: Callable[P, R]) -> Callable[P, R]:
    """A function of the namespace: what it returns are `Array` objects."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        result = function(*args, **kwargs)
        if isinstance(result, Tensor):
            return as_array(result, args)
        parts = [as_array(t, args) for t in result]  # type: ignore[attr-defined]
        return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)

    return call


def promoted(who: str, *operands: Any) -> list[Any]:
    """Arrays brought to their common dtype, whatever their shapes; Python numbers stay, they are weak.

    Raises TypeError for anything else, or without any array.
    """
    found = [x.dtype for x in operands if isinstance(x, Tensor)]
    if not found or not all(isinstance(x, (Tensor, *NUMBERS)) for x in operands):
        msg = f"{who}: expected arrays, or arrays and Python numbers, got {', '.join(type(x).__name__ for x in operands)}"
        raise TypeError(msg)
    d = functools.reduce(dtypes.promote_types, found)
    return [x.to(d) if isinstance(x, Tensor) else x for x in operands]


def tensors(who: str, *operands: Any) -> list[Tensor]:
    """Like `promoted`, the numbers too as 0-d tensors of the common dtype."""
    operands = tuple(promoted(who, *operands))
    home = next(x for x in operands if isinstance(x, Tensor))
    d = dtypes.as_dtype(dtypes.result_dtype((*(x for x in operands if not isinstance(x, Tensor)), np.empty(1, home.dtype.numpy))))
    return [x.to(d) if isinstance(x, Tensor) else shared(x, dtype=d, device=home.device) for x in operands]


def floor_divide(x1: Any, x2: Any) -> Tensor:
    """``floor(x1 / x2)``, at infinities too, where Python (and PyTorch) would have nan or -1."""
    x1, x2 = tensors("floor_divide", x1, x2)
    quotient = binary.floor_divide(x1, x2)
    if not quotient.is_floating_point():
        return quotient
    one_infinite = x1.isinf() ^ x2.isinf()
    return quotient.where(~one_infinite, (x1 / x2).detach()) if bool(one_infinite.any()) else quotient


# --- operators -------------------------------------------------------------------------------------------------------

_BINARY: dict[str, Callable[..., Tensor]] = {
    "add": binary.add, "sub": binary.sub, "mul": binary.mul, "truediv": binary.div, "floordiv": floor_divide,
    "mod": binary.remainder, "pow": binary.pow, "and": binary.bitwise_and, "or": binary.bitwise_or, "xor": binary.bitwise_xor,
    "lshift": binary.bitwise_left_shift, "rshift": binary.bitwise_right_shift, "matmul": matmul.matmul,
}  # fmt: skip
_COMPARISONS: dict[str, Callable[..., Tensor]] = {
    "eq": binary.eq, "ne": binary.ne, "lt": binary.lt, "le": binary.le, "gt": binary.gt, "ge": binary.ge,
}  # fmt: skip
_UNARY: dict[str, Callable[..., Tensor]] = {
    "neg": unary.neg, "pos": unary.positive, "abs": unary.abs, "invert": unary.bitwise_not,
}  # fmt: skip


def _operand(x: Any) -> Any:
    """What an operator takes beside an Array: tensors, numbers and NumPy's arrays."""
    return shared(x) if isinstance(x, (np.ndarray, np.generic)) else x


def _operator(name: str, f: Callable[..., Tensor], reflected: bool) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any, /) -> Any:
        other = _operand(other)
        if not isinstance(other, (Tensor, *NUMBERS)):
            return NotImplemented
        pair: Any = (other, self) if reflected else (self, other)
        if isinstance(other, Tensor) and other._array.dtype is not self._array.dtype:
            pair = promoted(name, *pair)
        return as_array(f(*pair))

    method.__name__ = method.__qualname__ = name
    return method


def _inplace_operator(name: str, f: Callable[..., Tensor]) -> Callable[[Any, Any], Any]:
    write = inplace_method(lambda before, other: f(*promoted(name, before, _operand(other))), name)

    def method(self: Any, other: Any, /) -> Any:
        return write(self, other)

    method.__name__ = method.__qualname__ = f"__i{name}__"
    return method


def _unary_operator(name: str, f: Callable[..., Tensor]) -> Callable[[Any], Any]:
    def method(self: Any, /) -> Any:
        return as_array(f(self))

    method.__name__ = method.__qualname__ = name
    return method


for _name, _f in {**_BINARY, **_COMPARISONS}.items():
    setattr(Array, f"__{_name}__", _operator(f"__{_name}__", _f, False))
for _name, _f in _BINARY.items():
    setattr(Array, f"__r{_name}__", _operator(f"__r{_name}__", _f, True))
for _name, _f in _UNARY.items():
    setattr(Array, f"__{_name}__", _unary_operator(f"__{_name}__", _f))
for _name, _f in _BINARY.items():
    setattr(Array, f"__i{_name}__", _inplace_operator(_name, _f))
