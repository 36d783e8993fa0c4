"""Recurrent cells over trees, to be run by a loop of your own, or by a `DynamicBatch`."""

from __future__ import annotations

import tensor as T
from tensor import Tensor, nn

__all__ = ["BinaryTreeLSTM", "ChildSumTreeLSTM"]

HiddenAndCell = tuple[Tensor, Tensor]


class ChildSumTreeLSTM(nn.Module):
    """A node of any number of children, in no order (Tai et al. 2015, arXiv 1503.00075).

    An input ``[n, input_size]``, and the children's outputs and cells, each ``[n, children, hidden_size]`` (left out for
    leaves), to the node's output and cell ``[n, hidden_size]``.

    >>> node = ChildSumTreeLSTM(3, 4)
    >>> h, c = node(T.ones(5, 3))
    >>> h, c = node(T.ones(5, 3), T.stack([h, h], 1), T.stack([c, c], 1))
    >>> h.shape
    tensor.Size([5, 4])
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.of_input = nn.Linear(input_size, 4 * hidden_size)  # input, output, candidate; then forget
        self.of_sum = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.of_child = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, input: Tensor, h: Tensor | None = None, c: Tensor | None = None) -> HiddenAndCell:
        """The node's output and cell."""
        size = self.hidden_size
        gates, forget = self.of_input(input).split([3 * size, size], 1)
        kept: Tensor | float = 0.0
        if h is not None and c is not None:
            gates = gates + self.of_sum(h.sum(1))
            kept = ((forget.unsqueeze(1) + self.of_child(h)).sigmoid() * c).sum(1)
        new, out, candidate = gates.split(size, 1)
        cell = new.sigmoid() * candidate.tanh() + kept
        return out.sigmoid() * cell.tanh(), cell

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class BinaryTreeLSTM(nn.Module):
    """A node of two children, left and right (Tai et al. 2015, arXiv 1503.00075), with an input at leaves only.

    Outputs and cells of the children, each ``[n, hidden_size]``, to those of the node; `leaf` starts with an input
    ``[n, input_size]``.

    >>> node = BinaryTreeLSTM(3, 4)
    >>> left, right = node.leaf(T.ones(5, 3)), node.leaf(T.zeros(5, 3))
    >>> h, c = node(*left, *right)
    >>> h.shape, c.shape
    (tensor.Size([5, 4]), tensor.Size([5, 4]))
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.of_input = nn.Linear(input_size, 2 * hidden_size)  # the cell, and the gate of the output
        self.of_children = nn.Linear(2 * hidden_size, 5 * hidden_size)

    def leaf(self, input: Tensor) -> HiddenAndCell:
        """A leaf's output and cell."""
        cell, out = self.of_input(input).split(self.hidden_size, 1)
        return out.sigmoid() * cell.tanh(), cell

    def forward(self, h_left: Tensor, c_left: Tensor, h_right: Tensor, c_right: Tensor) -> HiddenAndCell:
        """The node's output and cell."""
        gates = self.of_children(T.cat([h_left, h_right], 1))
        new, left, right, out, candidate = gates.split(self.hidden_size, 1)
        cell = new.sigmoid() * candidate.tanh() + left.sigmoid() * c_left + right.sigmoid() * c_right
        return out.sigmoid() * cell.tanh(), cell

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"
