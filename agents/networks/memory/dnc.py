"""Differentiable neural computers."""

from __future__ import annotations

from typing import NamedTuple

import tensor as T
from agents.networks.memory import addressing
from agents.networks.memory.slots import SMALL, extend, new_slots
from tensor import Tensor, nn

__all__ = ["DNCCell", "DNCState"]


class DNCState(NamedTuple):
    """What a differentiable neural computer keeps between steps."""

    hidden: Tensor  #: of the controller, [batch, hidden_size]
    cell: Tensor  #: of the controller, [batch, hidden_size]
    memory: Tensor  #: [batch, slots, width]
    read_weights: Tensor  #: [batch, reads, slots]
    write_weights: Tensor  #: [batch, slots]
    usage: Tensor  #: how much each slot is in use, [batch, slots]
    precedence: Tensor  #: how far each slot was the last written, [batch, slots]
    link: Tensor  #: [batch, i, j]: how far slot i was written right after slot j
    seen: Tensor  #: what was read last, [batch, reads * width]


#: The axes of a state's parts that count slots, and what new slots hold.
SLOTTED = {
    "memory": ((1,), SMALL),
    "read_weights": ((2,), 0.0),
    "write_weights": ((1,), 0.0),
    "usage": ((1,), 0.0),
    "precedence": ((1,), 0.0),
    "link": ((1, 2), 0.0),
}


class DNCCell(nn.Module):
    """One step of a differentiable neural computer (Graves et al. 2016, Nature 538): an LSTM with a memory that knows its order.

    ``[batch, input_size]`` and a state to ``[batch, output_size]`` and the new state. One head writes: to what is like its key,
    or to free slots; the others read what is like their keys, or what was written before or after what they read last. The sort
    of the free slots has no gradient, as in the paper. `add_slots` gives a running machine more slots.

    >>> cell = DNCCell(3, 2, hidden_size=8, slots=16, width=4)
    >>> y, state = cell(T.ones(5, 3))
    >>> y, state = cell(T.ones(5, 3), state)
    >>> y.shape, state.link.shape
    (tensor.Size([5, 2]), tensor.Size([5, 16, 16]))
    """

    first_memory: Tensor

    def __init__(
        self, input_size: int, output_size: int, hidden_size: int = 64, slots: int = 16, width: int = 16, *, reads: int = 1
    ) -> None:
        super().__init__()
        self.input_size, self.output_size, self.hidden_size = input_size, output_size, hidden_size
        self.width, self.reads = width, reads
        self.controller = nn.LSTMCell(input_size + reads * width, hidden_size)
        # keys of all heads, erase and add; strengths; a free gate for each read head, allocation and write gates; modes
        self.parts = [(reads + 3) * width, reads + 1, reads + 2, 3 * reads]
        self.interface = nn.Linear(hidden_size, sum(self.parts))
        self.output = nn.Linear(hidden_size + reads * width, output_size)
        self.register_buffer("first_memory", T.full((slots, width), SMALL))

    @property
    def slots(self) -> int:
        """How many vectors the memory holds."""
        return len(self.first_memory)

    def initial_state(self, batch: int) -> DNCState:
        """A fresh memory of which nothing is in use."""
        zeros, n = self.first_memory.new_zeros, self.slots
        none = zeros(batch, n)
        hidden = zeros(batch, self.hidden_size)
        memory = self.first_memory.expand(batch, -1, -1)
        read = zeros(batch, self.reads, n)
        return DNCState(hidden, hidden, memory, read, none, none, none, zeros(batch, n, n), zeros(batch, self.reads * self.width))

    def forward(self, input: Tensor, state: DNCState | None = None) -> tuple[Tensor, DNCState]:
        """The output and the new state."""
        if state is None:
            state = self.initial_state(len(input))
        elif new := new_slots(state.memory.shape[1], self.slots, "DNCCell"):
            extended = {name: extend(getattr(state, name), axes, new, fill) for name, (axes, fill) in SLOTTED.items()}
            state = state._replace(**extended)
        h, c = self.controller(T.cat([input, state.seen], 1), (state.hidden, state.cell))
        c = c.clone()  # both are views of one tensor, which a compiled step could not return
        batch, reads = len(input), self.reads
        vectors, strengths, gates, modes = self.interface(h).split(self.parts, 1)
        vectors = vectors.reshape(batch, reads + 3, self.width)
        strengths = 1 + nn.functional.softplus(strengths).unsqueeze(-1)
        gates, modes = gates.sigmoid(), modes.reshape(batch, reads, 3).softmax(-1)

        freed = (1 - gates[:, :reads].unsqueeze(-1) * state.read_weights).prod(1)
        usage = (state.usage + state.write_weights - state.usage * state.write_weights) * freed
        alike = addressing.content(state.memory, vectors[:, reads : reads + 1], strengths[:, reads:]).squeeze(1)
        free = addressing.allocation(usage)
        allocate, writing = gates[:, reads : reads + 1], gates[:, reads + 1 :]
        w = writing * addressing.interpolate(free, alike, allocate)
        memory = addressing.write(
            state.memory, w.unsqueeze(1), vectors[:, reads + 1 : reads + 2].sigmoid(), vectors[:, reads + 2 :]
        )
        link = self._linked(state, w)
        precedence = (1 - w.sum(-1, keepdim=True)) * state.precedence + w

        backward, forward = state.read_weights @ link, state.read_weights @ link.mT
        found = addressing.content(memory, vectors[:, :reads], strengths[:, :reads])
        read_weights = modes[..., :1] * backward + modes[..., 1:2] * found + modes[..., 2:] * forward
        seen = addressing.read(memory, read_weights).reshape(batch, reads * self.width)
        new_state = DNCState(h, c, memory, read_weights, w, usage, precedence, link, seen)
        return self.output(T.cat([h, seen], 1)), new_state

    def _linked(self, state: DNCState, w: Tensor) -> Tensor:
        """The links after a write: towards what was written from what was written before, none to itself."""
        column, row = w.unsqueeze(2), w.unsqueeze(1)
        link: Tensor = (1 - column - row) * state.link + column * state.precedence.unsqueeze(1)
        return link * (1 - T.eye(self.slots, dtype=link.dtype))

    def extra_repr(self) -> str:
        return f"slots={self.slots}, width={self.width}, reads={self.reads}"
