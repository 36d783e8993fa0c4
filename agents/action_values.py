"""Values of discrete actions, learnt from one step at a time: what `stream-q` and `stream-sarsa` share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from numpy.typing import NDArray

import tensor as T
from agents.compiled import LearningStep
from agents.intentional import intentional
from agents.networks import sparse_mlp
from agents.obgd import obgd
from agents.settings import at_least, check, fraction, positive
from agents.state import copies, generator_state, load_generator, pack, put, unpack
from agents.streaming import Numbers, Scales, Traces, Transition
from rlcore.errors import SpaceError
from rlcore.types import State
from tensor import Tensor

__all__ = ["ActionValues", "ActionValuesConfig"]


@dataclass
class ActionValuesConfig:
    """What the agents that learn action values from single steps have in common; each has a docstring of its own for the help."""

    gamma: float = 0.99
    """Discount."""
    trace_decay: float = 0.8
    """Lambda: how fast eligibility traces decay; 0 one step, 1 Monte Carlo."""
    step_rule: Literal["obgd", "intentional"] = "obgd"
    """How long steps are: bounded by what would overshoot, or such that each takes a fixed part of its error away."""
    step_size: float = 1.0
    """With obgd: the largest step; samples that would overshoot take smaller ones."""
    kappa: float = 2.0
    """With obgd: how much smaller than the bound the steps stay."""
    error_reduction: float = 0.5
    """With intentional: the part of its error that a step takes away."""
    exploration_fraction: float = 0.1
    """Part of the run over which exploration is lowered."""
    exploration_initial_epsilon: float = 1.0
    """Probability of a random action at the start."""
    exploration_final_epsilon: float = 0.01
    """Probability of a random action after that."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Units of the hidden layers."""
    sparsity: float = 0.9
    """Part of each unit's first weights that is zero."""
    standardize_observations: bool = True
    """Standardise observations by the mean and deviation of all so far."""
    scale_rewards: bool = True
    """Divide rewards by the deviation of the discounted return so far."""
    compile: bool = True
    """Learn by compiled steps (`T.compile`): much faster, and equal up to rounding."""

    def __post_init__(self) -> None:
        check(self, positive, "step_size", "kappa", "error_reduction")
        check(self, at_least(1), "kappa")
        check(self, fraction, "gamma", "trace_decay", "sparsity", "exploration_fraction", "error_reduction")
        check(self, fraction, "exploration_initial_epsilon", "exploration_final_epsilon")


class ActionValues:
    """A network of action values with its traces and statistics, a policy that explores, and the learning step.

    Args:
        name: of the agent, for errors.
        watkins: whether the target is the best next value, and an action that is not the best one begins the traces anew
            (Watkins' Q(lambda)); else the target is the value of the next action that `learn` is given.
    """

    def __init__(
        self,
        name: str,
        config: ActionValuesConfig,
        observation_space: Box,
        action_space: Space[Any],
        *,
        num_envs: int,
        total_steps: int,
        seed: int,
        watkins: bool,
    ) -> None:
        if not isinstance(action_space, Discrete):
            msg = f"{name} cannot serve the action space {action_space}: expected Discrete; stream-ac serves others"
            raise SpaceError(msg)
        self.config, self.total_steps, self.watkins = config, total_steps, watkins
        self.steps = 0
        self.actions = int(action_space.n)
        self.num_envs = num_envs
        self.rng = np.random.Generator(np.random.PCG64(seed))
        T.manual_seed(seed)
        (inputs,) = observation_space.shape
        self.inputs = inputs
        self.network = sparse_mlp(inputs, config.hidden_sizes, self.actions, sparsity=config.sparsity)
        self.parameters = list(self.network.parameters())
        self.traces = Traces(self.parameters, num_envs)
        self.scales = Scales(
            inputs, num_envs, config.gamma, observations=config.standardize_observations, rewards=config.scale_rewards
        )
        written = [*self.parameters, *self.scales.tensors, *(e for part in self.traces.tensors for e in part)]
        self._acting = [*self.parameters, *self.scales.acting]
        self._learn = LearningStep(self._step, written, compile=config.compile)
        self._values = LearningStep(self._evaluate, (), compile=config.compile)

    @property
    def epsilon(self) -> float:
        """The probability of a random action now."""
        c = self.config
        done = min(self.steps / max(c.exploration_fraction * self.total_steps, 1), 1.0)
        return c.exploration_initial_epsilon + done * (c.exploration_final_epsilon - c.exploration_initial_epsilon)

    def prepare(self) -> None:
        """Have machine code made before the first step."""
        x, action = T.zeros(1, self.inputs), T.zeros(1, dtype=T.int64)
        numbers = Numbers(0.0, 0.0, 0.0, 0.0).row()
        self._learn.prepare(x, action, x.clone(), action.clone(), numbers, self.scales.running[0], *self.traces.tensors[0])
        self._values.prepare(T.zeros(self.num_envs, self.inputs))

    # --- acting -------------------------------------------------------------------------------------------------

    def act(self, observation: NDArray[np.float32], *, deterministic: bool) -> NDArray[Any]:
        """The best action, or with probability `epsilon` any; never any with ``deterministic``."""
        if deterministic:
            return self._best(self._evaluate(T.from_numpy(observation)))
        n = len(observation)
        explore, random = self.rng.random(n) < self.epsilon, self.rng.integers(self.actions, size=n)
        if np.count_nonzero(explore) == n:
            return random
        values = self._values if n == self.num_envs else self._evaluate  # one shape, one recording
        return np.where(explore, random, self._best(values(T.from_numpy(observation))))

    @staticmethod
    def _best(values: Tensor) -> NDArray[np.int64]:
        return values.numpy().argmax(-1)  # type: ignore[no-any-return]

    def _evaluate(self, observation: Tensor) -> Tensor:
        with T.no_grad():
            values: Tensor = self.network(self.scales.standardized(observation))
            return values

    # --- learning -----------------------------------------------------------------------------------------------

    def learn(self, step: Transition, next_action: int = 0) -> float:
        """Learn from one transition; returns the temporal-difference error, in scaled rewards."""
        c, ends = self.config, step.terminated or step.truncated
        decay = self.traces.decay(step.env, c.gamma * c.trace_decay, ends=ends)
        numbers = Numbers(step.reward, 0.0 if step.terminated else c.gamma, decay, 0.0 if ends else 1.0)
        delta: Tensor = self._learn(
            T.from_numpy(step.observation),
            T.from_numpy(step.action),
            T.from_numpy(step.next_observation),
            T.from_numpy(np.array([next_action])),
            numbers.row(),
            self.scales.running[step.env],
            *self.traces.tensors[step.env],
        )
        return float(delta.item())

    def _step(
        self,
        observation: Tensor,
        action: Tensor,
        next_observation: Tensor,
        next_action: Tensor,
        row: Tensor,
        running: Tensor,
        *traces: Tensor,
    ) -> Tensor:
        earned, discount, decay, going = row.unbind()
        with T.no_grad():
            self.scales.see(observation)
            reward = self.scales.reward(earned, going, running)
            after = self.network(self.scales.standardized(next_observation))
            following = after.amax(1) if self.watkins else after.gather(1, next_action.unsqueeze(1)).squeeze(1)
            x = self.scales.standardized(observation)
        values = self.network(x)
        value = values.gather(1, action.unsqueeze(1)).squeeze(1)
        gradients = T.autograd.grad(value.sum(), self.parameters)
        with T.no_grad():
            delta: Tensor = (reward + discount * following - value).squeeze(0)
            if self.watkins:
                decay = decay * (value >= values.amax(1)).squeeze(0).to(T.float32)
            c = self.config
            if c.step_rule == "intentional":
                intentional(self.parameters, traces, gradients, delta * c.error_reduction, decay)
            else:
                obgd(self.parameters, traces, gradients, delta, decay, step_size=c.step_size, kappa=c.kappa)
        return delta

    # --- keeping ------------------------------------------------------------------------------------------------

    def policy(self) -> State:
        """What `act` depends on, as copies."""
        return {"values": copies(self._acting), "steps": self.steps}

    def load_policy(self, state: State) -> None:
        """Act as the agent that gave `policy` does."""
        put(self._acting, state["values"])
        self.steps = state["steps"]

    def state_dict(self) -> State:
        """Weights, traces, statistics, the counter and the generator."""
        return {
            "network": pack(self.network.state_dict()),
            "traces": self.traces.state_dict(),
            "scales": self.scales.state_dict(),
            "steps": self.steps,
            "generator": generator_state(self.rng),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave, bit for bit."""
        self.network.load_state_dict(unpack(state["network"]))
        self.traces.load_state_dict(state["traces"])
        self.scales.load_state_dict(state["scales"])
        self.steps = state["steps"]
        load_generator(self.rng, state["generator"])
