"""Pooling, interpolation, sampling: against loops over windows, at edges, and what is refused."""

from __future__ import annotations

import itertools
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import tensor as T
from tensor import nn
from tensor.nn import functional as F

RNG = np.random.default_rng(1)
NAN = float("nan")


@given(st.integers(1, 3), st.data())
def test_pooling_is_a_loop_over_windows(n: int, data: Any) -> None:
    each = lambda low, high: tuple(data.draw(st.integers(low, high)) for _ in range(n))  # noqa: E731
    kernel, stride, size = each(1, 3), each(1, 3), each(3, 6)
    a = RNG.normal(size=(2, *size))
    places = [range((m - k) // s + 1) for m, k, s in zip(size, kernel, stride, strict=True)]
    found, index, mean = [], [], []
    for image, place in itertools.product(a, itertools.product(*places)):
        corner = [q * s for q, s in zip(place, stride, strict=True)]
        window = image[tuple(slice(c, c + k) for c, k in zip(corner, kernel, strict=True))]
        inside = np.unravel_index(window.argmax(), window.shape)
        found.append(window.max())
        mean.append(window.mean())
        index.append(np.ravel_multi_index([c + i for c, i in zip(corner, inside, strict=True)], size))
    shape = (2, *map(len, places))
    values, where = getattr(F, f"max_pool{n}d")(T.tensor(a), kernel, stride, return_indices=True)
    np.testing.assert_array_equal(values.numpy(), np.reshape(found, shape))
    np.testing.assert_array_equal(where.numpy(), np.reshape(index, shape))
    np.testing.assert_allclose(
        getattr(F, f"avg_pool{n}d")(T.tensor(a), kernel, stride).numpy(), np.reshape(mean, shape), rtol=1e-12
    )


def test_the_gradient_of_a_maximum_goes_to_the_first_of_equals() -> None:
    x = T.zeros(1, 4, requires_grad=True)
    F.max_pool1d(x, 2, 1).sum().backward()
    assert x.grad.tolist() == [[1, 1, 1, 0]]


def test_a_maximum_with_nan_is_nan() -> None:
    x = T.tensor([[1.0, NAN, 3.0, 2.0]], requires_grad=True)
    y, index = F.max_pool1d(x, 2, return_indices=True)
    assert y.isnan().tolist() == [[True, False]]
    assert index.tolist() == [[1, 2]]
    y.sum().backward()
    assert x.grad.tolist() == [[0, 1, 1, 0]]


def test_integers_are_pooled_as_integers() -> None:
    x = T.tensor([[-3, 2, 7, 1]])
    assert F.max_pool1d(x, 3, padding=1, stride=3).tolist() == [[2, 7]]
    assert F.avg_pool1d(x, 2).tolist() == [[0, 4]]


def test_adaptive_windows_overlap_as_little_as_they_can() -> None:
    x = T.arange(5.0).reshape(1, 5)
    assert F.adaptive_avg_pool1d(x, 3).tolist() == [[0.5, 2.0, 3.5]]
    assert F.adaptive_max_pool1d(x, 3).tolist() == [[1.0, 3.0, 4.0]]
    assert nn.AdaptiveAvgPool2d((None, 1))(T.ones(1, 3, 4)).shape == (1, 3, 1)


def test_unpooling_puts_maxima_back() -> None:
    x = T.tensor(RNG.normal(size=(2, 3, 5, 6)))
    y, where = F.max_pool2d(x, 2, return_indices=True)
    back = nn.MaxUnpool2d(2)(y, where, output_size=x.shape)
    kept = back != 0
    assert back.shape == x.shape
    np.testing.assert_array_equal(back[kept].numpy(), x[kept].numpy())


def test_fractional_pooling_draws_its_windows() -> None:
    x = T.arange(100.0).reshape(1, 1, 10, 10)
    layer = nn.FractionalMaxPool2d(2, output_ratio=(0.6, 0.7), return_indices=True)
    drawn = [layer(x) for _ in range(5)]
    assert all(y.shape == (1, 1, 6, 7) for y, _ in drawn)
    assert all((x.flatten()[i.flatten()] == y.flatten()).all() for y, i in drawn)
    assert any((drawn[0][0] != y).any() for y, _ in drawn[1:])


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic", "area"])
def test_interpolating_to_the_same_size_changes_nothing(mode: str) -> None:
    x = T.tensor(RNG.normal(size=(1, 2, 4, 5)))
    np.testing.assert_allclose(F.interpolate(x, size=(4, 5), mode=mode).numpy(), x.numpy(), rtol=1e-12)


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["linear", "area", "nearest", "nearest-exact"]))
def test_a_constant_stays_constant(before: int, after: int, mode: str) -> None:
    y = F.interpolate(T.full((1, 1, before), 2.5, dtype=T.float64), size=after, mode=mode)
    np.testing.assert_allclose(y.numpy(), 2.5, rtol=1e-12)


def test_interpolation_keeps_its_dtype(device: str) -> None:
    for mode in ("bilinear", "bicubic"):
        assert F.interpolate(T.ones(1, 1, 2, 2, device=device), scale_factor=2, mode=mode).dtype is T.float32
    assert F.interpolate(T.ones(1, 1, 2, dtype=T.uint8), scale_factor=2).tolist() == [[[1, 1, 1, 1]]]


def test_sampling_at_the_places_of_the_elements_gives_the_image() -> None:
    x = T.tensor(RNG.normal(size=(2, 3, 4, 5)))
    theta = T.eye(2, 3, dtype=T.float64).expand(2, 2, 3)
    for corners, mode in itertools.product((False, True), ("bilinear", "nearest", "bicubic")):
        y = F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=corners), mode, align_corners=corners)
        np.testing.assert_allclose(y.numpy(), x.numpy(), rtol=1e-9, atol=1e-9)


def test_nearest_sampling_has_no_slope_along_the_grid() -> None:
    grid = T.zeros(1, 1, 1, 2, requires_grad=True)
    F.grid_sample(T.ones(1, 1, 3, 3), grid, "nearest").sum().backward()
    assert grid.grad.tolist() == [[[[0, 0]]]]


@pytest.mark.parametrize(
    "call, error, text",
    [
        (lambda: F.max_pool2d(T.ones(3, 3), 2), RuntimeError, "max_pool2d: expected an input of 3 or 4 dimensions"),
        (
            lambda: F.max_pool1d(T.ones(1, 3), 5),
            RuntimeError,
            r"window_max: kernel \(5,\) .* larger than the \(padded\) input \(3,\)",
        ),
        (
            lambda: F.avg_pool1d(T.ones(1, 3), 2, padding=2),
            RuntimeError,
            r"expected a padding from 0 to half of the kernel \(2,\), got \(2,\)",
        ),
        (lambda: F.avg_pool1d(T.ones(1, 3), 2, 0), RuntimeError, "expected a kernel and a stride of at least 1"),
        (lambda: F.avg_pool2d(T.ones(1, 3, 3), 2, divisor_override=0), RuntimeError, "expected a divisor other than 0"),
        (lambda: F.max_unpool1d(T.ones(1, 1), T.tensor([[7]]), 2), RuntimeError, "expected indices below 2, got 7 to 7"),
        (
            lambda: F.max_unpool1d(T.ones(1, 1), T.tensor([[0]]), 2, output_size=(9,)),
            ValueError,
            "expected an output_size less than a stride",
        ),
        (lambda: F.adaptive_avg_pool2d(T.ones(1, 3, 3), (1, 2, 3)), RuntimeError, "expected an output size of 2 numbers"),
        (lambda: F.fractional_max_pool2d(T.ones(1, 3, 3), 2), ValueError, "expected either output_size or output_ratio"),
        (
            lambda: F.fractional_max_pool2d(T.ones(1, 3, 3), 2, 3),
            RuntimeError,
            r"expected an output of at most \[2, 2\], got \[3, 3\]",
        ),
        (lambda: nn.FractionalMaxPool2d(2, output_ratio=1.5), ValueError, "expected an output_ratio between 0 and 1, got 1.5"),
        (
            lambda: F.interpolate(T.ones(1, 1, 3), 2, mode="bilinear"),
            NotImplementedError,
            "expected mode 'nearest', 'nearest-exact', 'area', 'linear'",
        ),
        (
            lambda: F.interpolate(T.ones(1, 1, 3), 2, align_corners=True),
            ValueError,
            "expected align_corners only for modes that interpolate",
        ),
        (lambda: F.interpolate(T.ones(1, 1, 3)), ValueError, "expected either size or scale_factor, got None and None"),
        (lambda: F.interpolate(T.ones(1, 1, 3), (2, 2)), ValueError, "expected size to be a number or 1 numbers"),
        (
            lambda: F.interpolate(T.ones(1, 1, 3), 2, antialias=True),
            ValueError,
            "expected mode 'bilinear' or 'bicubic' with antialias",
        ),
        (
            lambda: F.grid_sample(T.ones(1, 1, 3, 3), T.ones(1, 2, 2, 3)),
            RuntimeError,
            r"expected an input \[n, c, \*size\] and a grid",
        ),
        (lambda: F.grid_sample(T.ones(1, 1, 3, 3), T.ones(1, 2, 2, 2), "cubic"), ValueError, "expected a mode of"),
        (lambda: F.grid_sample(T.ones(1, 1, 3, 3).double(), T.ones(1, 2, 2, 2)), RuntimeError, "of one dtype"),
        (lambda: F.affine_grid(T.ones(1, 2, 2), (1, 1, 2, 2)), RuntimeError, r"expected maps \[n, 2, 3\]"),
        (lambda: F.pixel_shuffle(T.ones(1, 3, 2, 2), 2), RuntimeError, "channels divisible by 4"),
        (lambda: F.channel_shuffle(T.ones(1, 3, 2), 2), RuntimeError, "channels divisible by 2 groups"),
    ],
)
def test_refused(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
