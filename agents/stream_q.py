"""Stream Q(lambda): Q-learning from one step at a time, without replay, batches or a target network (arXiv 2410.14606)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gymnasium.spaces import Box, Space

from agents.action_values import ActionValueAgent, ActionValues, ActionValuesConfig
from agents.streaming import Transition
from rlcore.types import State
from tensor import structure

__all__ = ["StreamQ", "StreamQConfig"]


@dataclass
class StreamQConfig(ActionValuesConfig):
    """Stream Q(lambda): a streaming agent for discrete actions, which learns from each step once and keeps none."""


class StreamQ(ActionValueAgent):
    """The agent; see `rlcore.types.Agent` for its protocol. Several environments share the network and have traces each.

    Watkins' Q(lambda): an action other than the best one cuts the traces before it is learnt from.

    >>> import numpy as np
    >>> from gymnasium.spaces import Box, Discrete
    >>> agent = StreamQ(StreamQConfig(), Box(-1, 1, (4,)), Discrete(2), num_envs=1, total_steps=1000, seed=0)
    >>> agent.act(np.zeros((1, 4), np.float32), deterministic=True).shape
    (1,)
    """

    Config = StreamQConfig

    def __init__(
        self,
        config: StreamQConfig,
        observation_space: Box,
        action_space: Space[Any],
        *,
        num_envs: int,
        total_steps: int,
        seed: int,
    ) -> None:
        self.config = config
        self.values = ActionValues(
            "stream-q", config, observation_space, action_space,
            num_envs=num_envs, total_steps=total_steps, seed=seed, backup="best",
        )  # fmt: skip
        self._seen: list[Transition] = []

    def interrupt(self) -> None:
        """The episodes under way were cut off without an outcome: begin the traces anew."""
        self._seen.clear()
        self.values.traces.restart()

    def learn(self) -> Mapping[str, float] | None:
        """Learn from each step held, once."""
        if not self._seen:
            return None
        errors = [abs(self.values.learn(step)) for step in self._seen]
        self._seen.clear()
        return {"td_error": sum(errors) / len(errors), "epsilon": self.values.epsilon}

    def adapt(self, observation_space: Box, action_space: Space[Any]) -> Sequence[tuple[str, structure.Edit]]:
        """Serve spaces that have grown. What was seen before is learnt from before."""
        self.values.more(action_space)  # an error before anything changes
        self.learn()
        return self.values.adapt(observation_space, action_space)

    def state_dict(self) -> State:
        """Everything needed to go on bit for bit."""
        return {**self.values.state_dict(), "seen": [list(step) for step in self._seen]}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave, bit for bit."""
        self.values.load_state_dict(state)
        self._seen = [Transition(*step) for step in state["seen"]]
