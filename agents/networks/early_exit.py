"""Networks that answer as soon as they are sure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensor as T
from tensor import Tensor, nn

__all__ = ["EarlyExit"]


class EarlyExit(nn.Module):
    """Blocks one after the other, each with a classifier (Teerapittayanon et al. 2016, arXiv 1709.01686).

    While training: ``[n, ...]`` to a list of logits ``[n, classes]``, one for each exit, to be learnt all. In evaluation mode:
    to the logits of the first exit whose largest probability is at least ``threshold``, and the number of that exit, ``[n]``;
    later blocks see only the rows that are still undecided. Raises ValueError for other numbers of blocks and exits, or a
    threshold outside of [0, 1].

    >>> net = EarlyExit([nn.Linear(4, 8), nn.Linear(8, 8)], [nn.Linear(8, 3), nn.Linear(8, 3)], threshold=0.9)
    >>> [logits.shape for logits in net(T.randn(5, 4))]
    [tensor.Size([5, 3]), tensor.Size([5, 3])]
    >>> logits, exits = net.eval()(T.randn(5, 4))
    >>> logits.shape, exits.shape
    (tensor.Size([5, 3]), tensor.Size([5]))
    """

    def __init__(self, blocks: Sequence[nn.Module], exits: Sequence[nn.Module], threshold: float = 0.9) -> None:
        super().__init__()
        if not blocks or len(blocks) != len(exits):
            msg = f"EarlyExit: expected an exit for each of at least one block, got {len(blocks)} blocks and {len(exits)} exits"
            raise ValueError(msg)
        if not 0 <= threshold <= 1:
            msg = f"EarlyExit: expected a threshold from 0 to 1, got {threshold}"
            raise ValueError(msg)
        self.threshold = threshold
        self.blocks, self.exits = nn.ModuleList(blocks), nn.ModuleList(exits)

    def forward(self, input: Tensor) -> Any:
        """The logits of all exits, or in evaluation mode of the one that each row leaves by."""
        if not self.training:
            return self._leaving(input)
        logits, x = [], input
        for block, leave in zip(self.blocks, self.exits, strict=True):
            x = block(x)
            logits.append(leave(x))
        return logits

    def _leaving(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = T.arange(len(x))
        answers, order, numbers = [], [], []
        for number, (block, leave) in enumerate(zip(self.blocks, self.exits, strict=True)):
            x = block(x)
            logits = leave(x)
            sure = logits.softmax(-1).amax(-1) >= self.threshold
            if number == len(self.blocks) - 1:
                sure = T.ones_like(sure)
            answers.append(logits[sure])
            order.append(rows[sure])
            numbers.append(T.full((len(order[-1]),), number))
            x, rows = x[~sure], rows[~sure]
            if not len(rows):
                break
        back = T.cat(order).argsort()
        return T.cat(answers)[back], T.cat(numbers)[back]

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}"
