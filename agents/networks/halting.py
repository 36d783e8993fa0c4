"""Networks that decide how long to think about an input."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensor as T
from tensor import Tensor, nn

__all__ = ["ACT", "PonderNet", "Pondered", "geometric_divergence"]

#: A state of a recurrent cell: a tensor ``[n, ...]`` or a tuple of such.
State = Any


def _rows(state: State, rows: Tensor) -> State:
    if isinstance(state, tuple):
        return tuple(part.index_select(0, rows) for part in state)
    return state.index_select(0, rows)


def _add(total: State, rows: Tensor, part: State, weight: Tensor) -> State:
    """``total`` with ``weight * part`` added to some rows."""
    if isinstance(part, tuple):
        return tuple(_add(a, rows, b, weight) for a, b in zip(total, part, strict=True))
    return total.index_add(0, rows, part * weight.reshape(-1, *[1] * (part.ndim - 1)))


def _weighted(part: State, weight: Tensor, total: State) -> State:
    """``total``, if any, with ``weight * part`` added to all rows."""
    if isinstance(part, tuple):
        totals = (None,) * len(part) if total is None else total
        return tuple(_weighted(a, weight, b) for a, b in zip(part, totals, strict=True))
    scaled = part * weight.reshape(-1, *[1] * (part.ndim - 1))
    return scaled if total is None else total + scaled


def _like(state: State, n: int) -> State:
    if isinstance(state, tuple):
        return tuple(_like(part, n) for part in state)
    return state.new_zeros(n, *state.shape[1:])


class ACT(nn.Module):
    """Adaptive computation time (Graves 2016, arXiv 1603.08983): a recurrent cell takes as many steps on an input as it wants.

    ``cell([n, input_size + 1], state)`` gives the new state, of which the first part, ``[n, hidden_size]``, is its output, as
    `RNNCell`, `GRUCell` and `LSTMCell` do; the last feature that it gets is 1 at the first step on an input, then 0. After each
    step a unit says how probable it is to stop; a row stops when its sum reaches ``1 - epsilon``, or at ``most`` steps, and what
    it gets are the means over its steps. Rows that have stopped are not computed any further. The result: the output, the state,
    and for each row how long it thought (steps plus remainder, ``[n]``), whose mean times a small number is to be added to the
    loss. ``halt_bias`` is where the bias of the unit that stops starts: at the paper's 1 it thinks for two steps at first, at -1
    for five. With ``skip=False`` every row is computed for all ``most`` steps, and those after it stopped count nothing: the same
    result, from a forward that does not branch on values, so that a learning step compiles.

    >>> think = ACT(nn.GRUCell(3 + 1, 8), 8)
    >>> y, state, ponder = think(T.randn(5, 3))
    >>> y, state, ponder = think(T.randn(5, 3), state)
    >>> y.shape, ponder.shape
    (tensor.Size([5, 8]), tensor.Size([5]))
    """

    def __init__(
        self,
        cell: nn.Module,
        hidden_size: int,
        *,
        most: int = 20,
        epsilon: float = 0.01,
        halt_bias: float = 1.0,
        skip: bool = True,
    ) -> None:
        super().__init__()
        if most < 1 or not 0 < epsilon < 1:
            msg = f"ACT: expected at least 1 step and an epsilon between 0 and 1, got {most} and {epsilon}"
            raise ValueError(msg)
        self.most, self.epsilon, self.skip = most, epsilon, skip
        self.cell = cell
        self.halt = nn.Linear(hidden_size, 1)
        assert self.halt.bias is not None
        nn.init.constant_(self.halt.bias, halt_bias)

    def forward(self, input: Tensor, state: State = None) -> tuple[Tensor, State, Tensor]:
        """The mean output, the mean state, and the time taken."""
        mean, ponder = (self._skipping if self.skip else self._masking)(input, state)
        return (mean[0] if isinstance(mean, tuple) else mean), mean, ponder

    def _step(self, step: int, input: Tensor, state: State, left: Tensor) -> tuple[State, Tensor, Tensor, Tensor]:
        """The next state, the probability to stop, whether that is enough, and what the state weighs in the mean."""
        flag = input.new_full((len(input), 1), float(step == 1))
        state = self.cell(T.cat([input, flag], 1), state)
        h = state[0] if isinstance(state, tuple) else state
        p = self.halt(h).sigmoid().squeeze(-1)
        stop = (left - p <= self.epsilon) if step < self.most else T.ones_like(left, dtype=bool)
        return state, p, stop, T.where(stop, left, p)

    def _skipping(self, input: Tensor, state: State) -> tuple[State, Tensor]:
        n = len(input)
        rows, left = T.arange(n), input.new_ones(n)
        mean: State = None
        ponder = input.new_zeros(n)
        for step in range(1, self.most + 1):
            state, p, stop, weight = self._step(step, input, state, left)
            mean = _add(_like(state, n) if mean is None else mean, rows, state, weight)
            # the remainder is what a gradient can shorten; the number of steps is not differentiable
            ponder = ponder.index_add(0, rows, T.where(stop, left + step, T.zeros_like(left)))
            going = (~stop).nonzero().squeeze(-1)
            if not len(going):
                break
            if len(going) < len(rows):
                rows, input, state, left, p = (_rows(x, going) for x in (rows, input, state, left, p))
            left = left - p
        return mean, ponder

    def _masking(self, input: Tensor, state: State) -> tuple[State, Tensor]:
        left = input.new_ones(len(input))
        going, nothing = T.ones_like(left, dtype=bool), T.zeros_like(left)
        mean: State = None
        ponder = nothing
        for step in range(1, self.most + 1):
            state, p, stop, weight = self._step(step, input, state, left)
            mean = _weighted(state, T.where(going, weight, nothing), mean)
            ponder = ponder + T.where(going & stop, left + step, nothing)
            going, left = going & ~stop, left - p
        return mean, ponder

    def extra_repr(self) -> str:
        return f"most={self.most}, epsilon={self.epsilon}, skip={self.skip}"


class Pondered(NamedTuple):
    """What `PonderNet` gives while training: for each step the outputs, and the probability to stop there."""

    outputs: Tensor  #: [steps, n, ...]
    probabilities: Tensor  #: [steps, n]

    def loss(self, losses: Tensor, prior: float = 0.2, weight: float = 0.01) -> Tensor:
        """The expected loss, of ``losses`` ``[steps, n]``, plus ``weight`` times the `geometric_divergence`."""
        expected: Tensor = (self.probabilities * losses).sum(0).mean()
        return expected + weight * geometric_divergence(self.probabilities, prior)


def geometric_divergence(probabilities: Tensor, prior: float) -> Tensor:
    """The mean divergence KL of ``[steps, n]`` from the (truncated) geometric distribution that stops with probability ``prior``.

    >>> p = T.tensor([[0.2], [0.16], [0.128]])
    >>> bool(geometric_divergence(p / p.sum(), 0.2).abs() < 1e-6)
    True
    """
    steps = T.arange(len(probabilities), dtype=probabilities.dtype)
    geometric = prior * (1 - prior) ** steps
    target = (geometric / geometric.sum()).log().unsqueeze(-1)
    each: Tensor = probabilities * (probabilities.clamp(min=1e-20).log() - target)
    return each.sum(0).mean()


class PonderNet(nn.Module):
    """PonderNet (Banino et al. 2021, arXiv 2107.05407): stops at each step with a probability that is learnt.

    ``cell(input, state)`` as in `ACT`, without the flag; ``output`` maps ``[n, hidden_size]`` to an answer. While training all
    ``most`` steps are taken: the result is a `Pondered`. In evaluation mode each row draws when it stops, and the result is its
    answer at that step and the number of steps, ``[n]``; rows that have stopped are not computed any further.

    >>> think = PonderNet(nn.GRUCell(3, 8), nn.Linear(8, 2), 8, most=6)
    >>> pondered = think(T.randn(5, 3))
    >>> pondered.outputs.shape, pondered.probabilities.shape
    (tensor.Size([6, 5, 2]), tensor.Size([6, 5]))
    >>> y, steps = think.eval()(T.randn(5, 3))
    >>> y.shape, bool((steps <= 6).all())
    (tensor.Size([5, 2]), True)
    """

    def __init__(self, cell: nn.Module, output: nn.Module, hidden_size: int, *, most: int = 20) -> None:
        super().__init__()
        if most < 1:
            msg = f"PonderNet: expected at least 1 step, got {most}"
            raise ValueError(msg)
        self.most = most
        self.cell, self.output = cell, output
        self.halt = nn.Linear(hidden_size, 1)

    def forward(self, input: Tensor, state: State = None) -> Any:
        """All steps with their probabilities, or in evaluation mode the answers."""
        if not self.training:
            return self._until_stopped(input, state)
        outputs, probabilities, left = [], [], input.new_ones(len(input))
        for step in range(1, self.most + 1):
            h, state, p = self._step(input, state)
            p = left if step == self.most else left * p
            outputs.append(self.output(h))
            probabilities.append(p)
            left = left - p
        return Pondered(T.stack(outputs), T.stack(probabilities))

    def _step(self, input: Tensor, state: State) -> tuple[Tensor, State, Tensor]:
        state = self.cell(input, state)
        h = state[0] if isinstance(state, tuple) else state
        return h, state, self.halt(h).sigmoid().squeeze(-1)

    def _until_stopped(self, input: Tensor, state: State) -> tuple[Tensor, Tensor]:
        rows, answers, order, counts = T.arange(len(input)), [], [], []
        for step in range(1, self.most + 1):
            h, state, p = self._step(input, state)
            stop = T.rand(len(rows), dtype=p.dtype) < p if step < self.most else T.ones_like(p, dtype=bool)
            ending, going = (mask.nonzero().squeeze(-1) for mask in (stop, ~stop))
            answers.append(self.output(h.index_select(0, ending)))
            order.append(rows.index_select(0, ending))
            counts.append(T.full((len(ending),), step))
            if not len(going):
                break
            rows, input, state = (_rows(x, going) for x in (rows, input, state))
        back = T.cat(order).argsort()
        return T.cat(answers)[back], T.cat(counts)[back]

    def extra_repr(self) -> str:
        return f"most={self.most}"
