"""Convolution: laws that hold for every geometry, sizes at the edges, and what is refused."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.signal
from hypothesis import given

import tensor as T
from tensor import nn
from tensor.nn import functional as F
from tensor.ops import convolve as conv

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return T.tensor(RNG.normal(size=shape))


@st.composite
def geometries(draw: Any) -> Any:
    """Shapes of an input and a weight, and options, for one to three dimensions."""
    n = draw(st.integers(1, 3))
    each = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(n))  # noqa: E731
    groups = draw(st.integers(1, 2))
    kernel, dilation = each(1, 3), each(1, 2)
    size = tuple(d * (k - 1) + 1 + extra for k, d, extra in zip(kernel, dilation, each(0, 3), strict=True))
    channels, out = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    options = {"stride": each(1, 3), "padding": each(0, 2), "dilation": dilation, "groups": groups}
    return (draw(st.integers(1, 3)), channels, *size), (out, channels // groups, *kernel), options


@given(geometries())
def test_the_three_products_are_one(case: Any) -> None:
    """<conv(x, w), g> = <x, back(g, w)> = <w, weight(g, x)>: each is the others' gradient, whatever the geometry."""
    x_shape, w_shape, options = case
    n = len(x_shape) - 2
    x, w = normal(*x_shape), normal(*w_shape)
    how = conv.Geometry(options["stride"], options["padding"], options["dilation"], options["groups"])
    y = getattr(F, f"conv{n}d")(x, w, None, **options)
    g = normal(*y.shape)
    product = (y * g).sum().item()
    back = conv.convolve_back(g, w, None, tuple(x_shape[2:]), how)
    assert (back * x).sum().item() == pytest.approx(product, rel=1e-9, abs=1e-9)
    assert (conv.convolve_weight(g, x, tuple(w_shape[2:]), how) * w).sum().item() == pytest.approx(product, rel=1e-9, abs=1e-9)


@given(geometries())
def test_without_a_batch_it_is_a_batch_of_one(case: Any) -> None:
    x_shape, w_shape, options = case
    convolve = getattr(F, f"conv{len(x_shape) - 2}d")
    x, w = normal(*x_shape), normal(*w_shape)
    np.testing.assert_allclose(convolve(x, w, **options)[0].numpy(), convolve(x[0], w, **options).numpy(), rtol=1e-12)


def test_it_is_scipy_s_correlation(device: str) -> None:
    x, w = RNG.normal(size=(1, 3, 9, 8)), RNG.normal(size=(2, 3, 3, 4))
    y = F.conv2d(T.tensor(x, device=device), T.tensor(w, device=device)).cpu().numpy()
    expected = np.stack([scipy.signal.correlate(x[0], w[o], "valid")[0] for o in range(2)])[None]
    np.testing.assert_allclose(y, expected, rtol=1e-10)


def test_many_images_are_done_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache for one image, and for five of seven: the same sums."""
    x, w = normal(7, 2, 6, 6).requires_grad_(), normal(3, 2, 3, 3).requires_grad_()

    def run() -> list[Any]:
        y = F.conv2d(x, w, padding=1)
        return [y.detach().numpy(), *(g.numpy() for g in T.autograd.grad((y * y).sum(), (x, w)))]

    whole = run()
    for cache in (1, 5 * 2 * 9 * 36 * 8):
        monkeypatch.setattr(conv, "_CACHE", cache)
        for part, expected in zip(run(), whole, strict=True):
            np.testing.assert_allclose(part, expected, rtol=1e-12)


def test_integers_and_complex_numbers() -> None:
    ones = T.ones(1, 1, 3, dtype=T.int64)
    assert F.conv1d(ones, ones, padding=1).tolist() == [[[2, 3, 2]]]
    assert F.conv1d(ones, ones).dtype is T.int64
    z = T.tensor(RNG.normal(size=(1, 1, 4)) + 1j * RNG.normal(size=(1, 1, 4)), requires_grad=True)
    w = T.tensor(np.array([[[1j, 2.0]]]), requires_grad=True)
    F.conv1d(z, w).abs().square().sum().backward()
    step = 1e-6
    plus = F.conv1d(z.detach(), (w + step).detach()).abs().square().sum() - F.conv1d(z, w).detach().abs().square().sum()
    assert w.grad.real.sum().item() == pytest.approx(plus.item() / step, rel=1e-4)


def test_no_images_and_no_room() -> None:
    assert F.conv2d(T.ones(0, 2, 5, 5), T.ones(3, 2, 2, 2)).shape == (0, 3, 4, 4)
    x = T.ones(0, 2, 5, requires_grad=True)
    F.conv1d(x, T.ones(3, 2, 2)).sum().backward()
    assert x.grad.shape == (0, 2, 5)


def test_same_padding_keeps_the_size() -> None:
    for kernel in (1, 2, 3, 4):
        assert nn.Conv2d(1, 1, kernel, padding="same", dilation=2)(T.ones(1, 1, 7, 8)).shape == (1, 1, 7, 8)
    assert nn.Conv1d(1, 1, 3, padding="valid")(T.ones(1, 1, 7)).shape == (1, 1, 5)


def test_a_transposed_convolution_undoes_the_size() -> None:
    for size in (8, 9, 10):
        down = nn.Conv1d(2, 3, 3, stride=3, padding=1)
        up = nn.ConvTranspose1d(3, 2, 3, stride=3, padding=1)
        assert up(down(T.ones(1, 2, size)), output_size=(size,)).shape == (1, 2, size)
    with pytest.raises(
        ValueError, match=r"ConvTranspose1d: expected an output_size from \(7,\) to less than a stride \(3,\) above, got \(10,\)"
    ):
        up(T.ones(1, 3, 3), output_size=(10,))


@pytest.mark.parametrize(
    "call, error, text",
    [
        (
            lambda: F.conv2d(T.ones(1, 3, 5, 5), T.ones(2, 2, 3, 3)),
            RuntimeError,
            r"conv2d: expected an input of shape \[batch, 2, size 1, size 2\]",
        ),
        (lambda: F.conv2d(T.ones(1, 2, 5, 5), T.ones(2, 2, 3)), RuntimeError, "conv2d: expected a weight of 4 dimensions"),
        (
            lambda: F.conv2d(T.ones(1, 2, 2, 5), T.ones(2, 2, 3, 3)),
            RuntimeError,
            r"conv2d: kernel \(3, 3\) .* larger than the padded input \(2, 5\)",
        ),
        (
            lambda: F.conv1d(T.ones(1, 2, 5), T.ones(3, 1, 3), groups=2),
            RuntimeError,
            "conv1d: expected output channels divisible by 2 groups",
        ),
        (
            lambda: F.conv1d(T.ones(1, 2, 5), T.ones(3, 2, 3), stride=(1, 1)),
            RuntimeError,
            "conv1d: expected stride to be a number or 1 numbers",
        ),
        (
            lambda: F.conv1d(T.ones(1, 2, 5), T.ones(3, 2, 3), stride=2, padding="same"),
            RuntimeError,
            r"padding='same' needs stride 1, got \(2,\)",
        ),
        (
            lambda: F.conv_transpose1d(T.ones(1, 2, 5), T.ones(2, 2, 3), output_padding=1),
            RuntimeError,
            "expected output_padding smaller than stride",
        ),
        (
            lambda: F.conv_transpose1d(T.ones(1, 2, 1), T.ones(2, 2, 1), padding=1),
            RuntimeError,
            "conv_transpose1d: expected an output with places",
        ),
        (
            lambda: nn.ConvTranspose2d(2, 2, 1, padding_mode="reflect"),
            ValueError,
            "expected padding_mode to be one of 'zeros', got 'reflect'",
        ),
        (lambda: nn.Conv3d(2, 2, (1, 2)), ValueError, "Conv3d: expected kernel_size to be a number or 3 numbers"),
        (lambda: F.fold(T.ones(1, 4, 3), (2, 3), 2), RuntimeError, r"fold: expected columns \[n, c \* 4, 2\]"),
        (
            lambda: F.pad(T.ones(1, 3), (3, 0), mode="reflect"),
            RuntimeError,
            "expected a padding of dimension 1 that 3 elements allow",
        ),
        (lambda: F.pad(T.ones(1, 3), (1, 1), mode="mirror"), NotImplementedError, "pad: expected mode 'constant'"),
        (lambda: F.pad(T.ones(1, 3), (1, 1, 1)), RuntimeError, "pad: expected pairs for at most 2 dimensions"),
        (lambda: F.pad(T.ones(3), (-2, -2)), RuntimeError, "expected padding that leaves at least 0 elements"),
        (lambda: nn.ZeroPad2d((1, 2)), ValueError, "ZeroPad2d: expected a number or 4 numbers"),
    ],
)
def test_refused(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
