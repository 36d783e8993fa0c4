"""Whether a recorded graph still wants the values that an edit is about to replace."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from itertools import chain
from typing import Any

from tensor.autograd.node import FREED, Leaf, OpNode
from tensor.autograd.tensor import Tensor

__all__ = ["check_no_graph"]


def _references(leaf: Any) -> int:
    return sys.getrefcount(leaf)


def _alone() -> int:
    """What `_references` says of a leaf that only its tensor knows."""
    t = Tensor.__new__(Tensor)
    t._node = Leaf((), None)
    return _references(t._node)


def check_no_graph(kind: str, params: Mapping[str, Tensor]) -> None:
    """Raise RuntimeError when a backward pass is yet to come, or under way, for which a parameter was saved.

    A graph that is done with holds on to the parameters, but has released what it saved. Only nodes that the garbage collector
    holds for young are looked at: a look at everything would take longer than the edit. The backward of an older graph raises
    when it comes, since an edit counts as a write.
    """
    alone = _alone()
    names = {id(p._node): name for name, p in params.items() if p._node is not None and _references(p._node) > alone}
    if not names:
        return
    for node in _young_nodes():
        if node.op.holds_values and node.saved is not FREED:
            for edge in node.edges:
                if id(edge) in names:
                    msg = (
                        f"{kind}: expected no graph that still wants {names[id(edge)]}, got one with {node.name()}; "
                        "edit after its backward, or let go of what it computed"
                    )
                    raise RuntimeError(msg)


def _young_nodes() -> list[OpNode]:
    """The nodes of operations among the objects that the garbage collector holds for young.

    No line of Python runs from the first to the last of these objects and nothing is allocated that the collector would count,
    hence no other thread runs: one that is building a tuple must not find, when it goes on, that somebody else holds it.
    """
    try:
        return list(filter(OpNode.__instancecheck__, chain.from_iterable(map(gc.get_objects, (0, 1)))))
    except ReferenceError:  # a proxy of what is gone: the backward of a graph that is there raises when it comes
        return []
