"""Proximal policy optimisation (arXiv 1707.06347), with the details that make it work (the "37 details", ICLR blog 2022)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Space
from numpy.typing import NDArray

import tensor as T
from agents.compiled import LearningStep
from agents.gradients import clip_norm
from agents.networks import make_head, mlp
from agents.returns import gae
from agents.settings import at_least, check, fraction, positive
from agents.state import generator_state, load_generator, pack, unpack, unpack_optimizer
from rlcore.buffers import RolloutBuffer
from rlcore.types import State
from tensor import Tensor, nn, optim

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
    """Learn by compiled steps (`T.compile`): much faster, and equal up to rounding."""

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
        self.head = make_head(action_space, "ppo")
        if isinstance(getattr(self.head, "log_std", None), nn.Parameter):
            nn.init.constant_(self.head.log_std, config.initial_log_std)
        self.actor = mlp(inputs, hidden, self.head.size, activation=activation, output_gain=0.01)
        self.critic = mlp(inputs, hidden, 1, activation=activation, output_gain=1.0)
        self.networks = nn.ModuleDict({"actor": self.actor, "critic": self.critic, "head": self.head})
        self._parameters = list(self.networks.parameters())
        self.optimizer = optim.Adam(self._parameters, lr=config.learning_rate, eps=1e-5)
        self._gradient_step = LearningStep(self._step, self.optimizer, compile=config.compile)
        self.rollout = RolloutBuffer(
            config.rollout_length,
            num_envs,
            {
                "observation": ((inputs,), np.float32),
                "action": (self.head.action_shape, self.head.action_dtype),
                "reward": ((), np.float32),
                "next_observation": ((inputs,), np.float32),
                "terminated": ((), np.bool_),
                "truncated": ((), np.bool_),
                "valid": ((), np.bool_),
            },
        )

    @property
    def num_parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(p.numel() for p in self.networks.parameters())

    # --- acting -------------------------------------------------------------------------------------------------

    def act(self, observation: NDArray[np.float32], *, deterministic: bool = False) -> NDArray[Any]:
        """Draw actions from the policy; the most likely ones with ``deterministic``."""
        with T.no_grad():
            outputs = self.actor(T.from_numpy(observation))
            return self.head.mode(outputs) if deterministic else self.head.sample(outputs, self.rng)

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
        )
        self.steps += int(np.count_nonzero(valid))

    def interrupt(self) -> None:
        """The episodes under way were cut off without an outcome: drop what would span the break."""
        self.rollout.clear()

    # --- learning -----------------------------------------------------------------------------------------------

    def learn(self) -> Mapping[str, float] | None:
        """Update when a rollout is full: ``epochs`` passes of clipped policy and value gradients over it."""
        if not self.rollout.full:
            return None
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
        r, config = self.rollout, self.config
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

    def policy(self) -> State:
        """What `act` depends on, as copies."""
        return pack(self.networks.state_dict())

    def load_policy(self, state: State) -> None:
        """Act as the agent that gave `policy` does."""
        self.networks.load_state_dict(unpack(state))

    # --- keeping ------------------------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Weights, optimizer, the rollout under way, counters and the generator."""
        return {
            "networks": pack(self.networks.state_dict()),
            "optimizer": pack(self.optimizer.state_dict()),
            "rollout": self.rollout.state_dict(),
            "steps": self.steps,
            "generator": generator_state(self.rng),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave, bit for bit."""
        self.networks.load_state_dict(unpack(state["networks"]))
        self.optimizer.load_state_dict(unpack_optimizer(state["optimizer"]))
        self._gradient_step.restored()
        self.rollout.load_state_dict(state["rollout"])
        self.steps = state["steps"]
        load_generator(self.rng, state["generator"])


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
