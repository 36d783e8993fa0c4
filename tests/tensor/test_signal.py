"""Windows, spectrograms and their inverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.signal as ss
from hypothesis import given

import tensor as T
from tensor.autograd import gradcheck, gradgradcheck

W = T.signal.windows

#: Ours, with parameters, and SciPy's.
WINDOWS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "bartlett": (W.bartlett, ss.windows.bartlett),
    "blackman": (W.blackman, ss.windows.blackman),
    "cosine": (W.cosine, ss.windows.cosine),
    "exponential": (lambda M, **k: W.exponential(M, tau=2.5, **k), lambda M, sym: ss.windows.exponential(M, None, 2.5, sym)),
    "gaussian": (lambda M, **k: W.gaussian(M, std=1.5, **k), lambda M, sym: ss.windows.gaussian(M, 1.5, sym)),
    "general_cosine": (lambda M, **k: W.general_cosine(M, a=[0.4, 0.3, 0.3], **k), lambda M, sym: ss.windows.general_cosine(M, [0.4, 0.3, 0.3], sym)),
    "general_hamming": (lambda M, **k: W.general_hamming(M, alpha=0.6, **k), lambda M, sym: ss.windows.general_hamming(M, 0.6, sym)),
    "hamming": (W.hamming, ss.windows.hamming),
    "hann": (W.hann, ss.windows.hann),
    "kaiser": (lambda M, **k: W.kaiser(M, beta=7.0, **k), lambda M, sym: ss.windows.kaiser(M, 7.0, sym)),
    "nuttall": (W.nuttall, ss.windows.nuttall),
}  # fmt: skip


@pytest.mark.parametrize("name", list(WINDOWS))
@given(M=st.integers(0, 12), sym=st.booleans())
def test_windows(name: str, M: int, sym: bool) -> None:
    ours, theirs = WINDOWS[name]
    y = ours(M, sym=sym, dtype=T.float64)
    assert y.dtype is T.float64
    np.testing.assert_allclose(y.numpy(), theirs(M, sym=sym), rtol=1e-9, atol=1e-12)
    assert ours(M, sym=sym).dtype is T.float32


def test_older_names_are_periodic() -> None:
    pairs = [
        (T.hann_window, W.hann), (T.hamming_window, W.hamming), (T.blackman_window, W.blackman), (T.bartlett_window, W.bartlett),
        (T.kaiser_window, W.kaiser),
    ]  # fmt: skip
    for old, new in pairs:
        assert old(7).tolist() == new(7, sym=False).tolist()
        assert old(7, periodic=False).tolist() == new(7).tolist()
    np.testing.assert_allclose(T.hamming_window(4, alpha=0.6, beta=0.3).numpy(), [0.3, 0.6, 0.9, 0.6], rtol=1e-6)


def test_where_a_window_is_made(device: str) -> None:
    y = W.hann(4, device=device, requires_grad=True)
    assert y.device.type == T.device(device).type
    assert y.requires_grad


def test_the_centre_of_a_periodic_exponential() -> None:
    assert W.exponential(3, center=0, sym=False).argmax().item() == 0


# --- spectrograms ----------------------------------------------------------------------------------------------------


@given(
    st.integers(2, 8),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.sampled_from([T.float64, T.complex128]),
    st.sampled_from(["reflect", "constant", "replicate", "circular"]),
)
def test_the_inverse_gives_the_signal_back(
    n_fft: int, hop: int, normalized: bool, batched: bool, dtype: Any, pad_mode: str
) -> None:
    rng = np.random.default_rng(0)
    shape = (2, 20) if batched else (20,)
    a = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if dtype.is_complex else 0)
    x = T.tensor(a.astype(dtype.numpy))
    options: dict[str, Any] = {
        "hop_length": min(hop, n_fft),
        "window": T.tensor(rng.uniform(0.5, 1, n_fft)),
        "normalized": normalized,
    }
    y = T.stft(x, n_fft, pad_mode=pad_mode, return_complex=True, **options)
    assert y.shape[-2] == (n_fft if dtype.is_complex else n_fft // 2 + 1)
    z = T.istft(y, n_fft, length=20, onesided=not dtype.is_complex, return_complex=dtype.is_complex, **options)
    covered = (y.shape[-1] - 1) * options["hop_length"] + n_fft - n_fft // 2
    np.testing.assert_allclose(z.numpy()[..., :covered], x.numpy()[..., :covered], atol=1e-9)


def test_without_centring_the_first_frame_starts_at_the_first_sample() -> None:
    x = T.arange(12.0, dtype=T.float64)
    y = T.stft(x, 4, 4, center=False, return_complex=True)
    np.testing.assert_allclose(y.numpy(), np.fft.rfft(x.numpy().reshape(3, 4)).T, atol=1e-9)
    np.testing.assert_allclose(T.istft(y, 4, 4, center=False).numpy(), x.numpy(), atol=1e-9)


def test_a_short_window_lies_in_the_middle() -> None:
    x = T.arange(10.0, dtype=T.float64)
    y = T.stft(x, 6, 2, win_length=3, center=False, return_complex=True)
    frames = np.stack([x.numpy()[i : i + 6] * [0, 1, 1, 1, 0, 0] for i in (0, 2, 4)])
    np.testing.assert_allclose(y.numpy(), np.fft.rfft(frames).T, atol=1e-9)


def test_both_halves_of_the_spectrum() -> None:
    x = T.arange(12.0, dtype=T.float64)
    half, whole = (T.stft(x, 4, return_complex=True, onesided=onesided) for onesided in (True, False))
    np.testing.assert_allclose(whole.numpy()[:3], half.numpy(), atol=1e-9)
    np.testing.assert_allclose(T.istft(whole, 4, length=12).numpy(), x.numpy(), atol=1e-9)


def test_a_longer_signal_than_was_covered_ends_in_zeros() -> None:
    y = T.stft(T.ones(8), 4, 2, return_complex=True)
    assert T.istft(y, 4, 2, length=14).tolist()[-2:] == [0.0, 0.0]


def test_gradients_through_a_learnt_window() -> None:
    rng = np.random.default_rng(0)
    x = T.tensor(rng.standard_normal((2, 9)), requires_grad=True)
    w = T.tensor(rng.uniform(0.5, 1, 4), requires_grad=True)
    power = lambda x, w: T.stft(x, 4, 2, window=w, return_complex=True).abs().square()  # noqa: E731
    assert gradcheck(power, (x, w))
    assert gradgradcheck(power, (x, w), atol=1e-4)
    again = lambda x, w: T.istft(T.stft(x, 4, 1, window=w, return_complex=True) * 2, 4, 1, window=w * w, length=8)  # noqa: E731
    assert gradcheck(again, (x, w))


ONES = T.ones(8)
FRAMES = T.ones(3, 4) * 1j
ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "length": (lambda: W.hann(-1), ValueError, r"general_cosine: expected a length >= 0, got -1"),
    "dtype": (lambda: W.bartlett(3, dtype=T.int64), ValueError, r"bartlett: expected a floating-point dtype, got tensor.int64"),
    "factors": (lambda: W.general_cosine(3, a=[]), ValueError, r"general_cosine: expected at least one factor, got \[\]"),
    "tau": (lambda: W.exponential(3, tau=0), ValueError, r"exponential: expected tau to be positive, got 0"),
    "center": (lambda: W.exponential(3, center=1), ValueError, r"exponential: expected no center for a symmetric window, got 1"),
    "std": (lambda: W.gaussian(3, std=-1), ValueError, r"gaussian: expected std to be positive, got -1"),
    "beta": (lambda: W.kaiser(3, beta=-1), ValueError, r"kaiser: expected beta >= 0, got -1"),
    "no return_complex": (lambda: T.stft(ONES, 4), RuntimeError, r"stft: expected return_complex to be given for a real signal and window"),
    "signal": (lambda: T.stft(T.ones(2, 2, 8), 4, return_complex=True), RuntimeError, r"stft: expected a signal \[time\] or \[batch, time\].*got tensor.float32 of shape \(2, 2, 8\)"),
    "onesided": (lambda: T.stft(ONES * 1j, 4, onesided=True), RuntimeError, r"stft: expected onesided=False for a complex signal or window"),
    "n_fft": (lambda: T.stft(ONES, 9, center=False, return_complex=True), RuntimeError, r"stft: expected 0 < n_fft <= 8, the length of the \(padded\) signal, got 9"),
    "hop": (lambda: T.stft(ONES, 4, 0, return_complex=True), RuntimeError, r"stft: expected hop_length > 0, got 0"),
    "win_length": (lambda: T.stft(ONES, 4, win_length=5, return_complex=True), RuntimeError, r"stft: expected 0 < win_length <= n_fft, got win_length 5 and n_fft 4"),
    "window": (lambda: T.stft(ONES, 4, window=T.ones(3), return_complex=True), RuntimeError, r"stft: expected a window of 4 elements, got shape \(3,\)"),
    "frames": (lambda: T.istft(T.ones(3, 4), 4), RuntimeError, r"istft: expected complex frames \[frequencies, frames\] or a batch of them, got tensor.float32"),
    "frequencies": (lambda: T.istft(FRAMES, 6), RuntimeError, r"istft: expected 4 frequencies with n_fft 6 and onesided True, got shape \(3, 4\)"),
    "complex half": (lambda: T.istft(FRAMES, 4, return_complex=True), RuntimeError, r"istft: expected onesided=False for a complex signal"),
    "gaps": (lambda: T.istft(FRAMES, 4, window=T.zeros(4)), RuntimeError, r"istft: expected windows that overlap everywhere"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ERRORS))
def test_errors(name: str) -> None:
    call, kind, text = ERRORS[name]
    with pytest.raises(kind, match="^" + text):
        call()
