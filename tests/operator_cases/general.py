"""Complex numbers, variance, ranks, histograms, derivatives of samples."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.special as sp

import tensor as T
from operator_cases.case import Case, Composite, u, x
from operator_cases.case import distinct as d
from operator_cases.through import Through, from_pairs, pairs, same

RULED: dict[str, Case] = {
    "complex": Through([same, same], pairs, x(2, 1), x(3), ref=lambda a, b: pairs(a + 1j * b)),
    "polar": Through([same, same], pairs, u(0.5, 2, 3), x(2, 3), ref=lambda a, b: pairs(a * np.exp(1j * b))),
    "imag": Through([from_pairs], same, x(2, 3, 2), ref=lambda a: a[..., 1]),
    "view_as_real": Through([from_pairs], same, x(3, 2), ref=np.copy),
    "view_as_complex": Through([same], pairs, x(3, 2), ref=np.copy),
    "variance": Case(x(2, 3, 2), (0, 2), 1, True, ref=lambda a, d, c, k: a.var(d, ddof=c, keepdims=k)),
    "deviation": Case(x(2, 4), 1, 0, False, ref=lambda a, d, c, k: a.std(d, ddof=c)),
    "frexp": Case(u(0.6, 0.9, 3) * np.array([8.0, -2.0, 0.25]), ref=lambda a: np.concatenate(np.frexp(a))),
    "igamma": Case(np.array([[1.0], [2.5]], np.float32), u(0.5, 3, 3), ref=sp.gammainc),
    "igammac": Case(np.array([[1.0], [2.5]], np.float32), u(0.5, 3, 3), ref=sp.gammaincc),
}

COMPOSITES: dict[str, Composite] = {
    "adjoint": (T.adjoint, [d(2, 3)], np.transpose),
    "as_strided_scatter": (lambda a, b: T.as_strided_scatter(a, b, (2, 2), (1, 2)), [d(5), d(2, 2)]),
    "block_diag": (lambda a, b: T.block_diag(a, b), [d(2, 3), d(2)], scipy.linalg.block_diag),
    "gradient": (lambda a: T.gradient(a, spacing=0.5, edge_order=2)[1], [d(3, 4)], lambda a: np.gradient(a, 0.5, axis=1, edge_order=2)),
    "mode": (lambda a: T.mode(a, 1), [d(2, 3)], lambda a: a.min(1)),
    "nanmedian": (lambda a: T.nanmedian(a, 1), [d(2, 3)], lambda a: np.median(a, 1)),
}  # fmt: skip

NO_GRADIENT = {"histogram", "histogramdd", "nonzero_static", "unravel_index"}
