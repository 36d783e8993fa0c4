"""Layers that learn how many features they get from the first input they see.

Until then their parameters have no shape. With the first call, or with weights that are loaded, such a layer becomes an
ordinary one; its parameters keep their identity.
"""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from typing import Any, ClassVar

import numpy as np

from tensor import dtypes
from tensor.autograd.tensor import Size, Tensor
from tensor.device import as_device, move
from tensor.nn import conv, init, normalization
from tensor.nn.linear import Linear
from tensor.nn.module import Module
from tensor.nn.parameter import Parameter

__all__ = [
    "LazyBatchNorm1d", "LazyBatchNorm2d", "LazyBatchNorm3d", "LazyConv1d", "LazyConv2d", "LazyConv3d",
    "LazyConvTranspose1d", "LazyConvTranspose2d", "LazyConvTranspose3d", "LazyInstanceNorm1d", "LazyInstanceNorm2d",
    "LazyInstanceNorm3d", "LazyLinear", "LazyModule", "UninitializedBuffer", "UninitializedParameter", "is_lazy",
]  # fmt: skip


class _Uninitialized(Tensor):
    """A tensor whose shape is not known yet."""

    __slots__ = ()

    @property
    def shape(self) -> Size:
        """Raises RuntimeError: it is not known yet."""
        msg = "shape: this parameter has none before its lazy module was called or loaded"
        raise RuntimeError(msg)

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Take on a shape, and with it the class of an ordinary parameter (or tensor); the values are left to chance."""
        d = self._array.dtype if dtype is None else dtypes.numpy_dtype(dtype)
        array = np.empty_like(self._array, shape=tuple(shape), dtype=d)
        self.data = Tensor(array if device is None else move(array, as_device(device)))
        self.__class__ = Parameter if isinstance(self, Parameter) else Tensor  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class UninitializedParameter(_Uninitialized, Parameter):
    """A `Parameter` whose shape is not known yet.

    >>> p = UninitializedParameter()
    >>> p.materialize((2, 3))
    >>> type(p).__name__, p.shape
    ('Parameter', tensor.Size([2, 3]))
    """

    __slots__ = ()

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(_nothing(device, dtype), requires_grad)


class UninitializedBuffer(_Uninitialized):
    """A buffer whose shape is not known yet."""

    __slots__ = ()

    def __init__(self, requires_grad: bool = False, device: Any = None, dtype: Any = None) -> None:
        super().__init__(_nothing(device, dtype))
        if requires_grad:
            self.requires_grad_()


def _nothing(device: Any, dtype: Any) -> Any:
    d = dtypes.get_default_dtype().numpy if dtype is None else dtypes.numpy_dtype(dtype)
    array = np.empty(0, d)
    return array if device is None else move(array, as_device(device))


def is_lazy(t: Any) -> bool:
    """Whether a parameter or buffer has no shape yet."""
    return isinstance(t, _Uninitialized)


class LazyModule(Module):
    """What lazy layers share. Arguments are those of the layer to become, without its first one."""

    _becomes: ClassVar[Any]
    _features: ClassVar[int]  #: the dimension of the input that is counted

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        # An ordinary layer of the fewest features that its groups allow tells what there will be.
        bound = inspect.signature(self._becomes).bind(1, *args, **kwargs)
        bound.apply_defaults()
        with init.skipped():
            pattern = self._becomes(bound.arguments.get("groups", 1), *args, **kwargs)
        for name, value in pattern.__dict__.items():
            if name not in self.__dict__:
                object.__setattr__(self, name, value)
        object.__setattr__(self, next(iter(bound.arguments)), 0)  # how many features, for `repr`
        where: dict[str, Any] = {"device": bound.arguments.get("device"), "dtype": bound.arguments.get("dtype")}
        for name, p in pattern._parameters.items():
            object.__delattr__(self, name)
            self.register_parameter(name, None if p is None else UninitializedParameter(**where))
        for name, b in pattern._buffers.items():
            object.__delattr__(self, name)
            self.register_buffer(name, UninitializedBuffer(**where) if b is not None and b.is_floating_point() else b)
        self._arguments = (args, kwargs)
        self._until_known = [
            self.register_forward_pre_hook(_learn_from_input),
            self.register_load_state_dict_pre_hook(_learn_from_state),
        ]

    def extra_repr(self) -> str:
        return str(self._becomes.extra_repr(self))

    def has_uninitialized_params(self) -> bool:
        """Whether the number of features is not known yet."""
        return any(is_lazy(t) for t in [*self._parameters.values(), *self._buffers.values()])

    def initialize_parameters(self, input: Tensor) -> None:
        """Become an ordinary layer for inputs like this one, with first values where nothing was loaded."""
        n = input.shape[self._features]
        args, kwargs = self._arguments
        with nullcontext() if self.has_uninitialized_params() else init.skipped():  # what was loaded needs no first values
            layer = self._becomes(n, *args, **kwargs)
        for registry, values in ((self._parameters, layer._parameters), (self._buffers, layer._buffers)):
            for name, t in registry.items():
                if is_lazy(t):
                    value: Any = values[name]
                    device, dtype = t.device, t.dtype  # type: ignore[union-attr]
                    t.materialize(value.shape)  # type: ignore[union-attr]
                    t.data = value.detach().to(device=device, dtype=dtype)  # type: ignore[union-attr]
        for handle in self._until_known:
            handle.remove()
        object.__delattr__(self, "_until_known")
        object.__delattr__(self, "_arguments")
        for name, value in layer.__dict__.items():
            if not name.startswith("_") and name != "training" and name not in (*layer._parameters, *layer._buffers):
                object.__setattr__(self, name, value)
        object.__setattr__(self, "__class__", self._becomes)


def _learn_from_input(module: LazyModule, args: tuple[Any, ...]) -> None:
    module.initialize_parameters(args[0])


def _learn_from_state(module: LazyModule, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, t in [*module._parameters.items(), *module._buffers.items()]:
        given = state.get(prefix + name)
        if isinstance(t, _Uninitialized) and given is not None:
            t.materialize(given.shape)


class LazyLinear(LazyModule):
    """`Linear` of as many inputs as the first input has: ``LazyLinear(out_features, bias=True)``.

    >>> import tensor as T
    >>> layer = LazyLinear(2)
    >>> layer(T.ones(4, 3)).shape
    tensor.Size([4, 2])
    >>> layer
    Linear(in_features=3, out_features=2, bias=True)
    """

    _becomes, _features = Linear, -1


class LazyConv1d(LazyModule):
    """`Conv1d` of as many channels as the first input has: ``LazyConv1d(out_channels, kernel_size, ...)``."""

    _becomes, _features = conv.Conv1d, -2


class LazyConv2d(LazyModule):
    """`Conv2d` of as many channels as the first input has: ``LazyConv2d(out_channels, kernel_size, ...)``."""

    _becomes, _features = conv.Conv2d, -3


class LazyConv3d(LazyModule):
    """`Conv3d` of as many channels as the first input has: ``LazyConv3d(out_channels, kernel_size, ...)``."""

    _becomes, _features = conv.Conv3d, -4


class LazyConvTranspose1d(LazyModule):
    """`ConvTranspose1d` of as many channels as the first input has: ``LazyConvTranspose1d(out_channels, kernel_size, ...)``."""

    _becomes, _features = conv.ConvTranspose1d, -2


class LazyConvTranspose2d(LazyModule):
    """`ConvTranspose2d` of as many channels as the first input has: ``LazyConvTranspose2d(out_channels, kernel_size, ...)``."""

    _becomes, _features = conv.ConvTranspose2d, -3


class LazyConvTranspose3d(LazyModule):
    """`ConvTranspose3d` of as many channels as the first input has: ``LazyConvTranspose3d(out_channels, kernel_size, ...)``."""

    _becomes, _features = conv.ConvTranspose3d, -4


class LazyBatchNorm1d(LazyModule):
    """`BatchNorm1d` of as many features as the first input has: ``LazyBatchNorm1d(eps=1e-5, ...)``."""

    _becomes, _features = normalization.BatchNorm1d, 1


class LazyBatchNorm2d(LazyModule):
    """`BatchNorm2d` of as many channels as the first input has: ``LazyBatchNorm2d(eps=1e-5, ...)``."""

    _becomes, _features = normalization.BatchNorm2d, 1


class LazyBatchNorm3d(LazyModule):
    """`BatchNorm3d` of as many channels as the first input has: ``LazyBatchNorm3d(eps=1e-5, ...)``."""

    _becomes, _features = normalization.BatchNorm3d, 1


class LazyInstanceNorm1d(LazyModule):
    """`InstanceNorm1d` of as many channels as the first input has: ``LazyInstanceNorm1d(eps=1e-5, ...)``."""

    _becomes, _features = normalization.InstanceNorm1d, -2


class LazyInstanceNorm2d(LazyModule):
    """`InstanceNorm2d` of as many channels as the first input has: ``LazyInstanceNorm2d(eps=1e-5, ...)``."""

    _becomes, _features = normalization.InstanceNorm2d, -3


class LazyInstanceNorm3d(LazyModule):
    """`InstanceNorm3d` of as many channels as the first input has: ``LazyInstanceNorm3d(eps=1e-5, ...)``."""

    _becomes, _features = normalization.InstanceNorm3d, -4
