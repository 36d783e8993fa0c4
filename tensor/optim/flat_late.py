"""Elements that came later than the parameter they lie in: they count fewer steps, and are updated by their own count.

Moments that start at zero under an old step count would be read as tiny means of many gradients: Adam would move such an element
3.2 times its rate at once. So whatever an edit of a network adds has an age of its own. These elements are few: they are taken
out before the update of all, updated by themselves with an array of ages for the step, and put back over the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from tensor import cuda

if TYPE_CHECKING:
    from tensor.optim.flat import Flat, Run

__all__ = ["Late", "LateRun", "Move", "join", "late_run", "none_late", "settle"]


class Move(Protocol):
    """How the elements of a parameter come to lie in an array of another shape."""

    shape: tuple[int, ...]

    def values(self, array: Any, out: Any) -> Any:
        """The parameter itself, with what is new; in ``out`` unless that is None."""

    def carry(self, array: Any, out: Any, lead: int = 0) -> Any:
        """What follows the parameter, zero where it is new; there are ``lead`` axes before the parameter's own."""

    def places(self, places: Any) -> tuple[Any, Any]:
        """Where elements lie afterwards, and for each which of the given it was; those that are new also, with -1."""


class Late(NamedTuple):
    """``lags``: how many steps the elements at ``places`` (ascending) are behind; their own scalars, a row for each name."""

    places: Any
    lags: Any
    scalars: Any

    def part(self, start: int, stop: int) -> Late | None:
        """The elements of a part of the buffer, their places counted from its start; None for none."""
        a, b = np.searchsorted(self.places, (start, stop))
        return Late(self.places[a:b] - start, self.lags[a:b], self.scalars[:, a:b]) if b > a else None

    def moved(self, move: Move, lag: int) -> Late:
        """The same after a move; what is new is ``lag`` steps behind."""
        places, source = move.places(self.places)
        if not self.places.size:
            return Late(np.sort(places), np.full(places.size, lag), np.zeros((len(self.scalars), places.size)))
        order = np.argsort(places)
        source = source[order]
        lags = np.where(source < 0, lag, self.lags[source])
        scalars = np.where(source < 0, 0.0, self.scalars[:, source])
        return Late(places[order], lags, scalars)

    def dense(self, shape: tuple[int, ...], values: Any, rest: float = 0) -> Any:
        """``values`` (of these elements) in an array of the parameter's shape, ``rest`` elsewhere."""
        result = np.full(shape, rest, np.float64)
        result.reshape(-1)[self.places] = values
        return result


def none_late(scalars: int) -> Late:
    """No elements, to be `Late.moved`."""
    return Late(np.zeros(0, np.intp), np.zeros(0, np.int64), np.zeros((scalars, 0)))


def settle(late: Late, size: int, step: int, scalars: tuple[float, ...]) -> tuple[Late | None, int, tuple[float, ...]]:
    """Late elements of a parameter, its step and scalars, such that some element is not late and none is late by nothing."""
    if late.places.size == size and size:  # all that was there from the start is gone
        oldest = int(late.lags.argmin())
        scalars = tuple(float(s) for s in late.scalars[:, oldest])
        lag = int(late.lags[oldest])
        late, step = late._replace(lags=late.lags - lag), step - lag
    keep = late.lags > 0
    if not keep.any():
        return None, step, scalars
    return (late if keep.all() else Late(late.places[keep], late.lags[keep], late.scalars[:, keep])), step, scalars


def join(parts: Sequence[Late | None], offsets: Sequence[int]) -> Late | None:
    """The late elements of a whole buffer from those of its parameters."""
    known = [(part, start) for part, start in zip(parts, offsets, strict=False) if part is not None]
    if not known:
        return None
    return Late(
        np.concatenate([part.places + start for part, start in known]),
        np.concatenate([part.lags for part, _ in known]),
        np.concatenate([part.scalars for part, _ in known], axis=1),
    )


class LateRun:
    """The late elements of a run before its update: ``run`` has copies to update; `put_back` writes them over the run's."""

    __slots__ = ("_places", "_scalars", "_whole", "_width", "ages", "run")

    def __init__(self, kind: type[Run], whole: Run, late: Late, step: int, pairs: bool) -> None:
        places, ages, scalars = late.places, step - late.lags, late.scalars.copy()
        if pairs:  # complex numbers appear as pairs of real ones
            places = (2 * places[:, None] + np.arange(2)).ravel()
            ages, scalars = np.repeat(ages, 2), np.repeat(scalars, 2, axis=1)
        pair = np.empty_like(whole.pair, shape=(2, places.size))
        if cuda.device_of(pair) is None:
            np.take(whole.grad, places, out=pair[0], mode="clip")
        else:
            places, ages, scalars = (np.asarray(x, like=pair) for x in (places, ages, scalars))
            pair[0] = np.take(whole.grad, places)
        self.run = kind(np.take(whole.data, places), pair, np.take(whole.moments, places, axis=1), whole.params, scalars)
        self.ages, self._places, self._whole = ages, places, whole
        self._scalars, self._width = late.scalars, 1 + pairs

    def put_back(self) -> None:
        """Write the updated elements over what the update of all did to them."""
        whole, run = self._whole, self.run
        whole.data[self._places] = run.data
        whole.moments[:, self._places] = run.moments
        self._scalars[...] = cuda.to_host(run.scalars)[:, :: self._width]


def late_run(flat: Flat, run: Run, step: int) -> LateRun | None:
    """What is late in a run, taken out before its update; None for nothing."""
    assert flat.late is not None
    part = flat.late.part(flat.offsets[run.params.start], flat.offsets[run.params.stop])
    return None if part is None else LateRun(type(run), run, part, step, flat.data.dtype.kind == "c")
