"""An edit of a network as data: which slices of which arrays stay, come and go; planned, checked, then applied at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tensor.autograd.modes import no_grad
from tensor.autograd.tensor import Tensor
from tensor.nn.conv import Conv1d, Conv2d, Conv3d
from tensor.nn.linear import Linear
from tensor.nn.module import Module
from tensor.nn.normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d, LayerNorm, RMSNorm
from tensor.optim.flat import Saved
from tensor.optim.flat_optimizer import FlatOptimizer
from tensor.structure.remap import remap

__all__ = ["Change", "Edit", "OutputChange"]

#: Attributes of layers that tell a size, each read off the weight: the axis, or None for its whole shape.
SIZES: dict[type, dict[str, int | None]] = {
    Linear: {"in_features": 1, "out_features": 0},
    **{kind: {"in_channels": 1, "out_channels": 0} for kind in (Conv1d, Conv2d, Conv3d)},
    **{kind: {"num_features": 0} for kind in (BatchNorm1d, BatchNorm2d, BatchNorm3d)},
    LayerNorm: {"normalized_shape": None},
    RMSNorm: {"normalized_shape": None},
}
#: Layers whose output for one unit depends on all units.
MIXING = LayerNorm, RMSNorm


@dataclass(frozen=True)
class Change:
    """What happens to one axis of one parameter or buffer: `remap`'s arguments, and a factor for each of its new slices."""

    name: str
    axis: int
    index: Any
    fill: Any = 0.0
    factor: Any = None

    def carry(self, array: Any, fresh: Any = 0) -> Any:
        """Anything that follows the array (a moment, a trace): new slices hold ``fresh``."""
        return remap(array, self.axis, self.index, fresh)

    def values(self, array: Any) -> Any:
        """The array itself, with its new slices filled."""
        result = self.carry(array, self.fill)
        if self.factor is not None:
            result *= np.reshape(self.factor, (-1, *[1] * (array.ndim - self.axis - 1))).astype(result.dtype)
        return result


class OutputChange(NamedTuple):
    """What an edit does to outputs: the largest change, the same in shares of the largest output, and why it is not exact."""

    absolute: float
    relative: float
    reasons: tuple[str, ...]


@dataclass
class Edit:
    """A planned edit of ``net``; made by `grow`, `prune` and the like. Nothing changes before `apply`."""

    net: Module
    kind: str
    name: str
    changes: list[Change]
    shapes: dict[str, tuple[int, ...]]  #: of the arrays concerned, when this was planned
    reasons: tuple[str, ...] = ()
    reason: str = ""
    units: int = 0  #: how many units come, go or start anew
    _back: list[Callable[[], None]] | None = field(default=None, repr=False)

    def plan(self) -> list[str]:
        """What would change, one line for each array.

        >>> import tensor as T
        >>> net = T.nn.Sequential(T.nn.Linear(2, 3), T.nn.ReLU(), T.nn.Linear(3, 1))
        >>> T.structure.grow(net, "0", 2, x=T.zeros(1, 2)).plan()
        ['0.weight: [3, 2] -> [5, 2]', '0.bias: [3] -> [5]', '2.weight: [1, 3] -> [1, 5]']
        """
        after = {name: list(shape) for name, shape in self.shapes.items()}
        for change in self.changes:
            after[change.name][change.axis] = len(change.index)
        return [f"{name}: {list(shape)} -> {after[name]}" for name, shape in self.shapes.items()]

    def check(self, x: Any) -> OutputChange:
        """The largest change of the outputs for ``x`` (a tensor or a tuple of arguments), computed on copies in evaluation mode.

        Outputs that are new are left out of the comparison.
        """
        before, copy = deepcopy(self.net).eval(), deepcopy(self.net).eval()
        Edit(copy, self.kind, self.name, self.changes, self.shapes).apply()
        inputs = x if isinstance(x, tuple) else (x,)
        with no_grad():
            old, new = before(*inputs), copy(*inputs)
        common = tuple(slice(0, min(a, b)) for a, b in zip(old.shape, new.shape, strict=True))
        a, b = old._array[common], new._array[common]
        absolute = float(np.abs(a - b).max(initial=0))
        return OutputChange(absolute, absolute / max(float(np.abs(a).max(initial=0)), 1e-30), self.reasons)

    def apply(self, optimizer: Any = None, *followers: Any) -> Edit:
        """Carry the edit out: on the network, its optimizer, and followers; on an error nothing has changed.

        A follower is a module of the same structure (a target network: the same draws and indices, on its own weights), or a dict
        of arrays or tensors by parameter name (traces, utilities): new slices of these are zero. Gradients are carried along. New
        slices start with zero moments and a step count of zero; copied units copy both. Raises RuntimeError for a second
        `apply` or a network changed since; ValueError for an optimizer or follower that does not fit.
        """
        if self._back is not None:
            msg = f"{self.kind}: this edit is applied already; plan another"
            raise RuntimeError(msg)
        self._check_fit(self.net, "the network")
        trained: list[Tensor] = [p for name, p in self.net.named_parameters() if name in self.shapes]
        _check_optimizer(self.kind, optimizer, trained)
        modules = [self.net]
        for number, follower in enumerate(followers, 1):
            if isinstance(follower, Module):
                self._check_fit(follower, f"follower {number}")
                modules.append(follower)
            elif not isinstance(follower, dict):
                msg = f"{self.kind}: expected modules or dicts as followers, got {type(follower).__name__}"
                raise TypeError(msg)
        back: list[Callable[[], None]] = []
        try:
            by_parameter = {id(p): self._of(name) for name, p in self.net.named_parameters()}
            if optimizer is not None:
                back.extend(_keep(p) for p in optimizer._params())  # all get new arrays
            moved = set() if optimizer is None else {id(p) for p in optimizer._params()}
            for module in modules:
                self._edit(module, moved, back)
            for follower in followers:
                if isinstance(follower, dict):
                    self._carry_dict(follower, back)
            if optimizer is not None:
                back.append(optimizer.rebuild(lambda p, saved: _carry(saved, by_parameter.get(id(p), []))))
        except BaseException:
            _run(back)
            raise
        self._back = back
        return self

    def undo(self) -> None:
        """Put back everything as it was right before `apply`, also what was learnt since."""
        if self._back is None:
            msg = f"{self.kind}: nothing to undo; the edit was not applied"
            raise RuntimeError(msg)
        _run(self._back)
        self._back = None

    def log(self, step: int, change: OutputChange | None = None) -> dict[str, Any]:
        """The entry for a log of edits."""
        entry = {
            "step": step,
            "edit": self.kind,
            "layer": self.name,
            "units": self.units,
            "plan": self.plan(),
            "reason": self.reason,
        }
        return entry if change is None else {**entry, "output_change": change.relative}

    # --- pieces -------------------------------------------------------------------------------------------------

    def _of(self, name: str) -> list[Change]:
        return [change for change in self.changes if change.name == name]

    def _check_fit(self, module: Module, who: str) -> None:
        have = {name: tuple(t.shape) for name, t in [*module.named_parameters(), *module.named_buffers()]}
        for name, shape in self.shapes.items():
            if have.get(name) != shape:
                got = list(have[name]) if name in have else "nothing"
                msg = f"{self.kind}: expected {name} of shape {list(shape)} in {who}, got {got}; plan the edit anew"
                raise ValueError(msg)

    def _edit(self, module: Module, moved: set[int], back: list[Callable[[], None]]) -> None:
        for name, t in [*module.named_parameters(), *module.named_buffers()]:
            changes = self._of(name)
            if changes:
                array, grad = t._array, t.grad
                g = None if grad is None else grad._array
                for change in changes:
                    array = change.values(array)
                    g = None if g is None else change.carry(g)
                back.append(_keep(t))
                t.data = Tensor(array)
                if g is not None:
                    t.grad = Tensor(g)
            elif id(t) not in moved:  # keeps its array, which may be written to before an undo
                back.append(_keep(t, t._array.copy()))
        touched = {name.rpartition(".")[0] for name in self.shapes}
        owned = {id(p) for name, p in module.named_parameters() if name in self.shapes}
        for path, part in module.named_modules():
            if path in touched or any(id(p) in owned for p in part._parameters.values()):
                back.append(_keep_attributes(part))
                sizes = next((table for kind, table in SIZES.items() if isinstance(part, kind)), {})
                weight = part._parameters.get("weight")
                if weight is not None:
                    for attribute, axis in sizes.items():
                        setattr(part, attribute, tuple(weight.shape) if axis is None else int(weight.shape[axis]))
                part._structure += 1

    def _carry_dict(self, follower: dict[str, Any], back: list[Callable[[], None]]) -> None:
        before = dict(follower)

        def restore() -> None:
            follower.clear()
            follower.update(before)

        back.append(restore)
        for name, value in before.items():
            array = value._array if isinstance(value, Tensor) else value
            changes = self._of(name)
            if changes and array.shape != self.shapes[name]:
                msg = f"{self.kind}: expected {name} of shape {list(self.shapes[name])} in a dict, got {list(array.shape)}"
                raise ValueError(msg)
            for change in changes:
                array = change.carry(array)
            if changes:
                follower[name] = Tensor(array) if isinstance(value, Tensor) else array


def _run(back: list[Callable[[], None]]) -> None:
    for function in reversed(back):
        function()


def _keep(t: Tensor, values: Any = None) -> Callable[[], None]:
    """What puts back a tensor's array and gradient, and the array's values where these are given."""
    array, grad = t._array, t.grad

    def restore() -> None:
        if values is not None:
            array[...] = values
        t.data = Tensor(array)
        t.grad = grad

    return restore


def _keep_attributes(module: Module) -> Callable[[], None]:
    names = [name for table in SIZES.values() for name in table if name in vars(module)]
    before = {name: vars(module)[name] for name in names}

    def restore() -> None:
        vars(module).update(before)
        module._structure += 1

    return restore


def _carry(saved: Saved, changes: list[Change]) -> Saved:
    if not changes:
        return saved
    moments: Mapping[str, Any] = saved.moments
    first = next(iter(moments.values()), None)
    late = saved.late
    if late is None and first is not None and saved.step and any((np.asarray(c.index) < 0).any() for c in changes):
        late = np.zeros_like(first, dtype=np.float64)
    for change in changes:
        moments = {name: change.carry(array) for name, array in moments.items()}
        late = None if late is None else change.carry(late, saved.step)
    return saved._replace(moments=moments, late=late)


def _check_optimizer(kind: str, optimizer: Any, params: list[Tensor]) -> None:
    if optimizer is None:
        return
    if not isinstance(optimizer, FlatOptimizer) or not optimizer.ages:
        msg = f"{kind}: expected an optimizer that can follow an edit (SGD, Adam, AdamW), got {type(optimizer).__name__}"
        raise TypeError(msg)
    held = {id(p) for p in optimizer._params()}
    if any(id(p) not in held for p in params):
        msg = f"{kind}: the optimizer does not hold the parameters that the edit changes"
        raise ValueError(msg)
