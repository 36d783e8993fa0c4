"""Dynamic batching: code written for one example, run on many of different shapes at once.

In a `DynamicBatch` a call is only noted. `run` then takes, again and again, all calls that are ready and alike (the same
function, inputs of the same shapes), and makes one call of them, on rows.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np

import tensor as T
from tensor import Tensor
from tensor.ops.join import append_rows, take_rows

__all__ = ["DynamicBatch", "Later"]


class Later:
    """The value that a noted call will have: one row of what its group gives."""

    __slots__ = ("row", "source")

    row: int
    source: Source

    def __getitem__(self, number: int) -> Later:
        """One of the values of a function that gives several."""
        group = self.source.group
        if group is None:
            msg = "Later: expected a call that has not run to take a value of, got one that has; take it before"
            raise RuntimeError(msg)
        if self.source is not group.gives[None]:
            msg = "Later: expected a call to take a value of, got one of the values of a call"
            raise TypeError(msg)
        one = Later()
        one.source = group.gives.get(number) or group.give(number)
        one.row = self.row
        group.taken.append(one)
        return one

    def __iter__(self) -> Any:
        msg = "Later: how many values there will be is not known yet; take them by number, as in y[0]"
        raise TypeError(msg)

    def __bool__(self) -> bool:
        msg = "Later: the value is not known yet; run the batch first, and branch on what it gives"
        raise TypeError(msg)


class Source:
    """What a group gives: rows of a pool from ``start`` on. No pool: it has not run, or what it gives are several values."""

    __slots__ = ("depth", "group", "pool", "start")

    depth: int  #: how many calls deep; -1 once it is there
    group: Group | None  #: None once it has run
    pool: Pool | None
    start: int


class Group:
    """Calls of one function as deep as each other, so that none waits for another."""

    __slots__ = ("calls", "classes", "depth", "every", "followers", "function", "gives", "inputs", "sources", "taken", "waits")

    def __init__(self, function: Callable[..., Any], depth: int) -> None:
        self.function, self.depth = function, depth
        self.calls: list[Later] = []
        self.inputs: list[tuple[Any, ...]] = []  #: of each call
        self.gives: dict[int | None, Source] = {}  #: None: the one value that a function gives as it is
        self.taken: list[Later] = []  #: the values that were asked for by number
        self.every: list[Any] = []  #: all inputs of all calls
        self.classes: set[type] = set()
        self.sources: set[Source] = set()
        self.followers: list[Group] = []
        self.waits = 0  #: for how many other groups
        self.give(None)

    def give(self, number: int | None) -> Source:
        source = self.gives[number] = Source()
        source.group, source.depth, source.pool = self, self.depth, None
        return source

    def survey(self) -> set[Group]:
        """See what the inputs are, and give the groups that have to run before."""
        every = self.every = list(chain.from_iterable(self.inputs))
        self.classes = set(map(type, every))
        waiting = every if self.classes == _LATER else [x for x in every if x.__class__ is Later]
        self.sources = set(map(_source_of, waiting))
        return {source.group for source in self.sources if source.group is not None}

    def kinds(self) -> tuple[Hashable, ...] | None:
        """What each input is, if that is the same for all calls."""
        arity = len(self.inputs[0])
        if len(set(map(len, self.inputs))) > 1:
            return None
        if self.classes == _LATER and len(pools := {source.pool for source in self.sources}) == 1:
            (pool,) = pools
            if pool is not None:
                return (pool.kind,) * arity
        if self.classes == _TENSOR:
            arrays = [x._array for x in self.every]
            if len({a.shape for a in arrays}) == 1 and len({a.dtype for a in arrays}) == 1:
                return ((arrays[0].shape, arrays[0].dtype),) * arity
        kinds = [_kinds(column) for column in zip(*self.inputs, strict=True)]
        return tuple([kind for (kind,) in kinds]) if sum(map(len, kinds)) == arity else None

    def apart(self) -> dict[tuple[Hashable, ...], Group]:
        """The calls by what their inputs are, as groups of their own."""
        parts: dict[tuple[Hashable, ...], Group] = {}
        moved = []
        for call, inputs in zip(self.calls, self.inputs, strict=True):
            kinds = tuple(map(_kind, inputs))
            part = parts.get(kinds) or parts.setdefault(kinds, Group(self.function, self.depth))
            moved.append((part, len(part.calls)))
            part.calls.append(call)
            part.inputs.append(inputs)
        numbers = {source: number for number, source in self.gives.items()}
        for one in (*self.calls, *self.taken):
            number = numbers[one.source]
            part, one.row = moved[one.row]
            one.source = part.gives.get(number) or part.give(number)
        for source in self.gives.values():  # some of what is deeper still points here
            source.group = None
        for part in parts.values():
            part.survey()
        return parts


class Pool:
    """Rows of one kind, of all groups that gave such: each group's below those of the last."""

    __slots__ = ("kind", "memory", "values")

    def __init__(self, kind: Hashable) -> None:
        self.kind = kind
        self.values: Any = None
        self.memory: Any = None

    def append(self, rows: Tensor, room: int) -> int:
        """Take up rows, of ``room`` that may come, and say where they start."""
        if self.values is None:
            self.values = rows
            return 0
        above, below = self.values._array, rows._array
        start, end = len(above), len(above) + len(below)
        if above.__class__ is not np.ndarray or below.__class__ is not np.ndarray:
            self.memory = None
        elif self.memory is None or end > len(self.memory):
            self.memory = np.empty((max(room, 2 * end), *above.shape[1:]), above.dtype)
            self.memory[:start] = above
        self.values = append_rows(self.values, rows, self.memory)
        return start


class DynamicBatch:
    """Notes calls for single examples and runs them in groups (Looks et al., arXiv 1702.02181; Neubig et al., arXiv 1705.07860).

    ``batch(function, *inputs)`` notes a call. The function works on rows: it gets each input with a new first dimension, and
    gives a tensor, or a tuple of tensors, whose rows belong to those of the inputs and to no others. Inputs are tensors of one
    example, what other calls will give, or hashable values, which the function gets as they are. Calls are alike where the
    function, the shapes and these values are; they run together once those as deep as each of them can. Of those that can,
    those of the function whose calls are the shallowest on average go first. Gradients flow through all of it.

    >>> halve = T.nn.Linear(4, 2)
    >>> def combine(left, right):
    ...     return halve(T.cat([left, right], 1)).tanh()
    >>> batch = DynamicBatch()
    >>> def build(tree):  # written for one tree
    ...     return batch(combine, *map(build, tree)) if isinstance(tree, tuple) else T.full((2,), tree)
    >>> trees = [(1.0, (2.0, 3.0)), ((1.0, 2.0), (3.0, (4.0, 5.0))), 6.0]
    >>> batch.run([build(tree) for tree in trees]).shape
    tensor.Size([3, 2])
    >>> batch.calls, batch.groups
    (6, 3)
    """

    def __init__(self) -> None:
        self.groups = 0  #: in how many groups calls ran
        self._ran = 0
        self._noted: dict[tuple[Callable[..., Any], int], Group] = {}

    @property
    def calls(self) -> int:
        """How many were noted."""
        return self._ran + sum(len(group.calls) for group in self._noted.values())

    def __call__(self, function: Callable[..., Any], *inputs: Any) -> Later:
        """Note a call."""
        depth = 0
        for x in inputs:
            if x.__class__ is Later and x.source.depth >= depth:
                depth = x.source.depth + 1
        group = self._noted.get((function, depth))
        if group is None:
            group = self._noted[function, depth] = Group(function, depth)
        call = Later()
        call.source = group.gives[None]
        call.row = len(group.calls)
        group.calls.append(call)
        group.inputs.append(inputs)
        return call

    def run(self, outputs: Sequence[Later | Tensor]) -> Tensor:
        """Run all that was noted, and give the values of some as rows of one tensor.

        Raises RuntimeError where their shapes differ, and what the functions raise, as they do.
        """
        self.run_noted()
        if not outputs:
            msg = "DynamicBatch: expected at least one output, got none"
            raise ValueError(msg)
        for y in outputs:
            if isinstance(y, Later) and y.source.pool is None:
                got = "a call of several values" if y.source.group is None else "one of another batch that was not run"
                msg = f"DynamicBatch: expected outputs of calls noted here that give one value each, got {got}"
                raise RuntimeError(msg)
        kinds: set[Any] = _kinds(outputs)
        if len(kinds) > 1:
            msg = f"DynamicBatch: expected outputs of one shape, got {', '.join(sorted(str(list(k[0])) for k in kinds))}"
            raise RuntimeError(msg)
        rows: Tensor = _column(outputs)
        return rows

    def run_noted(self) -> None:
        """Run all that was noted; more may be noted afterwards, on what there is by then."""
        noted = list(self._noted.values())
        ready: dict[Callable[..., Any], list[Group]] = {}
        ours = set(noted)
        for group in noted:
            before = group.survey()
            if not before <= ours:
                msg = "DynamicBatch: expected inputs that were noted here or have run, got one of another batch that was not run"
                raise RuntimeError(msg)
            group.waits = len(before)
            for other in before:
                other.followers.append(group)
            if not before:
                ready.setdefault(group.function, []).append(group)
        room = sum(len(group.calls) for group in noted)
        self._noted = {}
        self._ran += room
        pools: dict[Hashable, Pool] = {}
        depths = _mean_depths(noted) if len(noted) > 1 else {}
        while ready:
            function = min(ready, key=depths.__getitem__) if len(ready) > 1 else next(iter(ready))
            groups = ready.pop(function)
            for alike in _by_kinds(groups).values():
                self.groups += 1
                _run_together(function, alike, pools, room)
            for follower in chain.from_iterable([group.followers for group in groups]):
                follower.waits -= 1
                if not follower.waits:
                    ready.setdefault(follower.function, []).append(follower)


_source_of = attrgetter("source")
_node_of = attrgetter("_node")
_LATER: set[type] = {Later}
_TENSOR: set[type] = {Tensor}


def _mean_depths(groups: Iterable[Group]) -> dict[Callable[..., Any], float]:
    """How deep the calls of each function are, on average: early ones do not wait for late ones."""
    totals: dict[Callable[..., Any], tuple[int, int]] = {}
    for group in groups:
        depth, count = totals.get(group.function, (0, 0))
        totals[group.function] = depth + group.depth * len(group.calls), count + len(group.calls)
    return {function: depth / count for function, (depth, count) in totals.items()}


def _by_kinds(groups: list[Group]) -> dict[tuple[Hashable, ...], list[Group]]:
    found: dict[tuple[Hashable, ...], list[Group]] = {}
    for group in groups:
        kinds = group.kinds()
        for each, part in ({kinds: group} if kinds is not None else group.apart()).items():
            found.setdefault(each, []).append(part)
    return found


def _run_together(function: Any, groups: list[Group], pools: dict[Hashable, Pool], room: int) -> None:
    """Make one call of all calls of groups that are alike, and put what it gives into pools."""
    count = sum([len(group.calls) for group in groups])
    result = function(*_arguments(groups))
    several = isinstance(result, tuple)
    values: dict[Any, Any] = dict(enumerate(result)) if several else {None: result}
    if several and any(group.gives[None] in follower.sources for group in groups for follower in group.followers):
        msg = f"DynamicBatch: {_name(function)} gives {len(values)} values; take one by its number, as in y[0]"
        raise TypeError(msg)
    kinds = {number: _kind_of_rows(function, y, count) for number, y in values.items()}
    for number in {number for group in groups for number in group.gives}:
        if number in values:
            kind = kinds[number]
            pool = pools.get(kind) or pools.setdefault(kind, Pool(kind))
            start = pool.append(values[number], room)
            for group in groups:
                if number in group.gives:
                    group.gives[number].pool, group.gives[number].start = pool, start
                start += len(group.calls)
        elif number is not None:
            _refuse_number(function, number, len(values) if several else 0)
    for group in groups:
        for source in group.gives.values():
            source.group, source.depth = None, -1
        group.calls, group.inputs, group.taken, group.every, group.sources = [], [], [], [], set()


def _refuse_number(function: Any, number: int, count: int) -> None:
    if count:
        msg = f"DynamicBatch: {_name(function)} gives {count} values; there is no number {number}"
        raise IndexError(msg)
    msg = f"DynamicBatch: expected a tuple of values from {_name(function)}, which were asked for by number, got one"
    raise TypeError(msg)


def _arguments(groups: list[Group]) -> list[Any]:
    """The inputs of calls as columns."""
    inputs = list(chain.from_iterable([group.inputs for group in groups]))
    classes = {each for group in groups for each in group.classes}
    if classes == _LATER and len(pools := {source.pool for group in groups for source in group.sources}) == 1:
        places = [x.source.start + x.row for group in groups for x in group.every]
        values = pools.pop().values  # type: ignore[union-attr]  # what has run has a pool
        return [take_rows(values, rows) for rows in np.array(places, np.intp).reshape(len(inputs), -1).T.copy()]
    return [_stacked(column) if classes == _TENSOR else _column(column) for column in zip(*inputs, strict=True)]


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _kinds(xs: Iterable[Any]) -> set[Hashable]:
    """The kinds of all these inputs."""
    classes = set(map(type, xs))
    if classes == _LATER:
        return {_kind_of_source(source) for source in set(map(_source_of, xs))}
    if classes == _TENSOR:
        return {(x._array.shape, x._array.dtype) for x in xs}
    return set(map(_kind, xs))


def _kind(x: Any) -> Hashable:
    """What inputs have in common that can be put together."""
    if isinstance(x, Later):
        return _kind_of_source(x.source)
    return (x._array.shape, x._array.dtype) if isinstance(x, Tensor) else (type(x), x)


def _kind_of_source(source: Source) -> Hashable:
    if source.pool is None:
        msg = "DynamicBatch: an input is a call of several values; take one by its number, as in y[0]"
        raise TypeError(msg)
    return source.pool.kind


def _kind_of_rows(function: Any, y: Any, rows: int) -> Hashable:
    if not isinstance(y, Tensor) or not y.ndim or len(y) != rows:
        got = f"shape {list(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        msg = f"DynamicBatch: expected {rows} rows from {_name(function)} for as many calls, got {got}"
        raise RuntimeError(msg)
    return y._array.shape[1:], y._array.dtype


def _column(column: Sequence[Any]) -> Any:
    """One input of several calls: the values as the rows of one tensor."""
    if not isinstance(column[0], (Later, Tensor)):
        return column[0]
    given: list[int] = []
    found: dict[Any, list[int]] = {}
    for i, x in enumerate(column):
        if x.__class__ is Later:
            found.setdefault(x.source.pool, []).append(i)
        else:
            given.append(i)
    blocks = [take_rows(pool.values, [column[i].source.start + column[i].row for i in places]) for pool, places in found.items()]
    if given:
        blocks.append(_stacked([column[i] for i in given]))
    if len(blocks) == 1:
        return blocks[0]
    order = np.argsort([*chain.from_iterable(found.values()), *given])
    return take_rows(T.cat(blocks), order)


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    if any(map(_node_of, tensors)) or tensors[0]._array.__class__ is not np.ndarray:
        return T.stack(tensors)
    return Tensor(np.array([t._array for t in tensors]))
