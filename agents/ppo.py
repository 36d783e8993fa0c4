"""Proximal policy optimisation (arXiv 1707.06347), with the details that make it work (the "37 details", ICLR blog 2022)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from numpy.typing import NDArray

import tensor as T
from agents.compiled import GRACE, LearningStep, restore
from agents.gradients import clip_norm
from agents.growing import (
    build_space,
    describe_space,
    more_actions,
    more_deviations,
    more_inputs,
    names_in_order,
    new_outputs,
    optimized,
    rebuilt,
)
from agents.networks import GaussianHead, make_head, mlp
from agents.returns import gae
from agents.settings import at_least, check, fraction, positive
from agents.state import generator_state, load_generator, pack, unpack, unpack_optimizer
from rlcore.buffers import RolloutBuffer
from rlcore.types import Part, State
from tensor import Tensor, nn, optim, structure

__all__ = ["PPO", "PPOConfig"]


@dataclass
class PPOConfig:
    """Proximal policy optimisation: an on-policy actor-critic for discrete and continuous actions."""

    learning_rate: float = 3e-4
    """Adam's step size."""
    anneal_learning_rate: bool = False
    """Lower the step size linearly to 0 over the run."""
    rollout_length: int = 256
    """Steps that each environment takes between updates."""
    minibatch_size: int = 64
    """Transitions in one gradient step."""
    epochs: int = 10
    """Passes over each rollout."""
    gamma: float = 0.99
    """Discount."""
    gae_lambda: float = 0.95
    """Decay of generalised advantage estimates: 0 one step, 1 Monte Carlo."""
    clip_range: float = 0.2
    """How far the probability ratio may move from 1 before it stops to count."""
    anneal_clip_range: bool = False
    """Lower the clip range linearly to 0 over the run."""
    clip_value_loss: bool = False
    """Clip the change of the value estimate too."""
    normalize_advantage: bool = True
    """Give the advantages of each minibatch mean 0 and variance 1."""
    entropy_coefficient: float = 0.0
    """Weight of the bonus for random policies."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Gradients are scaled down to this norm."""
    target_kl: float | None = None
    """Stop the epochs of an update when the policy has moved this far."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Units of the hidden layers, of the policy and of the value network each."""
    activation: str = "tanh"
    """Activation between layers: tanh, relu, silu or gelu."""
    initial_log_std: float = 0.0
    """Logarithm of the first standard deviation of continuous actions."""
    compile: bool = True
    """Act and learn by compiled functions (`T.compile`): much faster, and equal up to rounding."""

    def __post_init__(self) -> None:
        check(self, positive, "learning_rate", "clip_range", "max_grad_norm")
        check(self, at_least(1), "rollout_length", "minibatch_size", "epochs")
        check(self, fraction, "gamma", "gae_lambda")
        check(self, at_least(0), "entropy_coefficient", "value_coefficient")


class PPO:
    """The agent; see `rlcore.types.Agent` for its protocol.

    >>> from gymnasium.spaces import Box, Discrete
    >>> agent = PPO(PPOConfig(), Box(-1, 1, (4,)), Discrete(2), num_envs=8, total_steps=1000, seed=0)
    >>> agent.act(np.zeros((8, 4), np.float32), deterministic=True).shape
    (8,)
    """

    Config = PPOConfig

    def __init__(
        self,
        config: PPOConfig,
        observation_space: Box,
        action_space: Space[Any],
        *,
        num_envs: int,
        total_steps: int,
        seed: int,
    ) -> None:
        self.config = config
        self.total_steps = total_steps
        self.steps = 0
        self.rng = np.random.Generator(np.random.PCG64(seed))
        T.manual_seed(seed)
        (inputs,) = observation_space.shape
        hidden, activation = config.hidden_sizes, config.activation
        self.action_space, self.version, self._num_envs = action_space, 0, num_envs
        self.head = make_head(action_space, "ppo")
        if isinstance(getattr(self.head, "log_std", None), nn.Parameter):
            nn.init.constant_(self.head.log_std, config.initial_log_std)
        self.actor = mlp(inputs, hidden, self.head.size, activation=activation, output_gain=0.01)
        self.critic = mlp(inputs, hidden, 1, activation=activation, output_gain=1.0)
        self._learn_with(None)
        self._collect(inputs)

    def _learn_with(self, names: Sequence[str] | None) -> None:
        """Take the networks into use, with their parameters in the optimizer in the order of ``names``."""
        self.networks = nn.ModuleDict({"actor": self.actor, "critic": self.critic, "head": self.head})
        self._parameters = list(self.networks.parameters())
        parameters = self._parameters if names is None else optimized(self.networks, names)
        self.optimizer = optim.Adam(parameters, lr=self.config.learning_rate, eps=1e-5)
        self._gradient_step = LearningStep(self._step, self.optimizer, (self.networks,), compile=self.config.compile)
        self._outputs = LearningStep(self._evaluate, (), compile=self.config.compile)

    def _collect(self, inputs: int) -> None:
        self.inputs = inputs
        fields = {
            "observation": ((inputs,), np.float32),
            "action": (self.head.action_shape, self.head.action_dtype),
            "reward": ((), np.float32),
            "next_observation": ((inputs,), np.float32),
            "terminated": ((), np.bool_),
            "truncated": ((), np.bool_),
            "valid": ((), np.bool_),
            "version": ((), np.int32),  # of the structure of the networks that acted
        }
        self.rollout = RolloutBuffer(self.config.rollout_length, self._num_envs, fields)

    @property
    def num_parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(p.numel() for p in self.networks.parameters())

    def prepare_to_act(self) -> None:
        """Have machine code made for acting."""
        self._outputs.prepare(T.zeros(self._num_envs, self.inputs))

    # --- acting -------------------------------------------------------------------------------------------------

    def act(self, observation: NDArray[np.float32], *, deterministic: bool = False) -> NDArray[Any]:
        """Draw actions from the policy; the most likely ones with ``deterministic``."""
        if deterministic:
            return self.head.mode(self._evaluate(T.from_numpy(observation)))
        outputs = self._outputs if len(observation) == self._num_envs else self._evaluate  # one shape, one recording
        return self.head.sample(outputs(T.from_numpy(observation)), self.rng)

    def _evaluate(self, observation: Tensor) -> Tensor:
        with T.no_grad():
            outputs: Tensor = self.actor(observation)
            return outputs

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
        """Add a step to the rollout."""
        self.rollout.add(
            observation=observation,
            action=action,
            reward=reward,
            next_observation=next_observation,
            terminated=terminated,
            truncated=truncated,
            valid=valid,
            version=self.version,
        )
        self.steps += int(np.count_nonzero(valid))

    def interrupt(self) -> None:
        """The episodes under way were cut off without an outcome: drop what would span the break."""
        self.rollout.clear()

    # --- learning -----------------------------------------------------------------------------------------------

    def learn(self) -> Mapping[str, float] | None:
        """Update when a rollout is full: ``epochs`` passes of clipped policy and value gradients over it."""
        return self._learn() if self.rollout.full else None

    def _learn(self) -> Mapping[str, float]:
        batch = self._batch()
        before = max(1.0 - (self.steps - len(batch["value"])) / self.total_steps, 0.0)
        config = self.config
        self.optimizer.param_groups[0]["lr"] = config.learning_rate * (before if config.anneal_learning_rate else 1.0)
        clip = config.clip_range * (before if config.anneal_clip_range else 1.0)
        metrics = self._update(batch, clip)
        self.rollout.clear()
        return {
            **metrics,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "explained_variance": _explained_variance(batch["value"], batch["returns"]),
        }

    def _batch(self) -> dict[str, NDArray[Any]]:
        """The rollout as flat rows with log probabilities, values, advantages and returns.

        Log probabilities and values are computed here, in one pass, rather than at each step: the networks have not changed
        since. Rows that only reset an environment are left out.
        """
        config = self.config
        # Less than the whole where a space has changed.
        r = {name: self.rollout[name][: len(self.rollout)] for name in self.rollout.names}
        shape = r["reward"].shape
        observation, action = r["observation"].reshape(-1, r["observation"].shape[-1]), r["action"]
        with T.no_grad():
            x = T.from_numpy(observation)
            flat_action = T.from_numpy(action.reshape(-1, *action.shape[2:]))
            log_prob = self.head.log_prob(self.actor(x), flat_action).numpy()
            values = self.critic(x).numpy().reshape(shape)
        # The value of where each step led: that of the next row, but for the last row and for episodes cut short, which
        # are followed by something else. (After a termination there is none.)
        next_values = np.empty_like(values)
        next_values[:-1] = values[1:]
        apart = r["truncated"] & ~r["terminated"]
        apart[-1] = True
        with T.no_grad():
            next_values[apart] = self.critic(T.from_numpy(r["next_observation"][apart])).numpy()[:, 0]
        ends = r["terminated"], r["truncated"]
        advantages = gae(r["reward"], values, next_values, *ends, config.gamma, config.gae_lambda)
        flat = {
            "observation": observation,
            "action": flat_action.numpy(),
            "log_prob": log_prob,
            "value": values.reshape(-1),
            "advantage": advantages.reshape(-1),
            "returns": (advantages + values).reshape(-1),
        }
        valid = r["valid"].reshape(-1)
        return flat if valid.all() else {name: a[valid] for name, a in flat.items()}

    def _update(self, batch: dict[str, NDArray[Any]], clip: float) -> dict[str, float]:
        config, limit = self.config, T.tensor(clip, dtype=T.float32)
        for minibatches in self._epochs(batch):
            for minibatch in minibatches:
                norm = self._gradient_step(*minibatch, limit)
            if config.target_kl is not None and self._figures(batch, clip)["approx_kl"] > 1.5 * config.target_kl:
                break
        return {**self._figures(batch, clip), "grad_norm": norm.item()}

    def _epochs(self, batch: dict[str, NDArray[Any]]) -> Iterator[Iterator[list[Tensor]]]:
        """The minibatches of each epoch: all rows, in random order unless one minibatch holds them all.

        All have the same length; one with fewer rows is filled up with rows that weigh nothing.
        """
        n, size = len(batch["value"]), min(self.config.minibatch_size, self.rollout["valid"].size)
        if n <= size:
            whole = _minibatch(batch, np.arange(n), size)
            for _ in range(self.config.epochs):
                yield iter([whole])
            return
        # A single leftover row has no variance to normalise by.
        end = n - 1 if n % size == 1 else n
        for _ in range(self.config.epochs):
            order = self.rng.permutation(n)
            yield (_minibatch(batch, order[start : min(start + size, end)], size) for start in range(0, end, size))

    def _step(
        self,
        observation: Tensor,
        action: Tensor,
        log_prob: Tensor,
        old_value: Tensor,
        advantage: Tensor,
        returns: Tensor,
        weight: Tensor,
        clip: Tensor,
    ) -> Tensor:
        """One gradient step on a minibatch, whose rows' weights sum to 1; returns the norm of the gradient."""
        config = self.config
        if config.normalize_advantage:
            centred = advantage - (advantage * weight).sum()
            advantage = centred / (((centred * centred) * weight).sum().sqrt() + 1e-8)
        outputs = self.actor(observation)
        ratio = (self.head.log_prob(outputs, action) - log_prob).exp()
        # How far the ratio counts in the direction in which the advantage pushes it.
        limit = T.where(advantage > 0, 1 + clip, 1 - clip)
        loss = _larger(-ratio * advantage, -limit * advantage)

        value = self.critic(observation).squeeze(-1)
        value_loss = (value - returns) ** 2
        if config.clip_value_loss:
            near = old_value + (value - old_value).clamp(-clip, clip)
            value_loss = _larger(value_loss, (near - returns) ** 2)
        loss = loss + value_loss * config.value_coefficient
        if config.entropy_coefficient:
            loss = loss - self.head.entropy(outputs) * config.entropy_coefficient
        self.optimizer.zero_grad()
        (loss * weight).sum().backward()
        norm = clip_norm(self._parameters, config.max_grad_norm)
        self.optimizer.step()
        return norm

    def _figures(self, batch: dict[str, NDArray[Any]], clip: float) -> dict[str, float]:
        """How far the policy has moved from the one that acted, and how well the values fit, over the whole rollout."""
        with T.no_grad():
            x = T.from_numpy(batch["observation"])
            outputs = self.actor(x)
            log_ratio = self.head.log_prob(outputs, T.from_numpy(batch["action"])).numpy() - batch["log_prob"]
            entropy = self.head.entropy(outputs).mean().item()
            error = self.critic(x).numpy()[:, 0] - batch["returns"]
        ratio = np.exp(log_ratio)
        return {
            "loss/value": float(np.mean(error * error)),
            "entropy": entropy,
            # The estimate of the KL divergence with the lower variance (J. Schulman, "Approximating KL divergence", 2020).
            "approx_kl": float(np.mean(ratio - 1 - log_ratio)),
            "clip_fraction": np.count_nonzero(np.abs(ratio - 1) > clip) / len(ratio),
        }

    # --- changing -----------------------------------------------------------------------------------------------

    def parts(self) -> Mapping[str, Part]:
        """``actor``, from observations to what the action's distribution is made of, and ``critic``, to the value."""
        return {"actor": Part(self.actor, self.optimizer), "critic": Part(self.critic, self.optimizer)}

    def sample(self) -> NDArray[np.float32] | None:
        """The last observations of the rollout, or of the one before."""
        rows = self.rollout["observation"][: len(self.rollout) or None]
        return rows.reshape(-1, rows.shape[-1])[-256:].copy() if self.steps else None

    def edited(self) -> None:
        """Learn with the networks as they are now."""
        if self._gradient_step.edited():
            self.version += 1
            self._parameters = list(self.networks.parameters())
            self._outputs.edited()

    def adapt(self, observation_space: Box, action_space: Space[Any]) -> Sequence[tuple[str, structure.Edit]]:
        """Serve spaces that have grown. What the old policy has collected is learnt from before."""
        (inputs,), before = observation_space.shape, self.rollout["observation"].shape[-1]
        outputs = new_outputs("ppo", self.action_space, action_space)
        if len(self.rollout):
            self._learn()
        edits: list[tuple[str, structure.Edit]] = []
        if inputs > before:
            edits += more_inputs(self.parts(), inputs - before)
        if outputs:
            # A new choice is like the mean of the others; what is apart from the others (a component) begins at zero.
            like = slice(None) if isinstance(action_space, Discrete) else None
            edits += more_actions("actor", self.parts()["actor"], outputs, like)
            self._take_head(action_space, outputs)
        self._collect(inputs)
        return edits

    def _take_head(self, action_space: Space[Any], outputs: int = 0) -> None:
        """The head for an action space, with the deviations that there are, and first ones for new outputs."""
        old, self.head = self.head, make_head(action_space, "ppo")
        if isinstance(old, GaussianHead) and isinstance(self.head, GaussianHead):
            if outputs:
                more_deviations(old, self.optimizer, outputs, self.config.initial_log_std)
            self.head.log_std = old.log_std
        self.action_space = action_space
        self.networks["head"] = self.head

    def policy(self) -> State:
        """What `act` depends on, as copies."""
        weights = pack(self.networks.state_dict())
        return {"weights": weights, "structure": self._structure()} if self.version else {"weights": weights}

    def load_policy(self, state: State) -> None:
        """Act as the agent that gave `policy` does."""
        if "structure" in state and state["structure"]["version"] != self.version:
            self._rebuild(state["structure"])
        self.networks.load_state_dict(unpack(state["weights"]))

    # --- keeping ------------------------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Structure, weights, optimizer, the rollout under way, counters and the generator."""
        return {
            **self.snapshot(),
            "rollout": self.rollout.state_dict(),
            "steps": self.steps,
            "generator": generator_state(self.rng),
        }

    def snapshot(self) -> State:
        """Structure, weights and optimizer."""
        return {
            "structure": self._structure(),
            "networks": pack(self.networks.state_dict()),
            "optimizer": pack(self.optimizer.state_dict()),
        }

    def roll_back(self, state: State) -> None:
        """Take the networks and the optimizer of a `snapshot` into use; all else stays as it is."""
        version = self.version + 1
        self._take(state, (GRACE, GRACE))
        self.version = version

    def _take(self, state: State, grace: Sequence[int] | int) -> None:
        if "structure" in state:  # not in checkpoints from before networks could change
            self._rebuild(state["structure"])
        self.networks.load_state_dict(unpack(state["networks"]))
        self.optimizer.load_state_dict(unpack_optimizer(state["optimizer"]))
        restore((self._gradient_step, self._outputs), grace)

    def _structure(self) -> State:
        return {
            "version": self.version,
            "inputs": self.inputs,
            "actor": structure.describe(self.actor),
            "critic": structure.describe(self.critic),
            "actions": describe_space(self.action_space),
            "optimizer": names_in_order(self.networks, self.optimizer),
            "grace": [self._gradient_step.grace, self._outputs.grace],
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave, bit for bit, whatever the networks have grown to."""
        self._take(state, state["structure"]["grace"] if "structure" in state else 0)
        rollout = state["rollout"]
        self._collect(rollout["fields"]["observation"].shape[-1])
        versions = np.zeros(rollout["fields"]["valid"].shape, np.int32)
        self.rollout.load_state_dict({**rollout, "fields": {"version": versions, **rollout["fields"]}})
        self.steps = state["steps"]
        load_generator(self.rng, state["generator"])

    def _rebuild(self, given: State) -> None:
        """The networks as they had become, with weights to be loaded."""
        self.version, actions = given["version"], build_space(given["actions"])
        self.inputs = given.get("inputs", self.inputs)
        now = {"actor": structure.describe(self.actor), "critic": structure.describe(self.critic)}
        if now == {name: given[name] for name in now} and actions == self.action_space:
            return
        self.actor, self.critic = (rebuilt(nn.Sequential, given[name]) for name in ("actor", "critic"))
        self.action_space, self.head = actions, make_head(actions, "ppo")
        self._learn_with(given["optimizer"])


def _minibatch(batch: dict[str, NDArray[Any]], rows: NDArray[np.int64], size: int) -> list[Tensor]:
    """The rows of all columns, and their weights: filled up to ``size`` rows by others of weight 0."""
    index, weight = np.zeros(size, np.int64), np.zeros(size, np.float32)
    index[: len(rows)], weight[: len(rows)] = rows, 1 / len(rows)
    return [T.from_numpy(column.take(index, axis=0)) for column in batch.values()] + [T.from_numpy(weight)]


def _larger(a: Tensor, b: Tensor) -> Tensor:
    """The larger of each pair; `T.maximum` would look whether any are equal, and share the gradient between them."""
    larger: Tensor = T.where(a > b, a, b)
    return larger


def _explained_variance(predicted: NDArray[Any], actual: NDArray[Any]) -> float:
    """1 for perfect values, 0 for values that tell nothing."""
    variance = float(np.var(actual))
    return 1.0 - float(np.var(actual - predicted)) / variance if variance > 0 else 0.0
