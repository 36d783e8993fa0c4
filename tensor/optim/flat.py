"""Parameters side by side in one array, with their moments: what lets an update be a dozen NumPy calls.

A `Flat` moves the arrays of its parameters into views of one buffer; the Parameter objects stay who they are.
Gradients stay ordinary tensors and are copied together at each step, so a ``.grad`` that somebody holds is never
overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np

from tensor.autograd.inplace import bump
from tensor.autograd.node import Version, version_of
from tensor.autograd.tensor import Tensor
from tensor.optim.flat_late import Late, Move, join, none_late, settle

__all__ = ["FLUSH_EVERY", "Flat", "Run", "Saved", "kind_of", "real_parts"]

#: Steps between two flushes of numbers that decay towards zero; see `Run.flush`.
FLUSH_EVERY = 64

#: One in so many elements is kept free in the memory that updates compute in, for the moments of a network that has grown.
SLACK = 8


class Saved(NamedTuple):
    """What is kept of one parameter: how often it was updated, its moments in its shape, its scalars, its late elements."""

    step: int
    moments: Mapping[str, Any]
    scalars: Mapping[str, float]
    late: Late | None = None


class Run:
    """Neighbouring elements that are updated together: their parts of all flat arrays, and memory to compute in.

    ``data`` are the parameters, ``grad`` a copy of the gradients that may be overwritten, ``scratch`` any values;
    ``pair`` is grad and scratch as two rows. ``moments`` has one row for each name of the optimizer's moments, ``rows``
    are these one by one and ``first_two`` the first two together. Complex numbers appear as pairs of real ones. ``params`` are
    the numbers of the parameters in the flat arrays. ``scalars`` are those of late elements, a row for each name.
    """

    __slots__ = ("data", "first_two", "grad", "moments", "pair", "params", "rows", "scalars", "scratch")

    def __init__(self, data: Any, pair: Any, moments: Any, params: range, scalars: Any = None) -> None:
        self.data, self.pair, self.moments, self.params, self.scalars = data, pair, moments, params, scalars
        self.grad, self.scratch = pair[0], pair[1]
        self.rows = tuple(moments[i] for i in range(len(moments)))
        self.first_two = moments[:2]

    def flush(self) -> None:
        """Set moments to zero that are too small to matter.

        Where gradients stay zero, moments decay into subnormal numbers and stay there, with which many processors
        compute far more slowly. The bound lies far below any moment that changes a parameter, and so far above the
        subnormal numbers that a moment needs more than `FLUSH_EVERY` steps from the one to the other.
        """
        if self.data.dtype.itemsize < 4:  # half precision has no such room
            return
        small = np.finfo(self.data.dtype).tiny * 1024
        for row in self.rows:
            np.abs(row, out=self.scratch)
            np.copyto(row, 0, where=self.scratch < small)


class Flat:
    """Parameters of one dtype and device, with their moments and how often each was updated.

    ``steps`` is one number while all parameters were updated equally often, as they nearly always are, else one for
    each. ``scalars`` has a tuple of numbers for each parameter, one for each of ``scalar_names``: what an optimizer knows of a
    parameter that is the same for all its elements. Only parameters that agree in both are updated together.
    """

    __slots__ = (
        "_grad", "_pair", "_room", "_runs", "_whole", "data", "extra", "late", "moments", "names", "offsets", "params",
        "scalar_names", "scalars", "steps", "versions", "views",
    )  # fmt: skip

    def __init__(self, params: Sequence[Tensor], names: tuple[str, ...], scalar_names: tuple[str, ...] = ()) -> None:
        self._allocate(params, [p._array.shape for p in params], names, scalar_names)
        self.moments[...] = 0
        for i in range(len(params)):
            self.adopt(i)

    def _allocate(
        self,
        params: Sequence[Tensor],
        shapes: Sequence[tuple[int, ...]],
        names: tuple[str, ...],
        scalar_names: tuple[str, ...],
        room: Any = None,
    ) -> None:
        first = params[0]._array
        self.params = list(params)
        self.names, self.scalar_names = names, scalar_names
        self.scalars: list[tuple[float, ...]] = [(0.0,) * len(scalar_names)] * len(self.params)
        self.offsets = [0]
        for shape in shapes:
            self.offsets.append(self.offsets[-1] + prod(shape))
        n = self.offsets[-1]
        self.data = np.empty_like(first, shape=(n,), order="C")
        rows = len(names)
        if room is not None and room.size >= rows * n:
            self.moments = room[: rows * n].reshape(rows, n)
        else:
            self.moments = np.empty_like(first, shape=(rows, n), order="C")
        self._room = np.empty_like(first, shape=(2 * (n + n // SLACK),), order="C")
        self._pair = self._room[: 2 * n].reshape(2, n)
        self._grad = self._pair[0]
        self.steps: int | list[int] = 0
        self.late: Late | None = None  #: the elements that are behind their parameter's count, where any are
        self.views = [self.data[a:b].reshape(shape) for shape, (a, b) in zip(shapes, pairwise(self.offsets), strict=True)]
        self.versions: list[Version] = [version_of(p) for p in params]
        self._runs: dict[tuple[int, int], Run] = {}
        self._whole = self.run(0, len(params))
        self.extra: dict[Any, Any] = {}  #: what an optimizer wants to keep beside, such as constants of this dtype

    @staticmethod
    def moved(
        params: Sequence[Tensor],
        before: Mapping[int, tuple[Flat, int]],
        moves: Mapping[int, Move],
        names: tuple[str, ...],
        scalar_names: tuple[str, ...],
        counted: bool,
    ) -> Flat:
        """A buffer for parameters from other buffers (``before``, by id), moved to other shapes, or new ones; see `place`.

        What was there stays as it was, but for the memory that updates compute in: moments go there, as memory that was never
        touched costs more than all the copying. ``counted``: whether what a move adds has a count of its own.
        """
        flat = Flat.__new__(Flat)
        shapes = [moves[id(p)].shape if id(p) in moves else p._array.shape for p in params]
        sources = [before[id(p)][0] for p in params if id(p) in before]
        room = next((s._room for s in sources if kind_of(s.data) == kind_of(params[0]._array)), None)
        flat._allocate(params, shapes, names, scalar_names, room)
        late: list[Late | None] = []
        steps = []
        for i, p in enumerate(params):
            step, part = 0, None
            if id(p) in before:
                source, j = before[id(p)]
                step, part = flat._take(i, source, j, moves.get(id(p)), counted)
            else:
                flat.views[i][...] = p._array
                flat.moments[:, flat.offsets[i] : flat.offsets[i + 1]] = 0
            steps.append(step)
            late.append(part)
        flat.set_steps(steps)
        flat.late = join(late, flat.offsets)
        return flat

    def _take(self, i: int, source: Flat, j: int, move: Move | None, counted: bool) -> tuple[int, Late | None]:
        """Fill in parameter i with the j-th of another buffer; returns its step and its late elements."""
        part = slice(self.offsets[i], self.offsets[i + 1])
        old = slice(source.offsets[j], source.offsets[j + 1])
        step, late, scalars = source.step_list()[j], source._late_of(j), source.scalars[j]
        if move is None:
            self.data[part] = source.data[old]
            self.moments[:, part] = source.moments[:, old]
        else:
            move.values(source.views[j], self.views[i])
            rows = len(self.names)
            if rows:
                before = source.moments[:, old].reshape(rows, *source.views[j].shape)
                move.carry(before, self.moments[:, part].reshape(rows, *move.shape), 1)
            if counted and step and (rows or self.scalar_names):
                late = (late or none_late(len(self.scalar_names))).moved(move, step)
                late, step, scalars = settle(late, self.views[i].size, step, scalars)
        self.scalars[i] = scalars
        return step, late

    def renewal(self, moves: Mapping[int, Move], counted: bool) -> Callable[[], None]:
        """What lets parameters (by id) take moves that keep their shapes, in place; it cannot fail. ``counted``: see `moved`.

        No memory changes hands, so what was compiled for this buffer stays of use.
        """
        written, late, rows = [], [self._late_of(i) for i in range(len(self.params))], len(self.names)
        counts, scalars = list(self.step_list()), list(self.scalars)
        for i, p in enumerate(self.params):
            move, view = moves.get(id(p)), self.views[i]
            if move is None:
                continue
            written.append((view, move.values(view, None)))
            if rows:
                moments = self.moments[:, self.offsets[i] : self.offsets[i + 1]].reshape(rows, *view.shape)
                written.append((moments, move.carry(moments, None, 1)))
            if counted and counts[i] and (rows or self.scalar_names):
                young = (late[i] or none_late(len(self.scalar_names))).moved(move, counts[i])
                late[i], counts[i], scalars[i] = settle(young, view.size, counts[i], scalars[i])
        whole = join(late, self.offsets)

        def renew() -> None:
            for target, values in written:
                target[...] = values
            self.late, self.scalars = whole, scalars
            self.set_steps(counts)

        return renew

    def keep(self) -> Callable[[Flat], None]:
        """A copy of all values; what writes them back, into this buffer or one of the same parameters."""
        data, moments, scalars, late = self.data.copy(), self.moments.copy(), list(self.scalars), self.late
        steps = self.steps if isinstance(self.steps, int) else list(self.steps)
        rows = None if late is None else late.scalars.copy()

        def put_back(flat: Flat) -> None:
            flat.data[...], flat.moments[...] = data, moments
            flat.steps, flat.scalars, flat.late = steps if isinstance(steps, int) else list(steps), list(scalars), late
            if late is not None:
                late.scalars[...] = rows

        return put_back

    def place(self) -> None:
        """Give all parameters their parts of this buffer, as they are here."""
        for p, view, version in zip(self.params, self.views, self.versions, strict=True):
            p._array = view
            version.value += 1
            if p._node is not None:
                p._node.shape, p._node.dtype = view.shape, view.dtype

    def __reduce__(self) -> Any:
        # Copied array by array, views would no longer be views: a copy (deep, or by pickle) is built anew.
        return _rebuild, (self.params, self.names, self.scalar_names, self.moments, self.steps, self.scalars, self.late)

    def adopt(self, i: int) -> None:
        """Move parameter i into the buffer. Raises RuntimeError when its shape is not the one it had."""
        p, view = self.params[i], self.views[i]
        _check_shape(p._array, view)
        view[...] = p._array
        p._array = view

    def fits(self) -> bool:
        """Bring back parameters whose array was replaced from outside; False for another dtype or device."""
        for p, view in zip(self.params, self.views):  # noqa: B905  # hot; of one length by construction
            if p._array is not view:
                return self._bring_back()
        return True

    def _bring_back(self) -> bool:
        for i, (p, view) in enumerate(zip(self.params, self.views, strict=True)):
            array = p._array
            if array is not view:
                if kind_of(array) != kind_of(view):
                    return False
                self.adopt(i)
        return True

    def run(self, i: int, j: int) -> Run:
        """The elements of parameters i to j - 1."""
        found = self._runs.get((i, j))
        if found is None:
            if len(self._runs) > 256:  # ever other parameters without a gradient: do not collect their views for ever
                self._runs.clear()
            part = slice(self.offsets[i], self.offsets[j])
            data, pair, moments = self.data[part], self._pair[:, part], self.moments[:, part]
            found = self._runs[i, j] = Run(real_parts(data), real_parts(pair), real_parts(moments), range(i, j))
        return found

    def pieces(self, run: Run, array: Any) -> list[Any]:
        """An array as long as the run, as views in the shapes of its parameters (real ones)."""
        start = self.offsets[run.params.start]
        bounds = [(self.offsets[i] - start, self.offsets[i + 1] - start, self.views[i].shape) for i in run.params]
        return [array[a:b].reshape(shape) for a, b, shape in bounds]

    def get_scalars(self, run: Run) -> Any:
        """The scalars of the run: numbers, or for late elements arrays."""
        return self.scalars[run.params.start] if run.scalars is None else run.scalars

    def set_scalars(self, run: Run, *values: Any) -> None:
        """Set the scalars of all parameters of the run, or of its late elements."""
        if run.scalars is not None:
            for row, value in zip(run.scalars, values, strict=True):
                row[...] = value
            return
        for i in run.params:
            self.scalars[i] = values

    def gather(self) -> list[tuple[Run, int]]:
        """Copy the gradients together and count the step: what to update, each with its number of steps.

        Parameters without a gradient are left out, with their moments and counts.
        """
        try:
            grads = [p._node.grad._array for p in self.params]  # type: ignore[union-attr]
        except AttributeError:  # one without a gradient, or that requires none any more: rare, so found out by failing
            return self._gather_some()
        np.concatenate(grads, axis=None, out=self._grad)
        for version in self.versions:
            version.value += 1
        if self.steps.__class__ is int and not self.scalar_names:
            self.steps += 1
            return [(self._whole, self.steps)]
        return self._count([True] * len(self.params))

    def _gather_some(self) -> list[tuple[Run, int]]:
        grads = [p.grad for p in self.params]
        for g, p, a, b in zip(grads, self.params, self.offsets, self.offsets[1:], strict=False):
            if g is not None:
                self._grad[a:b].reshape(g._array.shape)[...] = g._array
                bump(p)
        return self._count([g is not None for g in grads])

    def _count(self, active: list[bool]) -> list[tuple[Run, int]]:
        counts = [s + a for s, a in zip(self.step_list(), active, strict=True)]
        result = []
        alike = list(zip(active, counts, self.scalars, strict=True))
        i, n = 0, len(counts)
        while i < n:
            j = i + 1
            while j < n and alike[j] == alike[i]:
                j += 1
            if active[i]:
                result.append((self.run(i, j), counts[i]))
            i = j
        self.set_steps(counts)
        return result

    def step_list(self) -> list[int]:
        """How often each parameter was updated."""
        return [self.steps] * len(self.params) if isinstance(self.steps, int) else self.steps

    def set_steps(self, counts: list[int]) -> None:
        """Set how often each parameter was updated."""
        self.steps = counts[0] if all(c == counts[0] for c in counts) else counts

    def moment(self, name: str, i: int) -> Any:
        """One moment of parameter i, a view in its shape."""
        return self.moments[self.names.index(name), self.offsets[i] : self.offsets[i + 1]].reshape(self.views[i].shape)

    def saved(self, i: int) -> Saved:
        """What is kept of parameter i; its moments are views."""
        moments = {name: self.moment(name, i) for name in self.names}
        scalars = dict(zip(self.scalar_names, self.scalars[i], strict=True))
        return Saved(self.step_list()[i], moments, scalars, self._late_of(i))

    def _late_of(self, i: int) -> Late | None:
        return None if self.late is None else self.late.part(self.offsets[i], self.offsets[i + 1])

    def restore(self, i: int, saved: Saved) -> None:
        """Set what is kept of parameter i; zeros where nothing is given."""
        counts = list(self.step_list())
        counts[i] = saved.step
        self.set_steps(counts)
        self.scalars[i] = tuple(saved.scalars.get(name, 0.0) for name in self.scalar_names)
        if saved.late is not None or self.late is not None:
            parts = [saved.late if k == i else self._late_of(k) for k in range(len(self.params))]
            self.late = join(parts, self.offsets)
        for name in self.names:
            target = self.moment(name, i)
            if name in saved.moments:
                _check_shape(target, saved.moments[name])
                target[...] = saved.moments[name]
            else:
                target[...] = 0


def kind_of(array: Any) -> tuple[Any, ...]:
    """What arrays must have in common to lie in one buffer: dtype, array type, device."""
    return array.dtype, type(array), str(getattr(array, "device", "cpu"))


def real_parts(array: Any) -> Any:
    """Complex numbers as pairs of real ones, a view; real arrays as they are."""
    return array.view(array.real.dtype) if array.dtype.kind == "c" else array


def _rebuild(
    params: list[Tensor],
    names: tuple[str, ...],
    scalar_names: tuple[str, ...],
    moments: Any,
    steps: int | list[int],
    scalars: list[tuple[float, ...]],
    late: Late | None = None,
) -> Flat:
    flat = Flat(params, names, scalar_names)
    flat.moments[...] = moments
    flat.steps, flat.scalars, flat.late = steps, scalars, late
    return flat


def _check_shape(now: Any, before: Any) -> None:
    if now.shape != before.shape:
        change = f"from {list(before.shape)} to {list(now.shape)}"
        ways = "an edit takes the optimizer along by edit.apply(optimizer), else make a new one"
        msg = f"optimizer: the shape of a parameter was changed {change}; {ways}"
        raise RuntimeError(msg)
