"""Views and in-place writes, kept differentiable.

A view remembers its parent and how it was made (``_view = (parent, function, args, kwargs)``). A write through a view is
recorded as what it means for the whole: the root tensor becomes "its old self, with this region replaced", and every view
alive is derived from it again. So ``x[i].mul_(2)`` has the gradient that ``x`` with a doubled row would have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

from tensor.autograd.modes import enable_grad, is_grad_enabled
from tensor.autograd.node import Leaf, Node, version_of

if TYPE_CHECKING:
    from tensor.autograd.tensor import Tensor

__all__ = ["assign", "bump", "check_writable", "link_view", "rebase"]

_PRUNE_FROM = 32


def link_view(parent: Tensor, view: Tensor, how: tuple[Any, tuple[Any, ...], dict[str, Any]]) -> None:
    """Make ``view`` share ``parent``'s version counter, and remember how it came about."""
    version = parent._version
    if version is None:
        version = version_of(parent)
    view._version = version
    view._view = (parent, *how)
    views = version.views
    if views is None:
        version.views = [ref(view)]
        return
    views.append(ref(view))
    size = len(views)
    if size >= _PRUNE_FROM and not size & (size - 1):  # at each power of two, drop the dead ones
        version.views = [r for r in views if r() is not None]


def bump(t: Tensor) -> None:
    """Tell everything that saved this memory that it has changed."""
    version_of(t).value += 1


def root_of(t: Tensor) -> tuple[Tensor, list[Any]]:
    """The tensor that ``t`` is a view of, and the steps from it to ``t``."""
    steps: list[Any] = []
    while t._view is not None:
        parent, *how = t._view
        steps.append(how)
        t = parent
    steps.reverse()
    return t, steps


def follow(t: Tensor, steps: list[Any]) -> Tensor:
    """Take the same view of another tensor."""
    for function, args, kwargs in steps:
        t = function(t, *args, **kwargs)
    return t


class ReplaceRegion(Node):
    """The root after a write through a view: outside the region the old root, inside it the value written."""

    __slots__ = ("steps",)

    def __init__(self, root: Tensor, value: Node | None, steps: list[Any]) -> None:
        self.setup((root._node, value), root._array.shape, root._array.dtype)
        self.steps = steps

    def backward(self, g: Any) -> tuple[Any, ...]:
        outside = None
        if self.edges[0] is not None:
            outside = g.clone()
            follow(outside, self.steps).zero_()
        # A copy: the engine may go on to write into `g`'s memory, and this region must not follow.
        return outside, follow(g, self.steps).clone()


def check_writable(t: Tensor, name: str) -> None:
    """Refuse a recorded in-place write into a leaf, directly or through a view, as PyTorch does."""
    if not is_grad_enabled():
        return
    root = t
    while root._view is not None:
        root = root._view[0]
    if type(root._node) is Leaf:
        what = "a leaf tensor" if root is t else "a view of a leaf tensor"
        msg = f"{name}: {what} that requires grad is being used in an in-place operation; do it under no_grad(), or on a clone"
        raise RuntimeError(msg)
    if t._node is None and root._node is not None:  # a view made under no_grad()
        t._node = follow(*root_of(t))._node


def assign(target: Tensor, value: Tensor) -> Tensor:
    """Write ``value`` (same shape) into ``target``'s memory and let the graph follow. Returns ``target``."""
    try:
        target._array[...] = value._array
    except ValueError:
        if target._array.flags.writeable:
            raise
        what = "several of its elements share one place in memory" if 0 in target._array.strides else "its memory is read-only"
        msg = f"in-place write: the tensor of shape {tuple(target._array.shape)} cannot be written into: {what}; clone() it"
        raise RuntimeError(msg) from None
    version_of(target).value += 1
    if is_grad_enabled():
        rebase(target, value._node)
    return target


def rebase(target: Tensor, node: Node | None) -> None:
    """Let the graph know that ``target`` now holds the value of ``node``, and that all views of the same memory follow."""
    if target._view is None:
        if node is None and target._node is None:
            return
        target._node = node
    else:
        root, steps = root_of(target)
        if node is None and root._node is None:
            return
        root._node = ReplaceRegion(root, node, steps)
    refresh_views(version_of(target).views)
    if target._extra is not None and "retains" in target._extra:  # the gradient kept is that of the value as it is now
        target._extra.pop("retains").remove()
        if target._node is not None:
            target.retain_grad()


def refresh_views(views: list[Any] | None) -> None:
    """Derive the views alive from their parents again; parents come before children because they were made before."""
    for each in list(views or ()):
        view = each()
        if view is not None and view._view is not None:
            parent, function, args, kwargs = view._view
            with enable_grad():
                view._node = function(parent, *args, **kwargs)._node
