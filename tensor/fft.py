"""Discrete Fourier transforms under the names of ``torch.fft``."""

from tensor.ops import fft as _fft
from tensor.ops.fft import *  # noqa: F403

__all__ = list(_fft.__all__)
