"""The base of optimizers that see all parameters as one array: their options as a table, their state as rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY
from inspect import Parameter, Signature, get_annotations
from typing import Any, ClassVar, NamedTuple, dataclass_transform

import numpy as np

from tensor.autograd.data import to_array
from tensor.autograd.tensor import Tensor
from tensor.device import move
from tensor.naming import quoted
from tensor.optim.flat import FLUSH_EVERY, Flat, Run, Saved, kind_of
from tensor.optim.flat_late import Late, Move, late_run
from tensor.optim.optimizer import Optimizer, Params, evaluate
from tensor.optim.options import check_options

__all__ = ["FlatOptimizer"]

#: With a smaller "eps", moments that would be flushed still change parameters.
SMALL_EPS = 1e-12

#: Constructor arguments that only choose between implementations elsewhere, and are no options of a group.
IMPLEMENTATION = ("foreach", "fused", "capturable", "differentiable")


class Layout(NamedTuple):
    """The parameters of each group, and their buffers."""

    params: list[list[Tensor]]
    flats: list[list[Flat]]


@dataclass_transform()
class _Declared(Optimizer):
    """For type checkers, to whom the fields of subclasses, not this one's, are arguments of the constructor."""


class FlatOptimizer(_Declared):
    """An optimizer whose update is a few array operations over all parameters at once.

    A subclass declares its options as a dataclass declares fields, in the order of its constructor; they become the constructor
    and ``defaults``, and are no attributes: what counts is in ``param_groups``. It says which arrays it keeps for each element
    (`moment_names`) and which numbers for each parameter (`scalar_names`), and updates a run of elements in place (`update`).

    Parameters are moved into one flat buffer for each dtype and device of a group: they keep their identity, while an array
    taken from one before (``p.detach()``, ``p.numpy()``) no longer follows it. ``maximize`` ascends. ``foreach``, ``fused`` and
    ``capturable`` are accepted for PyTorch's sake and change nothing: an update is always fused; ``differentiable`` raises
    NotImplementedError.
    """

    __signature__: ClassVar[Signature]

    params: Params
    _: KW_ONLY
    maximize: bool = False
    foreach: bool | None = None
    fused: bool | None = None
    capturable: bool = False
    differentiable: bool = False

    #: Whether moments that decay towards zero are set to zero; see `Run.flush`.
    flushes: ClassVar[bool] = True
    #: Whether an update is right for elements apart from the others, with an array of ages for ``step``; see `flat_late`.
    ages: ClassVar[bool] = False
    #: Whether an update depends on how often there was one before.
    counts: ClassVar[bool] = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _take_options(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            bound = self.__signature__.bind(*args, **kwargs)
        except TypeError as error:
            msg = f"{self._name}: {error}; expected {self.__signature__}"
            raise TypeError(msg) from None
        bound.apply_defaults()
        options = bound.arguments
        params = options.pop("params")
        if options["differentiable"]:
            msg = f"{self._name}: differentiable=True is not supported: updates are not recorded"
            raise NotImplementedError(msg)
        for name in IMPLEMENTATION:
            del options[name]
        self._flats: list[list[Flat]] = []
        super().__init__(params, options)

    # --- what a subclass writes ---------------------------------------------------------------------------------

    def moment_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of the arrays kept for each parameter, under the group's options; they start as zeros."""
        raise NotImplementedError

    #: The names of numbers kept for each parameter, besides the number of its steps; see `Flat.scalars`.
    scalar_names: ClassVar[tuple[str, ...]] = ()

    def update(self, run: Run, group: dict[str, Any], step: Any, flat: Flat) -> None:
        """Change the parameters of a run in place, for the ``step``-th time; for late elements that is an array (see `ages`)."""
        raise NotImplementedError

    def check(self, options: Mapping[str, Any]) -> None:
        check_options(self._name, options)

    # --- buffers ------------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        super().add_param_group(param_group)
        self._flats.append(self._flatten(self.param_groups[-1]))

    def _flatten(self, group: Mapping[str, Any]) -> list[Flat]:
        names = self.moment_names(group)
        return [Flat(same, names, self.scalar_names) for same in _kinds(group["params"]).values()]

    def _fit(self) -> None:
        """Make the buffers right where parameters were replaced from outside, or options ask for other moments."""
        for k, group in enumerate(self.param_groups):
            names = self.moment_names(group)
            for flat in self._flats[k]:
                if flat.names != names or not flat.fits():
                    self._rebuild(k, self._saved(k))
                    break

    def _saved(self, k: int) -> dict[int, Saved]:
        """What is kept of each parameter of group k (moments are views), by the parameter's id."""
        return {id(p): flat.saved(i) for flat in self._flats[k] for i, p in enumerate(flat.params)}

    def _rebuild(self, k: int, saved: Mapping[int, Saved]) -> None:
        self._flats[k] = self._flatten(self.param_groups[k])
        for flat in self._flats[k]:
            for i, p in enumerate(flat.params):
                if id(p) in saved:
                    kept = saved[id(p)]
                    flat.restore(i, kept._replace(moments={name: move(a, p.device) for name, a in kept.moments.items()}))

    def moved(
        self,
        moves: Mapping[int, Move],
        added: Sequence[Tensor] = (),
        removed: Collection[int] = (),
        group: int = 0,
        order: Mapping[int, int] | None = None,
    ) -> Layout:
        """Buffers for after an edit of the network: parameters moved to other shapes, added to a group, or removed.

        By the parameters' ids. What is added goes where ``order``, the network's own, has it, if the group is in that order: so a
        new optimizer of the edited network loads this one's state. Nothing changes before `lay`.
        """
        self._fit()
        params = [[p for p in g["params"] if id(p) not in removed] for g in self.param_groups]
        ranks = [-1 if order is None else order.get(id(p), -1) for p in params[group]]
        params[group] += added
        if order is not None and -1 not in ranks and ranks == sorted(ranks):
            params[group].sort(key=lambda p: order[id(p)])
        layout = Layout(params, [])
        for g, group_params, flats in zip(self.param_groups, params, self._flats, strict=True):
            before = {id(p): (flat, i) for flat in flats for i, p in enumerate(flat.params)}
            names = self.moment_names(g)
            layout.flats.append(
                [Flat.moved(same, before, moves, names, self.scalar_names, self.counts) for same in _kinds(group_params).values()]
            )
        return layout

    def renewal(self, moves: Mapping[int, Move]) -> tuple[Callable[[], None], Callable[[], None]]:
        """What lets parameters, by id, take moves that keep their shapes, in place, and what puts back all as it is now.

        Neither can fail; nothing changes before the first is called.
        """
        self._fit()
        flats = [flat for group in self._flats for flat in group]
        renewals, copies = [flat.renewal(moves, self.counts) for flat in flats], [flat.keep() for flat in flats]

        def renew() -> None:
            for each in renewals:
                each()

        def put_back() -> None:
            for flat, copy in zip((flat for group in self._flats for flat in group), copies, strict=True):
                copy(flat)

        return renew, put_back

    def layout(self) -> Layout:
        """What is in use, to be laid again later."""
        return Layout([list(group["params"]) for group in self.param_groups], self._flats)

    def lay(self, layout: Layout) -> None:
        """Take buffers from `moved` or `layout` into use, and all parameters' arrays with them."""
        self._flats = layout.flats
        for group, params in zip(self.param_groups, layout.params, strict=True):
            group["params"] = list(params)
        for flats in layout.flats:
            for flat in flats:
                flat.place()

    # --- learning -----------------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient; returns what ``closure``, if given called first, returned.

        Each parameter counts its own steps: those at which it had a gradient.
        """
        loss = None if closure is None else evaluate(closure)
        self._fit()
        for group, flats in zip(self.param_groups, self._flats):  # noqa: B905  # hot; of one length by construction
            for flat in flats:
                for run, step in flat.gather():
                    if group["maximize"]:
                        np.negative(run.grad, run.grad)
                    if flat.late is None:
                        self.update(run, group, step, flat)
                    else:
                        self._update_late(run, group, step, flat)
                    if not step % FLUSH_EVERY and self.flushes and group.get("eps", 1) > SMALL_EPS:
                        run.flush()
        return loss

    def _update_late(self, run: Run, group: dict[str, Any], step: int, flat: Flat) -> None:
        late = late_run(flat, run, step)
        self.update(run, group, step, flat)
        if late is not None:
            self.update(late.run, group, late.ages, flat)
            late.put_back()

    # --- state --------------------------------------------------------------------------------------------------

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        """What is kept for each parameter updated so far: "step", the moments in the optimizer's own memory, and scalars.

        It is made anew each time: a change of a moment in place counts, a new entry does not. Assigning a state (an empty
        dict starts afresh) replaces it.
        """
        self._fit()
        result: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        for k, group in enumerate(self.param_groups):
            saved = self._saved(k)
            for p in group["params"]:
                step, moments, scalars, late = saved[id(p)]
                if step and (moments or scalars):
                    numbers = {"step": np.asarray(step, np.float32)}
                    numbers |= {name: np.asarray(value, np.float64) for name, value in scalars.items()}
                    if late is not None:
                        own = step - late.lags, *late.scalars
                        numbers = {
                            name: late.dense(p._array.shape, mine, float(rest)).astype(rest.dtype)
                            for mine, (name, rest) in zip(own, numbers.items(), strict=True)
                        }
                    step_count, *others = numbers.items()
                    result[p] = {name: Tensor(a) for name, a in (step_count, *moments.items(), *others)}
        return result

    @state.setter
    def state(self, states: Mapping[Tensor, Mapping[str, Any]]) -> None:
        saved = {id(p): self._parse(kept) for p, kept in states.items()}
        for k in range(len(self._flats)):
            self._rebuild(k, saved)

    def _parse(self, saved: Mapping[str, Any]) -> Saved:
        arrays = {name: to_array(a, copy=False) for name, a in saved.items() if a is not None}
        step = arrays.pop("step", 1 if saved else 0)  # PyTorch's SGD counts no steps
        scalars = {name: arrays.pop(name) for name in self.scalar_names if name in arrays}
        if not np.ndim(step):
            return Saved(int(step), arrays, {name: float(value) for name, value in scalars.items()})
        # Elements that came later than their parameter.
        places, first = np.flatnonzero(step < step.max()), int(np.argmax(step))
        rows = np.array([np.ravel(value)[places] for value in scalars.values()]).reshape(len(scalars), places.size)
        late = Late(places, (step.max() - step.ravel()[places]).astype(np.int64), rows)
        rest = {name: float(np.ravel(value)[first]) for name, value in scalars.items()}
        return Saved(int(step.max()), arrays, rest, late if places.size else None)

    def check_state(self, saved: Mapping[str, Any], p: Tensor, number: int, group: Mapping[str, Any]) -> None:
        if not saved:
            return
        _, moments, scalars, _ = self._parse(saved)
        have, want = {*moments, *scalars}, {*self.moment_names(group), *self.scalar_names}
        if have != want:
            names = quoted(sorted(want)), quoted(sorted(have))
            msg = f"{self._name}.load_state_dict: expected {names[0]} for parameter {number}, got {names[1]}"
            raise ValueError(msg)
        for name, array in moments.items():
            if array.shape != p._array.shape:
                where = f"{name} of parameter {number}"
                msg = f"{self._name}.load_state_dict: expected {where} of shape {list(p.shape)}, got {list(array.shape)}"
                raise ValueError(msg)


def _kinds(params: Iterable[Tensor]) -> dict[Any, list[Tensor]]:
    """Parameters that can lie in one buffer together."""
    kinds: dict[Any, list[Tensor]] = {}
    for p in params:
        kinds.setdefault(kind_of(p._array), []).append(p)
    return kinds


def _take_options(cls: type[FlatOptimizer]) -> None:
    """Turn the fields of a class into arguments of its constructor, after those it inherits."""
    arguments = dict(cls.__signature__.parameters)
    kind: Any = Parameter.POSITIONAL_OR_KEYWORD
    for name, annotation in get_annotations(cls).items():
        if name == "_":
            kind = Parameter.KEYWORD_ONLY
        elif name in vars(cls) and "ClassVar" not in str(annotation):
            before = arguments.get(name)
            arguments[name] = Parameter(name, before.kind if before else kind, default=vars(cls)[name])
            delattr(cls, name)
    cls.__signature__ = Signature(sorted(arguments.values(), key=lambda argument: argument.kind))


FlatOptimizer.__signature__ = Signature([Parameter("params", Parameter.POSITIONAL_OR_KEYWORD)])
_take_options(FlatOptimizer)
