"""Following a plain chain of layers by what they are, without running it: fast, and it needs no input.

A table says of each kind of layer what it does to the units that come in. A chain is a `Sequential` (of `Sequential`s) whose
layers are all in the table; anything else is followed by running it, in `tensor.structure.trace`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tensor.nn import activation, dropout, pooling
from tensor.nn.container import Sequential
from tensor.nn.conv import Conv1d, Conv2d, Conv3d
from tensor.nn.embedding import Embedding
from tensor.nn.hooks import EVERYWHERE
from tensor.nn.linear import Identity, Linear
from tensor.nn.module import Module
from tensor.nn.normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d, GroupNorm, LayerNorm, RMSNorm
from tensor.nn.shape import Flatten
from tensor.structure.blocks import Residual
from tensor.structure.listing import Listing
from tensor.structure.units import Units

__all__ = ["follow_chain"]


class NotPlain(Exception):
    """The chain does something that the table does not know."""


class Walk:
    """Where we are: the labels of the units that come next, on which axis, and in what order a flattening has put them."""

    def __init__(self, there: Listing) -> None:
        self.units = Units()
        self.names = {id(t): name for name, t in there.tensors.items()}
        self.paths = {id(m): path for path, m in there.modules.items()}
        self.labels: Any = None  #: None before the first layer
        self.channels = False  #: on axis 1, with more axes behind it
        self.flat: str = ""  #: "repeat" or "tile": flattened, to a width that the next layer knows

    def axis(self, t: Any, axis: int, labels: Any = None) -> Any:
        """The labels of a parameter's axis, which are one with ``labels``; fresh ones where neither is known."""
        key = self.names[id(t)], axis
        known = self.units.labels.get(key)
        if known is None:
            known = self.units.labels[key] = self.units.fresh(t._array.shape[axis]) if labels is None else labels
        elif labels is not None:
            self.units.unite(labels, known, "")
        return known

    def width(self, n: int) -> Any:
        """The labels of what comes in, as the n that the next layer takes."""
        labels = self.labels
        if labels is None or labels.size == n:
            return labels
        if not self.flat or n % labels.size:
            raise NotPlain
        times = n // labels.size
        return np.repeat(labels, times) if self.flat == "repeat" else np.tile(labels, times)

    def contract(self, weight: Any, bias: Any, channels: bool) -> None:
        """A linear map: its columns are the units that come in, its rows those that go on."""
        if self.labels is not None and self.channels != channels:
            raise NotPlain
        came = self.width(weight._array.shape[1])
        columns, rows = self.axis(weight, 1, came), self.axis(weight, 0)
        if came is None:
            self.units.block((columns,), "input")
        self.units.contracted.add((self.names[id(weight)], 1))
        if bias is not None:
            self.axis(bias, 0, rows)
        self.labels, self.channels, self.flat = rows, channels, ""

    def scale(self, *tensors: Any) -> None:
        """One number of each tensor for each unit."""
        for t in tensors:
            if t is not None and t.ndim:
                came = self.width(t._array.shape[0])
                own = self.axis(t, 0, came)
                self.labels, self.flat = own if came is None else came, ""


def _linear(walk: Walk, m: Any) -> None:
    walk.contract(m.weight, m.bias, channels=False)


def _convolve(walk: Walk, m: Any) -> None:
    if m.groups == m.in_channels == m.out_channels != 1 and walk.channels:
        walk.scale(m.weight, m.bias)
        return
    if m.groups != 1:
        raise NotPlain
    walk.contract(m.weight, m.bias, channels=True)


def _batch_norm(walk: Walk, m: Any) -> None:
    if walk.labels is None:
        raise NotPlain
    if m.weight is None and m.running_mean is None:
        raise NotPlain  # its size is no tensor's
    walk.scale(m.weight, m.bias, m.running_mean, m.running_var)


def _layer_norm(walk: Walk, m: Any) -> None:
    if walk.labels is None or walk.channels or len(m.normalized_shape) != 1:
        raise NotPlain
    if m.weight is None:  # its size is no tensor's
        walk.labels, walk.flat = walk.width(m.normalized_shape[0]), ""
        walk.units.norms[walk.paths[id(m)]] = walk.labels
    walk.scale(m.weight, getattr(m, "bias", None))


def _group_norm(walk: Walk, m: Any) -> None:
    if walk.labels is None or m.weight is None:
        raise NotPlain
    walk.scale(m.weight, m.bias)


def _embedding(walk: Walk, m: Any) -> None:
    if walk.labels is not None or m.max_norm is not None:
        raise NotPlain
    walk.units.block((walk.axis(m.weight, 0),), "input")
    walk.labels = walk.axis(m.weight, 1)


def _flatten(walk: Walk, m: Any) -> None:
    if (m.start_dim, m.end_dim) != (1, -1):
        raise NotPlain
    if walk.labels is not None and not walk.flat:
        walk.flat = "repeat" if walk.channels else "tile"
    walk.channels = False


def _residual(walk: Walk, m: Any) -> None:
    labels, channels, flat = walk.labels, walk.channels, walk.flat
    if labels is None or flat:
        raise NotPlain
    _run(walk, m.body)
    if walk.labels.size != labels.size or walk.channels != channels or walk.flat:
        raise NotPlain
    walk.units.unite(labels, walk.labels, "")


def _each(walk: Walk, m: Any) -> None:
    """Every element alone."""


def _pool(walk: Walk, m: Any) -> None:
    if walk.labels is not None and not walk.channels:
        raise NotPlain


Rule = Callable[[Walk, Any], None]
RULES: dict[type, Rule] = {
    Linear: _linear, Conv1d: _convolve, Conv2d: _convolve, Conv3d: _convolve, Embedding: _embedding, Flatten: _flatten,
    Residual: _residual,
    BatchNorm1d: _batch_norm, BatchNorm2d: _batch_norm, BatchNorm3d: _batch_norm, LayerNorm: _layer_norm, RMSNorm: _layer_norm,
    GroupNorm: _group_norm,
    Identity: _each, **{getattr(dropout, name): _each for name in ("Dropout", "AlphaDropout")},
    **{getattr(activation, name): _each for name in (
        "CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid", "Mish", "ReLU",
        "ReLU6", "RReLU", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink", "Threshold",
    )},
    **{getattr(pooling, f"{name}Pool{d}d"): _pool for d in (1, 2, 3) for name in ("Max", "Avg", "AdaptiveAvg", "AdaptiveMax")},
    **{getattr(dropout, f"Dropout{d}d"): _pool for d in (1, 2, 3)},
}  # fmt: skip


def _layers(net: Module) -> Iterator[Module]:
    if net._hooks:
        raise NotPlain
    if type(net) is Sequential:
        for child in net._modules.values():
            yield from _layers(child)  # type: ignore[arg-type]
    else:
        yield net


def _run(walk: Walk, net: Module) -> None:
    for layer in _layers(net):
        rule = RULES.get(type(layer))
        if rule is None or "forward" in vars(layer):
            raise NotPlain
        rule(walk, layer)


def follow_chain(there: Listing) -> Units | None:
    """The units of a plain chain of layers; None where it is none."""
    if EVERYWHERE:
        return None
    try:
        walk = Walk(there)
        _run(walk, there.net)
    except NotPlain:
        return None
    walk.units.block((walk.labels,), "output")
    walk.units.plain = True
    return walk.units.settle()
