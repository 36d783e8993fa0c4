"""The nodes of a history, and which of them run nothing but code of the library."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from tensor.autograd.inplace import ReplaceRegion
from tensor.autograd.node import Leaf, OpNode, OutputNode, SeveralOutputs

__all__ = ["foreign", "nodes"]

#: Nodes whose backward does what operators' rules say, and nothing besides.
_KNOWN = {OpNode, SeveralOutputs, OutputNode, Leaf, ReplaceRegion}


def nodes(roots: Iterable[Any], ends: Collection[Any] = ()) -> Iterator[Any]:
    """The nodes on the way to the ends, which are no part of it."""
    seen: set[Any] = set()
    stack = list(roots)
    while stack:
        n = stack.pop()
        if n is None or n in seen:
            continue
        seen.add(n)
        if n not in ends:
            yield n
            stack += n.edges


def foreign(roots: Iterable[Any], ends: Collection[Any] = ()) -> Any:
    """A node on that way whose backward may run code from elsewhere, or that has a hook; None where there is none."""
    seen, stack = set(ends), list(roots)
    while stack:
        n = stack.pop()
        if n is None or n in seen:
            continue
        if type(n) not in _KNOWN or n.hooks:
            return n
        seen.add(n)
        stack += n.edges
    return None
