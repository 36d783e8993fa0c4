"""Layers that come and go: the action behind edits of depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.naming import quoted
from tensor.nn.module import Module
from tensor.optim.flat_optimizer import FlatOptimizer
from tensor.structure.edit import Step, laying, refill
from tensor.structure.listing import Listing
from tensor.structure.resize import keep_grad, keep_values

__all__ = ["Arrangement", "Rearrange"]


class Arrangement(NamedTuple):
    """The children of one module, anew.

    ``children(old, made)`` gives them from those there are and the ``made`` modules; ``renamed`` says where old ones are then.
    """

    path: str
    children: Callable[[Mapping[str, Module], list[Module]], dict[str, Module]]
    made: list[Module]
    renamed: dict[str, str]
    frozen: str = ""  #: an old child whose parameters learn no more


class Rearrange:
    """New children for one module of a network, and new parameters beside those of ``near``, a layer's name."""

    in_place = False

    def __init__(self, net: Module, arrangement: Arrangement, near: str) -> None:
        self.net, self.how, self.near = net, arrangement, near
        self._names = [name for name, child in net.get_submodule(arrangement.path)._modules.items() if child is not None]
        path = f"{arrangement.path}." if arrangement.path else ""
        moved = {name: arrangement.renamed.get(name, name) for name in self._names}
        self._prefixes = {f"{path}{old}.": f"{path}{new}." if new else "" for old, new in moved.items() if old != new}
        self.before = dict(net.named_parameters())
        after = deepcopy(net)
        for step in self.on_module(Listing(after), set()):
            step.do()
        self.after = {name: tuple(p.shape) for name, p in after.named_parameters()}
        self._kept = {new for name in self.before if (new := self._renamed(name))}
        self._removed = [name for name in self.before if not self._renamed(name)]

    def _renamed(self, name: str) -> str:
        """A parameter's name afterwards; empty for one that goes."""
        for old, new in self._prefixes.items():
            if name.startswith(old):
                return new and new + name[len(old) :]
        return name

    def lines(self) -> list[str]:
        gone = [f"{name}: {list(self.before[name].shape)} -> gone" for name in self._removed]
        return gone + [f"{name}: new {list(shape)}" for name, shape in self.after.items() if name not in self._kept]

    def concerned(self, there: Listing) -> dict[str, Tensor]:
        frozen = f"{self.how.path}.{self.how.frozen}.".lstrip(".") if self.how.frozen else None
        return {n: p for n, p in self.before.items() if n in self._removed or (frozen is not None and n.startswith(frozen))}

    def check_fit(self, kind: str, there: Listing, who: str) -> None:
        parent = there.modules.get(self.how.path)
        names = [] if parent is None else [name for name, child in parent._modules.items() if child is not None]
        if names != self._names:
            where = self.how.path or "the top"
            msg = f"{kind}: expected layers {quoted(self._names)} at {where} in {who}, got {quoted(names)}"
            raise ValueError(msg)

    def on_module(self, there: Listing, held: set[int]) -> list[Step]:
        made = self.how.made if there.net is self.net else deepcopy(self.how.made)
        parent = there.modules[self.how.path]
        old = dict(parent._modules)
        new = self.how.children({name: child for name, child in old.items() if child is not None}, made)
        steps = [keep_grad(t) if id(t) in held else keep_values(t) for t in there.tensors.values()]
        frozen = old[self.how.frozen] if self.how.frozen else None
        steps += [_freeze(p) for p in (() if frozen is None else frozen.parameters()) if p.requires_grad]
        steps.append(Step(lambda: _set_children(parent, new), lambda: _set_children(parent, old)))
        return steps

    def on_optimizer(self, kind: str, there: Listing, optimizer: FlatOptimizer) -> Step:
        near = {id(p) for p in there.modules[self.near].parameters()} or {id(p) for p in there.parameters.values()}
        group = next((k for k, g in enumerate(optimizer.param_groups) if any(id(p) in near for p in g["params"])), None)
        if group is None:
            msg = f"{kind}: expected an optimizer of the parameters at {self.near!r}, got one that does not hold them"
            raise ValueError(msg)
        added = [p for m in self.how.made for p in m.parameters()]
        known = {id(p) for p in optimizer._params()}
        removed = {id(self.before[name]) for name in self._removed}
        new = [p for p in added if id(p) not in known]
        return laying(optimizer, optimizer.moved({}, new, removed, group, self._order()))

    def _order(self) -> dict[int, int]:
        """The place of each parameter among the network's, once it is edited; by ids."""
        made = iter({id(p): p for m in self.how.made for p in m.parameters()}.values())
        kept = {new: p for name, p in self.before.items() if (new := self._renamed(name))}
        return {id(kept[name] if name in kept else next(made)): i for i, name in enumerate(self.after)}

    def on_dict(self, kind: str, given: dict[Any, Any]) -> Step:
        after: dict[Any, Any] = {}
        for key, value in given.items():
            name, *axis = key if isinstance(key, tuple) else (key,)
            new = self._renamed(name) if isinstance(name, str) else name
            if new:
                after[(new, *axis) if axis else new] = value
        like = next((value for key, value in given.items() if key in self.before), None)
        if like is not None:
            for name, shape in self.after.items():
                if name not in self._kept:
                    array = np.zeros_like(like._array if isinstance(like, Tensor) else like, shape=shape)
                    after[name] = Tensor(array) if isinstance(like, Tensor) else array
        return refill(given, after)


def _freeze(p: Tensor) -> Step:
    grad = p.grad

    def do() -> None:
        p.grad = None
        p.requires_grad_(False)

    def back() -> None:
        p.requires_grad_(True)
        p.grad = grad

    return Step(do, back)


def _set_children(parent: Module, children: Mapping[str, Module | None]) -> None:
    for name in parent._modules:
        vars(parent).pop(name, None)
    parent._modules = dict(children)
    vars(parent).update(children)
    parent._structure += 1
