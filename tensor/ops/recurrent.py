"""Recurrent layers over a whole sequence: one operator each, so that a time step costs a handful of array calls and no nodes.

A sequence is flat and time-major: the rows of step 0, then those of step 1, ... ``sizes`` tells how many rows each step has;
it never grows, since longer sequences come first (that is what packing means). The input's part of every gate is computed before,
by one product for all steps. Gradients are written out on raw arrays, going back through the steps; where a gradient of the gradient
is wanted, the steps are unrolled into ordinary operators instead, and those are differentiated.

Sources: Elman, 1990; Hochreiter & Schmidhuber, 1997, with forget gates (Gers et al., 2000); GRU (arXiv 1406.1078), with the reset
gate behind the product; projections (arXiv 1402.1128).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from tensor.autograd.engine import grad
from tensor.autograd.modes import is_grad_enabled
from tensor.autograd.tensor import Tensor
from tensor.ops.join import cat
from tensor.ops.matmul import linear
from tensor.ops.record import Array, operator

__all__ = ["gru_sequence", "gru_step", "lstm_sequence", "lstm_step", "rnn_sequence", "rnn_step"]


# --- what the three share ---------------------------------------------------------------------------------------------


def _previous(initial: Array, states: Array, sizes: Sequence[int]) -> Array:
    """For each row the state that it started from: that of the same sequence one step earlier."""
    parts = [initial[: sizes[0]]]
    start = 0
    for before, n in pairwise(sizes):
        parts.append(states[start : start + n])
        start += before
    return np.concatenate(parts)


def _unroll(
    step: Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]], x: Tensor, initial: tuple[Tensor, ...], sizes: Sequence[int]
) -> Tensor:
    """The states after every step, side by side, by ordinary operators."""
    rows, start, state = [], 0, initial
    for n in sizes:
        state = step(x.narrow(0, start, n), tuple(s if len(s) == n else s.narrow(0, 0, n) for s in state))
        rows.append(cat(state, 1) if len(state) > 1 else state[0])
        start += n
    return cat(rows)


def _through(y: Tensor, g: Tensor, inputs: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """The gradients of an unrolled sequence, themselves differentiable."""
    wanted = [t for t in inputs if t is not None and t.requires_grad]
    found = iter(grad(y, wanted, g, create_graph=True, allow_unused=True))
    return tuple(next(found) if t is not None and t.requires_grad else None for t in inputs)


def _turned(w: Array, sizes: Sequence[int]) -> Array:
    """A weight's transpose; over several steps in memory of its own, which halves the time of products with a few rows."""
    return w.T.copy() if len(sizes) > 2 else w.T


def _wrap(*arrays: Array | None) -> tuple[Tensor | None, ...]:
    return tuple(None if a is None else Tensor(a) for a in arrays)


def _steps(sizes: Sequence[int], *arrays: Array) -> Iterator[tuple[Array, ...]]:
    """The rows of each step, of every array."""
    n = sizes[0]
    if sizes[-1] == n:  # all steps alike: walking over a first axis takes half the time of slices
        yield from zip(*(a.reshape(len(sizes), n, *a.shape[1:]) for a in arrays), strict=True)
        return
    start = 0
    for n in sizes:
        yield tuple(a[start : start + n] for a in arrays)
        start += n


def _add_rows(into: Array, rows: Array) -> None:
    """Add what later steps say to the rows that take part in them."""
    if len(rows) == len(into):
        into += rows
    elif len(rows):
        into[: len(rows)] += rows


# --- the plain recurrence ----------------------------------------------------------------------------------------------


def rnn_step(x: Tensor, w_hh: Tensor, h: Tensor, nonlinearity: str) -> Tensor:
    """One step by ordinary operators: the new state from the input's part and the state before."""
    pre = x + linear(h, w_hh)
    return pre.tanh() if nonlinearity == "tanh" else pre.relu()


def _rnn_rule(
    g: Tensor, x: Tensor, w_hh: Tensor, h0: Tensor, sizes: Sequence[int], nonlinearity: str, y: Tensor
) -> tuple[Tensor | None, ...]:
    if is_grad_enabled():
        unrolled = _unroll(lambda x, s: (rnn_step(x, w_hh, s[0], nonlinearity),), x, (h0,), sizes)
        return _through(unrolled, g, (x, w_hh, h0))
    w, out = w_hh._array, y._array
    slope = 1 - out * out if nonlinearity == "tanh" else out > 0
    dx = np.empty_like(out)
    later = out[:0]
    stop = len(out)
    for n in reversed(sizes):
        start = stop - n
        dh = g._array[start:stop].copy()
        _add_rows(dh, later)
        np.multiply(dh, slope[start:stop], out=dx[start:stop])
        later = dx[start:stop].dot(w)
        stop = start
    return _wrap(dx, dx.T.dot(_previous(h0._array, out, sizes)), later)


@operator(_rnn_rule, method=False)
def rnn_sequence(x: Array, w_hh: Array, h0: Array, sizes: Sequence[int], nonlinearity: str = "tanh") -> Array:
    """The states [rows, hidden] of ``h = tanh(x + w_hh @ h)`` (or relu) over a sequence; ``x`` [rows, hidden], ``h0`` [batch, hidden]."""
    act, w = np.tanh if nonlinearity == "tanh" else _relu, _turned(w_hh, sizes)
    y = np.empty_like(x)
    h, start = h0, 0
    for n in sizes:
        row = y[start : start + n]
        np.add(x[start : start + n], h[:n].dot(w), out=row)
        act(row, out=row)
        h, start = row, start + n
    return y


def _relu(x: Array, out: Array) -> None:
    np.maximum(x, 0, out=out)


# --- long short-term memory --------------------------------------------------------------------------------------------


def lstm_step(x: Tensor, w_hh: Tensor, h: Tensor, c: Tensor, w_hr: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One step by ordinary operators: the new output and cell from the input's part of the gates and the state before."""
    i, f, candidate, o = (x + linear(h, w_hh)).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * candidate.tanh()
    h = o.sigmoid() * c.tanh()
    return (h if w_hr is None else linear(h, w_hr)), c


def _lstm_rule(
    g: Tensor,
    x: Tensor,
    w_hh: Tensor,
    h0: Tensor,
    c0: Tensor,
    w_hr: Tensor | None,
    sizes: Sequence[int],
    memory: list[Array] | None,
    y: Tensor,
) -> tuple[Tensor | None, ...]:
    if is_grad_enabled():
        unrolled = _unroll(lambda x, s: lstm_step(x, w_hh, s[0], s[1], w_hr), x, (h0, c0), sizes)
        return _through(unrolled, g, (x, w_hh, h0, c0, w_hr))
    w, projection = w_hh._array, None if w_hr is None else w_hr._array
    if not memory:  # nobody kept the gates
        memory = []
        lstm_sequence.operator.forward(x._array, w, h0._array, c0._array, projection, sizes, memory)  # type: ignore[attr-defined]
    gates, tanh_c = memory
    rows, hidden = tanh_c.shape
    states, outer = y._array, g._array
    width = states.shape[1] - hidden
    i, f, candidate, o = gates[:, 0], gates[:, 1], gates[:, 2], gates[:, 3]
    # How each gate acts on the cell (three of them) or the output (the last), all steps at once.
    slopes = np.empty_like(gates)
    slopes[:, 0] = candidate * i * (1 - i)
    slopes[:, 1] = _previous(c0._array, states[:, width:], sizes) * f * (1 - f)
    slopes[:, 2] = i * (1 - candidate * candidate)
    slopes[:, 3] = tanh_c * o * (1 - o)
    through_cell = o * (1 - tanh_c * tanh_c)
    dgates = np.empty_like(slopes)
    flat = dgates.reshape(rows, 4 * hidden)
    dh_all = outer[:, :width].copy()
    later_h, later_c = dh_all[:0], tanh_c[:0]
    to_cell = slopes[:, :3], dgates[:, :3]
    parts = list(_steps(sizes, dh_all, outer[:, width:], through_cell, f, *to_cell, slopes[:, 3], dgates[:, 3], flat))
    for dh, dc_outside, through, forget, slope, dgate, o_slope, do, row in reversed(parts):
        _add_rows(dh, later_h)
        dm = dh if projection is None else dh.dot(projection)
        dc = dm * through
        dc += dc_outside
        _add_rows(dc, later_c)
        np.multiply(slope, dc[:, None], out=dgate)
        np.multiply(o_slope, dm, out=do)
        later_h = row.dot(w)
        later_c = dc * forget
    dw = flat.T.dot(_previous(h0._array, states[:, :width], sizes))
    return _wrap(flat, dw, later_h, later_c, None if projection is None else dh_all.T.dot(o * tanh_c))


@operator(_lstm_rule, method=False)
def lstm_sequence(
    x: Array,
    w_hh: Array,
    h0: Array,
    c0: Array,
    w_hr: Array | None,
    sizes: Sequence[int],
    memory: list[Array] | None = None,
) -> Array:
    """Outputs and cells side by side, [rows, width + hidden], of an LSTM over a sequence.

    ``x`` [rows, 4 hidden] is the input's part of the gates in the order input, forget, candidate, output; ``h0`` is [batch, width],
    ``c0`` [batch, hidden]; ``w_hr`` [width, hidden] projects the output. An empty list as ``memory`` takes the gates, which the
    gradient would compute again otherwise.
    """
    hidden, width = c0.shape[1], h0.shape[1]
    # sigmoid(x) = tanh(x / 2) / 2 + 1 / 2: with the halves put into the weights, one tanh serves all four gates.
    scale = np.empty_like(x, shape=4 * hidden)
    scale.fill(0.5)
    scale[2 * hidden : 3 * hidden] = 1
    shift = 1 - scale
    w, projection = _turned(w_hh * scale[:, None], sizes), None if w_hr is None else _turned(w_hr, sizes)
    gates = x * scale
    split = gates.reshape(len(x), 4, hidden)
    tanh_c = np.empty_like(x, shape=(len(x), hidden))
    y = np.empty_like(x, shape=(len(x), width + hidden))
    h, c = h0, c0
    parts = _steps(sizes, gates, split[:, 0], split[:, 1], split[:, 2], split[:, 3], y[:, :width], y[:, width:], tanh_c)
    for all_four, i, f, candidate, o, out, cell, squashed in parts:
        n = len(cell)
        all_four += h[:n].dot(w)
        np.tanh(all_four, out=all_four)
        all_four *= scale
        all_four += shift
        np.multiply(f, c[:n], out=cell)
        cell += i * candidate
        np.tanh(cell, out=squashed)
        h, c = out, cell
        if projection is None:
            np.multiply(o, squashed, out=h)
        else:
            h[...] = (o * squashed).dot(projection)
    if memory is not None:
        memory[:] = split, tanh_c
    return y


# --- gated recurrent unit ------------------------------------------------------------------------------------------------


def gru_step(x: Tensor, w_hh: Tensor, b_hh: Tensor | None, h: Tensor) -> Tensor:
    """One step by ordinary operators: the new state from the input's part of the gates and the state before."""
    xr, xz, xn = x.chunk(3, 1)
    hr, hz, hn = linear(h, w_hh, b_hh).chunk(3, 1)
    candidate = (xn + (xr + hr).sigmoid() * hn).tanh()
    return candidate + (xz + hz).sigmoid() * (h - candidate)


def _gru_rule(
    g: Tensor,
    x: Tensor,
    w_hh: Tensor,
    b_hh: Tensor | None,
    h0: Tensor,
    sizes: Sequence[int],
    memory: list[Array] | None,
    y: Tensor,
) -> tuple[Tensor | None, ...]:
    if is_grad_enabled():
        unrolled = _unroll(lambda x, s: (gru_step(x, w_hh, b_hh, s[0]),), x, (h0,), sizes)
        return _through(unrolled, g, (x, w_hh, b_hh, h0))
    w = w_hh._array
    if not memory:
        memory = []
        bias = None if b_hh is None else b_hh._array
        gru_sequence.operator.forward(x._array, w, bias, h0._array, sizes, memory)  # type: ignore[attr-defined]
    gates, recurrent = memory
    states = y._array
    rows, hidden = states.shape
    r, z, candidate = gates[:, 0], gates[:, 1], gates[:, 2]
    before = _previous(h0._array, states, sizes)
    to_candidate = (1 - z) * (1 - candidate * candidate)
    slopes = np.empty_like(gates)  # of the state by the three gates
    slopes[:, 0] = to_candidate * recurrent * r * (1 - r)
    slopes[:, 1] = (before - candidate) * z * (1 - z)
    slopes[:, 2] = to_candidate * r
    dgates = np.empty_like(slopes)
    flat = dgates.reshape(rows, 3 * hidden)
    dh_all = g._array.copy()
    later = states[:0]
    stop = rows
    for n in reversed(sizes):
        start = stop - n
        dh = dh_all[start:stop]
        _add_rows(dh, later)
        np.multiply(slopes[start:stop], dh[:, None], out=dgates[start:stop])
        later = flat[start:stop].dot(w)
        later += dh * z[start:stop]
        stop = start
    dw, db = flat.T.dot(before), None if b_hh is None else flat.sum(0)
    dx = flat.copy()
    np.multiply(dh_all, to_candidate, out=dx[:, 2 * hidden :])  # the reset gate is not in the input's way
    return _wrap(dx, dw, db, later)


@operator(_gru_rule, method=False)
def gru_sequence(
    x: Array, w_hh: Array, b_hh: Array | None, h0: Array, sizes: Sequence[int], memory: list[Array] | None = None
) -> Array:
    """The states [rows, hidden] of a GRU over a sequence.

    ``x`` [rows, 3 hidden] is the input's part of the gates in the order reset, update, candidate; ``h0`` is [batch, hidden]. An empty
    list as ``memory`` takes the gates, which the gradient would compute again otherwise.
    """
    hidden = h0.shape[1]
    w = _turned(w_hh, sizes)
    gates = x.copy()
    recurrent = np.empty_like(x, shape=(len(x), hidden))  # the state's part of the candidate, before the reset gate
    y = np.empty_like(recurrent)
    h, start = h0, 0
    for n in sizes:
        stop = start + n
        h = h[:n]
        part = h.dot(w)
        if b_hh is not None:
            part += b_hh
        both, candidate, held = gates[start:stop, : 2 * hidden], gates[start:stop, 2 * hidden :], recurrent[start:stop]
        held[...] = part[:, 2 * hidden :]
        both += part[:, : 2 * hidden]
        both *= 0.5  # sigmoid(x) = tanh(x / 2) / 2 + 1 / 2
        np.tanh(both, out=both)
        both *= 0.5
        both += 0.5
        candidate += both[:, :hidden] * held
        np.tanh(candidate, out=candidate)
        row = y[start:stop]
        np.subtract(h, candidate, out=row)
        row *= both[:, hidden:]
        row += candidate
        h, start = row, stop
    if memory is not None:
        memory[:] = gates.reshape(len(x), 3, hidden), recurrent
    return y
