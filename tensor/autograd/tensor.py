"""The tensor: a raw array, the node that made it, and a version counter that its views share.

Operators are not here: `tensor.ops` attaches them (one record each). This file holds what a tensor *is*.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor import cuda, dtypes
from tensor.autograd import engine, formatting
from tensor.autograd.inplace import bump
from tensor.autograd.node import Leaf, Node, OutputNode, RemovableHandle, version_of
from tensor.autograd.size import ElementCount, Size
from tensor.device import device as Device
from tensor.device import device_of

__all__ = ["RemovableHandle", "Size", "Tensor"]

ndarray = np.ndarray


class Tensor:
    """An n-dimensional array that can record what is done with it.

    Make one with `tensor.tensor`, `tensor.zeros`, ...; ``Tensor(array)`` wraps a raw array without a copy. As in PyTorch's first
    years ``Tensor(2, 3)`` has that shape, and ``Tensor([1, 2])`` those elements as floats. Names and behaviour are PyTorch's.
    """

    __slots__ = ("__weakref__", "_array", "_extra", "_node", "_version", "_view")

    # NumPy's own operators step back, so that `array * tensor` is a tensor.
    __array_priority__ = 1000

    _array: Any
    _node: Node | None
    _version: Any
    _view: tuple[Any, ...] | None
    _extra: dict[str, Any] | None

    def __init__(self, array: Any = (), node: Any = None, *sizes: int) -> None:
        if array.__class__ is not ndarray and isinstance(array, (int, list, tuple, Tensor)):
            from tensor.autograd.data import old_constructor  # which builds on this file

            array, node = old_constructor(array, () if node is None else (node, *sizes)), None
        self._array = array
        self._node = node
        self._version = None
        self._view = None
        self._extra = None

    if TYPE_CHECKING:
        # Operators are attached when `tensor.ops` is imported.
        T: Tensor
        imag: Tensor
        real: Tensor
        mT: Tensor
        H: Tensor
        mH: Tensor

        def __getattr__(self, name: str) -> Callable[..., Tensor]: ...
        def max(self, *args: Any, **kwargs: Any) -> Any: ...
        def min(self, *args: Any, **kwargs: Any) -> Any: ...
        def median(self, *args: Any, **kwargs: Any) -> Any: ...
        def sort(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]: ...
        def topk(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]: ...
        def split(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]: ...
        def chunk(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]: ...
        def unbind(self, dim: int = 0) -> tuple[Tensor, ...]: ...
        def nonzero(self, *, as_tuple: bool = False) -> Any: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __eq__(self, other: object) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: object) -> Tensor: ...  # type: ignore[override]
        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        """The shape, a tuple of ints."""
        return Size(self._array.shape)

    @property
    def size(self) -> ElementCount:
        """Called, the shape or the length of one dimension, as in PyTorch; as a number, how many elements, as in NumPy."""
        return ElementCount(self._array.shape)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return int(self._array.ndim)

    dim = ndimension = lambda self: self._array.ndim

    def numel(self) -> int:
        """The number of elements."""
        return int(self._array.size)

    nelement = numel

    @property
    def dtype(self) -> dtypes.dtype:
        """The element type."""
        return dtypes.DTYPES[self._array.dtype]

    @property
    def device(self) -> Device:
        """Where the array lives."""
        return device_of(self._array)

    @property
    def is_cuda(self) -> bool:
        """Whether the array lives on a CUDA device."""
        return self.device.type == "cuda"

    @property
    def itemsize(self) -> int:
        """Bytes an element."""
        return int(self._array.dtype.itemsize)

    element_size = lambda self: self._array.dtype.itemsize  # noqa: E731

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return int(self._array.nbytes)

    def stride(self, dim: int | None = None) -> Any:
        """Elements between neighbours along each dimension (of dimension ``dim``)."""
        strides = tuple(s // self._array.dtype.itemsize for s in self._array.strides)
        return strides if dim is None else strides[dim]

    def is_contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        return bool(self._array.flags.c_contiguous)

    def is_floating_point(self) -> bool:
        """Whether the elements are floating-point numbers."""
        return bool(self._array.dtype.kind == "f")

    def is_complex(self) -> bool:
        """Whether the elements are complex numbers."""
        return bool(self._array.dtype.kind == "c")

    def data_ptr(self) -> int:
        """The address of the first element."""
        return int(self._array.ctypes.data if isinstance(self._array, np.ndarray) else self._array.data.ptr)

    # --- gradient -----------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Start (or stop) recording what is done with this leaf."""
        if requires_grad:
            if self._node is None:
                if self._array.dtype.kind not in "fc":
                    msg = f"requires_grad_: only floating-point tensors can require gradients, got {self.dtype}"
                    raise RuntimeError(msg)
                self._node = Leaf(self._array.shape, self._array.dtype)
                self._node.grad = (self._extra or {}).pop("grad", None)
        elif type(self._node) is Leaf:
            grad, self._node = self._node.grad, None
            self.grad = grad
        elif self._node is not None:
            msg = "requires_grad_: can only change the flag of leaf tensors; use detach() for a value without history"
            raise RuntimeError(msg)
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made this tensor."""
        return self._node is None or type(self._node) is Leaf

    @property
    def grad_fn(self) -> Node | None:
        """The node of the operation that made this tensor; None for leaves."""
        node = self._node
        return None if type(node) is Leaf else node.edges[0] if type(node) is OutputNode else node

    @property
    def grad(self) -> Tensor | None:
        """The gradient accumulated by `backward`, same shape and dtype; None before the first."""
        node = self._node
        if type(node) is Leaf:
            return node.grad
        return None if self._extra is None else self._extra.get("grad")

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None and value._array.shape != self._array.shape:
            msg = f"grad: expected shape {tuple(self.shape)}, got {tuple(value.shape)}"
            raise RuntimeError(msg)
        if value is not None and value._array.dtype != self._array.dtype:
            msg = f"grad: expected dtype {self.dtype}, got {value.dtype}"
            raise RuntimeError(msg)
        if type(self._node) is Leaf:
            self._node.grad = value
        elif value is not None:
            self._extra = {**(self._extra or {}), "grad": value}
        elif self._extra is not None:
            self._extra.pop("grad", None)

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Accumulate the gradient of this tensor into the ``.grad`` of the leaves; see `tensor.autograd.backward`."""
        engine.backward((self,), None if gradient is None else (gradient,), retain_graph, create_graph, inputs)

    def detach(self) -> Tensor:
        """The same memory without history; writes are still seen by the version counter."""
        t = Tensor(self._array)
        t._version = version_of(self)
        return t

    def detach_(self) -> Tensor:
        """Forget the history of this tensor."""
        if self._view is not None:
            msg = "detach_: a view cannot be detached in place; use detach()"
            raise RuntimeError(msg)
        self._node = None
        return self

    @property
    def data(self) -> Tensor:
        """The same memory without history, and without the version counter: writes through it go unnoticed."""
        return Tensor(self._array)

    @data.setter
    def data(self, value: Tensor) -> None:
        self._array = value._array
        bump(self)
        if self._node is not None:
            self._node.shape, self._node.dtype = self._array.shape, self._array.dtype

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call ``hook(gradient)`` whenever this tensor's gradient is computed; what it returns replaces the gradient."""
        node = self._node
        if node is None:
            msg = "register_hook: the tensor does not require grad"
            raise RuntimeError(msg)
        if node.hooks is None:
            node.hooks = []
        return RemovableHandle(node.hooks, hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> RemovableHandle:
        """Call ``hook(tensor)`` after a gradient was accumulated into this leaf's ``.grad``."""
        node = self._node
        if type(node) is not Leaf:
            msg = "register_post_accumulate_grad_hook: only a leaf that requires grad accumulates"
            raise RuntimeError(msg)
        if node.post_hooks is None:
            node.post_hooks = []
        me = weakref.ref(self)

        def call() -> None:
            t = me()
            if t is not None:
                hook(t)

        return RemovableHandle(node.post_hooks, call)

    def retain_grad(self) -> None:
        """Keep the gradient of this intermediate tensor in its ``.grad``."""
        if self.is_leaf:
            if self._node is None:
                msg = "retain_grad: the tensor does not require grad"
                raise RuntimeError(msg)
            return
        if self._extra is not None and self._extra.get("retains"):
            return
        me = weakref.ref(self)

        def keep(g: Tensor) -> None:
            t = me()
            if t is not None:
                t.grad = g if t.grad is None else t.grad + g

        self._extra = {**(self._extra or {}), "retains": self.register_hook(keep)}

    @property
    def retains_grad(self) -> bool:
        """Whether `retain_grad` was called."""
        return bool(self._extra and self._extra.get("retains"))

    @property
    def _base(self) -> Tensor | None:
        t = self
        while t._view is not None:
            t = t._view[0]
        return None if t is self else t

    @property
    def output_nr(self) -> int:
        """Which output of its operation this tensor is."""
        return self._node.index if type(self._node) is OutputNode else 0

    # --- out into Python and NumPy ------------------------------------------------------------------------------

    def numpy(self, *, force: bool = False) -> np.ndarray[Any, Any]:
        """The NumPy array that shares this tensor's memory.

        Raises RuntimeError for a tensor that requires grad (use ``t.detach().numpy()``) unless ``force``, and TypeError on CUDA
        (use ``t.cpu().numpy()``).
        """
        if self._node is not None and not force:
            msg = "numpy: the tensor requires grad; use t.detach().numpy()"
            raise RuntimeError(msg)
        array = self._array
        if type(array) is not np.ndarray:
            if not self.is_cuda:
                whole: np.ndarray[Any, Any] = array.__array__()
                return whole  # a deferred one is run; samples of a `vmap` say that they are not one array
            if not force:
                msg = f"numpy: the tensor is on {self.device}; use t.cpu().numpy()"
                raise TypeError(msg)
            return cuda.to_host(array)
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                msg = f"__array__: {array.dtype} cannot become {np.dtype(dtype)} without a copy; leave copy=False away"
                raise ValueError(msg)
            return array.astype(dtype)
        return array.copy() if copy else array

    def item(self) -> Any:
        """The only element, as a Python number."""
        array = self._array
        if array.size != 1:
            msg = f"item: expected a tensor with one element, got shape {tuple(self.shape)}"
            raise RuntimeError(msg)
        return array.item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers; a number for a 0-d tensor."""
        return self._array.tolist()

    def __bool__(self) -> bool:
        if self._array.size != 1:
            msg = f"bool: the truth of a tensor with {self._array.size} elements is ambiguous; use any() or all()"
            raise RuntimeError(msg)
        return bool(self._array.item())

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        if self._array.dtype.kind not in "iub" or self._array.size != 1:
            msg = f"only integer tensors of one element can be an index, got {self.dtype} of shape {tuple(self.shape)}"
            raise TypeError(msg)
        return int(self.item())

    def __len__(self) -> int:
        if not self._array.ndim:
            msg = "len: a 0-d tensor has no length"
            raise TypeError(msg)
        return len(self._array)

    def __iter__(self) -> Iterator[Tensor]:
        if not self._array.ndim:
            msg = "iter: a 0-d tensor cannot be iterated over"
            raise TypeError(msg)
        return iter(self.unbind(0))

    def __contains__(self, value: Any) -> bool:
        return bool((self._array == (value._array if isinstance(value, Tensor) else value)).any())

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return formatting.format_tensor(self)

    def __format__(self, spec: str) -> str:
        return (
            format(self.item(), spec) if spec and self._array.ndim == 0 else object.__format__(self, spec) if spec else repr(self)
        )

    # --- copies -------------------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            msg = "deepcopy: only tensors made by the user can be copied deeply; use detach().clone()"
            raise RuntimeError(msg)
        if id(self) in memo:
            known: Tensor = memo[id(self)]
            return known
        copy = type(self).__new__(type(self))
        Tensor.__init__(copy, self._array.copy())
        memo[id(self)] = copy
        if self._node is not None:
            copy.requires_grad_()
        if self.grad is not None:
            copy.grad = Tensor(self.grad._array.copy())
        copy.__dict__.update(getattr(self, "__dict__", {})) if hasattr(copy, "__dict__") else None
        return copy

    def __reduce__(self) -> Any:
        if not self.is_leaf:
            msg = "pickle: only tensors without history can be pickled; use detach()"
            raise RuntimeError(msg)
        return _rebuild, (type(self), cuda.to_host(self._array), self.requires_grad)


def _rebuild(cls: type[Tensor], array: Any, requires_grad: bool) -> Tensor:
    t = cls.__new__(cls)
    Tensor.__init__(t, array)
    return t.requires_grad_() if requires_grad else t
