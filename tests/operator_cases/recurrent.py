"""Recurrent sequences; the last time step has fewer rows, as packed sequences do."""

from __future__ import annotations

from typing import Any

import numpy as np

from operator_cases.case import Case, u

SIZES = (2, 2, 1)
ROWS = sum(SIZES)


def _steps(x: Any, state: Any, step: Any) -> Any:
    rows, start = [], 0
    for n in SIZES:
        state = step(x[start : start + n], *[s[:n] for s in state])
        rows.append(np.concatenate(state, 1))
        start += n
    return np.concatenate(rows)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _lstm(x: Any, w: Any, h0: Any, c0: Any, w_hr: Any, sizes: Any) -> Any:
    def step(x: Any, h: Any, c: Any) -> Any:
        i, f, g, o = np.split(x + h @ w.T, 4, 1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        return (h if w_hr is None else h @ w_hr.T), c

    return _steps(x, (h0, c0), step)


def _gru(x: Any, w: Any, b: Any, h0: Any, sizes: Any) -> Any:
    def step(x: Any, h: Any) -> Any:
        (xr, xz, xn), (hr, hz, hn) = np.split(x, 3, 1), np.split(h @ w.T + b, 3, 1)
        n, z = np.tanh(xn + _sigmoid(xr + hr) * hn), _sigmoid(xz + hz)
        return ((1 - z) * n + z * h,)

    return _steps(x, (h0,), step)


def _rnn(x: Any, w: Any, h0: Any, sizes: Any) -> Any:
    return _steps(x, (h0,), lambda x, h: (np.tanh(x + h @ w.T),))


RULED: dict[str, Case] = {
    "rnn_sequence": Case(u(-1, 1, ROWS, 2), u(-1, 1, 2, 2), u(-1, 1, 2, 2), SIZES, ref=_rnn),
    "lstm_sequence": Case(u(-1, 1, ROWS, 8), u(-1, 1, 8, 1), u(-1, 1, 2, 1), u(-1, 1, 2, 2), u(-1, 1, 1, 2), SIZES, ref=_lstm),
    "gru_sequence": Case(u(-1, 1, ROWS, 6), u(-1, 1, 6, 2), u(-1, 1, 6), u(-1, 1, 2, 2), SIZES, ref=_gru),
}
