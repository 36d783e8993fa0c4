"""Window functions: what a piece of a signal is multiplied by before its Fourier transform.

Each is a formula for the numbers 0 to M - 1; a table would do, were it not for their parameters. A symmetric window is for filter design; a periodic one
(``sym=False``) leaves out the last of M + 1 points, for spectral analysis. Formulas: Harris 1978; Nuttall 1981; Kaiser and Schafer 1980.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor import dtypes
from tensor.autograd.tensor import Tensor
from tensor.device import move

__all__ = [
    "bartlett", "bartlett_window", "blackman", "blackman_window", "cosine", "exponential", "gaussian", "general_cosine", "general_hamming", "hamming",
    "hamming_window", "hann", "hann_window", "kaiser", "kaiser_window", "nuttall",
]  # fmt: skip

BLACKMAN = (0.42, 0.5, 0.08)
NUTTALL = (0.3635819, 0.4891775, 0.1365995, 0.0106411)


def _points(who: str, M: int) -> Any:
    if M < 0:
        msg = f"{who}: expected a length >= 0, got {M}"
        raise ValueError(msg)
    return np.arange(M, dtype=np.float64)


def _steps(M: int, sym: bool) -> int:
    """How many steps the whole window has: one more for a periodic one, whose last point is left out."""
    return max(M - 1 if sym else M, 1)


def _middle(M: int, sym: bool) -> float:
    return (M if not sym and M > 1 else M - 1) / 2


def _window(who: str, values: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    """The values as a tensor; a window of one point is 1."""
    d = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    if not d.is_floating_point:
        msg = f"{who}: expected a floating-point dtype, got {d}"
        raise ValueError(msg)
    array = (np.ones(1) if len(values) == 1 else values).astype(d.numpy)
    y = Tensor(array if device is None else move(array, device))
    return y.requires_grad_() if requires_grad else y


def _cosines(M: int, a: Sequence[float], sym: bool) -> Any:
    angle = np.arange(M) * (2 * math.pi / _steps(M, sym))
    return sum((-1) ** i * factor * np.cos(i * angle) for i, factor in enumerate(a)) + np.zeros(M)


# --- the windows of `tensor.signal.windows` --------------------------------------------------------------------------


def general_cosine(
    M: int, *, a: Sequence[float], sym: bool = True, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A sum of cosines with the factors ``a`` and alternating signs.

    >>> import tensor as T
    >>> T.signal.windows.general_cosine(3, a=[0.5, 0.5])
    tensor([0., 1., 0.])
    """
    who = "general_cosine"
    _points(who, M)
    if not len(a):
        msg = f"{who}: expected at least one factor, got {a!r}"
        raise ValueError(msg)
    return _window(who, _cosines(M, a, sym), dtype, device, requires_grad)


def general_hamming(
    M: int, *, alpha: float = 0.54, sym: bool = True, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``alpha - (1 - alpha) * cos``.

    >>> import tensor as T
    >>> T.signal.windows.general_hamming(3, alpha=0.5)
    tensor([0., 1., 0.])
    """
    return general_cosine(M, a=[alpha, 1 - alpha], sym=sym, dtype=dtype, device=device, requires_grad=requires_grad)


def hamming(M: int, *, sym: bool = True, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Hamming's window, ``0.54 - 0.46 * cos``.

    >>> import tensor as T
    >>> T.signal.windows.hamming(3)
    tensor([0.0800, 1.0000, 0.0800])
    """
    return general_hamming(M, sym=sym, dtype=dtype, device=device, requires_grad=requires_grad)


def hann(M: int, *, sym: bool = True, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Hann's window, a squared sine.

    >>> import tensor as T
    >>> T.signal.windows.hann(4, sym=False)
    tensor([0.0000, 0.5000, 1.0000, 0.5000])
    """
    return general_hamming(M, alpha=0.5, sym=sym, dtype=dtype, device=device, requires_grad=requires_grad)


def blackman(M: int, *, sym: bool = True, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Blackman's window of three cosines.

    >>> import tensor as T
    >>> T.signal.windows.blackman(5).argmax()
    tensor(2)
    """
    return general_cosine(M, a=BLACKMAN, sym=sym, dtype=dtype, device=device, requires_grad=requires_grad)


def nuttall(M: int, *, sym: bool = True, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Nuttall's window of four cosines.

    >>> import tensor as T
    >>> T.signal.windows.nuttall(5).argmax()
    tensor(2)
    """
    return general_cosine(M, a=NUTTALL, sym=sym, dtype=dtype, device=device, requires_grad=requires_grad)


def bartlett(M: int, *, sym: bool = True, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Bartlett's window, a triangle.

    >>> import tensor as T
    >>> T.signal.windows.bartlett(5)
    tensor([0.0000, 0.5000, 1.0000, 0.5000, 0.0000])
    """
    values = 1 - abs(_points("bartlett", M) * 2 / _steps(M, sym) - 1)
    return _window("bartlett", values, dtype, device, requires_grad)


def cosine(M: int, *, sym: bool = True, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Half a period of a sine.

    >>> import tensor as T
    >>> T.signal.windows.cosine(3)
    tensor([0.5000, 1.0000, 0.5000])
    """
    values = np.sin((_points("cosine", M) + 0.5) * (math.pi / (M if sym else M + 1))) if M else np.zeros(0)
    return _window("cosine", values, dtype, device, requires_grad)


def exponential(
    M: int,
    *,
    center: float | None = None,
    tau: float = 1.0,
    sym: bool = True,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``exp(-|n - center| / tau)``; the centre may be given for a periodic window alone.

    >>> import tensor as T
    >>> T.signal.windows.exponential(3)
    tensor([0.3679, 1.0000, 0.3679])
    """
    who = "exponential"
    n = _points(who, M)
    if tau <= 0:
        msg = f"{who}: expected tau to be positive, got {tau}"
        raise ValueError(msg)
    if sym and center is not None:
        msg = f"{who}: expected no center for a symmetric window, got {center}"
        raise ValueError(msg)
    values = np.exp(-abs(n - (_middle(M, sym) if center is None else center)) / tau)
    return _window(who, values, dtype, device, requires_grad)


def gaussian(
    M: int, *, std: float = 1.0, sym: bool = True, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A bell curve with standard deviation ``std``.

    >>> import tensor as T
    >>> T.signal.windows.gaussian(3)
    tensor([0.6065, 1.0000, 0.6065])
    """
    who = "gaussian"
    n = _points(who, M)
    if std <= 0:
        msg = f"{who}: expected std to be positive, got {std}"
        raise ValueError(msg)
    return _window(who, np.exp(-0.5 * ((n - _middle(M, sym)) / std) ** 2), dtype, device, requires_grad)


def kaiser(
    M: int, *, beta: float = 12.0, sym: bool = True, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Kaiser's window; a larger ``beta`` gives a narrower one with smaller side lobes.

    >>> import tensor as T
    >>> T.signal.windows.kaiser(3, beta=0.0)
    tensor([1., 1., 1.])
    """
    who = "kaiser"
    n = _points(who, M)
    if beta < 0:
        msg = f"{who}: expected beta >= 0, got {beta}"
        raise ValueError(msg)
    inside = np.maximum(1 - (n * 2 / _steps(M, sym) - 1) ** 2, 0)
    return _window(who, np.i0(beta * np.sqrt(inside)) / np.i0(beta), dtype, device, requires_grad)


# --- the older names -------------------------------------------------------------------------------------------------


def hann_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`signal.windows.hann`, periodic by default.

    >>> import tensor as T
    >>> T.hann_window(4)
    tensor([0.0000, 0.5000, 1.0000, 0.5000])
    """
    return hann(window_length, sym=not periodic, dtype=dtype, device=device, requires_grad=requires_grad)


def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``alpha - beta * cos``, periodic by default.

    >>> import tensor as T
    >>> T.hamming_window(2)
    tensor([0.0800, 1.0000])
    """
    return general_cosine(
        window_length, a=[alpha, beta], sym=not periodic, dtype=dtype, device=device, requires_grad=requires_grad
    )


def blackman_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`signal.windows.blackman`, periodic by default.

    >>> import tensor as T
    >>> T.blackman_window(4).argmax()
    tensor(2)
    """
    return blackman(window_length, sym=not periodic, dtype=dtype, device=device, requires_grad=requires_grad)


def bartlett_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`signal.windows.bartlett`, periodic by default.

    >>> import tensor as T
    >>> T.bartlett_window(4)
    tensor([0.0000, 0.5000, 1.0000, 0.5000])
    """
    return bartlett(window_length, sym=not periodic, dtype=dtype, device=device, requires_grad=requires_grad)


def kaiser_window(
    window_length: int,
    periodic: bool = True,
    beta: float = 12.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`signal.windows.kaiser`, periodic by default.

    >>> import tensor as T
    >>> T.kaiser_window(4, beta=0.0)
    tensor([1., 1., 1., 1.])
    """
    return kaiser(window_length, beta=beta, sym=not periodic, dtype=dtype, device=device, requires_grad=requires_grad)
