"""What agents share so that their networks may change: spaces that grow, and networks rebuilt from their structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space
from numpy.typing import NDArray

from rlcore.errors import SpaceError
from rlcore.types import Part, State
from tensor import Tensor, nn, structure
from tensor.autograd.inplace import bump

__all__ = [
    "build_space",
    "cautious",
    "describe_space",
    "more_actions",
    "more_deviations",
    "more_dimensions",
    "more_inputs",
    "names_in_order",
    "new_outputs",
    "optimized",
    "rebuilt",
    "widen",
]

M = TypeVar("M", bound=nn.Module)
Edits = list[tuple[str, structure.Edit]]


def new_outputs(agent: str, old: Space[Any], new: Space[Any]) -> int:
    """How many outputs an action space needs more than before; SpaceError where the old actions are not all first in the new.

    >>> new_outputs("dqn", Discrete(2), Discrete(3))
    1
    """
    added = -1
    if isinstance(old, Discrete) and isinstance(new, Discrete):
        added = int(new.n - old.n)
    elif (isinstance(old, MultiBinary) and isinstance(new, MultiBinary) and len(old.shape) == len(new.shape) == 1) or (
        isinstance(old, Box) and isinstance(new, Box) and len(old.shape) == len(new.shape) == 1
    ):
        added = new.shape[0] - old.shape[0]
    elif isinstance(old, MultiDiscrete) and isinstance(new, MultiDiscrete) and old.nvec.ndim == new.nvec.ndim == 1:
        counts, before = new.nvec.tolist(), old.nvec.tolist()
        added = sum(counts[len(before) :]) if counts[: len(before)] == before else -1
    if added < 0:
        msg = f"{agent}: cannot go on from the action space {old} with {new}: expected the old actions, and new ones behind them"
        raise SpaceError(" ".join(msg.split()))
    return added


def more_inputs(parts: Mapping[str, Part], units: int) -> Edits:
    """Let the first layer of each part take more features, of zero weights, and apply that."""
    edits = []
    for name, part in parts.items():
        edit = structure.add_inputs(part.net, _ends(part.net)[0], units, reason=f"{units} more observation components")
        edits.append((name, edit.apply(part.optimizer, *part.followers)))
    return edits


def more_actions(name: str, part: Part, units: int, like: slice | None) -> Edits:
    """Give the last layer of a part more outputs, and apply that; each begins as the mean of the outputs ``like``, else at zero.

    By the mean, a new action's value is at most the largest of the old ones, and which is the largest does not change; a new
    action's probability is at most an equal share, and the smaller the surer the policy is.
    """
    layer = _ends(part.net)[1]
    edit = structure.add_outputs(part.net, layer, units, reason=f"{units} more actions").apply(part.optimizer, *part.followers)
    nets = () if like is None else (part.net, *(f for f in part.followers if isinstance(f, nn.Module)))
    for net in nets:
        last: Any = net.get_submodule(layer)
        for p in (last.weight, last.bias):
            if p is not None:
                p._array[-units:] = p._array[:-units][like].mean(0)
                bump(p)
    return [(name, edit)]


def more_dimensions(name: str, part: Part, units: int) -> Edits:
    """Let a part whose last layer gives the means of an action's dimensions, then their spreads, give those of more, all zero."""
    layer = _ends(part.net)[1]
    last: Any = part.net.get_submodule(layer)
    old, new = np.arange(last.out_features // 2), np.full(units, -1)
    index = np.concatenate([old, new, old + old.size, new])
    changes = [structure.Change(f"{layer}.{p}", 0, index) for p, t in last.named_parameters() if t is not None]
    edit = structure.Edit(
        part.net, "add_outputs", layer, structure.Resize(part.net, changes), (), f"{units} more dimensions", 2 * units
    )
    return [(name, edit.apply(part.optimizer, *part.followers))]


def more_deviations(head: nn.Module, optimizer: Any, units: int, first: float) -> None:
    """Give a head's ``log_std`` more entries, and apply that."""
    old = head.log_std.shape[0]
    change = structure.Change("log_std", 0, np.append(np.arange(old), np.full(units, -1)), first)
    structure.Edit(head, "add_outputs", "log_std", structure.Resize(head, [change]), units=units).apply(optimizer)


def _ends(net: nn.Module) -> tuple[str, str]:
    """The names of the first and the last linear layer."""
    names = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    return names[0], names[-1]


def cautious(
    rng: np.random.Generator, values: NDArray[Any], new: int, share: float, explore: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """How to act while some actions are new: every other random one is new, and those that seem best are taken now and then.

    Where a new action was never tried, its value is a guess, and the largest of guesses is too large. Taken now and then, it
    is tried where it seems best, and learnt about there, while what is known carries the episode.

    Args:
        rng: draws.
        values: of all actions, ``[n, actions]``.
        new: how many actions, the last, are new.
        share: how often a new action is taken where it seems best, from 0 to 1.
        explore: where a random action is to be taken, ``[n]``.
    """
    n, actions = values.shape
    known = actions - new
    bold = rng.random(n) < share
    best = np.where(bold, values.argmax(-1), values[:, :known].argmax(-1))
    tried = np.where(rng.random(n) < 0.5, rng.integers(known, actions, n), rng.integers(known, size=n))
    chosen: NDArray[np.int64] = np.where(explore, tried, best)
    return chosen


def widen(rows: NDArray[Any], width: int) -> NDArray[Any]:
    """Zeros behind the last axis, up to a width.

    >>> widen(np.ones((2, 1)), 3)
    array([[1., 0., 0.],
           [1., 0., 0.]])
    """
    return np.concatenate([rows, np.zeros((*rows.shape[:-1], width - rows.shape[-1]), rows.dtype)], -1)


# --- keeping -----------------------------------------------------------------------------------------------------------


def rebuilt(kind: type[M], spec: Mapping[str, Any]) -> M:
    """The network that `tensor.structure.describe` told of, with weights of zero; TypeError where it is of another kind."""
    net = structure.build(dict(spec))
    if not isinstance(net, kind):
        msg = f"expected a {kind.__name__}, got {type(net).__name__}"
        raise TypeError(msg)
    return net


def names_in_order(net: nn.Module, optimizer: Any) -> list[str]:
    """The names of an optimizer's parameters in its own order, by which its state counts them."""
    names = {id(p): name for name, p in net.named_parameters()}
    return [names[id(p)] for group in optimizer.param_groups for p in group["params"]]


def optimized(net: nn.Module, names: Sequence[str]) -> list[Tensor]:
    """The parameters of these names: what an optimizer is made of to take the state of one whose order they are."""
    parameters = dict(net.named_parameters())
    return [parameters[name] for name in names]


_SIZES: dict[type, Any] = {
    Discrete: lambda space: int(space.n),
    MultiDiscrete: lambda space: space.nvec.tolist(),
    MultiBinary: lambda space: int(space.shape[0]),
    Box: lambda space: [space.low.copy(), space.high.copy()],
}


def describe_space(space: Space[Any]) -> State:
    """An action space as what a checkpoint can hold; `build_space` makes it again.

    >>> build_space(describe_space(Discrete(3))) == Discrete(3)
    True
    """
    return {"kind": type(space).__name__, "sizes": _SIZES[type(space)](space)}


def build_space(state: State) -> Space[Any]:
    """What `describe_space` told of."""
    kinds: dict[str, Any] = {kind.__name__: kind for kind in _SIZES}
    sizes = state["sizes"]
    return Box(*sizes, dtype=sizes[0].dtype.type) if state["kind"] == "Box" else kinds[state["kind"]](sizes)
