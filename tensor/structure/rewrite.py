"""Slices that start anew where they are: the action behind edits that change no shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tensor.autograd.inplace import bump
from tensor.autograd.tensor import Tensor
from tensor.optim.flat_late import Move
from tensor.optim.flat_optimizer import FlatOptimizer
from tensor.structure.change import Changes
from tensor.structure.edit import Step
from tensor.structure.listing import Listing
from tensor.structure.resize import Resize, keep_grad, keep_values

__all__ = ["Rewrite", "Shift"]


class Shift(NamedTuple):
    """What columns of a layer's weight say on average goes to its bias."""

    layer: str
    columns: Any
    means: Any  #: of each of these columns

    def amount(self, layer: Any) -> Any:
        """What is added to the bias of this layer, by its own weights as they are now."""
        w = layer.weight._array[:, self.columns]
        said = w * np.asarray(self.means, like=w).reshape(1, -1, *[1] * (w.ndim - 2))
        return said.sum(axis=tuple(range(1, w.ndim))).astype(w.dtype)


class _Shifted:
    """The changes of a parameter, if any, and an amount added to it: what `tensor.optim` calls a move."""

    def __init__(self, changes: Changes | None, amount: Any) -> None:
        self.changes, self.amount, self.shape = changes, amount, amount.shape

    def values(self, array: Any, out: Any = None) -> Any:
        array = array if self.changes is None else self.changes.values(array)
        return np.add(array, self.amount, out=out)

    def carry(self, array: Any, out: Any = None, lead: int = 0) -> Any:
        return array if self.changes is None else self.changes.carry(array, out, lead)

    def places(self, places: Any) -> tuple[Any, Any]:
        return (places, np.arange(places.size)) if self.changes is None else self.changes.places(places)


class Rewrite:
    """Changes that keep all shapes, made in the arrays that there are: what was compiled for these stays of use."""

    in_place = True

    def __init__(self, resize: Resize, shifts: Sequence[Shift] = ()) -> None:
        self.resize, self.shifts = resize, shifts

    def lines(self) -> list[str]:
        return self.resize.lines()

    def concerned(self, there: Listing) -> dict[str, Tensor]:
        moves = self._moves(there)
        return {name: p for name, p in there.parameters.items() if id(p) in moves}

    def check_fit(self, kind: str, there: Listing, who: str) -> None:
        self.resize.check_fit(kind, there, who)

    def _moves(self, there: Listing) -> dict[int, Move]:
        changes = self.resize.changes
        moves: dict[int, Move] = {id(t): changes[name] for name, t in there.tensors.items() if name in changes}
        by_id = {id(t): changes.get(name) for name, t in there.tensors.items()}
        amounts: dict[int, Any] = {}
        for shift in self.shifts:
            layer: Any = there.modules[shift.layer]
            if layer.bias is not None:
                amounts[id(layer.bias)] = amounts.get(id(layer.bias), 0) + shift.amount(layer)
        return moves | {key: _Shifted(by_id[key], amount) for key, amount in amounts.items()}

    def on_module(self, there: Listing, held: set[int]) -> list[Step]:
        steps, moves = [], self._moves(there)
        for t in there.tensors.values():
            steps.append(keep_grad(t) if id(t) in held else keep_values(t))
            move = moves.get(id(t))
            if move is not None:
                grad = None if t.grad is None else Tensor(move.carry(t.grad._array, None))
                steps.append(_write(t, None if id(t) in held else move.values(t._array, None), grad))
        return steps

    def on_optimizer(self, kind: str, there: Listing, optimizer: FlatOptimizer) -> Step:
        parameters = {id(p) for p in there.parameters.values()}
        return Step(*optimizer.renewal({key: move for key, move in self._moves(there).items() if key in parameters}))

    def on_dict(self, kind: str, given: dict[Any, Any]) -> Step:
        after = self.resize.dict_after(kind, given)
        writes = [(_array(value), _array(after[key])) for key, value in given.items() if after[key] is not value]
        before = [(target, target.copy()) for target, _ in writes]
        return Step(lambda: _fill(writes), lambda: _fill(before))


def _array(value: Any) -> Any:
    return value._array if isinstance(value, Tensor) else value


def _fill(writes: Sequence[tuple[Any, Any]]) -> None:
    for target, values in writes:
        target[...] = values


def _write(t: Tensor, values: Any, grad: Tensor | None) -> Step:
    """New values (unless an optimizer writes them) and gradient for a tensor; what was there is kept by another step."""

    def do() -> None:
        if values is not None:
            t._array[...] = values
            bump(t)
        t.grad = grad

    return Step(do, lambda: None)
