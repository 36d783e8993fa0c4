"""Nested tuples, lists and dicts of tensors: what transforms of functions take and give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["leaves_of", "map_tree", "prefix_leaves", "rebuild"]


def _children(tree: Any) -> list[Any] | None:
    if isinstance(tree, dict):
        return list(tree.values())
    return list(tree) if isinstance(tree, (tuple, list)) and not hasattr(tree, "numel") else None


def leaves_of(tree: Any) -> list[Any]:
    """What is at the ends, in order."""
    children = _children(tree)
    return [tree] if children is None else [leaf for child in children for leaf in leaves_of(child)]


def rebuild(tree: Any, leaves: Any) -> Any:
    """A tree of the same structure with other leaves, taken in order from an iterator."""
    if isinstance(tree, dict):
        return type(tree)((k, rebuild(v, leaves)) for k, v in tree.items())
    if _children(tree) is None:
        return next(leaves)
    parts = [rebuild(child, leaves) for child in tree]
    return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)


def map_tree(function: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with the function applied to every leaf."""
    return rebuild(tree, iter([function(leaf) for leaf in leaves_of(tree)]))


def prefix_leaves(prefix: Any, tree: Any, who: str) -> list[Any]:
    """One value a leaf of ``tree``, from a tree of values that may end early: there the value holds for all below."""
    if prefix is None or isinstance(prefix, (int, str)):
        return [prefix] * len(leaves_of(tree))
    parts, children = _children(prefix), _children(tree)
    if parts is None or children is None or len(parts) != len(children):
        msg = f"{who}: expected the structure of {_shown(tree)}, or a part of it, got {prefix!r}"
        raise ValueError(msg)
    if isinstance(prefix, dict) and isinstance(tree, dict):
        parts = [prefix[k] for k in tree]
    return [leaf for p, child in zip(parts, children, strict=True) for leaf in prefix_leaves(p, child, who)]


def _shown(tree: Any) -> str:
    children = _children(tree)
    if children is None:
        return "*"
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{k!r}: {_shown(v)}" for k, v in tree.items()) + "}"
    return "(" + ", ".join(map(_shown, children)) + ")"
