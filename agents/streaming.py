"""What streaming agents share: options, statistics, and for each environment its traces and where its episode stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tensor as T
from agents.growing import widen
from agents.settings import check, fraction, positive
from agents.state import pack
from agents.statistics import RunningStatistics
from rlcore.types import Part, State
from tensor import Tensor, nn

__all__ = ["Numbers", "Recent", "Scales", "StreamingConfig", "Traces", "Transition", "trained", "transitions"]

#: Observations that are kept to measure networks with.
RECENT = 64


@dataclass
class StreamingConfig:
    """What the agents that learn from single steps have in common; each has a docstring of its own for the help."""

    gamma: float = 0.99
    """Discount."""
    trace_decay: float = 0.8
    """Lambda: how fast eligibility traces decay; 0 one step, 1 Monte Carlo."""
    step_rule: Literal["obgd", "intentional"] = "obgd"
    """How long steps are: bounded by what would overshoot, or such that each achieves what is intended."""
    step_size: float = 1.0
    """With obgd: the largest step; samples that would overshoot take smaller ones."""
    error_reduction: float = 0.5
    """With intentional: the part of the values' error that a step takes away."""
    sparsity: float = 0.9
    """Part of each unit's first weights that is zero."""
    standardize_observations: bool = True
    """Standardise observations by the mean and deviation of all so far."""
    scale_rewards: bool = True
    """Divide rewards by the deviation of the discounted return so far."""
    compile: bool = True
    """Learn by compiled steps (`T.compile`): much faster, and equal up to rounding."""

    def __post_init__(self) -> None:
        check(self, positive, "step_size", "error_reduction")
        check(self, fraction, "gamma", "trace_decay", "sparsity", "error_reduction")


class Transition(NamedTuple):
    """One step of one environment, which is learnt from and then forgotten."""

    env: int
    observation: NDArray[np.float32]  #: ``[1, d]``
    action: NDArray[Any]  #: ``[1, ...]``
    reward: float
    next_observation: NDArray[np.float32]  #: ``[1, d]``
    terminated: bool
    truncated: bool


def transitions(
    observation: NDArray[np.float32],
    action: NDArray[Any],
    reward: NDArray[np.float32],
    next_observation: NDArray[np.float32],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    valid: NDArray[np.bool_],
) -> list[Transition]:
    """The rows of a step that count, as copies."""
    return [
        Transition(
            i,
            observation[i : i + 1].copy(),
            action[i : i + 1].copy(),
            float(reward[i]),
            next_observation[i : i + 1].copy(),
            bool(terminated[i]),
            bool(truncated[i]),
        )
        for i in np.flatnonzero(valid).tolist()
    ]


class Numbers(NamedTuple):
    """What a compiled step is told, as one row of float32, which it unbinds in this order."""

    reward: float
    discount: float  #: of the next value: gamma, and 0 where the episode terminated
    decay: float  #: of the traces: gamma times lambda, and 0 at an episode's first step
    going: float  #: 1, and 0 where the episode ended, either way

    def row(self) -> Tensor:
        """As a tensor, for the step's argument."""
        return T.from_numpy(np.array(self, np.float32))


class Scales:
    """Standardised observations and scaled rewards (arXiv 2410.14606, section 3.3), from statistics that the step updates.

    A reward is divided by the deviation of the running discounted return; no mean is subtracted, since that would change what is
    optimal.
    """

    def __init__(self, inputs: int, num_envs: int, gamma: float, *, observations: bool, rewards: bool) -> None:
        self.gamma = gamma
        self.observations = RunningStatistics((inputs,)) if observations else None
        self.returns = RunningStatistics() if rewards else None
        self.running = [
            T.zeros((), dtype=T.float64) for _ in range(num_envs)
        ]  #: the discounted return so far, of each environment

    @classmethod
    def of(cls, config: StreamingConfig, inputs: int, num_envs: int) -> Scales:
        """Those that an agent's options ask for."""
        given = {"observations": config.standardize_observations, "rewards": config.scale_rewards}
        return cls(inputs, num_envs, config.gamma, **given)

    def widen(self, inputs: int) -> None:
        """Take observations of more components."""
        if self.observations is not None:
            self.observations.widen(inputs)

    @property
    def tensors(self) -> list[Tensor]:
        """All that a step writes."""
        return [t for s in (self.observations, self.returns) if s is not None for t in s.tensors] + self.running

    @property
    def acting(self) -> list[Tensor]:
        """What `standardized` depends on."""
        return [] if self.observations is None else self.observations.tensors

    def see(self, observation: Tensor) -> None:
        """Count an observation ``[1, d]`` in."""
        if self.observations is not None:
            self.observations.update(observation.squeeze(0))

    def standardized(self, observation: Tensor) -> Tensor:
        """Observations ``[n, d]`` as the networks take them."""
        return observation if self.observations is None else self.observations.standardized(observation)

    def reward(self, reward: Tensor, going: Tensor, running: Tensor) -> Tensor:
        """Count a reward in, and scale it; ``running`` is its environment's, and ``going`` 0 where its episode ended."""
        if self.returns is None:
            return reward
        running.mul_(self.gamma).add_(reward)
        self.returns.update(running)
        running.mul_(going)
        return (reward.to(T.float64) / self.returns.std()).to(T.float32)

    def state_dict(self) -> State:
        """Everything, exactly."""
        parts = {"observations": self.observations, "returns": self.returns}
        return {name: None if s is None else s.state_dict() for name, s in parts.items()} | {"running": pack(self.running)}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave, in place; statistics alone where the number of environments is another."""
        for name in ("observations", "returns"):
            part = getattr(self, name)
            if part is not None:
                part.load_state_dict(state[name])
        if len(state["running"]) == len(self.running):
            for mine, kept in zip(self.running, state["running"], strict=True):
                mine.copy_(T.from_numpy(kept))


class Traces:
    """Eligibility traces of networks' parameters, for each of several environments, and whether its next step begins them anew.

    They are kept by the parameters' names, so that they follow edits of the networks: as followers of `parts`, and then `fit`.
    """

    def __init__(self, nets: Mapping[str, nn.Module], num_envs: int) -> None:
        self.nets = nets
        self._named: dict[str, list[dict[str, Tensor]]] = {part: [{} for _ in range(num_envs)] for part in nets}
        self.fresh = [True] * num_envs
        self.fit()

    def fit(self) -> None:
        """Have traces for all parameters that learn, in their order; of zeros where there are none yet."""
        for part, net in self.nets.items():
            for named in self._named[part]:
                kept = {
                    name: named[name] if name in named else T.zeros_like(p, requires_grad=False)
                    for name, p in net.named_parameters()
                    if p.requires_grad
                }
                named.clear()
                named.update(kept)
        #: of each environment, the traces of the first network's parameters, the second's, and so on
        self.tensors = [[e for named in of_env for e in named.values()] for of_env in zip(*self._named.values(), strict=True)]

    def parts(self) -> dict[str, Part]:
        """The networks, which have no optimizer, with what follows them."""
        return {part: Part(net, None, tuple(self._named[part])) for part, net in self.nets.items()}

    def decay(self, env: int, decay: float, *, ends: bool) -> float:
        """By what an environment's traces decay at this step: 0 where they begin. ``ends``: the next step begins them."""
        fresh, self.fresh[env] = self.fresh[env], ends
        return 0.0 if fresh else decay

    def restart(self) -> None:
        """Let every environment's next step begin its traces."""
        self.fresh = [True] * len(self.fresh)

    def state_dict(self) -> State:
        """Everything, exactly."""
        return {"traces": pack(self.tensors), "fresh": list(self.fresh)}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave, in place."""
        self.fresh = list(state["fresh"])
        for mine, kept in zip(self.tensors, state["traces"], strict=True):
            for e, array in zip(mine, kept, strict=True):
                e.copy_(T.from_numpy(array))


class Recent:
    """The latest observations, to measure networks with; nothing is learnt from them.

    >>> recent = Recent(2)
    >>> recent.add(np.array([[1.0, 2.0]])); recent.add(np.array([[3.0, 4.0]]))
    >>> recent.rows
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """

    def __init__(self, inputs: int) -> None:
        self._ring = np.zeros((RECENT, inputs), np.float32)
        self._count = 0

    def add(self, rows: NDArray[np.float32]) -> None:
        """Keep observations ``[n, d]``."""
        for row in rows:
            self._ring[self._count % RECENT] = row
            self._count += 1

    @property
    def rows(self) -> NDArray[np.float32]:
        """Those that are kept, from the oldest to the newest; a copy."""
        return np.roll(self._ring, -self._count, axis=0) if self._count > RECENT else self._ring[: self._count].copy()

    def widen(self, inputs: int) -> None:
        """Take observations of more components; the others get zeros for them."""
        self._ring = widen(self._ring, inputs)

    def state_dict(self) -> State:
        """Everything."""
        return {"rows": self.rows}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave."""
        self._ring, self._count = np.zeros((RECENT, state["rows"].shape[1]), np.float32), 0
        self.add(state["rows"])


def trained(net: nn.Module) -> list[Tensor]:
    """The parameters that learn."""
    return [p for p in net.parameters() if p.requires_grad]
