"""The array whose contents are not there yet.

It sits in a tensor in place of a NumPy array, and NumPy's protocols bring every call on it to its session, which defers the call
or runs it. ``held`` is a real array of the right shape and strides; its contents are there once `settled` has run what fills it.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from tensor.autograd.batched import Batched
from tensor.jit.traced import METHODS, STATIC, VIEWS

if TYPE_CHECKING:
    from tensor.jit.deferred.graph import Memory
    from tensor.jit.deferred.session import Session

__all__ = ["Deferred"]

_SORTS = frozenset({"sort", "fill", "put", "partition"})


class _Flags:
    """The flags of an array. They are there at once; one is changed only when its contents are there too."""

    __slots__ = ("_array",)

    def __init__(self, array: Deferred) -> None:
        object.__setattr__(self, "_array", array)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._array.held.flags, name)

    def __getitem__(self, name: str) -> Any:
        return self._array.held.flags[name]

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._array.settled().flags, name, value)


class Deferred:
    """``scalar``: NumPy gives a scalar here, which no operator changes in place. ``root``: the array that this is a view of."""

    __slots__ = ("__weakref__", "held", "memory", "root", "scalar", "session")

    def __init__(self, held: Any, memory: Memory, session: Session, scalar: bool = False, root: Deferred | None = None) -> None:
        self.held, self.memory, self.session, self.scalar, self.root = held, memory, session, scalar, root

    # Code that asks for the class takes the paths it takes for arrays.
    __class__ = property(lambda self: np.ndarray)

    def settled(self) -> Any:
        """The real array, with its contents; from now on code that is not followed may look at it."""
        return self.session.settled(self)

    # --- what it looks like ---------------------------------------------------------------------------------------------

    @property
    def shape(self) -> Any:
        """The shape."""
        return self.held.shape

    @property
    def dtype(self) -> Any:
        """The dtype."""
        return self.held.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return int(self.held.ndim)

    def __getattr__(self, name: str) -> Any:
        if name in STATIC:
            return getattr(self.held, name)
        if name in METHODS or name in _SORTS:
            method = getattr(np.ndarray, name)
            return lambda *args, **kwargs: self.session.call(method, (self, *args), kwargs)
        if name in VIEWS:
            return self.session.call(VIEWS[name], (self,), {})
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.session.handed_out(self), name)

    @property
    def flags(self) -> Any:
        """The flags of the memory."""
        return _Flags(self)

    @property
    def base(self) -> Any:
        """The array that owns the memory, always the same object: by that views are known."""
        if self.root is None:
            base = self.held.base
            if not isinstance(base, np.ndarray):
                return base
            known = None if self.memory.root is None else self.memory.root()
            self.root = known if known is not None and known.held is base else Deferred(base, self.memory, self.session)
            self.memory.root = ref(self.root)
        return self.root

    def __len__(self) -> int:
        return len(self.held)

    def __iter__(self) -> Any:
        if self.held.ndim == 1:  # values
            return iter(self.session.contents(self))
        return (self[i] for i in range(len(self.held)))

    def __repr__(self) -> str:
        return repr(self.session.contents(self))

    def __format__(self, spec: str) -> str:
        return format(self.session.contents(self)[()], spec)

    def __reduce__(self) -> Any:
        return self.settled().__reduce__()

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()

    # --- NumPy's protocols ----------------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(type(x) is Batched for x in inputs):
            return NotImplemented
        return self.session.call(ufunc if method == "__call__" else getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if Batched in types:
            return NotImplemented
        return self.session.call(function, args, kwargs)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if copy or (dtype is not None and dtype != self.held.dtype):
            return np.array(self.session.contents(self), dtype=dtype, copy=copy)
        return self.session.handed_out(self)

    def __dlpack__(self, **options: Any) -> Any:
        return self.session.handed_out(self).__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.held.__dlpack_device__()

    # --- reading and writing elements -----------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Any:
        return self.session.call(operator.getitem, (self, index), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        self.session.call(operator.setitem, (self, index, value), {})

    # --- values that leave the arrays -----------------------------------------------------------------------------------

    def item(self, *args: Any) -> Any:
        """An element as a Python number."""
        return self.session.contents(self).item(*args)

    def tolist(self) -> Any:
        """The elements as Python numbers."""
        return self.session.contents(self).tolist()

    def tobytes(self, *args: Any) -> bytes:
        """The elements' bytes."""
        return bytes(self.session.contents(self).tobytes(*args))

    def __bool__(self) -> bool:
        return bool(self.session.contents(self))

    def __int__(self) -> int:
        return int(self.session.contents(self))

    def __float__(self) -> float:
        return float(self.session.contents(self))

    def __complex__(self) -> complex:
        return complex(self.session.contents(self))

    def __index__(self) -> int:
        return operator.index(self.session.contents(self))

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any())

    __hash__ = None  # type: ignore[assignment]


def _binary(name: str) -> None:
    """The operators of arrays, by Python's own functions: an array's ``**`` is not always `np.power`."""
    function = getattr(operator, name)

    def forward(self: Deferred, other: Any) -> Any:
        return NotImplemented if _foreign(other) else self.session.call(function, (self, other), {})

    def reflected(self: Deferred, other: Any) -> Any:
        return NotImplemented if _foreign(other) else self.session.call(function, (other, self), {})

    setattr(Deferred, name, forward)
    if name.strip("_") not in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(Deferred, f"__r{name.strip('_')}__", reflected)
        inplace = getattr(operator, f"__i{name.strip('_')}__")

        def into(self: Deferred, other: Any) -> Any:
            if _foreign(other):
                return NotImplemented
            return self.session.call(function if self.scalar else inplace, (self, other), {})

        setattr(Deferred, f"__i{name.strip('_')}__", into)


def _foreign(other: Any) -> bool:
    """Whether the other operand is of a kind that takes the operation over: a tensor, or the array of a `vmap`."""
    return type(other) is Batched or hasattr(type(other), "_array")


def _unary(name: str) -> None:
    function = getattr(operator, name)
    setattr(Deferred, name, lambda self: self.session.call(function, (self,), {}))


for _name in (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift", "lt", "le", "gt",
    "ge", "eq", "ne",
):  # fmt: skip
    _binary(f"__{_name}__")
for _name in ("neg", "pos", "abs", "invert"):
    _unary(f"__{_name}__")
