"""Slices that come and go: the action behind edits of width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tensor.autograd.tensor import Tensor
from tensor.nn.module import Module
from tensor.optim.flat_optimizer import FlatOptimizer
from tensor.structure.change import Change, Changes
from tensor.structure.edit import Step, laying, refill
from tensor.structure.listing import Listing
from tensor.structure.sizes import names_of_sizes, sizes

__all__ = ["Resize", "keep_grad", "keep_values"]


class Resize:
    """Changes of axes of parameters and buffers, as these were when this was planned; what an `Edit` of your own may do.

    >>> import numpy as np, tensor as T
    >>> from tensor import structure
    >>> net = T.nn.Linear(2, 3)
    >>> longer = structure.Change("bias", 0, np.array([0, 1, 2, -1]), fill=0.5), structure.Change("weight", 0, [0, 1, 2, -1])
    >>> _ = structure.Edit(net, "widen", "", structure.Resize(net, longer)).apply()
    >>> net.out_features, net.bias[-1].item()
    (4, 0.5)
    """

    in_place = False

    def __init__(self, net: Module | Listing, changes: Sequence[Change], norms: Mapping[str, int] | None = None) -> None:
        self.norms = norms or {}  #: new sizes of norms without parameters, by their paths
        there = net if isinstance(net, Listing) else Listing(net)
        by_name: dict[str, list[Change]] = {}
        for change in changes:
            by_name.setdefault(change.name, []).append(change)
        self.changes = {name: Changes(by_name[name], t._array.shape) for name, t in there.tensors.items() if name in by_name}
        self._owners = {name.rpartition(".")[0] for name in self.changes}

    def size(self, path: str) -> int:
        """How many units a norm over one axis will take."""
        return self.norms[path] if path in self.norms else int(self.changes[f"{path}.weight".lstrip(".")].shape[0])

    def lines(self) -> list[str]:
        return [f"{name}: {list(c.before)} -> {list(c.shape)}" for name, c in self.changes.items()]

    def concerned(self, there: Listing) -> dict[str, Tensor]:
        return {name: p for name, p in there.parameters.items() if name in self.changes}

    def check_fit(self, kind: str, there: Listing, who: str) -> None:
        for name, changes in self.changes.items():
            t = there.tensors.get(name)
            if t is None or t._array.shape != changes.before:
                got = "nothing" if t is None else list(t.shape)
                msg = f"{kind}: expected {name} of shape {list(changes.before)} in {who}, got {got}; plan the edit anew"
                raise ValueError(msg)

    def on_module(self, there: Listing, held: set[int]) -> list[Step]:
        steps = []
        changed = set()
        for name, t in there.tensors.items():
            changes = self.changes.get(name)
            if changes is not None:
                changed.add(id(t))
                grad = None if t.grad is None else Tensor(changes.carry(t.grad._array))
                steps.append(_swap(t, None if id(t) in held else changes.values(t._array), grad))
            elif id(t) in held:
                steps.append(keep_grad(t))
            else:
                steps.append(keep_values(t))
        for path, part in there.modules.items():
            if path in self._owners or any(id(p) in changed for p in part._parameters.values()):
                steps.append(_resize(part))
            if path in self.norms:
                steps.append(_renorm(part, (self.norms[path],)))
        return steps

    def on_optimizer(self, kind: str, there: Listing, optimizer: FlatOptimizer) -> Step:
        return laying(optimizer, optimizer.moved(self.moves(there)))

    def moves(self, there: Listing) -> dict[int, Changes]:
        """The changes of parameters, by the parameters' ids."""
        return {id(p): self.changes[name] for name, p in self.concerned(there).items()}

    def on_dict(self, kind: str, given: dict[Any, Any]) -> Step:
        return refill(given, self.dict_after(kind, given))

    def dict_after(self, kind: str, given: dict[Any, Any]) -> dict[Any, Any]:
        """What a dict holds after the changes."""
        after = dict(given)
        for key, value in given.items():
            name, axis = key if isinstance(key, tuple) else (key, None)
            changes = self.changes.get(name)
            if changes is None:
                continue
            array = value._array if isinstance(value, Tensor) else value
            expected = changes.before if axis is None else (changes.before[axis],)
            if array.shape != expected:
                msg = f"{kind}: expected {key} of shape {list(expected)} in a dict, got {list(array.shape)}"
                raise ValueError(msg)
            if axis is None:
                array = changes.carry(array)
            else:
                for change in changes.changes:
                    array = change.slices.apply(array, 0) if change.axis == axis else array
            after[key] = Tensor(array) if isinstance(value, Tensor) else array
        return after


def _swap(t: Tensor, array: Any, grad: Tensor | None) -> Step:
    """Give a tensor another array (unless an optimizer does) and gradient."""
    before, grad_before = t._array, t.grad

    def do() -> None:
        if array is not None:
            t.data = Tensor(array)
        t.grad = grad

    def back() -> None:
        t.data = Tensor(before)
        t.grad = grad_before

    return Step(do, back)


def keep_grad(t: Tensor) -> Step:
    """Nothing now; at an undo, the gradient that there is now."""
    grad = t.grad

    def back() -> None:
        t.grad = grad

    return Step(lambda: None, back)


def keep_values(t: Tensor) -> Step:
    """Nothing now; at an undo, the values that there are now."""
    array, values, grad = t._array, t._array.copy(), t.grad

    def back() -> None:
        array[...] = values
        t.data = Tensor(array)
        t.grad = grad

    return Step(lambda: None, back)


def _renorm(part: Any, after: tuple[int, ...]) -> Step:
    before = part.normalized_shape

    def change(size: tuple[int, ...]) -> None:
        part.normalized_shape = size
        part._structure += 1

    return Step(lambda: change(after), lambda: change(before))


def _resize(part: Module) -> Step:
    before = {name: vars(part)[name] for name in names_of_sizes(part)}

    def do() -> None:
        vars(part).update({name: value for name, value in sizes(part).items() if name in before})
        part._structure += 1

    def back() -> None:
        vars(part).update(before)
        part._structure += 1

    return Step(do, back)
