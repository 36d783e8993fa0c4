"""Budgets: whether an edit would make an agent too large, or too slow to act, measured before it is made."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlcore.living.history import widths
from rlcore.living.plan import Budget, Rule
from rlcore.types import EditableAgent
from tensor import structure

__all__ = ["Over", "acting_ms", "over_budget"]

#: Calls of `act` that the median is taken of.
CALLS = 25


class Over(NamedTuple):
    """A budget that an edit would go over."""

    why: str
    whole: bool  #: whether it is the agent's, not the rule's


def over_budget(
    budget: Budget, rule: Rule, agent: EditableAgent, edit: structure.Edit, name: str, observations: NDArray[Any] | None
) -> Over | None:
    """The first budget that a planned edit of the layer ``name`` would go over; None for none. Nothing has changed afterwards."""
    most, units = budget.parameters, rule.budget.units
    if units is not None and edit.kind == "grow":
        wide = widths(agent.parts())[name] + edit.units
        if wide > units:
            return Over(f"{wide} units of {units} in {name}", False)
    if not rule.grows or (most is None and budget.latency_ms is None):
        return None
    grown = edit.preview()
    if most is not None:
        now = sum(p.numel() for p in edit.net.parameters())
        size = agent.num_parameters - now + sum(p.numel() for p in grown.parameters())  # type: ignore[attr-defined]
        if size > most:
            return Over(f"{size:,} parameters of {most:,}", True)
    if budget.latency_ms is not None and observations is not None:
        with _in_place_of(edit.net, grown):
            took = acting_ms(agent, observations)
        if took > budget.latency_ms:
            return Over(f"{took:.3g} ms to act of {budget.latency_ms:.3g}", True)
    return None


def acting_ms(agent: Any, observations: NDArray[Any]) -> float:
    """Milliseconds that an agent takes to act on observations ``[n, d]``: the median of some calls that draw nothing."""
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        agent.act(observations, deterministic=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


@contextmanager
def _in_place_of(net: Any, other: Any) -> Iterator[None]:
    """Whoever holds ``net`` runs ``other`` meanwhile, a module of the same kind."""
    own = dict(vars(net))
    try:
        vars(net).clear()
        vars(net).update(vars(other))
        yield
    finally:
        vars(net).clear()
        vars(net).update(own)


def repeated(observations: NDArray[Any], n: int) -> NDArray[Any]:
    """n of the observations, from the first again where there are fewer.

    >>> repeated(np.array([[1.0], [2.0]]), 3).ravel()
    array([1., 2., 1.])
    """
    return observations[np.arange(n) % len(observations)]
