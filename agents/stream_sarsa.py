"""Stream SARSA(lambda): on-policy action values from one step at a time (arXiv 2410.14606)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gymnasium.spaces import Box, Space

from agents.action_values import ActionValueAgent, ActionValues, ActionValuesConfig
from agents.streaming import Transition
from rlcore.types import State
from tensor import structure

__all__ = ["StreamSarsa", "StreamSarsaConfig"]


@dataclass
class StreamSarsaConfig(ActionValuesConfig):
    """Stream SARSA(lambda): a streaming agent for discrete actions, which values them as it takes them, exploration included."""

    next_value: Literal["expected", "taken"] = "expected"
    """What a step leads to: the mean of the next values, as often as each action is taken, or the value of the one taken next."""


class StreamSarsa(ActionValueAgent):
    """The agent; see `rlcore.types.Agent` for its protocol. Several environments share the network and have traces each.

    With ``next_value="expected"`` it is Expected SARSA (van Seijen et al. 2009) with the traces of tree backup (Precup, Sutton,
    Singh 2000), which decay by the probability of the action, too: what an improbable action led to is not put down to those
    before it. While an action is new most steps are improbable, since what seems best is not yet what is done.

    With ``"taken"`` it is the SARSA(lambda) of arXiv 2410.14606: a step is learnt from when the action after it is known, which
    is before that action's own outcome is. Where an episode was cut short there is no such action, and one is drawn.

    >>> import numpy as np
    >>> from gymnasium.spaces import Box, Discrete
    >>> agent = StreamSarsa(StreamSarsaConfig(), Box(-1, 1, (4,)), Discrete(2), num_envs=1, total_steps=1000, seed=0)
    >>> agent.act(np.zeros((1, 4), np.float32), deterministic=True).shape
    (1,)
    """

    Config = StreamSarsaConfig

    def __init__(
        self,
        config: StreamSarsaConfig,
        observation_space: Box,
        action_space: Space[Any],
        *,
        num_envs: int,
        total_steps: int,
        seed: int,
    ) -> None:
        self.config = config
        self.values = ActionValues(
            "stream-sarsa", config, observation_space, action_space,
            num_envs=num_envs, total_steps=total_steps, seed=seed, backup=config.next_value,
        )  # fmt: skip
        self._seen: list[Transition] = []
        self._waiting: dict[int, Transition] = {}  # of each environment, the step whose next action is not known yet

    def interrupt(self) -> None:
        """The episodes under way were cut off without an outcome: begin the traces anew."""
        self._seen.clear()
        self._waiting.clear()
        self.values.traces.restart()

    def learn(self) -> Mapping[str, float] | None:
        """Learn from each step, once; with ``"taken"`` from each whose next action is known by now."""
        errors = [abs(error) for step in self._seen for error in self._learn_from(step)]
        self._seen.clear()
        return {"td_error": sum(errors) / len(errors), "epsilon": self.values.epsilon} if errors else None

    def _learn_from(self, step: Transition) -> Iterator[float]:
        """Learn what a step makes known: of the one before, and of itself where no other has to come first."""
        before = self._waiting.pop(step.env, None)
        if before is not None:
            yield self.values.learn(before, int(step.action[0]))
        if step.terminated or self.config.next_value == "expected":
            yield self.values.learn(step)
        elif step.truncated:
            yield self._learn_drawn(step)
        else:
            self._waiting[step.env] = step

    def _learn_drawn(self, step: Transition) -> float:
        """Learn from a step that no action came after: one is drawn."""
        drawn = self.values.act(step.next_observation, deterministic=False)
        return self.values.learn(step, int(drawn[0]))

    def adapt(self, observation_space: Box, action_space: Space[Any]) -> Sequence[tuple[str, structure.Edit]]:
        """Serve spaces that have grown. What was seen before is learnt from before, with next actions that are drawn."""
        self.values.more(action_space)  # an error before anything changes
        self.learn()
        for step in self._waiting.values():
            self._learn_drawn(step)
        self._waiting.clear()
        return self.values.adapt(observation_space, action_space)

    def state_dict(self) -> State:
        """Everything needed to go on bit for bit."""
        waiting = [list(step) for step in self._waiting.values()]
        return {**self.values.state_dict(), "seen": [list(step) for step in self._seen], "waiting": waiting}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave, bit for bit."""
        self.values.load_state_dict(state)
        self._seen = [Transition(*step) for step in state["seen"]]
        self._waiting = {step[0]: Transition(*step) for step in state["waiting"]}
