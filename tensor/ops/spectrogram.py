"""The short-time Fourier transform and its inverse (Griffin and Lim 1984): composites of frames, a window, and transforms."""

from __future__ import annotations

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops.complex_numbers import view_as_real
from tensor.ops.fft import fft, ifft, irfft, rfft
from tensor.ops.padding import constant_pad_nd, pad
from tensor.ops.record import composite
from tensor.ops.windows import windows, windows_back

__all__ = ["istft", "stft"]

#: Below this, the windows over a sample add up to nothing that could be divided by.
TINY = 1e-11


def _frame_window(
    who: str, x: Tensor, n_fft: int, hop: int | None, length: int | None, window: Tensor | None
) -> tuple[int, Tensor]:
    """The distance of two frames, and the window in the middle of ``n_fft`` points."""
    hop = n_fft // 4 if hop is None else hop
    length = n_fft if length is None else length
    if hop < 1:
        msg = f"{who}: expected hop_length > 0, got {hop}"
        raise RuntimeError(msg)
    if not 0 < length <= n_fft:
        msg = f"{who}: expected 0 < win_length <= n_fft, got win_length {length} and n_fft {n_fft}"
        raise RuntimeError(msg)
    if window is None:
        window = Tensor(np.ones_like(x._array.real, shape=length))
    elif window.ndim != 1 or window.shape[0] != length:
        msg = f"{who}: expected a window of {length} elements, got shape {tuple(window.shape)}"
        raise RuntimeError(msg)
    left = (n_fft - length) // 2
    return hop, constant_pad_nd(window, [left, n_fft - length - left]) if length < n_fft else window


@composite()
def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
) -> Tensor:
    """The Fourier transforms of frames of a signal, each multiplied with a window: [..., time] to [..., frequencies, frames].

    A frame has ``n_fft`` points and starts ``hop_length`` (a quarter of a frame) after the one before; ``center`` puts the t-th one around the sample
    ``t * hop_length``, with the signal continued at both ends by ``pad_mode``. ``onesided``, the default for real signals, keeps the frequencies
    that are not negative; ``normalized`` divides by the root of ``n_fft``. ``return_complex=False`` gives pairs in a last dimension.

    >>> import tensor as T
    >>> T.stft(T.ones(8), n_fft=4, hop_length=2, window=T.hann_window(4), return_complex=True).abs()[:, 0].round(decimals=4)
    tensor([2., 1., 0.])
    """
    who = "stft"
    if input.ndim not in (1, 2) or input._array.dtype.kind not in "fc":
        msg = f"{who}: expected a signal [time] or [batch, time] of floating-point or complex numbers, got {input.dtype} of shape {tuple(input.shape)}"
        raise RuntimeError(msg)
    has_complex = any(t is not None and t._array.dtype.kind == "c" for t in (input, window))
    if return_complex is None and not has_complex:
        msg = f"{who}: expected return_complex to be given for a real signal and window"
        raise RuntimeError(msg)
    if onesided and has_complex:
        msg = f"{who}: expected onesided=False for a complex signal or window, whose spectrum has two different halves"
        raise RuntimeError(msg)
    x = input.unsqueeze(0) if input.ndim == 1 else input
    if center:
        x = pad(x.unsqueeze(0), [n_fft // 2, n_fft // 2], pad_mode).squeeze(0)
    if not 0 < n_fft <= x.shape[-1]:
        msg = f"{who}: expected 0 < n_fft <= {x.shape[-1]}, the length of the (padded) signal, got {n_fft}"
        raise RuntimeError(msg)
    hop, window = _frame_window(who, input, n_fft, hop_length, win_length, window)
    frames = windows(x, (n_fft,), (hop,), (1,)) * window
    transform = fft if has_complex or onesided is False else rfft
    y: Tensor = transform(frames, norm="ortho" if normalized else "backward").mT
    y = y.squeeze(0) if input.ndim == 1 else y
    return view_as_real(y) if return_complex is False else y


@composite()
def istft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """The signal with the smallest distance to given frames: [..., frequencies, frames] to [..., time], the inverse of `stft` with the same arguments.

    ``length``: how many samples are wanted; without it those that the frames cover. Raises where the windows over some sample add up to 0.

    >>> import tensor as T
    >>> x = T.arange(8.0)
    >>> w = T.hann_window(4)
    >>> T.istft(T.stft(x, 4, 2, window=w, return_complex=True), 4, 2, window=w, length=8).round(decimals=4)
    tensor([0., 1., 2., 3., 4., 5., 6., 7.])
    """
    who = "istft"
    if input.ndim not in (2, 3) or input._array.dtype.kind != "c" or not input._array.size:
        msg = f"{who}: expected complex frames [frequencies, frames] or a batch of them, got {input.dtype} of shape {tuple(input.shape)}"
        raise RuntimeError(msg)
    frequencies, count = input.shape[-2:]
    onesided = frequencies != n_fft if onesided is None else onesided
    expected = n_fft // 2 + 1 if onesided else n_fft
    if frequencies != expected:
        msg = f"{who}: expected {expected} frequencies with n_fft {n_fft} and onesided {onesided}, got shape {tuple(input.shape)}"
        raise RuntimeError(msg)
    if onesided and return_complex:
        msg = f"{who}: expected onesided=False for a complex signal"
        raise RuntimeError(msg)
    hop, window = _frame_window(who, input, n_fft, hop_length, win_length, window)
    spectra = input.mT if input.ndim == 3 else input.unsqueeze(0).mT
    norm = "ortho" if normalized else "backward"
    # For a real signal the frequencies that are not negative decide, also where the others are given.
    frames = ifft(spectra, norm=norm) if return_complex else irfft(spectra[..., : n_fft // 2 + 1], n_fft, norm=norm)
    whole = n_fft + hop * (count - 1)
    total = windows_back(frames * window, (*frames.shape[:-2], whole), (n_fft,), (hop,), (1,))
    weight = windows_back((window * window).expand(count, n_fft), (whole,), (n_fft,), (hop,), (1,))
    start = n_fft // 2 if center else 0
    end = whole - (n_fft // 2 if center else 0) if length is None else min(start + length, whole)
    total, weight = total[..., start:end], weight[start:end]
    if not (np.abs(weight._array) > TINY).all():
        msg = f"{who}: expected windows that overlap everywhere; over some sample their squares add up to 0"
        raise RuntimeError(msg)
    y = total / weight
    if length is not None and y.shape[-1] < length:
        y = constant_pad_nd(y, [0, length - y.shape[-1]])
    return y.squeeze(0) if input.ndim == 2 else y
