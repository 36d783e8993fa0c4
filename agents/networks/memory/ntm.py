"""Neural Turing machines."""

from __future__ import annotations

import math
from typing import NamedTuple

import tensor as T
from agents.networks.memory import addressing
from agents.networks.memory.slots import SMALL, extend, new_slots
from tensor import Tensor, nn

__all__ = ["NTMCell", "NTMState"]

#: Added at first to the logits of the gates, so that heads stay where they are: 0.05 of a weighting is new.
HELD = -3.0


class NTMState(NamedTuple):
    """What a Neural Turing machine keeps between steps."""

    hidden: Tensor  #: of the controller, [batch, hidden_size]
    cell: Tensor  #: of the controller, [batch, hidden_size]; zero where that is feed-forward
    memory: Tensor  #: [batch, slots, width]
    weights: Tensor  #: where the heads look, those that read first, [batch, heads, slots]
    seen: Tensor  #: what was read last, [batch, reads * width]


class NTMCell(nn.Module):
    """One step of a Neural Turing machine (Graves et al. 2014, arXiv 1410.5401): its heads read and write a memory.

    ``[batch, input_size]`` and a state to ``[batch, output_size]`` and the new state. Heads look for what is like a key, or move
    from where they looked last. Memory starts as a small constant (Collier and Beel 2018, arXiv 1807.08518), the heads at slot
    0, which they hold on to at first, and what is read at first is learnt. The controller is an LSTM, or with
    ``feedforward=True`` a layer of tanh units, which knows of the past only what it reads. Such a one cannot make up for a head
    that has lost its place: weightings are raised to a power of at least 2, so that what is nearly all on one slot stays so for
    as long as a sequence may last, and a key singles out a slot from the start. The slots are state, not parameters: `add_slots`
    gives a running machine more of them.

    >>> cell = NTMCell(3, 2, hidden_size=8, slots=16, width=4)
    >>> y, state = cell(T.ones(5, 3))
    >>> y, state = cell(T.ones(5, 3), state)
    >>> y.shape, state.memory.shape
    (tensor.Size([5, 2]), tensor.Size([5, 16, 4]))
    """

    first_memory: Tensor

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int = 100,
        slots: int = 128,
        width: int = 20,
        *,
        reads: int = 1,
        writes: int = 1,
        feedforward: bool = False,
    ) -> None:
        super().__init__()
        self.input_size, self.output_size, self.hidden_size = input_size, output_size, hidden_size
        self.width, self.reads, self.writes, self.feedforward = width, reads, writes, feedforward
        controller_size = input_size + reads * width
        self.controller: nn.Module = (
            nn.Sequential(nn.Linear(controller_size, hidden_size), nn.Tanh())
            if feedforward
            else nn.LSTMCell(controller_size, hidden_size)
        )
        # for each head a key, its strength, a gate, three shifts and a power; what is erased and added for those that write
        self.heads = nn.Linear(hidden_size, (reads + writes) * (width + 6) + writes * 2 * width)
        assert self.heads.bias is not None
        key_strength, self.least_power = (math.log(max(slots, 2)), 2) if feedforward else (math.log(2), 1)
        with T.no_grad():
            address = self.heads.bias[: (reads + writes) * (width + 6)].view(reads + writes, width + 6)
            address[:, width] += math.log(math.expm1(key_strength))  # strengths go through a softplus
            address[:, width + 2] += HELD
        self.output = nn.Linear(hidden_size + reads * width, output_size)
        self.first_seen = nn.Parameter(T.randn(reads * width) * 0.05)
        self.register_buffer("first_memory", T.full((slots, width), SMALL))

    @property
    def slots(self) -> int:
        """How many vectors the memory holds."""
        return len(self.first_memory)

    def initial_state(self, batch: int) -> NTMState:
        """A fresh memory, and heads that look at its first slot."""
        weights = self.first_memory.new_zeros(batch, self.reads + self.writes, self.slots)
        weights[..., 0] = 1
        zeros = weights.new_zeros(batch, self.hidden_size)
        memory = self.first_memory.expand(batch, -1, -1)
        return NTMState(zeros, zeros, memory, weights, self.first_seen.expand(batch, -1))

    def forward(self, input: Tensor, state: NTMState | None = None) -> tuple[Tensor, NTMState]:
        """The output and the new state."""
        if state is None:
            state = self.initial_state(len(input))
        elif more := new_slots(state.memory.shape[1], self.slots, "NTMCell"):
            memory, weights = extend(state.memory, (1,), more, SMALL), extend(state.weights, (2,), more)
            state = state._replace(memory=memory, weights=weights)
        given, c = T.cat([input, state.seen], 1), state.cell
        if self.feedforward:
            h = self.controller(given)
        else:
            h, c = self.controller(given, (state.hidden, c))
            c = c.clone()  # both are views of one tensor, which a compiled step could not return
        asked = self.heads(h)
        reads, writes, width = self.reads, self.writes, self.width
        heads = reads + writes
        split = heads * (width + 6)
        address = asked[:, :split].reshape(len(input), heads, width + 6)
        numbers = nn.functional.softplus(address[..., width : width + 2])
        new = addressing.content(state.memory, address[..., :width], numbers[..., :1])
        held = addressing.interpolate(new, state.weights, address[..., width + 2 : width + 3].sigmoid())
        moved = addressing.shift(held, address[..., width + 3 :].softmax(-1))
        weights = addressing.sharpen(moved, self.least_power + numbers[..., 1:])
        change = asked[:, split:].reshape(len(input), 2, writes, width)
        memory = addressing.write(state.memory, weights[:, reads:], change[:, 0].sigmoid(), change[:, 1].tanh())
        seen = addressing.read(memory, weights[:, :reads]).reshape(len(input), reads * width)
        return self.output(T.cat([h, seen], 1)), NTMState(h, c, memory, weights, seen)

    def extra_repr(self) -> str:
        sizes = f"slots={self.slots}, width={self.width}, reads={self.reads}, writes={self.writes}"
        return f"{sizes}, feedforward={self.feedforward}"
