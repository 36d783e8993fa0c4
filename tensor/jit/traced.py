"""The array that watches: it sits in a tensor in place of a NumPy array and writes down what is done with it.

Every operation is carried out on the real array at once, so the function being recorded sees real shapes and values, and the
recording gets one instruction for each. What cannot be written down (memory handed to C code, an unknown attribute) still works,
and tells the recording that it cannot be replayed. Once a recording is over, its arrays compute like the real ones they hold.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor.autograd.batched import Batched
from tensor.ops import elementwise

if TYPE_CHECKING:
    from tensor.jit.recorder import Recording

__all__ = ["ReadNumber", "Traced", "plain", "unwrap"]

#: Methods of arrays that return new arrays or views, by name.
METHODS = frozenset({
    "all", "any", "argmax", "argmin", "argpartition", "argsort",
    "astype", "byteswap", "choose", "clip", "compress", "conj", "conjugate",
    "copy", "cumprod", "cumsum", "diagonal", "dot", "flatten", "max",
    "mean", "min", "nonzero", "prod", "ravel", "repeat", "reshape",
    "round", "searchsorted", "squeeze", "std", "sum", "swapaxes", "take", "trace", "transpose", "var", "view",
})  # fmt: skip
#: Attributes that are views.
VIEWS = {name: operator.attrgetter(name) for name in ("T", "mT", "real", "imag")}
#: Attributes that follow from shape and dtype.
STATIC = ("dtype", "itemsize", "nbytes", "ndim", "shape", "size", "strides", "device")


class _Flags:
    """The flags of an array; that it may be written into can be changed, and is recorded."""

    __slots__ = ("_array",)

    def __init__(self, array: Traced) -> None:
        object.__setattr__(self, "_array", array)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._array.held.flags, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._array.recording.run(set_flag, (self._array, name, value), {})


def set_flag(array: Any, name: str, value: bool) -> None:
    """Set a flag of an array, as an instruction."""
    setattr(array.flags, name, value)


class Traced:
    """`held` is the array; `slot` its number in the recording."""

    __slots__ = ("__weakref__", "held", "recording", "slot")

    def __init__(self, real: Any, slot: int, recording: Recording) -> None:
        self.held, self.slot, self.recording = real, slot, recording

    # Code that asks for the class takes the paths it takes for arrays; asked often, hence without a function of Python's.
    __class__ = property(partial(getattr, np, "ndarray"))

    # --- what it looks like ---------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.recording.refuse(f"the attribute {name!r} of an array is used")
        return getattr(self.held, name)

    @property
    def flags(self) -> Any:
        """The flags of the memory."""
        return _Flags(self)

    @property
    def base(self) -> Any:
        """The array that owns the memory, the recorded one where there is one."""
        return self.recording.seen_as(self.held.base)

    def __len__(self) -> int:
        return len(self.held)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self.held)))

    def __repr__(self) -> str:
        return f"Traced({self.held!r})"

    # --- NumPy's protocols ----------------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        for x in inputs:
            if type(x) is Batched:
                return NotImplemented
        return self.recording.run(ufunc if method == "__call__" else getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if Batched in types:
            return NotImplemented
        return self.recording.run(function, args, kwargs)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        self.recording.refuse("an array is handed to code that cannot be followed")
        return np.array(self.held, dtype=dtype, copy=copy)

    # --- reading and writing elements -----------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Any:
        return self.recording.run(operator.getitem, (self, index), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        self.recording.run(operator.setitem, (self, index, value), {})

    def fill(self, value: Any) -> None:
        """Set all elements."""
        self.recording.run(np.ndarray.fill, (self, value), {})

    def sort(self, *args: Any, **kwargs: Any) -> None:
        """Sort in place."""
        self.recording.run(np.ndarray.sort, (self, *args), kwargs)

    # --- values that leave the arrays -----------------------------------------------------------------------------------

    def item(self, *args: Any) -> Any:
        """An element as a Python number, which the recording follows."""
        return self.recording.read(np.ndarray.item, (self, *args))

    def tolist(self) -> Any:
        """The elements as Python numbers."""
        return self.recording.read(np.ndarray.tolist, (self,))

    def __bool__(self) -> bool:
        return bool(self.recording.read(bool, (self,)))

    def __int__(self) -> int:
        return int(self.recording.read(int, (self,)))

    def __float__(self) -> float:
        return float(self.recording.read(float, (self,)))

    def __complex__(self) -> complex:
        return complex(self.recording.read(complex, (self,)))

    def __index__(self) -> int:
        return int(self.recording.read(operator.index, (self,)))

    def __contains__(self, value: Any) -> bool:
        return bool(self.recording.read(operator.contains, (self, value)))

    __hash__ = None  # type: ignore[assignment]


def _binary(name: str) -> None:
    """The operators of arrays, by Python's own functions: an array's ``**`` is not always `np.power`."""
    function = getattr(operator, name)

    def forward(self: Traced, other: Any) -> Any:
        return NotImplemented if _foreign(other) else self.recording.run(function, (self, other), {})

    def reflected(self: Traced, other: Any) -> Any:
        return NotImplemented if _foreign(other) else self.recording.run(function, (other, self), {})

    setattr(Traced, name, forward)
    if name.strip("_") not in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(Traced, f"__r{name.strip('_')}__", reflected)
        inplace = getattr(operator, f"__i{name.strip('_')}__", None)
        if inplace is not None:

            def into(self: Traced, other: Any) -> Any:
                return NotImplemented if _foreign(other) else self.recording.run(inplace, (self, other), {})

            setattr(Traced, f"__i{name.strip('_')}__", into)


def _method(name: str) -> None:
    function = getattr(np.ndarray, name)

    def method(self: Traced, *args: Any, **kwargs: Any) -> Any:
        return self.recording.run(function, (self, *args), kwargs)

    setattr(Traced, name, method)


def _view(name: str, function: Any) -> None:
    setattr(Traced, name, property(lambda self: self.recording.run(function, (self,), {})))


for _name in STATIC:
    setattr(Traced, _name, property(operator.attrgetter(f"held.{_name}")))
for _name in METHODS:
    _method(_name)
for _name, _attribute in VIEWS.items():
    _view(_name, _attribute)


def _foreign(other: Any) -> bool:
    """Whether the other operand is of a kind that takes the operation over: a tensor, or the array of a `vmap`."""
    return type(other) is Batched or hasattr(type(other), "_array")


def _unary(name: str) -> None:
    function = getattr(operator, name)
    setattr(Traced, name, lambda self: self.recording.run(function, (self,), {}))


for _name in (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul",
    "and", "or", "xor", "lshift", "rshift", "lt", "le", "gt", "ge",
    "eq", "ne",
):  # fmt: skip
    _binary(f"__{_name}__")
for _name in ("neg", "pos", "abs", "invert"):
    _unary(f"__{_name}__")


def unwrap(x: Any) -> Any:
    """Nested tuples, lists, dicts and slices with the real arrays."""
    kind = type(x)
    if kind is Traced:
        return x.held
    if kind is int or kind is float or x is None:
        return x
    if kind is ReadNumber:
        return float.__float__(x)
    if kind is tuple or kind is list:
        return kind([unwrap(v) for v in x])
    if kind is dict:
        return {k: unwrap(v) for k, v in x.items()}
    if kind is slice:
        return slice(unwrap(x.start), unwrap(x.stop), unwrap(x.step))
    return x


class ReadNumber(float):
    """A number read from an array, or computed from such ones: arithmetic with it is recorded, and so is what a comparison says.

    Anything else that looks at it makes the recording hold only where the number is the same.
    """

    __slots__ = ("made", "recording")

    made: Any
    recording: Any

    def use(self) -> float:
        """The plain number; from now on the recording holds only where this number is the same."""
        self.made.used = True
        return float.__float__(self)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(type(x) is Traced for x in inputs):
            return NotImplemented  # it records
        return getattr(ufunc, method)(*[x.use() if type(x) is ReadNumber else x for x in inputs], **kwargs)


def _watched(name: str) -> Callable[..., Any]:
    plain = getattr(float, name)

    def method(self: Any, *args: Any) -> Any:
        self.made.used = True
        return plain(self, *args)

    return method


def _arithmetic(name: str, function: Any, reflected: bool) -> Callable[..., Any]:
    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, (int, float)):
            return NotImplemented
        return self.recording.compute(function, (other, self) if reflected else (self, other))

    return method


_SILENT = {
    "__new__", "__init__", "__class__", "__getattribute__",
    "__setattr__", "__delattr__", "__init_subclass__", "__subclasshook__", "__doc__",
    "__getformat__", "__setformat__", "fromhex", "from_number",
}  # fmt: skip
for _name in set(dir(float)) - _SILENT:
    if callable(getattr(float, _name)):
        setattr(ReadNumber, _name, _watched(_name))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lt", "le", "gt", "ge", "eq", "ne"):
    _function = getattr(operator, _name)
    setattr(ReadNumber, f"__{_name}__", _arithmetic(f"__{_name}__", _function, False))
    if hasattr(float, f"__r{_name}__"):
        setattr(ReadNumber, f"__r{_name}__", _arithmetic(f"__r{_name}__", _function, True))
for _name, _function in (("neg", operator.neg), ("pos", operator.pos), ("abs", operator.abs), ("bool", bool)):
    setattr(ReadNumber, f"__{_name}__", lambda self, function=_function: self.recording.compute(function, (self,)))

# What operators take for numbers by their exact type.
elementwise._NUMBERS.add(ReadNumber)
elementwise._REAL.add(ReadNumber)


def plain(x: Any) -> Any:
    """A result with ordinary numbers; lists and dicts are changed in place."""
    if type(x) is ReadNumber:
        return float.__float__(x)
    if type(x) is list:
        x[:] = [plain(v) for v in x]
    elif type(x) is dict:
        x.update({k: plain(v) for k, v in x.items()})
    elif isinstance(x, tuple) and any(type(v) in (ReadNumber, tuple, list, dict) for v in x):
        parts = [plain(v) for v in x]
        return type(x)(*parts) if hasattr(x, "_fields") else tuple(parts)
    return x
