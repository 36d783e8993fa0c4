"""Pooling: the maximum, the mean or a norm of windows, and the reverse of the maximum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tensor.autograd.tensor import Tensor
from tensor.nn.options import Options, numbers
from tensor.ops import adaptive, pooling

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d",
    "AvgPool1d", "AvgPool2d", "AvgPool3d", "FractionalMaxPool2d", "FractionalMaxPool3d", "LPPool1d", "LPPool2d", "LPPool3d",
    "MaxPool1d", "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d",
]  # fmt: skip

Ints = int | Sequence[int]


class _Pool(Options):
    """A layer of one function of `tensor.ops`, for one number of dimensions."""

    _function: ClassVar[Any]


class _MaxPool(_Pool):
    _shown = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Ints = 0,
        dilation: Ints = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.padding, self.dilation = kernel_size, padding, dilation
        self.stride = kernel_size if stride is None else stride
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, x: Tensor) -> Any:
        options = (self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices)
        return type(self)._function(x, self.kernel_size, *options)


class MaxPool1d(_MaxPool):
    """The maximum of each window: [n, channels, length] to [n, channels, places]; options as for `MaxPool2d`."""

    _function = pooling.max_pool1d


class MaxPool2d(_MaxPool):
    """The maximum of each window: [n, channels, height, width] to [n, channels, rows, columns].

    ``stride`` is the window's size unless given; with ``return_indices`` also the place of each maximum in the
    flattened image.

    >>> import tensor as T
    >>> MaxPool2d(2)(T.arange(4.0).reshape(1, 1, 2, 2))
    tensor([[[[3.]]]])
    """

    _function = pooling.max_pool2d


class MaxPool3d(_MaxPool):
    """The maximum of each window: [n, channels, depth, height, width] to [n, channels, ...]; options as for `MaxPool2d`."""

    _function = pooling.max_pool3d


class _MaxUnpool(_Pool):
    _n: ClassVar[int]
    _shown = ("kernel_size", "stride", "padding")

    def __init__(self, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel_size = numbers(name, "kernel_size", kernel_size, self._n)
        self.stride = self.kernel_size if stride is None else numbers(name, "stride", stride, self._n)
        self.padding = numbers(name, "padding", padding, self._n)

    def forward(self, x: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        y: Tensor = type(self)._function(x, indices, self.kernel_size, self.stride, self.padding, output_size)
        return y


class MaxUnpool1d(_MaxUnpool):
    """Zeros with the maxima where `MaxPool1d` found them, by its indices; options as for `MaxUnpool2d`."""

    _n, _function = 1, pooling.max_unpool1d


class MaxUnpool2d(_MaxUnpool):
    """Zeros with the maxima where `MaxPool2d` found them, by its indices.

    ``output_size`` tells, when it is called, which of the sizes that lead to the input is meant.

    >>> import tensor as T
    >>> values, places = MaxPool2d(2, return_indices=True)(T.arange(4.0).reshape(1, 1, 2, 2))
    >>> MaxUnpool2d(2)(values, places)
    tensor([[[[0., 0.],
              [0., 3.]]]])
    """

    _n, _function = 2, pooling.max_unpool2d


class MaxUnpool3d(_MaxUnpool):
    """Zeros with the maxima where `MaxPool3d` found them, by its indices; options as for `MaxUnpool2d`."""

    _n, _function = 3, pooling.max_unpool3d


class _AvgPool(_Pool):
    _shown = ("kernel_size", "stride", "padding")

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Ints = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.padding, self.ceil_mode = kernel_size, padding, ceil_mode
        self.stride = stride or kernel_size
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, x: Tensor) -> Tensor:
        options = (self.stride, self.padding, self.ceil_mode, self.count_include_pad, self.divisor_override)
        y: Tensor = type(self)._function(x, self.kernel_size, *options)
        return y


class AvgPool1d(_AvgPool):
    """The mean of each window: [n, channels, length] to [n, channels, places]; options as for `AvgPool2d`, but no divisor."""

    _function = pooling.avg_pool1d

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Ints = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        sizes = {"kernel_size": kernel_size, "stride": stride or kernel_size, "padding": padding}
        kernel, step, around = (numbers("AvgPool1d", what, value, 1) for what, value in sizes.items())
        super().__init__(kernel, step, around, ceil_mode, count_include_pad)


class AvgPool2d(_AvgPool):
    """The mean of each window: [n, channels, height, width] to [n, channels, rows, columns].

    ``stride`` is the window's size unless given; the padding counts unless ``count_include_pad`` is False;
    ``divisor_override`` divides instead of the window's size.

    >>> import tensor as T
    >>> AvgPool2d(2)(T.arange(4.0).reshape(1, 1, 2, 2))
    tensor([[[[1.5000]]]])
    """

    _function = pooling.avg_pool2d


class AvgPool3d(_AvgPool):
    """The mean of each window: [n, channels, depth, height, width] to [n, channels, ...]; options as for `AvgPool2d`."""

    _function = pooling.avg_pool3d


class _LPPool(_Pool):
    _shown = ("norm_type", "kernel_size", "stride", "ceil_mode")

    def __init__(self, norm_type: float, kernel_size: Ints, stride: Ints | None = None, ceil_mode: bool = False) -> None:
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = type(self)._function(x, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)
        return y


class LPPool1d(_LPPool):
    """``sum(x ** norm_type) ** (1 / norm_type)`` of each window: [n, channels, length] to [n, channels, places].

    >>> import tensor as T
    >>> LPPool1d(2, 2)(T.tensor([[[3.0, 4.0]]]))
    tensor([[[5.]]])
    """

    _function = pooling.lp_pool1d


class LPPool2d(_LPPool):
    """`LPPool1d` for images, [n, channels, height, width]."""

    _function = pooling.lp_pool2d


class LPPool3d(_LPPool):
    """`LPPool1d` for volumes, [n, channels, depth, height, width]."""

    _function = pooling.lp_pool3d


class _AdaptiveAvgPool(_Pool):
    _shown = ("output_size",)

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = type(self)._function(x, self.output_size)
        return y


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The mean of each of ``output_size`` windows that cover the length evenly: [n, channels, length] to [..., output_size]."""

    _function = adaptive.adaptive_avg_pool1d


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The mean of each of ``output_size`` windows that cover the image evenly, [n, channels, height, width].

    ``output_size`` is one number or two; None keeps a dimension as it is.

    >>> import tensor as T
    >>> AdaptiveAvgPool2d(1)(T.arange(4.0).reshape(1, 1, 2, 2))
    tensor([[[[1.5000]]]])
    """

    _function = adaptive.adaptive_avg_pool2d


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """`AdaptiveAvgPool2d` for volumes, [n, channels, depth, height, width]."""

    _function = adaptive.adaptive_avg_pool3d


class _AdaptiveMaxPool(_Pool):
    _shown = ("output_size",)

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, x: Tensor) -> Any:
        return type(self)._function(x, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The maximum of each of ``output_size`` windows that cover the length evenly, [n, channels, length]."""

    _function = adaptive.adaptive_max_pool1d


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The maximum of each of ``output_size`` windows that cover the image evenly, [n, channels, height, width].

    ``output_size`` is one number or two; None keeps a dimension as it is. With ``return_indices`` also the place of each
    maximum in the flattened image.

    >>> import tensor as T
    >>> AdaptiveMaxPool2d((1, None))(T.arange(4.0).reshape(1, 1, 2, 2))
    tensor([[[[2., 3.]]]])
    """

    _function = adaptive.adaptive_max_pool2d


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """`AdaptiveMaxPool2d` for volumes, [n, channels, depth, height, width]."""

    _function = adaptive.adaptive_max_pool3d


class _FractionalMaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Ints,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> None:
        super().__init__()
        if (output_size is None) == (output_ratio is None):
            msg = f"{type(self).__name__}: expected either output_size or output_ratio, got {output_size!r} and {output_ratio!r}"
            raise ValueError(msg)
        ratios = output_ratio if isinstance(output_ratio, (tuple, list)) else (output_ratio,)
        if output_ratio is not None and not all(0 < r < 1 for r in ratios):
            msg = f"{type(self).__name__}: expected an output_ratio between 0 and 1, got {output_ratio!r}"
            raise ValueError(msg)
        self.kernel_size, self.output_size, self.output_ratio = kernel_size, output_size, output_ratio
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples)

    def forward(self, x: Tensor) -> Any:
        options = (self.output_size, self.output_ratio, self.return_indices, self._random_samples)
        return type(self)._function(x, self.kernel_size, *options)


class FractionalMaxPool2d(_FractionalMaxPool):
    """The maximum of windows at distances drawn at random, [n, channels, height, width] (arXiv 1412.6071).

    The result has ``output_size``, or ``output_ratio`` times the input's size.

    >>> import tensor as T
    >>> FractionalMaxPool2d(2, output_ratio=0.7)(T.ones(1, 1, 10, 10)).shape
    tensor.Size([1, 1, 7, 7])
    """

    _function = adaptive.fractional_max_pool2d


class FractionalMaxPool3d(_FractionalMaxPool):
    """`FractionalMaxPool2d` for volumes, [n, channels, depth, height, width]."""

    _function = adaptive.fractional_max_pool3d
