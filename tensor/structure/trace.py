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
from tensor.nn.attention import MultiheadAttention
from tensor.nn.module import Module
from tensor.nn.normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d, LayerNorm, RMSNorm
from tensor.nn.rnn import RNNBase
from tensor.structure.units import Units

__all__ = ["trace"]

Axes = tuple[Any, ...]  # for each axis the labels of its indices, or None where nothing is followed

#: Operators that act on each element alone, with broadcasting.
ELEMENTWISE = {
    "abs", "add", "affine", "celu", "clamp", "clone", "cos", "div", "elu", "erf", "exp", "expm1", "gelu", "_gelu",
    "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log", "log1p", "log_sigmoid", "logsigmoid", "maximum",
    "minimum", "mish", "mul", "neg", "pow", "relu", "relu6", "rsqrt", "selu", "sigmoid", "silu", "sin", "softplus",
    "softsign", "sqrt", "square", "sub", "tanh",
}  # fmt: skip
#: Operators on [n, channels, ...] that treat each channel alone.
CHANNELWISE = {"standardise", "max_pool", "avg_pool", "window_sum"}
BATCH_NORMS = BatchNorm1d, BatchNorm2d, BatchNorm3d


def trace(net: Module, x: Any) -> Units:
    """Follow the forward of a copy of ``net`` (in evaluation mode) on ``x``, a tensor or a tuple of arguments."""
    copy = deepcopy(net).eval().requires_grad_(True)
    inputs = [t.detach().clone() if isinstance(t, Tensor) else t for t in (x if isinstance(x, tuple) else (x,))]
    for t in inputs:
        if isinstance(t, Tensor) and t.is_floating_point():
            t.requires_grad_(True)
    normed: list[tuple[str, Any, Any]] = []
    for path, module in copy.named_modules():
        if isinstance(module, (LayerNorm, RMSNorm)) and module.weight is None:
            module.register_forward_hook(lambda m, _, output, path=path: normed.append((path, m, output)))
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
    _bind_norms(units, normed, known)
    _bind_statistics(units, copy)
    _bind_layers(units, copy)
    return units.settle()


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
    result = None if rule is None else rule(units, inputs, tuple(node.shape), node)
    if result is None:
        for axes, _, _ in inputs:
            units.block(axes, f"the operator {name}")
        return (None,) * len(node.shape)
    return result


def _elementwise(units: Units, inputs: list[Any], shape: tuple[int, ...], node: Any) -> Axes:
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


def _linear(units: Units, inputs: list[Any], shape: tuple[int, ...], node: Any) -> Axes | None:
    if len(inputs) < 2 or len(inputs[1][1]) != 2 or inputs[1][2] is None:
        return None
    (x, _, _), (w, _, name), *bias = inputs
    units.unite(x[-1], w[1], "an input that is not followed")
    units.contracted.add((name, 1))
    for b, _, _ in bias:
        units.unite(b[0], w[0], "")
    return (*x[:-1], w[0])


def _convolve(units: Units, inputs: list[Any], shape: tuple[int, ...], node: Any) -> Axes | None:
    if len(inputs) < 2 or inputs[1][2] is None:
        return None
    (x, (_, channels, *_), _), (w, (out, per_group, *_), name), *bias = inputs
    if per_group == channels:
        units.unite(x[1], w[1], "an input that is not followed")
        units.contracted.add((name, 1))
    elif per_group == 1 and channels == out:  # each channel by itself
        units.unite(x[1], w[0], "an input that is not followed")
    else:
        return None
    for b, _, _ in bias:
        units.unite(b[0], w[0], "")
    return (x[0], w[0], *[None] * (len(shape) - 2))


def _reshape(units: Units, inputs: list[Any], shape: tuple[int, ...], node: Any) -> Axes | None:
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


def _recurrent(gates: int, outputs: int = 1) -> Rule:
    """A sequence of states: the gates lie one below the other, and what comes out goes in again."""

    def rule(units: Units, inputs: list[Any], shape: tuple[int, ...], node: Any) -> Axes | None:
        (x, _, _), (w, _, name), *others = inputs
        if name is None:
            return None
        hidden = w[1]
        if w[0].size != gates * hidden.size:  # outputs are projected
            return None
        if hidden.size == 1:
            units.block((hidden,), "a recurrence of a single unit")
        each = np.tile(hidden, gates)
        units.contracted.add((name, 1))
        for labels in (w[0], x[-1]):
            units.unite(each, labels, "an input that is not followed")
        for axes, _, parameter in others:  # a bias, a first state
            units.unite(each if parameter else hidden, axes[-1], "an input that is not followed")
        return (None, np.tile(hidden, outputs))

    return rule


def _narrow(units: Units, inputs: list[Any], shape: tuple[int, ...], node: Any) -> Axes | None:
    ((axes, _, _),) = inputs
    dim, start = node.saved[1:]
    if axes[dim] is not None and getattr(getattr(node.edges[0], "op", None), "name", "") != "lstm_sequence":
        return None  # where the cut is may be a number in the code
    result = list(axes)
    result[dim] = None if axes[dim] is None else axes[dim][start : start + shape[dim]]
    return tuple(result)


def _cat(units: Units, inputs: list[Any], shape: tuple[int, ...], node: Any) -> Axes | None:
    dim = node.saved[1] % len(shape)
    parts = [axes[dim] for axes, _, _ in inputs]
    if any(labels is not None for axes, _, _ in inputs for i, labels in enumerate(axes) if i != dim):
        return None
    if all(labels is None for labels in parts):
        return (None,) * len(shape)
    if any(labels is None for labels in parts) or sum(labels.size for labels in parts) != shape[dim]:
        return None
    return tuple(np.concatenate(parts) if i == dim else None for i in range(len(shape)))


def _permute(units: Units, inputs: list[Any], shape: tuple[int, ...], node: Any) -> Axes | None:
    axes = inputs[0][0]
    if node.op.name == "permute":
        return tuple(axes[i] for i in node.saved[0])
    result = list(axes)
    i, j = node.saved
    result[i], result[j] = axes[j], axes[i]
    return tuple(result)


def _along(units: Units, inputs: list[Any], shape: tuple[int, ...], node: Any) -> Axes | None:
    """Along axes that hold no units: their turning round, a softmax, a mean."""
    axes = inputs[0][0]
    name, saved = node.op.name, node.saved
    dims = saved[0] if name == "flip" else saved[1]
    keep = name in ("flip", "softmax", "log_softmax") or saved[2]
    dims = range(len(axes)) if dims is None else dims if isinstance(dims, (tuple, list)) else (dims,)
    along = {d % len(axes) for d in dims}
    if any(axes[d] is not None for d in along):
        return None
    return tuple(labels for i, labels in enumerate(axes) if keep or i not in along)


def _lookup(units: Units, inputs: list[Any], shape: tuple[int, ...], node: Any) -> Axes | None:
    """Rows of a table, by numbers."""
    axes, given, name = inputs[0]
    index = node.saved[1]
    if name is None or len(given) != 2 or not isinstance(index, Tensor) or len(shape) != index.ndim + 1:
        return None
    units.block((axes[0],), "input")
    units.looked_up.add((name, 1))
    return (*[None] * index.ndim, axes[1])


Rule = Callable[[Units, list[Any], tuple[int, ...], Any], Axes | None]
_RULES: dict[str, Rule] = {
    "linear": _linear, "convolve": _convolve, "cat": _cat, "narrow": _narrow, "permute": _permute, "transpose": _permute,
    "__getitem__": _lookup, "rnn_sequence": _recurrent(1), "gru_sequence": _recurrent(3), "lstm_sequence": _recurrent(4, 2),
    **dict.fromkeys(("reshape", "squeeze", "unsqueeze"), _reshape),
    **dict.fromkeys(("flip", "softmax", "log_softmax", "sum", "mean"), _along),
}  # fmt: skip


def _bind_norms(units: Units, normed: list[tuple[str, Any, Any]], known: dict[int, Axes]) -> None:
    """The sizes of norms without parameters are those of what they took."""
    for path, module, output in normed:
        axes = known.get(id(output._node), (None,))
        if len(module.normalized_shape) > 1:
            units.block(axes, f"a {type(module).__name__} of several axes")
        elif axes[-1] is not None:
            units.unite(units.norms.setdefault(path, axes[-1]), axes[-1], "")


def _bind_statistics(units: Units, net: Module) -> None:
    """Running means and variances belong to the channels of their layer's scale."""
    names = {id(p): name for name, p in net.named_parameters()}
    for path, module in net.named_modules():
        scale = module._parameters.get("weight") if isinstance(module, BATCH_NORMS) else None
        if scale is not None:
            for name in ("running_mean", "running_var"):
                if module._buffers.get(name) is not None:
                    units.labels[f"{path}.{name}".lstrip("."), 0] = units.labels[names[id(scale)], 0]


def _bind_layers(units: Units, net: Module) -> None:
    """The layers and directions of a recurrent layer have one width, and what an attention takes and gives."""
    names = {id(p): name for name, p in net.named_parameters()}
    for module in net.modules():
        if isinstance(module, MultiheadAttention):
            query = module.q_proj_weight if module.in_proj_weight is None else module.in_proj_weight
            units.unite(units.labels[names[id(query)], 1], units.labels[names[id(module.out_proj.weight)], 0], "")
        if isinstance(module, RNNBase):
            states = [units.labels[names[id(p)], 1] for name, p in module._parameters.items() if name.startswith("weight_hh")]
            for labels in states[1:]:
                units.unite(states[0], labels, "")
