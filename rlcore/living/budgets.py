"""Budgets: whether edits would make an agent too large, or too slow to act, found out on copies before they are made."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlcore.living.edits import Place
from rlcore.living.history import layer_of, widths
from rlcore.living.plan import Budget, Rule
from rlcore.types import EditableAgent, Part
from tensor import structure

__all__ = ["Over", "acting_ms", "over_budget", "repeated"]

#: Calls of `act` that the median is taken of.
CALLS = 25

#: Plans the edit of the rule's i-th layer.
Planner = Callable[[int, Place], Any]


class Over(NamedTuple):
    """A budget that edits would go over."""

    why: str
    whole: bool  #: whether it is the agent's, not the rule's


def over_budget(budget: Budget, rule: Rule, agent: EditableAgent, plan: Planner, x: Any, num_envs: int) -> Over | None:
    """The first budget that the edits of all layers of a rule would go over; None for none. Nothing has changed afterwards."""
    most, units, least = budget.parameters, rule.budget.units, rule.budget.least
    if rule.edit_name == "prune" and least is not None:
        goes: Any = rule.edit
        for name in rule.layers:
            if widths(agent.parts())[name] - goes.units < least:
                return Over(f"fewer than {least} units would be left in {name}", False)
    if not rule.grows or (most is None and units is None and budget.latency_ms is None):
        return None
    parts, grown = agent.parts(), dict[str, Any]()
    for i, name in enumerate(rule.layers):
        key, (part, layer) = name.partition(".")[0], layer_of(parts, name)
        net = grown.get(key, part.net)
        edit: structure.Edit = plan(i, Place(net, layer, x))
        if units is not None and edit.kind == "grow":
            wide = widths({key: Part(net, None)})[name] + edit.units
            if wide > units:
                return Over(f"{wide} units of {units} in {name}", False)
        grown[key] = edit.preview()
    if most is not None:
        size = agent.num_parameters + sum(_size(net) - _size(parts[key].net) for key, net in grown.items())  # type: ignore[attr-defined]
        if size > most:
            return Over(f"{size:,} parameters of {most:,}", True)
    if budget.latency_ms is not None and x is not None:
        with ExitStack() as stack:
            for key, net in grown.items():
                stack.enter_context(_in_place_of(parts[key].net, net))
            took = acting_ms(agent, repeated(x.numpy(), num_envs))
        if took > budget.latency_ms:
            return Over(f"{took:.3g} ms to act of {budget.latency_ms:.3g}", True)
    return None


def _size(net: Any) -> int:
    return sum(p.numel() for p in net.parameters())


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
