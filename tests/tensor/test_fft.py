"""Fourier transforms: laws, sizes and errors. Values and gradients of each function are in `tests/operator_cases/fft.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import tensor as T
from tensor import fft as F

NORMS = st.sampled_from([None, "backward", "ortho", "forward"])
SIZES = st.tuples(st.integers(1, 5), st.integers(2, 6))


def numbers(*shape: int, dtype: Any = T.float64) -> Any:
    rng = np.random.default_rng(0)
    a = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if dtype.is_complex else 0)
    return T.tensor(a.astype(dtype.numpy))


def close(a: Any, b: Any) -> None:
    single = a.dtype in (T.float32, T.complex64)
    np.testing.assert_allclose(a.cpu().numpy(), b.cpu().numpy(), rtol=1e-4 if single else 1e-9, atol=1e-5 if single else 1e-9)


# --- laws ------------------------------------------------------------------------------------------------------------


@given(SIZES, NORMS, st.sampled_from([T.float32, T.float64, T.complex64, T.complex128]))
def test_inverses(shape: Any, norm: str | None, dtype: Any) -> None:
    x = numbers(*shape, dtype=dtype)
    for forward, back in ((F.fft, F.ifft), (F.fft2, F.ifft2), (F.fftn, F.ifftn)):
        y = forward(x, norm=norm)
        assert y.dtype is dtype.to_complex()
        close(back(y, norm=norm), x.to(y.dtype))
    if dtype.is_complex:
        return
    for forward, back in ((F.rfft, F.irfft), (F.ihfft, F.hfft)):
        y = forward(x, norm=norm)
        assert y.shape == (shape[0], shape[1] // 2 + 1)
        z = back(y, shape[1], norm=norm)
        assert z.dtype is dtype
        close(z, x)
    for forward, back in ((F.rfft2, F.irfft2), (F.rfftn, F.irfftn), (F.ihfft2, F.hfft2), (F.ihfftn, F.hfftn)):
        close(back(forward(x, norm=norm), shape, norm=norm), x)


@given(SIZES, NORMS)
def test_the_half_is_half_of_the_whole(shape: Any, norm: str | None) -> None:
    x = numbers(*shape)
    half = shape[1] // 2 + 1
    close(F.rfftn(x, norm=norm), F.fftn(x, norm=norm)[:, :half])
    close(F.ihfftn(x, norm=norm), F.ifftn(x, norm=norm)[:, :half])


@given(SIZES)
def test_parseval(shape: Any) -> None:
    x = numbers(*shape, dtype=T.complex128)
    close(F.fftn(x, norm="ortho").abs().square().sum(), x.abs().square().sum())


@given(st.integers(1, 9), st.integers(1, 9))
def test_sizes_cut_or_fill_up(n: int, have: int) -> None:
    x = numbers(2, have)
    for name in ("fft", "ifft", "rfft", "ihfft"):
        np.testing.assert_allclose(getattr(F, name)(x, n).numpy(), getattr(np.fft, name)(x.numpy(), n), atol=1e-12)
    z = numbers(2, have, dtype=T.complex128)
    for name in ("irfft", "hfft"):
        np.testing.assert_allclose(getattr(F, name)(z, n).numpy(), getattr(np.fft, name)(z.numpy(), n), atol=1e-12)


@given(st.integers(1, 9))
def test_shifts_are_inverse_and_sort_the_frequencies(n: int) -> None:
    x = F.fftfreq(n, 0.5, dtype=T.float64)
    np.testing.assert_array_equal(x.numpy(), np.fft.fftfreq(n, 0.5))
    np.testing.assert_array_equal(F.rfftfreq(n, 0.5, dtype=T.float64).numpy(), np.fft.rfftfreq(n, 0.5))
    shifted = F.fftshift(x)
    assert shifted.tolist() == sorted(x.tolist())
    assert F.ifftshift(shifted).tolist() == x.tolist()


# --- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fft", "ifft", "fft2", "ifft2", "fftn", "ifftn"])
def test_the_gradient_is_the_adjoint(name: str) -> None:
    """<y, F x> = <F* y, x>, of complex numbers and of real ones, whose gradient is real."""
    transform = getattr(F, name)
    y = numbers(3, 4, dtype=T.complex128)
    for dtype in (T.complex128, T.float64):
        x = numbers(3, 4, dtype=dtype).requires_grad_()
        (g,) = T.autograd.grad(transform(x), x, y)
        assert g.dtype is dtype
        inner = (y.conj() * transform(x)).sum().real
        close((g.conj() * x).sum().real.detach(), inner.detach())


# --- edges and errors ------------------------------------------------------------------------------------------------


def test_integers_become_the_default_float() -> None:
    assert F.fft(T.arange(4)).dtype is T.complex64
    assert F.rfft(T.tensor([True, False])).dtype is T.complex64


def test_dimensions_given_by_sizes_alone_are_the_last() -> None:
    x = numbers(2, 3, 4)
    close(F.fftn(x, s=(4,)), F.fft(x))
    close(F.rfftn(x, s=(2, -1)), F.rfft2(x, s=(2, 4)))
    close(F.fftn(x, dim=()), x.to(T.complex128))


def test_results_stay_on_the_device(device: str) -> None:
    x = numbers(3, 4).to(device)
    for transform in (F.fft, F.rfft2, F.ihfftn, F.irfft, F.hfft2, F.fftshift):
        y = transform(x)
        assert y.device.type == T.device(device).type
        close(y, transform(x.cpu()))
    assert F.fftfreq(4, device=device).device.type == T.device(device).type


ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no tensor": (lambda: F.fft([1.0]), TypeError, r"fft.fft: expected a tensor, got list"),
    "half": (lambda: F.fft2(T.ones(2, 2).half()), RuntimeError, r"fft.fft2: expected a tensor of single or double precision, got tensor.float16"),
    "complex": (lambda: F.rfft(T.ones(2) * 1j), RuntimeError, r"fft.rfft: expected a real tensor of single or double precision, got tensor.complex64"),
    "norm": (lambda: F.ifft(T.ones(2), norm="unit"), RuntimeError, r"fft.ifft: expected norm to be one of 'backward', 'ortho', 'forward', got 'unit'"),
    "dim": (lambda: F.fft(T.ones(2), dim=1), IndexError, r"fft.fft: expected dimensions of a tensor of shape \(2,\), got dim 1"),
    "dims": (lambda: F.fftn(T.ones(2, 2), dim=(0, -2)), RuntimeError, r"fft.fftn: expected different dimensions, and one size for each, got dim \(0, -2\)"),
    "sizes": (lambda: F.fft2(T.ones(2, 2), s=(2,)), RuntimeError, r"fft.fft2: expected different dimensions, and one size for each.*and s \(2,\)"),
    "points": (lambda: F.fft(T.ones(2), 0), RuntimeError, r"fft.fft: expected at least one point in each dimension, got 0 in dim 0"),
    "one": (lambda: F.irfft(T.ones(1) * 1j), RuntimeError, r"fft.irfft: expected at least one point in each dimension, got 0 in dim 0"),
    "no dims": (lambda: F.irfftn(T.ones(2), dim=()), RuntimeError, r"fft.irfftn: expected at least one dimension to transform"),
    "no dims, real": (lambda: F.rfftn(T.ones(2), dim=()), RuntimeError, r"fft.rfftn: expected at least one dimension to transform"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ERRORS))
def test_errors(name: str) -> None:
    call, kind, text = ERRORS[name]
    with pytest.raises(kind, match="^" + text):
        call()
