"""What agents share so that their networks may change: spaces that grow, and networks rebuilt from their structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space
from numpy.typing import NDArray

import tensor as T
from rlcore.errors import SpaceError
from rlcore.types import Part, State
from tensor import Tensor, nn, structure
from tensor.autograd.inplace import bump

__all__ = [
    "Chances",
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


class Chances(NamedTuple):
    """How probable it is what an agent does that explores, with new actions or without: by `cautious`, in figures.

    >>> few = Chances.of(actions=3, new=1, share=0.25, epsilon=0.2)
    >>> values = T.tensor([[1.0, 2.0, 3.0]])
    >>> [round(few.probability(values, T.tensor([action])).item(), 3) for action in range(3)]
    [0.05, 0.65, 0.3]
    >>> few.expected(values).item()  # 0.05 * 1 + 0.65 * 2 + 0.3 * 3
    2.25
    """

    random: Tensor  #: of each action, as a random one: ``[actions]``
    greedy: Tensor  #: of the best of all actions, and of the best that is not new: ``[2]``
    barred: Tensor  #: minus infinity for what cannot be these, else 0: ``[2, actions]``

    @classmethod
    def of(cls, actions: int, new: int, share: float, epsilon: float) -> Chances:
        """Those of an agent whose last ``new`` actions are new, and taken with probability ``share`` where they seem best.

        Args:
            actions: how many there are.
            new: how many of them are new.
            share: how often a new one is taken where it seems best, from 0 to 1; all the same where none is.
            epsilon: the probability of a random action; every other one is new.
        """
        known = actions - new
        random = np.full(actions, epsilon / actions, np.float32)
        barred = np.zeros((2, actions), np.float32)
        if new:
            random[:known], random[known:] = epsilon / 2 / known, epsilon / 2 / new
            barred[1, known:] = -np.inf
        greedy = np.array([share, 1 - share], np.float32) * np.float32(1 - epsilon)
        return cls(T.from_numpy(random), T.from_numpy(greedy), T.from_numpy(barred))

    def expected(self, values: Tensor) -> Tensor:
        """The mean of action values ``[n, actions]``, as often as each is taken: ``[n]``."""
        return (values.unsqueeze(1) + self.barred).amax(-1) @ self.greedy + values @ self.random

    def probability(self, values: Tensor, action: Tensor) -> Tensor:
        """Of actions ``[n]`` where the values are ``[n, actions]``: ``[n]``."""
        best = (values.unsqueeze(1) + self.barred).argmax(-1)
        return (best == action.unsqueeze(1)).to(T.float32) @ self.greedy + self.random.gather(0, action)


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
