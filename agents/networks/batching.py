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
        if self.source is not group.whole:
            msg = "Later: expected a call to take a value of, got one of the values of a call"
            raise TypeError(msg)
        one = Later()
        one.source = group.gives.get(number) or group.give(number)
        one.row = self.row
        return one

    def __iter__(self) -> Any:
        msg = "Later: how many values there will be is not known yet; take them by number, as in y[0]"
        raise TypeError(msg)

    def __bool__(self) -> bool:
        msg = "Later: the value is not known yet; run the batch first, and branch on what it gives"
        raise TypeError(msg)


class Source:
    """What a group gives: rows of a pool from ``start`` on. No pool: it has not run, or what it gives are several values."""

    __slots__ = ("depth", "group", "moved", "pool", "start")

    depth: int  #: how many calls deep; -1 once it is there
    group: Group | None  #: None once it has run
    moved: list[tuple[Source, int]] | None  #: where each row is now, if the group was taken apart
    pool: Pool | None
    start: int


class Group:
    """Calls of one function as deep as each other, so that none waits for another.

    Their inputs are in two lists, one call after the other: a source and a row of it, or None and what was given. The calls
    themselves are not kept: objects that die young cost little.
    """

    __slots__ = ("arity", "count", "depth", "distinct", "followers", "function", "gives", "rows", "sources", "waits", "whole")

    def __init__(self, function: Callable[..., Any], depth: int, arity: int) -> None:
        self.function, self.depth, self.arity = function, depth, arity
        self.count = 0
        self.sources: list[Any] = []
        self.rows: list[Any] = []
        self.gives: dict[int | None, Source] = {}  #: by number; None: what the function gives as a whole
        self.distinct: set[Any] = set()  #: the sources, once each
        self.followers: list[Group] = []
        self.waits = 0  #: for how many other groups
        self.whole = self.give(None)

    def give(self, number: int | None) -> Source:
        source = self.gives[number] = Source()
        source.group, source.depth, source.pool, source.moved = self, self.depth, None, None
        return source

    def before(self) -> set[Group]:
        """The groups that have to run before."""
        self.distinct = set(self.sources)
        return {source.group for source in self.distinct if source is not None and source.group is not None}

    def kinds(self) -> tuple[Hashable, ...] | None:
        """What each input is, if that is the same for all calls."""
        if any(source.moved for source in self.distinct if source is not None):
            _follow(self.sources, self.rows)
            self.distinct = set(self.sources)
        pool = _only_pool(self.distinct)
        if pool is not None:
            return (pool.kind,) * self.arity
        kinds = [_kinds(self.sources[i :: self.arity], self.rows[i :: self.arity]) for i in range(self.arity)]
        return tuple([kind for (kind,) in kinds]) if all(len(each) == 1 for each in kinds) else None

    def apart(self) -> dict[tuple[Hashable, ...], Group]:
        """The calls by what their inputs are, as groups of their own."""
        parts: dict[tuple[Hashable, ...], Group] = {}
        moved = []
        for start in range(0, self.count * self.arity, self.arity):
            sources, rows = self.sources[start : start + self.arity], self.rows[start : start + self.arity]
            kinds = tuple(map(_kind, sources, rows))
            part = parts.get(kinds) or parts.setdefault(kinds, Group(self.function, self.depth, self.arity))
            moved.append((part, part.count))
            part.count += 1
            part.sources += sources
            part.rows += rows
        for number, source in self.gives.items():
            source.moved = [(part.gives.get(number) or part.give(number), row) for part, row in moved]
            source.group, source.depth = None, -1
        for part in parts.values():
            part.followers = self.followers
            part.before()
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
        self._noted: list[dict[Any, Group]] = []  #: by depth, then by function; with the number of inputs, if there are several

    @property
    def calls(self) -> int:
        """How many were noted."""
        return self._ran + sum(group.count for level in self._noted for group in level.values())

    def __call__(self, function: Callable[..., Any], *inputs: Any) -> Later:
        """Note a call."""
        below = -1
        for x in inputs:
            if type(x) is Later:
                depth = x.source.depth
                if depth > below:
                    below = depth
        try:
            group = self._noted[below + 1][function]
        except (IndexError, KeyError):
            group = self._new_group(function, below + 1, len(inputs), function)
        if group.arity != len(inputs):
            group = self._new_group(function, below + 1, len(inputs), (function, len(inputs)))
        sources, rows = group.sources, group.rows
        for x in inputs:
            if type(x) is Later:
                sources.append(x.source)
                rows.append(x.row)
            else:
                sources.append(None)
                rows.append(x)
        call = Later()
        call.source = group.whole
        call.row = group.count
        group.count += 1
        return call

    def _new_group(self, function: Callable[..., Any], depth: int, arity: int, key: Any) -> Group:
        while len(self._noted) <= depth:
            self._noted.append({})
        level = self._noted[depth]
        return level.get(key) or level.setdefault(key, Group(function, depth, arity))

    def run(self, outputs: Sequence[Later | Tensor]) -> Tensor:
        """Run all that was noted, and give the values of some as rows of one tensor.

        Raises RuntimeError where their shapes differ, and what the functions raise, as they do.
        """
        self.run_noted()
        if not outputs:
            msg = "DynamicBatch: expected at least one output, got none"
            raise ValueError(msg)
        strange = {type(y).__name__ for y in outputs if not isinstance(y, (Later, Tensor))}
        if strange:
            msg = f"DynamicBatch: expected outputs that are calls or tensors, got {', '.join(sorted(strange))}"
            raise TypeError(msg)
        sources = [y.source if isinstance(y, Later) else None for y in outputs]
        rows = [y.row if isinstance(y, Later) else y for y in outputs]
        _follow(sources, rows)
        for source in sources:
            if source is not None and source.pool is None:
                got = "a call of several values" if source.group is None else "one of another batch that was not run"
                msg = f"DynamicBatch: expected outputs of calls noted here that give one value each, got {got}"
                raise RuntimeError(msg)
        kinds: set[Any] = _kinds(sources, rows)
        if len(kinds) > 1:
            msg = f"DynamicBatch: expected outputs of one shape, got {', '.join(sorted(str(list(k[0])) for k in kinds))}"
            raise RuntimeError(msg)
        values: Tensor = _column(sources, rows)
        return values

    def run_noted(self) -> None:
        """Run all that was noted; more may be noted afterwards, on what there is by then."""
        noted = [group for level in self._noted for group in level.values()]
        ready: dict[Callable[..., Any], list[Group]] = {}
        ours = set(noted)
        for group in noted:
            before = group.before()
            if not before <= ours:
                msg = "DynamicBatch: expected inputs that were noted here or have run, got one of another batch that was not run"
                raise RuntimeError(msg)
            group.waits = len(before)
            for other in before:
                other.followers.append(group)
            if not before:
                ready.setdefault(group.function, []).append(group)
        room = sum(group.count for group in noted)
        self._noted = []
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


_pool_of = attrgetter("pool")


def _only_pool(sources: set[Any]) -> Pool | None:
    """The pool that all inputs are from, if that is one."""
    if None in sources:
        return None
    pools: set[Pool | None] = set(map(_pool_of, sources))
    return pools.pop() if len(pools) == 1 else None


def _follow(sources: list[Any], rows: list[Any]) -> None:
    """Where inputs are now whose groups were taken apart."""
    for i, source in enumerate(sources):
        if source is not None and source.moved is not None:
            sources[i], rows[i] = source.moved[rows[i]]


def _mean_depths(groups: Iterable[Group]) -> dict[Callable[..., Any], float]:
    """How deep the calls of each function are, on average: early ones do not wait for late ones."""
    totals: dict[Callable[..., Any], tuple[int, int]] = {}
    for group in groups:
        depth, count = totals.get(group.function, (0, 0))
        totals[group.function] = depth + group.depth * group.count, count + group.count
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
    count = sum([group.count for group in groups])
    result = function(*_arguments(groups))
    several = isinstance(result, tuple)
    values: dict[Any, Any] = dict(enumerate(result)) if several else {None: result}
    if several and any(group.whole in follower.distinct for group in groups for follower in group.followers):
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
                start += group.count
        elif number is not None:
            _refuse_number(function, number, len(values) if several else 0)
    for group in groups:
        for source in group.gives.values():
            source.group, source.depth = None, -1


def _refuse_number(function: Any, number: int, count: int) -> None:
    if count:
        msg = f"DynamicBatch: {_name(function)} gives {count} values; there is no number {number}"
        raise IndexError(msg)
    msg = f"DynamicBatch: expected a tuple of values from {_name(function)}, which were asked for by number, got one"
    raise TypeError(msg)


def _arguments(groups: list[Group]) -> list[Any]:
    """The inputs of calls as columns."""
    arity, sources, rows, distinct = groups[0].arity, groups[0].sources, groups[0].rows, groups[0].distinct
    for group in groups[1:]:
        sources, rows, distinct = sources + group.sources, rows + group.rows, distinct | group.distinct
    pool = _only_pool(distinct)
    if pool is not None:
        places = np.array([source.start + row for source, row in zip(sources, rows, strict=True)], np.intp)
        return [take_rows(pool.values, each) for each in places.reshape(-1, arity).T.copy()]
    return [_column(sources[i::arity], rows[i::arity]) for i in range(arity)]


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _kinds(sources: Iterable[Any], rows: Iterable[Any]) -> set[Hashable]:
    """The kinds of these inputs."""
    distinct = set(sources)
    if distinct == {None}:  # the same ones may have been given again and again
        return {_kind(None, x) for x in dict(zip(map(id, rows), rows, strict=True)).values()}
    return set(map(_kind, sources, rows)) if None in distinct else {_kind(source, 0) for source in distinct}


def _kind(source: Source | None, x: Any) -> Hashable:
    """What inputs have in common that can be put together."""
    if source is None:
        if isinstance(x, Tensor):
            return x._array.shape, x._array.dtype
        if not isinstance(x, Hashable):
            msg = f"DynamicBatch: expected inputs that are tensors, calls or hashable values, got {type(x).__name__}"
            raise TypeError(msg)
        return type(x), x
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


def _column(sources: Sequence[Any], rows: Sequence[Any]) -> Any:
    """One input of several calls: the values as the rows of one tensor."""
    if sources[0] is None and not isinstance(rows[0], Tensor):
        return rows[0]
    if set(sources) == {None}:
        return _stacked(rows)
    found: dict[Any, list[int]] = {}
    for i, source in enumerate(sources):
        found.setdefault(None if source is None else source.pool, []).append(i)
    blocks = [
        _stacked([rows[i] for i in places])
        if pool is None
        else take_rows(pool.values, np.array([sources[i].start + rows[i] for i in places], np.intp))
        for pool, places in found.items()
    ]
    if len(blocks) == 1:
        return blocks[0]
    return take_rows(T.cat(blocks), np.argsort(list(chain.from_iterable(found.values()))))


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors as rows; those given again and again are put together once."""
    ids = list(map(id, tensors))
    once = dict(zip(ids, tensors, strict=True))
    if 2 * len(once) <= len(ids):
        place = dict(zip(once, range(len(once)), strict=True))
        return take_rows(_stacked(list(once.values())), np.array([place[i] for i in ids], np.intp))
    if any(t._node is not None for t in tensors) or tensors[0]._array.__class__ is not np.ndarray:
        return T.stack(tensors)
    return Tensor(np.array([t._array for t in tensors]))
