"""Which units of a network are the same: found by following one recorded forward.

Every index of every axis of every parameter starts as a unit of its own. Walking the recorded graph in the order it was made,
each operator says which of them are one: a linear map's columns are the features of its input, a sum makes the units of its terms
one, a flattened image repeats its channels. What cannot be followed is remembered as a reason, not guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np

from tensor.autograd.modes import enable_grad
from tensor.autograd.node import Node, OutputNode
from tensor.autograd.tensor import Tensor
from tensor.nn.module import Module
from tensor.nn.normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d

__all__ = ["Units", "trace"]

Axes = tuple[Any, ...]  # for each axis the labels of its indices, or None where nothing is followed

#: Operators that act on each element alone, with broadcasting.
ELEMENTWISE = {
    "abs", "add", "affine", "celu", "clamp", "clone", "cos", "div", "elu", "erf", "exp", "expm1", "gelu", "_gelu",
    "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log", "log1p", "log_sigmoid", "logsigmoid", "maximum",
    "minimum", "mish", "mul", "neg", "pow", "relu", "relu6", "rsqrt", "selu", "sigmoid", "silu", "sin", "softplus",
    "softsign", "sqrt", "square", "sub", "tanh",
}  # fmt: skip
#: Operators on [n, channels, ...] that treat each channel alone.
CHANNELWISE = {"standardise", "max_pool", "avg_pool"}
BATCH_NORMS = BatchNorm1d, BatchNorm2d, BatchNorm3d


class Units:
    """The outcome of a trace: ``labels`` of each parameter's and buffer's axes, and why some may not be edited."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._blocked: dict[int, set[str]] = {}
        self.labels: dict[tuple[str, int], Any] = {}
        self.contracted: set[tuple[str, int]] = set()  #: axes of weights that are summed over: they consume units

    def fresh(self, n: int) -> Any:
        """Labels for n new units."""
        start = len(self._parent)
        self._parent += range(start, start + n)
        return np.arange(start, start + n)

    def find(self, label: int) -> int:
        """The label that stands for all units that are one with this."""
        parent = self._parent
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    def roots(self, labels: Any) -> Any:
        """`find` for each of them."""
        return np.array([self.find(i) for i in labels.tolist()], dtype=np.intp)

    def unite(self, a: Any, b: Any, why: str) -> Any:
        """Make the units pairwise one; returns the labels that are known."""
        if a is None or b is None:
            self.block((a, b), why)
            return b if a is None else a
        for i, j in zip(a.tolist(), b.tolist(), strict=True):
            low, high = sorted((self.find(i), self.find(j)))
            self._parent[high] = low
        return a

    def block(self, axes: Any, why: str) -> None:
        """Remember why these units cannot be edited."""
        for labels in axes:
            if labels is not None:
                for i in labels.tolist():
                    self._blocked.setdefault(i, set()).add(why)

    def reasons(self, roots: Any) -> set[str]:
        """Why units cannot be edited; empty where they can."""
        wanted = set(roots.tolist())
        return {why for i, whys in self._blocked.items() if self.find(i) in wanted for why in whys}


def trace(net: Module, x: Any) -> Units:
    """Follow the forward of a copy of ``net`` (in evaluation mode) on ``x``, a tensor or a tuple of arguments."""
    copy = deepcopy(net).eval().requires_grad_(True)
    inputs = [t.detach().clone() if isinstance(t, Tensor) else t for t in (x if isinstance(x, tuple) else (x,))]
    for t in inputs:
        if isinstance(t, Tensor) and t.is_floating_point():
            t.requires_grad_(True)
    with enable_grad():
        y = copy(*inputs)
    units = Units()
    known: dict[int, Axes] = {}
    params: dict[int, str] = {}
    for name, p in copy.named_parameters():
        node: Any = p._node
        params[id(node)] = name
        axes = tuple(units.fresh(n) for n in p.shape)
        known[id(node)] = axes
        units.labels.update({(name, axis): labels for axis, labels in enumerate(axes)})
    for t in inputs:
        if isinstance(t, Tensor) and t._node is not None:
            axes = known[id(t._node)] = tuple(units.fresh(n) for n in t.shape)
            units.block(axes[1:] or axes, "input")
            if len(axes) > 1:
                known[id(t._node)] = (None, *axes[1:])
    outputs = _tensors(y)
    for current in _nodes(outputs):
        if id(current) not in known:
            known[id(current)] = _follow(units, current, known, params)
    for t in outputs:
        units.block(known.get(id(t._node), ()), "output")
    _bind_statistics(units, copy)
    return units


def _tensors(y: Any) -> list[Tensor]:
    if isinstance(y, Tensor):
        return [y]
    items = y.values() if isinstance(y, dict) else y if isinstance(y, (tuple, list)) else ()
    return [t for item in items for t in _tensors(item)]


def _nodes(outputs: list[Tensor]) -> list[Node]:
    found: dict[int, Node] = {}
    stack: list[Any] = [t._node for t in outputs]
    while stack:
        node = stack.pop()
        if node is not None and node.number not in found:
            found[node.number] = node
            stack += node.edges
    return [found[number] for number in sorted(found)]


def _follow(units: Units, node: Any, known: dict[int, Axes], params: dict[int, str]) -> Axes:
    inputs = [(known[id(e)], tuple(e.shape), params.get(id(e))) for e in node.edges if e is not None]
    if isinstance(node, OutputNode):
        return inputs[0][0] if node.index == 0 else (None,) * len(node.shape)
    name = node.op.name.removeprefix("nn.functional.")
    rule = _RULES.get(name)
    if name in ELEMENTWISE:
        rule = _elementwise
    elif name in CHANNELWISE:
        return inputs[0][0]
    result = None if rule is None else rule(units, inputs, tuple(node.shape))
    if result is None:
        for axes, _, _ in inputs:
            units.block(axes, f"the operator {name}")
        return (None,) * len(node.shape)
    return result


def _elementwise(units: Units, inputs: list[Any], shape: tuple[int, ...]) -> Axes:
    result: list[Any] = [None] * len(shape)
    for i, n in enumerate(shape):
        at = [i - len(shape) + len(given) for _, given, _ in inputs]
        whole = [axes[j] for j, (axes, given, _) in zip(at, inputs, strict=True) if j >= 0 and given[j] == n]
        labelled = [labels for labels in whole if labels is not None]
        if len(labelled) < len(whole):  # of a single unit, what spreads over it cannot be told from what belongs to it
            units.block(labelled, "a sum with what is not followed" if n > 1 else "an operation on a single channel")
        for labels in labelled[1:]:
            units.unite(labelled[0], labels, "")
        result[i] = labelled[0] if labelled else None
    return tuple(result)


def _linear(units: Units, inputs: list[Any], shape: tuple[int, ...]) -> Axes | None:
    if len(inputs) < 2 or len(inputs[1][1]) != 2 or inputs[1][2] is None:
        return None
    (x, _, _), (w, _, name), *bias = inputs
    units.unite(x[-1], w[1], "an input that is not followed")
    units.contracted.add((name, 1))
    for b, _, _ in bias:
        units.unite(b[0], w[0], "")
    return (*x[:-1], w[0])


def _convolve(units: Units, inputs: list[Any], shape: tuple[int, ...]) -> Axes | None:
    if len(inputs) < 2 or inputs[1][2] is None or inputs[0][1][1] != inputs[1][1][1]:  # groups
        return None
    (x, _, _), (w, _, name), *bias = inputs
    units.unite(x[1], w[1], "an input that is not followed")
    units.contracted.add((name, 1))
    for b, _, _ in bias:
        units.unite(b[0], w[0], "")
    return (x[0], w[0], *[None] * (len(shape) - 2))


def _reshape(units: Units, inputs: list[Any], shape: tuple[int, ...]) -> Axes | None:
    ((axes, given, _),) = inputs
    result: list[Any] = []
    i = j = 0
    while i < len(given) or j < len(shape):
        i0, j0 = i, j
        a = b = 1
        while (i == i0 and j == j0) or a != b:  # the shortest pieces of both shapes that hold as many elements
            if (a <= b and i < len(given)) or j == len(shape):
                a, i = a * given[i], i + 1
            else:
                b, j = b * shape[j], j + 1
        while j < len(shape) and shape[j] == 1 and i == len(given):
            j += 1
        block, wide = range(i0, i), [k for k in range(j0, j) if shape[k] != 1]
        tracked = [k for k in block if axes[k] is not None]
        if not tracked:
            result += [None] * (j - j0)
            continue
        if len(tracked) > 1 or len(wide) > 1:
            return None
        (k,) = tracked
        if not wide:
            units.block((axes[k],), "a reshape of a single channel")
        size = tuple(given[m] for m in block)
        labels = axes[k].reshape([-1 if m == k else 1 for m in block])
        spread = np.broadcast_to(labels, size).ravel()
        result += [spread if m in wide else None for m in range(j0, j)]
    return tuple(result)


Rule = Callable[[Units, list[Any], tuple[int, ...]], Axes | None]
_RULES: dict[str, Rule] = {"linear": _linear, "convolve": _convolve, "reshape": _reshape}


def _bind_statistics(units: Units, net: Module) -> None:
    """Running means and variances belong to the channels of their layer's scale."""
    names = {id(p): name for name, p in net.named_parameters()}
    for path, module in net.named_modules():
        scale = module._parameters.get("weight") if isinstance(module, BATCH_NORMS) else None
        if scale is not None:
            for name in ("running_mean", "running_var"):
                if module._buffers.get(name) is not None:
                    units.labels[f"{path}.{name}".lstrip("."), 0] = units.labels[names[id(scale)], 0]
