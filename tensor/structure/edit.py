"""An edit of a network as data: planned, checked, then applied at once to all that it concerns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from tensor.autograd.inplace import bump
from tensor.autograd.modes import no_grad
from tensor.autograd.tensor import Tensor
from tensor.naming import quoted
from tensor.nn.module import Module
from tensor.optim.flat_optimizer import FlatOptimizer, Layout
from tensor.optim.swa_utils import AveragedModel
from tensor.structure.graphs import check_no_graph
from tensor.structure.listing import Listing

__all__ = ["Action", "Edit", "OutputChange", "Step", "laying", "refill", "tensors"]


NETWORK = "the network"


class Step(NamedTuple):
    """One thing to do that cannot fail, since all that it takes is at hand, and how to undo it."""

    do: Callable[[], object]
    back: Callable[[], object]


class OutputChange(NamedTuple):
    """What an edit does to outputs: the largest change, the same in shares of the largest output, and why it is not exact."""

    absolute: float
    relative: float
    reasons: tuple[str, ...]


class Action(Protocol):
    """What an edit does. All methods only prepare: the network changes when the steps are done."""

    in_place: bool  #: whether all arrays keep their shapes and their memory, so that nothing has to be made anew for them

    def lines(self) -> list[str]:
        """What would change, one line for each array."""

    def concerned(self, there: Listing) -> dict[str, Tensor]:
        """The parameters, by name, whose arrays or place in the network change."""

    def check_fit(self, kind: str, there: Listing, who: str) -> None:
        """Raise ValueError where the module is not what the edit was planned for."""

    def on_module(self, there: Listing, held: set[int]) -> list[Step]:
        """The steps for a module; the arrays of parameters that are ``held`` (ids) are `on_optimizer`'s."""

    def on_optimizer(self, kind: str, there: Listing, optimizer: FlatOptimizer) -> Step:
        """The step for the optimizer's buffers, and all parameters that lie in them."""

    def on_dict(self, kind: str, given: dict[Any, Any]) -> Step:
        """The step for a dict of what follows the parameters."""


@dataclass
class Edit:
    """A planned edit of ``net``; made by `grow`, `deepen` and the like. Nothing changes before `apply`."""

    net: Module
    kind: str
    name: str
    action: Action
    reasons: tuple[str, ...] = ()  #: what makes it impossible to keep the function exactly
    reason: str = ""
    units: int = 0  #: how many units come, go or start anew
    numbers: tuple[int, ...] = ()  #: of the units that go or start anew
    inputs: tuple[int, int, int] | None = None  #: the axis of an input that gets new features, how many it has, and how many more
    _back: list[Step] | None = field(default=None, repr=False)
    _laid: tuple[Any, Any] | None = field(default=None, repr=False)
    _left: dict[str, tuple[int, ...]] | None = field(default=None, repr=False)
    _lines: list[str] | None = field(default=None, repr=False)

    def plan(self) -> list[str]:
        """What would change, one line for each array.

        >>> import tensor as T
        >>> net = T.nn.Sequential(T.nn.Linear(2, 3), T.nn.ReLU(), T.nn.Linear(3, 1))
        >>> T.structure.grow(net, "0", 2).plan()
        ['0.weight: [3, 2] -> [5, 2]', '0.bias: [3] -> [5]', '2.weight: [1, 3] -> [1, 5]']
        """
        return self.action.lines() if self._lines is None else self._lines

    def check(self, x: Any) -> OutputChange:
        """The largest change of the outputs for ``x`` (a tensor or a tuple of arguments), computed on copies in evaluation mode.

        Outputs that are new are left out of the comparison; inputs that are new are ones.
        """
        before, after = deepcopy(self.net).eval(), self.preview().eval()
        inputs = x if isinstance(x, tuple) else (x,)
        with no_grad():
            old = tensors(before(*inputs))
            new = tensors(after(*(inputs if self.inputs is None else [_with_new(t, *self.inputs) for t in inputs])))
        absolute = largest = 0.0
        for a, b in zip(old, new, strict=True):
            common = tuple(slice(0, min(m, n)) for m, n in zip(a.shape, b.shape, strict=True))
            absolute = max(absolute, float(np.abs(a._array[common] - b._array[common]).max(initial=0)))
            largest = max(largest, float(np.abs(a._array[common]).max(initial=0)))
        return OutputChange(absolute, absolute / max(largest, 1e-30), self.reasons)

    def preview(self) -> Module:
        """A copy of the network with the edit applied."""
        copy = deepcopy(self.net)
        for step in self.action.on_module(Listing(copy), set()):
            step.do()
        return copy

    def try_out(self, x: Any) -> None:
        """Raise ValueError where the forward fails after the edit: by a size that code or a layer without weights holds fast."""
        try:
            with no_grad():
                self.preview().eval()(*(x if isinstance(x, tuple) else (x,)))
        except Exception as error:
            msg = f"{self.kind}: after the edit of {self.name!r} the forward fails: {error}"
            raise ValueError(msg) from error

    def apply(self, optimizer: Any = None, *followers: Any) -> Edit:
        """Carry the edit out: on the network, its optimizer, and followers; on an error nothing has changed.

        A follower is a module of the same structure (a target network, an `AveragedModel`: the same draws and indices, on its own
        weights), or a dict of arrays or tensors (traces, utilities) by parameter name, or by (name, axis) for one number for each
        index of an axis: new slices of these are zero. Gradients are carried along. New slices start with zero moments and a
        step count of zero; copied units copy both. Raises RuntimeError for a second `apply`, and while a graph still wants the
        parameters as they are; ValueError or TypeError for a network changed since, an optimizer or follower that does not fit.
        """
        if self._back is not None:
            msg = f"{self.kind}: this edit is applied already; plan another"
            raise RuntimeError(msg)
        listings, dicts = self._followers(followers)
        for who, there in listings.items():
            self.action.check_fit(self.kind, there, who)
        network = listings[NETWORK]
        concerned = self.action.concerned(network)
        check_no_graph(self.kind, concerned)
        _check_optimizer(self.kind, optimizer, concerned)
        lines = self.plan()
        held = set() if optimizer is None else {id(p) for p in optimizer._params()}
        steps = [] if optimizer is None else [self.action.on_optimizer(self.kind, network, optimizer)]
        steps += [step for there in listings.values() for step in self.action.on_module(there, held)]
        steps += [self.action.on_dict(self.kind, given) for given in dicts]
        for done, step in enumerate(steps):
            try:
                step.do()
            except BaseException:
                _run_back(steps[: done + 1])
                raise
        self._back, self._lines = steps, lines
        self._laid = None if optimizer is None else (optimizer, optimizer._flats)
        self._left = _shapes(self.net)
        _count_as_written(concerned)
        return self

    def undo(self) -> None:
        """Put back everything as it was right before `apply`, also what was learnt since.

        Raises RuntimeError where the edit is not applied, or a later one is.
        """
        if self._back is None:
            msg = f"{self.kind}: nothing to undo; the edit was not applied"
            raise RuntimeError(msg)
        if self._laid is not None and self._laid[0]._flats is not self._laid[1]:
            msg = f"{self.kind}: expected the optimizer as this edit left it, got a later edit's; undo that first"
            raise RuntimeError(msg)
        if self._left != _shapes(self.net):
            msg = f"{self.kind}: expected the network as this edit left it, got a later edit's; undo that first"
            raise RuntimeError(msg)
        _run_back(self._back)
        _count_as_written(self.action.concerned(Listing(self.net)))
        self._back = self._laid = self._lines = self._left = None

    @property
    def in_place(self) -> bool:
        """Whether all arrays keep their shapes and their memory: compiled steps then go on as they are."""
        return self.action.in_place

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

    def _followers(self, followers: Sequence[Any]) -> tuple[dict[str, Listing], list[dict[Any, Any]]]:
        listings, dicts = {NETWORK: Listing(self.net)}, []
        for number, follower in enumerate(followers, 1):
            if isinstance(follower, AveragedModel):
                listings[f"follower {number}"] = Listing(follower.module)
            elif isinstance(follower, Module):
                listings[f"follower {number}"] = Listing(follower)
            elif isinstance(follower, dict):
                dicts.append(follower)
            else:
                msg = f"{self.kind}: expected modules or dicts as followers, got {type(follower).__name__}"
                raise TypeError(msg)
        return listings, dicts


def tensors(y: Any) -> list[Tensor]:
    """All tensors in what a network gave."""
    if isinstance(y, Tensor):
        return [y]
    items = y.values() if isinstance(y, dict) else y if isinstance(y, (tuple, list)) else ()
    return [t for item in items for t in tensors(item)]


def _shapes(net: Module) -> dict[str, tuple[int, ...]]:
    return {name: t._array.shape for name, t in Listing(net).tensors.items()}


def _with_new(t: Any, axis: int, old: int, units: int) -> Any:
    """An input with new features, all one; whatever else is given as it is."""
    if not isinstance(t, Tensor) or t.ndim < -axis or t.shape[axis] != old:
        return t
    shape = list(t._array.shape)
    shape[axis] = units
    return Tensor(np.concatenate([t._array, np.ones_like(t._array, shape=shape)], axis))


def _count_as_written(params: dict[str, Tensor]) -> None:
    """Have graphs that want the parameters as they were raise at their backward."""
    for p in params.values():
        bump(p)


def _run_back(steps: Sequence[Step]) -> None:
    for step in reversed(steps):
        step.back()


def laying(optimizer: FlatOptimizer, layout: Layout) -> Step:
    """The step that takes an optimizer's buffers into use."""
    before = optimizer.layout()
    return Step(lambda: optimizer.lay(layout), lambda: optimizer.lay(before))


def refill(given: dict[Any, Any], after: dict[Any, Any]) -> Step:
    """The step that replaces all that a dict holds."""
    before = dict(given)

    def fill(values: dict[Any, Any]) -> None:
        given.clear()
        given.update(values)

    return Step(lambda: fill(after), lambda: fill(before))


def _check_optimizer(kind: str, optimizer: Any, params: dict[str, Tensor]) -> None:
    if optimizer is None:
        return
    if not isinstance(optimizer, FlatOptimizer) or (optimizer.counts and not optimizer.ages):
        msg = f"{kind}: expected an optimizer that can follow an edit, got {type(optimizer).__name__}, which cannot"
        raise TypeError(msg)
    held = {id(p) for p in optimizer._params()}
    missing = [name for name, p in params.items() if id(p) not in held]
    if missing:
        msg = f"{kind}: expected an optimizer of the parameters to change, got one that does not hold {quoted(missing)}"
        raise ValueError(msg)
