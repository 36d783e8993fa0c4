"""Where the pass in machine code keeps what: the words of a record, of an operand, and of a workspace."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MOST_NODES", "OPERAND", "OPERANDS", "RECORD", "TABLE", "Operand", "Record", "Region", "State", "words"]


class Record:
    """Of a node, the words by their places. ``EDGES`` is an address: of the addresses of ``COUNT`` records, null for none."""

    OBJECT, NUMBER, GRAD, SIZE, WORD, EDGES, COUNT, STATE, LAST, DIMS, FIRST, TAIL, ROWS, OUTER, USES, PLACE = range(16)


class Operand:
    """Of a value that was kept: the array, or 0 and a number's bits; its address, elements, last dimension and dimensions."""

    OBJECT, DATA, SIZE, LAST, DIMS = range(5)
    NUMBER, MISSING = -1, -2  #: in the place of a size


class State:
    """What has arrived at a node: nothing, a gradient, or uses as the weight or the bias of linear layers, for one sum of all.

    ``ELSEWHERE``: something that the ordinary pass has, and that cannot be added to here.
    """

    NOTHING, GRADIENT, WEIGHT, BIAS, ELSEWHERE = range(5)


OPERANDS, OPERAND = 16, 5  #: where operands begin in a record; the words of each
RECORD = OPERANDS + 2 * OPERAND

MOST_NODES = 2048
TABLE = 2 * MOST_NODES  #: places in the table that finds a node's record, empty between two passes; a power of two


class Region(NamedTuple):
    """The parts of a workspace: where each begins, in words."""

    header: int
    table: int
    records: int
    stack: int
    order: int
    arrived: int
    edges: int
    parts: int
    end: int


_SIZES = (8, TABLE, MOST_NODES * RECORD, MOST_NODES, MOST_NODES, MOST_NODES, 2 * MOST_NODES, 4 * MOST_NODES)
words = Region(*(sum(_SIZES[:i]) for i in range(len(_SIZES) + 1)))
