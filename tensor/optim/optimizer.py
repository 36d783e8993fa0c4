"""The base of optimizers: groups of parameters, their options, and the state that a checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from tensor.autograd.data import to_array
from tensor.autograd.modes import enable_grad
from tensor.autograd.node import Leaf
from tensor.autograd.tensor import Tensor
from tensor.device import move
from tensor.optim.flat import FLUSH_EVERY, Flat, Run, kind_of

__all__ = ["Optimizer"]

#: With a smaller "eps", moments that would be flushed still change parameters.
SMALL_EPS = 1e-12

Params = Iterable[Tensor] | Iterable[Mapping[str, Any]] | Iterable[tuple[str, Tensor]]


class Optimizer:
    """Updates parameters by their gradients.

    A subclass says which moments it keeps (`moment_names`), checks its options (`check`) and updates a run of elements
    (`update`); this class finds the elements. ``param_groups`` is a list of dicts, each with its "params" and options,
    which may be changed between steps.

    Parameters are moved into one flat buffer for each dtype and device of a group: they keep their identity, while an
    array taken from one before (``p.detach()``, ``p.numpy()``) no longer follows it.
    """

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self._flats: list[list[Flat]] = []
        self.check(defaults)
        if isinstance(params, Tensor):
            msg = f"{self._name}: expected an iterable of parameters, got one tensor of shape {list(params.shape)}"
            raise TypeError(msg)
        given: list[Any] = list(params)
        if not given:
            msg = f"{self._name}: got an empty list of parameters"
            raise ValueError(msg)
        if not isinstance(given[0], Mapping):
            given = [{"params": given}]
        for group in given:
            self.add_param_group(group)

    # --- what a subclass writes ---------------------------------------------------------------------------------

    def check(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError for options that make no sense."""
        raise NotImplementedError

    def moment_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of the arrays kept for each parameter, under the group's options."""
        raise NotImplementedError

    def update(self, run: Run, group: dict[str, Any], step: int, flat: Flat) -> None:
        """Change the parameters of a run in place, for the ``step``-th time."""
        raise NotImplementedError

    # --- groups -------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add parameters with options of their own; options left out are the optimizer's defaults.

        Raises TypeError or ValueError for what cannot be optimised, parameters met twice, unknown options and bad
        values.
        """
        group = dict(param_group)
        params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        if params and isinstance(params[0], tuple):  # from named_parameters()
            group["param_names"], params = [n for n, _ in params], [p for _, p in params]
        unknown = group.keys() - self.defaults.keys() - {"params", "param_names", "initial_lr"}
        if unknown:
            msg = f"{self._name}: unknown options {', '.join(sorted(unknown))}; expected {', '.join(self.defaults)}"
            raise ValueError(msg)
        self._check_params(params)
        group["params"] = params
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        self.check(group)
        self.param_groups.append(group)
        self._flats.append(self._flatten(params, self.moment_names(group)))

    def _check_params(self, params: list[Any]) -> None:
        if not params:
            msg = f"{self._name}: got a group without parameters"
            raise ValueError(msg)
        known = {id(p) for g in self.param_groups for p in g["params"]}
        for i, p in enumerate(params):
            if not isinstance(p, Tensor):
                msg = f"{self._name}: expected tensors, got {type(p).__name__} as parameter {i}"
                raise TypeError(msg)
            if not p.is_leaf:
                msg = f"{self._name}: parameter {i} of shape {list(p.shape)} is no leaf: an operation made it"
                raise ValueError(msg)
            if not p.is_floating_point():
                msg = f"{self._name}: parameter {i} has dtype {p.dtype}; only floating-point tensors can be learnt"
                raise TypeError(msg)
            if id(p) in known:
                msg = f"{self._name}: parameter {i} of shape {list(p.shape)} is given twice"
                raise ValueError(msg)
            known.add(id(p))
        _check_apart(params, self._name)

    @staticmethod
    def _flatten(params: list[Tensor], names: tuple[str, ...]) -> list[Flat]:
        kinds: dict[Any, list[Tensor]] = {}
        for p in params:
            kinds.setdefault(kind_of(p._array), []).append(p)
        return [Flat(same, names) for same in kinds.values()]

    def _fit(self) -> None:
        """Make the buffers right where parameters were replaced from outside, or options ask for other moments."""
        for k, group in enumerate(self.param_groups):
            names = self.moment_names(group)
            for flat in self._flats[k]:
                if flat.names != names or not flat.fits():
                    kept = self._kept(k)
                    self._flats[k] = self._flatten(group["params"], names)
                    self._put_back(k, kept)
                    break

    def _kept(self, k: int) -> dict[int, tuple[int, dict[str, Any]]]:
        """The count and the moments (views) of each parameter of group k, by the parameter's id."""
        return {
            id(p): (count, {name: flat.moment(name, i) for name in flat.names})
            for flat in self._flats[k]
            for i, (p, count) in enumerate(zip(flat.params, flat.step_list(), strict=True))
        }

    def _put_back(self, k: int, kept: Mapping[int, tuple[int, Mapping[str, Any]]]) -> None:
        for flat in self._flats[k]:
            for i, p in enumerate(flat.params):
                count, moments = kept.get(id(p), (0, {}))
                flat.restore(i, count, {name: move(a, p.device) for name, a in moments.items()})

    # --- learning -----------------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or replace them by zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                node = p._node
                if set_to_none and node.__class__ is Leaf:
                    node.grad = None
                elif set_to_none or p.grad is None:
                    p.grad = None
                else:
                    p.grad = p.grad.detach().new_zeros(p.shape)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient; returns what ``closure``, if given called first, returned."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        self._fit()
        for group, flats in zip(self.param_groups, self._flats):  # noqa: B905  # hot; of one length by construction
            for flat in flats:
                for run, step in flat.gather():
                    self.update(run, group, step, flat)
                    if not step % FLUSH_EVERY and group.get("eps", 1) > SMALL_EPS:
                        run.flush()
        return loss

    # --- state --------------------------------------------------------------------------------------------------

    @property
    def state(self) -> dict[Tensor, dict[str, Tensor]]:
        """What is kept for each parameter updated so far: "step", and the moments in the optimizer's own memory."""
        self._fit()
        result: dict[Tensor, dict[str, Tensor]] = {}
        for k in range(len(self.param_groups)):
            kept = self._kept(k)
            for p in self.param_groups[k]["params"]:
                count, moments = kept[id(p)]
                if count and moments:
                    step = Tensor(np.asarray(count, np.float32))
                    result[p] = {"step": step, **{name: Tensor(a) for name, a in moments.items()}}
        return result

    def state_dict(self) -> dict[str, Any]:
        """The state by the parameters' numbers and the groups' options, in PyTorch's layout; tensors are copies.

        >>> import tensor as T
        >>> w = T.ones(1, requires_grad=True)
        >>> optimizer = T.optim.SGD([w], lr=0.5, momentum=0.9)
        >>> w.backward()
        >>> optimizer.step()
        >>> optimizer.state_dict()["state"]
        {0: {'step': tensor(1.), 'momentum_buffer': tensor([1.])}}
        """
        numbers = {id(p): i for i, p in enumerate(self._params())}
        state = {numbers[id(p)]: {name: t.clone() for name, t in kept.items()} for p, kept in self.state.items()}
        groups = [
            {
                **{key: value for key, value in group.items() if key != "params"},
                "params": [numbers[id(p)] for p in group["params"]],
            }
            for group in self.param_groups
        ]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; parameters are matched by their order. Tensors (or arrays) are copied.

        Raises ValueError when groups, numbers of parameters, names of moments or shapes differ; nothing is changed
        then.
        """
        groups, state = state_dict["param_groups"], state_dict["state"]
        sizes = [len(g["params"]) for g in self.param_groups], [len(g["params"]) for g in groups]
        if sizes[0] != sizes[1]:
            msg = f"{self._name}.load_state_dict: expected groups of {sizes[0]} parameters, got {sizes[1]}"
            raise ValueError(msg)
        for group in groups:
            self.check({**self.defaults, **group})
        saved = [i for g in groups for i in g["params"]]
        kept: dict[int, tuple[int, dict[str, Any]]] = {}
        names = [self.moment_names({**mine, **theirs}) for mine, theirs in zip(self.param_groups, groups, strict=True)]
        expected = [n for n, g in zip(names, groups, strict=True) for _ in g["params"]]
        for number, p, wanted in zip(saved, self._params(), expected, strict=True):
            if number in state:
                kept[id(p)] = self._parse(state[number], wanted, p, number)
        for k, (group, given) in enumerate(zip(self.param_groups, groups, strict=True)):
            group.update({key: value for key, value in given.items() if key != "params"})
            self._flats[k] = self._flatten(group["params"], names[k])
            self._put_back(k, kept)

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _parse(self, saved: Mapping[str, Any], names: tuple[str, ...], p: Tensor, number: int) -> tuple[int, dict[str, Any]]:
        """The count and the moments in one parameter's saved state."""
        moments = {name: to_array(a, copy=False) for name, a in saved.items() if name != "step" and a is not None}
        if saved and set(moments) != set(names):
            have, want = ", ".join(sorted(moments)) or "nothing", ", ".join(sorted(names)) or "nothing"
            msg = f"{self._name}.load_state_dict: expected {want} for parameter {number}, got {have}"
            raise ValueError(msg)
        for name, array in moments.items():
            if array.shape != p._array.shape:
                where = f"{name} of parameter {number}"
                msg = f"{self._name}.load_state_dict: expected {where} of shape {list(p.shape)}, got {list(array.shape)}"
                raise ValueError(msg)
        step = saved.get("step", 1 if moments else 0)
        return int(step.item() if hasattr(step, "item") else step), moments

    def __repr__(self) -> str:
        lines = [f"{self._name} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key not in ("params", "param_names")]
        return "\n".join([*lines, ")"])


def _check_apart(params: list[Tensor], who: str) -> None:
    """Refuse parameters over the same memory: the flat buffer would silently break that tie."""
    host = [(byte_bounds(p._array), i) for i, p in enumerate(params) if isinstance(p._array, np.ndarray) and p._array.size]
    host.sort()
    for ((_, end), i), ((start, _), j) in pairwise(host):
        if start < end:
            pair = f"parameters {min(i, j)} and {max(i, j)}"
            msg = f"{who}: {pair} share memory; to tie weights, use one Parameter in both places"
            raise ValueError(msg)
