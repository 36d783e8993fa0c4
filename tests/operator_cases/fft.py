"""Fourier transforms: complex numbers as pairs, so that finite differences see them."""

from __future__ import annotations

from typing import Any

import numpy as np

import tensor as T
from operator_cases.case import Case, Composite
from operator_cases.through import Through, from_pairs, pairs, same

RNG = np.random.default_rng(11)


def x(*shape: int) -> Any:
    return RNG.uniform(-2, 2, shape)


RULED: dict[str, Case] = {
    "fft._complex": Through([from_pairs], pairs, x(2, 3, 2), (0, 1), False, "ortho", ref=lambda a, d, f, n: pairs(np.fft.ifft2(from_pairs(a), norm=n))),
    "fft._real": Through([same], pairs, x(2, 5), (0, 1), True, "forward", ref=lambda a, d, f, n: pairs(np.fft.rfft2(a, norm=n))),
    "fft._to_real": Through([from_pairs], same, x(2, 3, 2), 4, (0, 1), True, "backward", ref=lambda a, n, *_: np.fft.irfft2(np.conj(from_pairs(a)), s=(2, n), norm="forward")),
}  # fmt: skip


def to_pairs(name: str, **kwargs: Any) -> Composite:
    """A transform of real numbers to complex ones."""
    ours, theirs = getattr(T.fft, name), getattr(np.fft, name)
    return (lambda a: pairs(ours(a, **kwargs))), [x(3, 4)], lambda a: pairs(theirs(a, **kwargs))


def to_real(name: str, theirs: Any, **kwargs: Any) -> Composite:
    """A transform of complex numbers to real ones."""
    ours = getattr(T.fft, name)
    return (lambda a: ours(from_pairs(a), **kwargs)), [x(3, 4, 2)], lambda a: theirs(from_pairs(a))


def hermitian(*axes: int) -> Any:
    """NumPy's transforms of Hermitian signals are of one dimension: the others come before."""

    def reference(a: Any) -> Any:
        return np.fft.hfft(np.fft.fftn(a, axes=axes) if axes else a)

    return reference


def inverse_hermitian(name: str, *axes: int) -> Composite:
    def reference(a: Any) -> Any:
        y = np.fft.ihfft(a)
        return pairs(np.fft.ifftn(y, axes=axes) if axes else y)

    return (lambda a: pairs(getattr(T.fft, name)(a))), [x(3, 4)], reference


TAPER = T.tensor([0.3, 0.9, 1.0, 0.6], dtype=T.float64)


def frames(a: Any) -> Any:
    """The reference for `stft`: frames of 4, 2 apart, written out."""
    padded = np.pad(a, 2, mode="reflect")
    return pairs(np.array([np.fft.rfft(padded[i : i + 4] * TAPER.numpy()) for i in range(0, len(padded) - 3, 2)]).T)


def same_dtype(window: Any, a: Any) -> Any:
    return window.to(a.dtype.to_real())


COMPOSITES: dict[str, Composite] = {
    "fft.fft": to_pairs("fft", n=5, norm="ortho"), "fft.ifft": to_pairs("ifft", n=3), "fft.rfft": to_pairs("rfft", norm="forward"),
    "fft.fft2": to_pairs("fft2"), "fft.ifft2": to_pairs("ifft2", norm="ortho"), "fft.rfft2": to_pairs("rfft2"),
    "fft.fftn": to_pairs("fftn"), "fft.ifftn": to_pairs("ifftn"), "fft.rfftn": to_pairs("rfftn"),
    "fft.irfft": to_real("irfft", lambda a: np.fft.irfft(a, 5), n=5), "fft.irfft2": to_real("irfft2", np.fft.irfft2),
    "fft.irfftn": to_real("irfftn", np.fft.irfftn),
    "fft.hfft": to_real("hfft", hermitian()), "fft.hfft2": to_real("hfft2", hermitian(0)), "fft.hfftn": to_real("hfftn", hermitian(0)),
    "fft.ihfft": inverse_hermitian("ihfft"), "fft.ihfft2": inverse_hermitian("ihfft2", 0), "fft.ihfftn": inverse_hermitian("ihfftn", 0),
    "fft.fftshift": (T.fft.fftshift, [x(3, 4)], np.fft.fftshift), "fft.ifftshift": (T.fft.ifftshift, [x(3, 4)], np.fft.ifftshift),
    "stft": (lambda a: T.stft(a, 4, 2, window=same_dtype(TAPER, a), return_complex=False), [x(8)], frames),
    "istft": (lambda a: T.istft(from_pairs(a), 4, 2, window=same_dtype(TAPER, a), length=6), [x(3, 4, 2)]),
}  # fmt: skip
