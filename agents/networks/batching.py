"""Dynamic batching: code written for one example, run on many of different shapes at once.

In a `DynamicBatch` a call is only noted. `run` then takes, again and again, all calls that are ready and alike (the same
function, inputs of the same shapes), and makes one call of them, on rows.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

import tensor as T
from tensor import Tensor
from tensor.ops.join import collect_rows

__all__ = ["DynamicBatch", "Later"]


class Later:
    """The value that a noted call will have: one row of a tensor that its group gives."""

    __slots__ = ("calls_with", "function", "inputs", "kind", "parts", "row", "source", "waits")

    function: Callable[..., Any]
    inputs: tuple[Any, ...]
    waits: int  #: for how many inputs
    calls_with: Later | list[Later] | None  #: the call, or calls, that wait for this value
    parts: dict[int, Later] | None  #: where the function gives several values, those that were asked for
    kind: Hashable  #: None until it has run
    source: Tensor
    row: int

    def __getitem__(self, number: int) -> Later:
        """One of the values of a function that gives several."""
        if self.kind is not None:
            msg = "Later: expected a call that has not run to take a value of, got one that has; take it before"
            raise RuntimeError(msg)
        if self.parts is None:
            self.parts = {}
        one = self.parts.get(number)
        if one is None:
            one = self.parts[number] = Later()
            one.kind = one.parts = one.calls_with = None
        return one

    def __iter__(self) -> Any:
        msg = "Later: how many values there will be is not known yet; take them by number, as in y[0]"
        raise TypeError(msg)

    def __bool__(self) -> bool:
        msg = "Later: the value is not known yet; run the batch first, and branch on what it gives"
        raise TypeError(msg)


class DynamicBatch:
    """Notes calls for single examples and runs them in groups (Looks et al., arXiv 1702.02181; Neubig et al., arXiv 1705.07860).

    ``batch(function, *inputs)`` notes a call. The function works on rows: it gets each input with a new first dimension, and
    gives a tensor, or a tuple of tensors, whose rows belong to those of the inputs and to no others. Inputs are tensors of one
    example, what other calls will give, or hashable values, which the function gets as they are. Calls are alike where the
    function, the shapes and these values are; of those that are ready, those of the function whose calls are
    the shallowest on average go first. Gradients flow through
    all of it.

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
        self.calls = 0  #: how many were noted
        self.groups = 0  #: in how many groups they ran
        self._noted: list[Later] = []
        self._ready: dict[tuple[Any, ...], list[Later]] = {}

    def __call__(self, function: Callable[..., Any], *inputs: Any) -> Later:
        """Note a call."""
        call = Later()
        call.function, call.inputs = function, inputs
        call.kind = call.parts = call.calls_with = None
        waits = 0
        for x in inputs:
            if x.__class__ is Later and x.kind is None:
                waits += 1
                waiting = x.calls_with
                if waiting is None:  # most often it is the only one: no list, which the garbage collector would count
                    x.calls_with = call
                elif isinstance(waiting, list):
                    waiting.append(call)
                else:
                    x.calls_with = [waiting, call]
        call.waits = waits
        self.calls += 1
        self._noted.append(call)
        if not waits:
            self._admit(call)
        return call

    def run(self, outputs: Sequence[Later | Tensor]) -> Tensor:
        """Run all that was noted, and give the values of some as rows of one tensor.

        Raises RuntimeError where their shapes differ, and what the functions raise, as they do.
        """
        self.run_noted()
        if not outputs:
            msg = "DynamicBatch: expected at least one output, got none"
            raise ValueError(msg)
        kinds: set[Any] = {y.kind if isinstance(y, Later) else _kind(y) for y in outputs}
        if None in kinds or _SEVERAL in kinds:
            got = "a call of several values" if _SEVERAL in kinds else "one of another batch that was not run"
            msg = f"DynamicBatch: expected outputs of calls noted here that give one value each, got {got}"
            raise RuntimeError(msg)
        if len(kinds) > 1:
            msg = f"DynamicBatch: expected outputs of one shape, got {', '.join(sorted(str(list(k[0])) for k in kinds))}"
            raise RuntimeError(msg)
        return _rows(outputs)

    def run_noted(self) -> None:
        """Run all that was noted; more may be noted afterwards, on what there is by then."""
        ready, means = self._ready, None
        while ready:
            key = next(iter(ready))
            if len(ready) > 1:
                means = means or self._mean_depths()
                key = min(ready, key=lambda k: means[k[0]])
            self._run_group(ready.pop(key))
        self._noted.clear()

    def _mean_depths(self) -> dict[Callable[..., Any], float]:
        """How deep the calls left of each function are, on average: early ones do not wait for late ones."""
        depths: dict[int, int] = {}
        of_function: dict[Callable[..., Any], list[int]] = {}
        for call in self._noted:
            if call.kind is None:
                depth = max((depths.get(id(x), 0) for x in call.inputs), default=0) + 1
                for value in (call, *(call.parts or {}).values()):
                    depths[id(value)] = depth
                of_function.setdefault(call.function, []).append(depth)
        return {function: sum(each) / len(each) for function, each in of_function.items()}

    def _admit(self, call: Later) -> None:
        """Put a call that waits for nothing to those like it."""
        key = (call.function, *[x.kind if x.__class__ is Later else _kind(x) for x in call.inputs])
        alike = self._ready.get(key)
        if alike is None:
            self._ready[key] = [call]
        else:
            alike.append(call)

    def _run_group(self, calls: list[Later]) -> None:
        function = calls[0].function
        columns = zip(*[call.inputs for call in calls], strict=True)
        result = function(*[_rows(column) if isinstance(column[0], (Later, Tensor)) else column[0] for column in columns])
        several = isinstance(result, tuple)
        values = [(y, _kind_of_rows(function, y, len(calls))) for y in (result if several else (result,))]
        self.groups += 1
        if several:
            self._hand_out_parts(function, calls, values)
            return
        ((source, kind),) = values
        for row, call in enumerate(calls):
            if call.parts:
                msg = f"DynamicBatch: expected a tuple of values from {_name(function)}, which were asked for by number, got one"
                raise TypeError(msg)
            call.source, call.kind, call.row, call.inputs = source, kind, row, ()
            if call.calls_with is not None:
                self._release(call)

    def _hand_out_parts(self, function: Any, calls: list[Later], values: list[tuple[Tensor, Hashable]]) -> None:
        for row, call in enumerate(calls):
            if call.calls_with is not None:
                msg = f"DynamicBatch: {_name(function)} gives {len(values)} values; take one by its number, as in y[0]"
                raise TypeError(msg)
            call.kind, call.inputs = _SEVERAL, ()
            for number, part in (call.parts or {}).items():
                if not 0 <= number < len(values):
                    msg = f"DynamicBatch: {_name(function)} gives {len(values)} values; there is no number {number}"
                    raise IndexError(msg)
                part.source, part.kind = values[number]
                part.row = row
                self._release(part)

    def _release(self, done: Later) -> None:
        """Admit the calls that waited for this value only."""
        waiting = done.calls_with
        for call in waiting if isinstance(waiting, list) else () if waiting is None else (waiting,):
            call.waits -= 1
            if not call.waits:
                self._admit(call)
        done.calls_with = None


#: The kind of a call as a whole that gives several values.
_SEVERAL = "several"


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _kind(x: Any) -> Hashable:
    """What inputs have in common that can be put together."""
    return (x._array.shape, x._array.dtype) if isinstance(x, Tensor) else ("value", x)


def _kind_of_rows(function: Any, y: Any, rows: int) -> Hashable:
    if not isinstance(y, Tensor) or not y.ndim or len(y) != rows:
        got = f"shape {list(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        msg = f"DynamicBatch: expected {rows} rows from {_name(function)} for as many calls, got {got}"
        raise RuntimeError(msg)
    return y._array.shape[1:], y._array.dtype


def _rows(column: Sequence[Any]) -> Tensor:
    """The values of a column of inputs as the rows of one tensor."""
    sources: dict[int, tuple[Tensor, list[int], list[int]]] = {}
    given: list[int] = []
    last: Tensor | None = None
    for i, x in enumerate(column):
        if x.__class__ is not Later:
            given.append(i)
            continue
        if (source := x.source) is not last:
            last = source
            place = sources.get(id(source))
            if place is None:
                place = sources[id(source)] = source, [], []
            _, into, rows = place
        into.append(i)
        rows.append(x.row)
    if given:
        stacked = _stacked([column[i] for i in given])
        if not sources:
            return stacked
        sources[0] = stacked, given, list(range(len(given)))
    places = list(sources.values())
    return collect_rows([y for y, _, _ in places], [(into, rows) for _, into, rows in places])


def _stacked(tensors: list[Tensor]) -> Tensor:
    if any(t._node is not None for t in tensors) or tensors[0]._array.__class__ is not np.ndarray:
        return T.stack(tensors)
    return Tensor(np.array([t._array for t in tensors]))
