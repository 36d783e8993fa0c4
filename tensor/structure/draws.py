"""How new units start: what goes in and out of them, by rule. The draws are part of an edit: whoever follows gets the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensor.autograd import grad
from tensor.autograd.modes import enable_grad
from tensor.autograd.tensor import Tensor
from tensor.nn import activation
from tensor.nn.container import Sequential
from tensor.nn.linear import Linear
from tensor.nn.module import Module
from tensor.ops.random import randint
from tensor.structure.change import Change
from tensor.structure.units import Units

__all__ = ["INITS", "Draws", "steepest"]

#: How new units start. Random with nothing going out; copies of units that share what goes out; nothing coming in, and what
#: goes out along the directions in which the gradient is largest; alike in pairs that go out with opposite signs; random.
INITS = ("zero_out", "net2wider", "gradmax", "pair", "random")

#: Activations that are zero at zero but not flat there: units that start at zero can learn, and say nothing at first.
STEEP = tuple(
    getattr(activation, name)
    for name in ("Tanh", "GELU", "SiLU", "Mish", "ELU", "CELU", "SELU", "LeakyReLU", "Softsign", "Hardtanh", "Hardswish")
)


class Draws:
    """New slices for the axes that hold the units, by a rule of `INITS`."""

    def __init__(self, found: Units, init: str, units: int, size: int) -> None:
        self.rng = np.random.default_rng(int(randint(0, 2**31 - 1, (1,)).item()))
        self.found, self.init, self.units = found, init, units
        self.shapes: dict[str, list[int]] = {name: list(t._array.shape) for name, t in found.there.tensors.items()}
        self.copied = self._copied(size) if init == "net2wider" else None
        self.directions: dict[str, Any] = {}  #: for "gradmax": what goes out, by the name of the consumer

    def _copied(self, size: int) -> Any:
        """Which units are copied: each once before any is copied again, so that whole copies of a layer keep what norms see."""
        rounds = [self.rng.permutation(size) for _ in range(-(-self.units // size))]
        return np.concatenate(rounds)[: self.units]

    def change(self, key: str, axis: int, index: Any, repeats: int = 1) -> Change:
        """The change of one axis, whose new slices are those with -1 in ``index``; a unit has ``repeats`` of them."""
        shape = self.shapes[key]
        new = index < 0
        fill, factor = 0.0, None
        if (key, axis) in self.found.contracted:
            times = np.bincount(index[~new], minlength=shape[axis])
            if (times > 1).any():
                factor = np.where(new, 1.0, 1.0 / np.maximum(times[index], 1))
            fill = self._outgoing(key, axis, int(new.sum()), repeats)
        elif new.any():
            fill = self._incoming(key, axis, int(new.sum()), repeats)
        shape[axis] = len(index)
        return Change(key, axis, index, fill, factor)

    def _outgoing(self, key: str, axis: int, n: int, repeats: int) -> Any:
        shape = self.shapes[key]
        if not n or self.init in ("zero_out", "net2wider"):
            return 0.0
        if self.init == "gradmax":
            return self.directions.get(key, 0.0)
        draws = self.uniform(shape, axis, n, shape[1:])
        return self._pairs(draws, axis, repeats, -1.0) if self.init == "pair" else draws

    def _incoming(self, key: str, axis: int, n: int, repeats: int) -> Any:
        shape = self.shapes[key]
        owner, _, name = key.rpartition(".")
        weight = key if len(shape) > 1 else f"{owner}.weight".lstrip(".")
        linear = len(self.shapes.get(weight, ())) > 1
        if not linear:
            return 1.0 if name in ("weight", "running_var") else 0.0
        if self.init in ("gradmax", "zero_in"):
            return 0.0
        draws = self.uniform(shape, axis, n, self.shapes[weight][1:])
        return self._pairs(draws, axis, repeats, 1.0) if self.init == "pair" else draws

    def _pairs(self, draws: Any, axis: int, repeats: int, sign: float) -> Any:
        """The second half of the units as the first, with a sign."""
        blocks = draws.reshape(*draws.shape[:axis], -1, 2, self.units // 2 * repeats, *draws.shape[axis + 1 :])
        half = np.take(blocks, 0, axis=axis + 1)
        return np.stack([half, sign * half], axis=axis + 1).reshape(draws.shape)

    def uniform(self, shape: Sequence[int], axis: int, n: int, fan_in: Sequence[int]) -> Any:
        """Draws for n slices of an axis, as `Linear` draws its weights."""
        bound = 1 / math.sqrt(max(math.prod(fan_in), 1))
        return self.rng.uniform(-bound, bound, (*shape[:axis], n, *shape[axis + 1 :]))


def steepest(net: Module, name: str, units: int, loss: Callable[[], Tensor]) -> dict[str, Any]:
    """What should go out of new units that nothing comes into yet, for the largest gradient of their incoming weights.

    GradMax (arXiv 2201.05125): the top left singular vectors of the sum over samples of (gradient of the next layer's output)
    times (the layer's input), as long as the outgoing weights that the consumer has. Returns {consumer's weight: columns}. The
    network's gradients stay as they are. Raises ValueError for anything but a Linear, an activation that is zero at zero but
    not flat there, and a Linear, in a row.
    """
    path, _, own = name.rpartition(".")
    parent = net.get_submodule(path)
    row = list(parent._modules) if type(parent) is Sequential else []
    parts: list[Any] = [parent._modules[n] for n in row[row.index(own) : row.index(own) + 3]] if own in row else []
    kinds = [type(part) for part in parts]
    if len(kinds) < 3 or kinds[0] is not Linear or kinds[1] not in STEEP or kinds[2] is not Linear:
        steep = ", ".join(kind.__name__ for kind in STEEP)
        got = ", ".join(kind.__name__ for kind in kinds) or "no row"
        msg = f"grow: expected Linear, one of {steep}, and Linear in a row for init 'gradmax' at {name!r}, got {got}"
        raise ValueError(msg)
    producer, _, consumer = parts
    came, went = [], []
    handles = [
        producer.register_forward_hook(lambda module, inputs, output: came.append(inputs[0])),
        consumer.register_forward_hook(lambda module, inputs, output: went.append(output)),
    ]
    try:
        with enable_grad():
            value = loss()
    finally:
        for handle in handles:
            handle.remove()
    if len(came) != 1 or len(went) != 1:
        msg = f"grow: expected a loss that runs {name!r} once for init 'gradmax', got {len(came)} times"
        raise ValueError(msg)
    (slope,) = grad([value], went)
    h = came[0]._array.reshape(-1, producer.in_features)
    directions, _, _ = np.linalg.svd(slope._array.reshape(-1, consumer.out_features).T @ h, full_matrices=False)
    if units > directions.shape[1]:
        msg = f"grow: expected at most {directions.shape[1]} new units for init 'gradmax' at {name!r}, got {units}"
        raise ValueError(msg)
    length = float(np.mean(np.linalg.norm(consumer.weight._array, axis=0)))
    key = next(n for n, p in net.named_parameters() if p is consumer.weight)
    return {key: directions[:, :units] * length}
