"""The protocols through which the runner, agents and worlds meet.

`rlcore` sees agents and environments only through these; `agents` and `envs` never import each other.
All arrays are NumPy arrays with a leading axis of ``n = world.num_envs``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from gymnasium.spaces import Box, Space
from numpy.typing import NDArray

__all__ = [
    "Agent", "EditableAgent", "EpisodeEnd", "Learner", "LiveAgent", "Metrics", "Part", "RevertibleAgent",
    "Sensors", "State", "Step", "Translating", "World",
]  # fmt: skip

#: What a checkpoint can hold: nested ``dict[str, State]`` and lists whose leaves are NumPy arrays (saved exactly as
#: safetensors) or ``None | bool | int | float | str`` (saved as JSON; integers of any size, floats exactly, NaN and
#: infinities too).
State: TypeAlias = Any

#: Named scalars of one learning update, for example ``{"loss/policy": 0.01, "approx_kl": 0.004}``.
Metrics: TypeAlias = Mapping[str, float]


class EpisodeEnd(NamedTuple):
    """A finished episode, in the environment's own (unnormalised) rewards."""

    index: int  # type: ignore[assignment]  #: which of the n environments (hides tuple.index, which nobody needs)
    total_reward: float  #: undiscounted sum of raw rewards
    length: int  #: number of steps


class Step(NamedTuple):
    """What one call of `World.step` gives. n environments; observations are flat ``[n, d]`` float32."""

    observation: NDArray[np.float32]  #: ``[n, d]`` what to act on next; of a new episode where one has just begun
    reward: NDArray[np.float32]  #: ``[n]`` (normalised where the world normalises)
    next_observation: NDArray[np.float32]  #: ``[n, d]`` where the action led: the true final observation at an episode's end
    terminated: NDArray[np.bool_]  #: ``[n]`` a terminal state: value 0, nothing is bootstrapped
    truncated: NDArray[np.bool_]  #: ``[n]`` cut short: the episode ends, but its value is bootstrapped from `next_observation`
    valid: NDArray[np.bool_]  #: ``[n]`` False where the environment ignored the action and only reset itself: never learnt from
    episodes: tuple[EpisodeEnd, ...]  #: the episodes that ended at this step


class World(Protocol):
    """n environments stepped together, with flat float32 observations."""

    num_envs: int
    observation_space: Box  #: of one environment, flattened, shape ``[d]``
    action_space: Space[Any]  #: of one environment: Discrete, MultiDiscrete, MultiBinary or Box

    def reset(self, seed: int | None = None) -> NDArray[np.float32]:
        """Start n new episodes; returns the first observations ``[n, d]``."""
        ...

    def step(self, action: NDArray[Any]) -> Step:
        """Take one action each; ``action`` is ``[n]`` (Discrete) or ``[n, ...]``.

        Box actions are clipped to their bounds.
        """
        ...

    def state_dict(self) -> State:
        """Normaliser statistics and, where the environments can give it, their exact state and random generators."""
        ...

    def load_state_dict(self, state: State) -> NDArray[np.float32] | None:
        """Restore; returns the current observations.

        None where the episodes cannot be continued and `reset` must be called.
        """
        ...

    def close(self) -> None:
        """Release windows, processes and sockets."""
        ...


class Sensors(Protocol):
    """What a world in real time says of its sensors; found as ``world.sensors``, which others have not, or None."""

    @property
    def rate(self) -> float:
        """Observations a second."""
        ...

    @property
    def moment(self) -> int:
        """When the newest observation was due, by `time.time_ns`."""
        ...

    @property
    def missed(self) -> int:
        """Observations that passed while nobody waited for them, so far."""
        ...

    @property
    def age(self) -> float:
        """Seconds by which the oldest sensor is behind; infinite where one is of no use."""
        ...

    @property
    def lost(self) -> int:
        """Samples that were sent and never arrived, so far."""
        ...


class Agent(Protocol):
    """A learner.

    Its constructor is ``Agent(config, observation_space, action_space, *, num_envs, total_steps, seed)``.
    """

    config: Any  #: a dataclass: the agent's configuration, command line and documentation

    def act(self, observation: NDArray[np.float32], *, deterministic: bool = False) -> NDArray[Any]:
        """Actions ``[n, ...]`` for observations ``[n, d]``.

        With ``deterministic`` it draws nothing from any generator.
        """
        ...

    def observe(
        self,
        observation: NDArray[np.float32],
        action: NDArray[Any],
        reward: NDArray[np.float32],
        next_observation: NDArray[np.float32],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        valid: NDArray[np.bool_],
    ) -> None:
        """Take in the outcome of the last `act`; see `Step` for the arrays."""
        ...

    def interrupt(self) -> None:
        """The episodes under way were cut off without an outcome (a resume whose worlds could not be restored).

        Forget what would span the break: unfinished returns, traces, recurrent state.
        """
        ...

    def learn(self) -> Metrics | None:
        """Learn if it is time to; returns the metrics of the update, or None when there was none."""
        ...

    def state_dict(self) -> State:
        """Everything needed to continue bit for bit: weights, optimizer, buffers, counters, generators."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave."""
        ...


class Part(NamedTuple):
    """A network of an agent that edits may change, with all that follows its parameters."""

    net: Any  #: a `tensor.nn.Module`
    optimizer: Any  #: holds its parameters, maybe among others; None where only followers do
    followers: tuple[Any, ...] = ()  #: for example a target network; see `tensor.structure.Edit.apply`


@runtime_checkable
class Translating(Protocol):
    """What a world of one environment may offer besides, so that an agent acts in loops of others, too."""

    def row(self, observation: Any) -> NDArray[np.float32]:
        """An observation as the environment itself gives it, as the agent takes it: ``[1, d]``; ValueError for another kind."""
        ...

    def executed(self, action: NDArray[Any]) -> Any:
        """The agent's action for that row, as the environment itself takes it."""
        ...


@runtime_checkable
class EditableAgent(Protocol):
    """What an `Agent` offers besides, so that its networks may change while it learns (``--structure`` of ``run-agent``).

    Edits are made right after an update (`Agent.learn` gave metrics), and, where a space of the world has changed, right after
    `Agent.observe`.
    """

    version: int  #: of the structure: how often it has changed so far; transitions carry it

    def parts(self) -> Mapping[str, Part]:
        """The networks by name; a layer is "name.path", for example "actor.0"."""
        ...

    def sample(self) -> NDArray[np.float32] | None:
        """Some of the latest observations ``[n, d]``, to measure with; None before there are any. Draws nothing."""
        ...

    def edited(self) -> None:
        """The parts have been edited: make anew what was made for the old ones, and count the version.

        Edits in place (units that start anew) change no shape and move no array: what was made stays of use, uncounted.
        """
        ...

    def adapt(self, observation_space: Box, action_space: Space[Any]) -> Sequence[tuple[str, Any]]:
        """The world's spaces have grown: new observation components come last, new actions too.

        Returns the edits made, applied, each with the name of its part. Raises SpaceError for a change that cannot be served.
        """
        ...


@runtime_checkable
class RevertibleAgent(EditableAgent, Protocol):
    """What an `EditableAgent` offers besides, so that edits may be on trial, and be taken back."""

    def snapshot(self) -> State:
        """Copies of all that is learnt: structure, weights, target networks, optimizer; nothing of what was experienced."""
        ...

    def roll_back(self, state: State) -> None:
        """Learn on with what `snapshot` gave, also where networks have changed since, and count the version.

        What was experienced since (counters, replay, generators) stays.
        """
        ...


class LiveAgent(Agent, Protocol):
    """What an agent may offer beside, for runs in real time; where it does not, its whole state is handed over instead."""

    def policy(self) -> State:
        """What `act` depends on, as copies that nobody writes to."""
        ...

    def load_policy(self, state: State) -> None:
        """Act as the agent that gave `policy` does; the generator stays this agent's own."""
        ...

    def prepare(self) -> None:
        """Do before the clock starts what would make the first steps slow."""
        ...

    def prepare_to_act(self) -> None:
        """The part of `prepare` that acting needs: for an agent that acts while another learns."""
        ...


class Learner(Protocol):
    """What predicts samples of a stream, and learns from them one by one."""

    def predict_one(self, x: Any) -> Any:
        """The answer for a sample, before it is known; None where there is none yet."""
        ...

    def learn_one(self, x: Any, y: Any) -> None:
        """Learn a sample's answer."""
        ...
