"""Deep Q-learning (Nature 2015), with double (arXiv 1509.06461), dueling (arXiv 1511.06581) and n-step targets as options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from numpy.typing import NDArray

import tensor as T
from agents.compiled import GRACE, LearningStep, restore
from agents.gradients import clip_norm
from agents.growing import (
    cautious,
    more_actions,
    more_inputs,
    names_in_order,
    new_outputs,
    optimized,
    rebuilt,
    widen,
)
from agents.networks import mlp
from agents.nstep import NStep
from agents.settings import at_least, check, fraction, positive
from agents.state import generator_state, load_generator, pack, unpack, unpack_optimizer
from rlcore.buffers import ReplayBuffer
from rlcore.errors import SpaceError
from rlcore.types import Part, State
from tensor import Tensor, nn, optim, structure

__all__ = ["DQN", "DQNConfig"]


@dataclass
class DQNConfig:
    """Deep Q-learning: an off-policy agent for discrete actions."""

    learning_rate: float = 1e-3
    """Adam's step size."""
    anneal_learning_rate: bool = False
    """Lower the step size linearly to 0 over the run."""
    batch_size: int = 64
    """Transitions in one gradient step."""
    buffer_size: int = 100_000
    """Transitions kept for replay."""
    learning_starts: int = 1_000
    """Steps before the first gradient step."""
    gamma: float = 0.99
    """Discount."""
    target_update_interval: int = 500
    """Steps between copies of the network into the target network."""
    train_interval: int = 4
    """Steps between updates."""
    gradient_steps: int = 1
    """Gradient steps in one update."""
    exploration_fraction: float = 0.1
    """Part of the run over which exploration is lowered."""
    exploration_initial_epsilon: float = 1.0
    """Probability of a random action at the start."""
    exploration_final_epsilon: float = 0.05
    """Probability of a random action after that."""
    new_action_tries: int = 2_000
    """Uses of an action that appeared in mid-run until it is taken whenever it seems best; before, ever more often."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Units of the hidden layers."""
    activation: str = "relu"
    """Activation between layers: tanh, relu, silu or gelu."""
    max_grad_norm: float = 10.0
    """Gradients are scaled down to this norm."""
    double: bool = False
    """Choose the next action by the network, value it by the target network."""
    dueling: bool = False
    """Estimate the state's value and the actions' advantages apart."""
    n_step: int = 1
    """Rewards that a target sums before it bootstraps."""
    compile: bool = True
    """Act and learn by compiled functions (`T.compile`): much faster, and equal up to rounding."""

    def __post_init__(self) -> None:
        check(self, positive, "learning_rate", "max_grad_norm")
        check(self, at_least(1), "batch_size", "buffer_size", "target_update_interval", "train_interval")
        check(self, at_least(1), "gradient_steps", "n_step")
        check(self, at_least(0), "learning_starts", "new_action_tries")
        check(self, fraction, "gamma", "exploration_fraction", "exploration_initial_epsilon")
        check(self, fraction, "exploration_final_epsilon")


class QNetwork(nn.Module):
    """A value for each action, ``[n, inputs]`` to ``[n, actions]``; ``dueling`` adds a state value to centred advantages."""

    def __init__(self, inputs: int, actions: int, config: DQNConfig) -> None:
        super().__init__()
        self.dueling = config.dueling
        outputs = actions + 1 if config.dueling else actions
        self.body = mlp(inputs, config.hidden_sizes, outputs, activation=config.activation)

    def forward(self, x: Tensor) -> Tensor:
        """The values of all actions."""
        y: Tensor = self.body(x)
        if not self.dueling:
            return y
        advantage = y[:, 1:]
        return y[:, :1] + advantage - advantage.mean(1, keepdim=True)


class DQN:
    """The agent; see `rlcore.types.Agent` for its protocol.

    >>> from gymnasium.spaces import Box, Discrete
    >>> agent = DQN(DQNConfig(), Box(-1, 1, (4,)), Discrete(2), num_envs=1, total_steps=1000, seed=0)
    >>> agent.act(np.zeros((1, 4), np.float32), deterministic=True).shape
    (1,)
    """

    Config = DQNConfig

    def __init__(
        self,
        config: DQNConfig,
        observation_space: Box,
        action_space: Space[Any],
        *,
        num_envs: int,
        total_steps: int,
        seed: int,
    ) -> None:
        if not isinstance(action_space, Discrete):
            msg = f"dqn cannot serve the action space {action_space}: expected Discrete; ppo serves others"
            raise SpaceError(msg)
        self.config = config
        self.total_steps = total_steps
        self.actions = int(action_space.n)
        self.new = self.tries = 0  # how many actions, the last, are new, and how often one of them was taken
        self.steps, self._num_envs = 0, num_envs
        self.updates = 0
        self.rng = np.random.Generator(np.random.PCG64(seed))
        T.manual_seed(seed)
        (inputs,) = observation_space.shape
        self.network = QNetwork(inputs, self.actions, config)
        self.target = QNetwork(inputs, self.actions, config)
        self.target.load_state_dict(self.network.state_dict())
        self._learn_with(list(self.network.parameters()))
        self.version = 0
        self._remember(inputs)
        self.n_step = NStep(config.n_step, num_envs, config.gamma)
        self._next_learn = max(config.learning_starts, config.train_interval)
        self._next_copy = config.target_update_interval
        self._copied = False  # whether the target network is the network as it is now

    def _learn_with(self, parameters: list[Tensor]) -> None:
        self._parameters = list(self.network.parameters())
        self.optimizer = optim.Adam(parameters, lr=self.config.learning_rate)
        self._gradient_step = LearningStep(self._step, self.optimizer, (self.network,), compile=self.config.compile)
        self._values = LearningStep(self._evaluate, (), compile=self.config.compile)

    def _remember(self, inputs: int) -> None:
        self.inputs = inputs
        fields = {
            "observation": ((inputs,), np.float32),
            "action": ((), np.int64),
            "reward": ((), np.float32),
            "next_observation": ((inputs,), np.float32),
            "discount": ((), np.float32),  # gamma^k, and 0 where the episode terminated
            "version": ((), np.int32),  # of the structure of the network that acted
        }
        self.replay = ReplayBuffer(self.config.buffer_size, fields)

    @property
    def num_parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def epsilon(self) -> float:
        """The probability of a random action now."""
        c = self.config
        done = min(self.steps / max(c.exploration_fraction * self.total_steps, 1), 1.0)
        return c.exploration_initial_epsilon + done * (c.exploration_final_epsilon - c.exploration_initial_epsilon)

    def prepare_to_act(self) -> None:
        """Have machine code made for acting."""
        self._values.prepare(T.zeros(self._num_envs, self.inputs))

    # --- acting -------------------------------------------------------------------------------------------------

    def act(self, observation: NDArray[np.float32], *, deterministic: bool = False) -> NDArray[Any]:
        """The best action, or with probability `epsilon` any; never any with ``deterministic``."""
        n = len(observation)
        if deterministic:
            return self._best(self._evaluate(T.from_numpy(observation)))
        explore = self.rng.random(n) < self.epsilon
        if self.new:
            return self._cautious(observation, explore)
        exploring = np.count_nonzero(explore)
        if not exploring:
            return self._best(self._valued(observation))
        random = self.rng.integers(self.actions, size=n)
        return random if exploring == n else np.where(explore, random, self._best(self._valued(observation)))

    def _valued(self, observation: NDArray[np.float32]) -> Tensor:
        evaluate = self._values if len(observation) == self._num_envs else self._evaluate  # one shape, one recording
        values: Tensor = evaluate(T.from_numpy(observation))
        return values

    def _evaluate(self, observation: Tensor) -> Tensor:
        with T.no_grad():
            values: Tensor = self.network(observation)
            return values

    def _best(self, values: Tensor) -> NDArray[np.int64]:
        return values.numpy()[:, : self.actions - self.new].argmax(-1)  # type: ignore[no-any-return]

    def _cautious(self, observation: NDArray[np.float32], explore: NDArray[np.bool_]) -> NDArray[np.int64]:
        share = self.tries / max(self.config.new_action_tries * self.new, 1)
        return cautious(self.rng, self._valued(observation).numpy(), self.new, share, explore)

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
        """Store the transitions whose n-step return is complete."""
        ready = self.n_step.add(observation, action, reward, next_observation, terminated, truncated, valid)
        if ready is not None:
            self.replay.add(**ready, version=np.full(len(ready["reward"]), self.version))
        self.steps += int(np.count_nonzero(valid))
        if self.new:
            self.tries += int(np.count_nonzero((action >= self.actions - self.new) & valid))
            if self.tries >= self.config.new_action_tries * self.new:
                self.new = 0

    def interrupt(self) -> None:
        """The episodes under way were cut off without an outcome: drop the returns that would span the break."""
        self.n_step.clear()

    # --- learning -----------------------------------------------------------------------------------------------

    def learn(self) -> Mapping[str, float] | None:
        """Every ``train_interval`` steps take ``gradient_steps`` gradient steps on replayed transitions."""
        config = self.config
        if self.steps >= self._next_copy:
            if not self._copied:  # between updates there is nothing new to copy
                self.target.load_state_dict(self.network.state_dict())
                self._copied = True
            self._next_copy += config.target_update_interval * (
                1 + (self.steps - self._next_copy) // config.target_update_interval
            )
        if self.steps < self._next_learn or not len(self.replay):
            return None
        self._next_learn = self.steps + config.train_interval
        if config.anneal_learning_rate:
            remaining = max(1.0 - self.steps / self.total_steps, 0.0)
            self.optimizer.param_groups[0]["lr"] = config.learning_rate * remaining
        n, size = config.gradient_steps, config.batch_size
        batches = self.replay.sample(n * size, self.rng)
        behind = self.version - batches.pop("version").mean(dtype=np.float64)
        columns = [a.reshape(n, size, *a.shape[1:]) for a in batches.values()]
        loss = value = 0.0
        for i in range(n):
            step_loss, step_value = self._gradient_step(*[T.from_numpy(column[i]) for column in columns])
            loss += step_loss.item()
            value += step_value.item()
        self.updates += n
        self._copied = False
        metrics = {"loss/value": loss / n, "q_value": value / n, "epsilon": self.epsilon, "updates": float(self.updates)}
        return {**metrics, "structure/behind": float(behind)} if self.version else metrics

    def _step(
        self, observation: Tensor, action: Tensor, reward: Tensor, next_observation: Tensor, discount: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One gradient step; returns the loss and the mean value of the actions taken."""
        with T.no_grad():
            after = self.target(next_observation)
            if self.config.double:
                best = self.network(next_observation).argmax(1, keepdim=True)
                bootstrap = after.gather(1, best).squeeze(1)
            else:
                bootstrap = after.amax(1)
            wanted = reward + discount * bootstrap
        values = self.network(observation).gather(1, action.unsqueeze(1)).squeeze(1)
        loss = nn.functional.smooth_l1_loss(values, wanted)
        self.optimizer.zero_grad()
        loss.backward()
        clip_norm(self._parameters, self.config.max_grad_norm)
        self.optimizer.step()
        return loss.detach(), values.detach().mean()

    # --- changing -----------------------------------------------------------------------------------------------

    def parts(self) -> Mapping[str, Part]:
        """``network``: the layers between observations and values; the target network follows."""
        return {"network": Part(self.network.body, self.optimizer, (self.target.body,))}

    def sample(self) -> NDArray[np.float32] | None:
        """The latest observations in the replay memory."""
        return self.replay.latest("observation", 256) if len(self.replay) else None

    def edited(self) -> None:
        """Learn with the network as it is now."""
        if self._gradient_step.edited():
            self.version += 1
            self._parameters = list(self.network.parameters())
            self._values.edited()

    def adapt(self, observation_space: Box, action_space: Space[Any]) -> Sequence[tuple[str, structure.Edit]]:
        """Serve spaces that have grown: what is remembered gets zeros for observation components that it lacks."""
        (inputs,), before = observation_space.shape, self.replay["observation"].shape[1]
        actions = new_outputs("dqn", Discrete(self.actions), action_space)
        edits: list[tuple[str, structure.Edit]] = []
        if inputs > before:
            edits += more_inputs(self.parts(), inputs - before)
            for field in ("observation", "next_observation"):
                self.replay.convert(field, lambda rows: widen(rows, inputs))
            self.n_step.widen(inputs)
            self.inputs = inputs
        if actions:
            advantages = slice(1, None) if self.config.dueling else slice(None)
            edits += more_actions("network", self.parts()["network"], actions, advantages)
            self.actions += actions
            self.new, self.tries = self.new + actions, 0
        return edits

    def policy(self) -> State:
        """What `act` depends on, as copies."""
        weights = {"network": pack(self.network.state_dict()), "steps": self.steps}
        return {**weights, "structure": self._structure()} if self.version else weights

    def load_policy(self, state: State) -> None:
        """Act as the agent that gave `policy` does."""
        if "structure" in state:
            if state["structure"]["version"] != self.version:
                self._rebuild(state["structure"])
            self.actions, self.new, self.tries = state["structure"]["actions"]
        self.network.load_state_dict(unpack(state["network"]))
        self.steps = state["steps"]

    # --- keeping ------------------------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Structure, weights, target, optimizer, replay, pending returns, counters and the generator."""
        return {
            **self.snapshot(),
            "replay": self.replay.state_dict(),
            "n_step": self.n_step.state_dict(),
            "counters": [self.steps, self.updates, self._next_learn, self._next_copy],
            "generator": generator_state(self.rng),
        }

    def snapshot(self) -> State:
        """Structure, weights, target and optimizer."""
        return {
            "structure": self._structure(),
            "network": pack(self.network.state_dict()),
            "target": pack(self.target.state_dict()),
            "optimizer": pack(self.optimizer.state_dict()),
        }

    def roll_back(self, state: State) -> None:
        """Take the networks and the optimizer of a `snapshot` into use; all else stays as it is."""
        version, new, tries = self.version + 1, self.new, self.tries
        self._take(state, (GRACE, GRACE))
        self.version, self.new, self.tries, self._copied = version, new, tries, False

    def _take(self, state: State, grace: Sequence[int] | int) -> None:
        if "structure" in state:  # not in checkpoints from before networks could change
            self._rebuild(state["structure"])
        self.network.load_state_dict(unpack(state["network"]))
        self.target.load_state_dict(unpack(state["target"]))
        self.optimizer.load_state_dict(unpack_optimizer(state["optimizer"]))
        restore((self._gradient_step, self._values), grace)

    def _structure(self) -> State:
        return {
            "version": self.version,
            "inputs": self.inputs,
            "actions": [self.actions, self.new, self.tries],
            "network": structure.describe(self.network),
            "optimizer": names_in_order(self.network, self.optimizer),
            "grace": [self._gradient_step.grace, self._values.grace],
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave, bit for bit, whatever the networks have grown to."""
        self._take(state, state["structure"]["grace"] if "structure" in state else 0)
        fields = state["replay"]["fields"]
        self._remember(fields["observation"].shape[1])
        versions = np.zeros(state["replay"]["size"], np.int32)
        self.replay.load_state_dict({**state["replay"], "fields": {"version": versions, **fields}})
        self.n_step.load_state_dict(state["n_step"])
        self.steps, self.updates, self._next_learn, self._next_copy = state["counters"]
        self._copied = False
        load_generator(self.rng, state["generator"])

    def _rebuild(self, given: State) -> None:
        """The networks as they had become, with weights to be loaded."""
        self.version = given["version"]
        self.actions, self.new, self.tries = given["actions"]
        self.inputs = given.get("inputs", self.inputs)
        if given["network"] != structure.describe(self.network):
            self.network, self.target = (rebuilt(QNetwork, given["network"]) for _ in range(2))
            self._learn_with(optimized(self.network, given["optimizer"]))
