"""Proximal policy optimisation (arXiv 1707.06347), with the details that make it work (the "37 details", ICLR blog 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Space
from numpy.typing import NDArray

import tensor as T
from agents.networks import make_head, mlp
from agents.returns import gae
from agents.settings import at_least, check, fraction, positive
from agents.state import generator_state, load_generator, pack, unpack
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
        self.optimizer = optim.Adam(self.networks.parameters(), lr=config.learning_rate, eps=1e-5)
        self.rollout = RolloutBuffer(
            config.rollout_length,
            num_envs,
            {
                "observation": ((inputs,), np.float32),
                "action": (self.head.action_shape, self.head.action_dtype),
                "log_prob": ((), np.float32),
                "value": ((), np.float32),
                "reward": ((), np.float32),
                "final_value": ((), np.float32),  # of the true last state, where the step was truncated
                "terminated": ((), np.bool_),
                "truncated": ((), np.bool_),
                "valid": ((), np.bool_),
            },
        )
        self._last_observation = np.zeros((num_envs, inputs), np.float32)
        self._drawn: tuple[NDArray[Any], NDArray[Any]] | None = None

    @property
    def num_parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(p.numel() for p in self.networks.parameters())

    # --- acting -------------------------------------------------------------------------------------------------

    def act(self, observation: NDArray[np.float32], *, deterministic: bool = False) -> NDArray[Any]:
        """Draw actions from the policy; the most likely ones with ``deterministic``."""
        with T.no_grad():
            x = T.from_numpy(observation)
            outputs = self.actor(x)
            if deterministic:
                return self.head.mode(outputs)
            action = self.head.sample(outputs, self.rng)
            log_prob, _ = self.head.evaluate(outputs, T.from_numpy(action))
            self._drawn = log_prob.numpy(), self.critic(x).numpy()[:, 0]
        return action

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
        if self._drawn is None:
            msg = "ppo learns from its own actions: call act() before each observe()"
            raise RuntimeError(msg)
        log_prob, value = self._drawn
        final_value = np.zeros_like(value)
        cut = truncated & ~terminated
        if cut.any():
            final_value[cut] = self._values(next_observation[cut])
        self.rollout.add(
            observation=observation,
            action=action,
            log_prob=log_prob,
            value=value,
            reward=reward,
            final_value=final_value,
            terminated=terminated,
            truncated=truncated,
            valid=valid,
        )
        self._last_observation = next_observation
        self._drawn = None
        self.steps += int(np.count_nonzero(valid))

    def interrupt(self) -> None:
        """The episodes under way were cut off without an outcome: drop what would span the break."""
        self.rollout.clear()
        self._drawn = None

    def _values(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        with T.no_grad():
            return self.critic(T.from_numpy(observation)).numpy()[:, 0]  # type: ignore[no-any-return]

    # --- learning -----------------------------------------------------------------------------------------------

    def learn(self) -> Mapping[str, float] | None:
        """Update when a rollout is full: ``epochs`` passes of clipped policy and value gradients over it."""
        if not self.rollout.full:
            return None
        batch = self._batch()
        remaining = max(1.0 - self.steps / self.total_steps, 0.0)
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
            "remaining": remaining,
        }

    def _batch(self) -> dict[str, NDArray[Any]]:
        """The rollout with advantages and returns, as flat rows; rows that only reset an environment are left out."""
        r = self.rollout
        values = r["value"]
        next_values = np.empty_like(values)
        next_values[:-1] = values[1:]
        next_values[-1] = self._values(self._last_observation)
        cut = r["truncated"] & ~r["terminated"]
        next_values[cut] = r["final_value"][cut]
        config = self.config
        advantages = gae(r["reward"], values, next_values, r["terminated"], r["truncated"], config.gamma, config.gae_lambda)
        valid = r["valid"].reshape(-1)
        columns = {name: r[name] for name in ("observation", "action", "log_prob", "value")}
        columns |= {"advantage": advantages, "returns": advantages + values}
        flat = {name: a.reshape(-1, *a.shape[2:]) for name, a in columns.items()}
        return flat if valid.all() else {name: a[valid] for name, a in flat.items()}

    def _update(self, batch: dict[str, NDArray[Any]], clip: float) -> dict[str, float]:
        config, n = self.config, len(batch["value"])
        size = min(config.minibatch_size, n)
        sums: dict[str, float] = {}
        updates = 0
        for _ in range(config.epochs):
            order = self.rng.permutation(n)
            kl = 0.0
            for start in range(0, n, size):
                rows = order[start : start + size]
                if len(rows) < 2 and n > 1:
                    continue  # a single leftover row has no variance to normalise by
                figures = self._step({name: T.from_numpy(a[rows]) for name, a in batch.items()}, clip)
                kl = figures["approx_kl"]
                for name, value in figures.items():
                    sums[name] = sums.get(name, 0.0) + value
                updates += 1
            if config.target_kl is not None and kl > 1.5 * config.target_kl:
                break
        return {name: total / updates for name, total in sums.items()}

    def _step(self, batch: dict[str, Tensor], clip: float) -> dict[str, float]:
        """One gradient step on a minibatch."""
        config = self.config
        advantage = batch["advantage"]
        if config.normalize_advantage:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        log_prob, entropy = self.head.evaluate(self.actor(batch["observation"]), batch["action"])
        log_ratio = log_prob - batch["log_prob"]
        ratio = log_ratio.exp()
        policy_loss = -T.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()

        value, returns = self.critic(batch["observation"]).squeeze(-1), batch["returns"]
        value_loss = (value - returns) ** 2
        if config.clip_value_loss:
            near = batch["value"] + (value - batch["value"]).clamp(-clip, clip)
            value_loss = T.maximum(value_loss, (near - returns) ** 2)
        value_loss = value_loss.mean()

        loss = policy_loss + value_loss * config.value_coefficient
        if config.entropy_coefficient:
            loss = loss - entropy.mean() * config.entropy_coefficient
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.networks.parameters(), config.max_grad_norm)
        self.optimizer.step()
        with T.no_grad():  # the low-variance estimate of the KL divergence (http://joschu.net/blog/kl-approx.html)
            return {
                "loss/policy": policy_loss.item(),
                "loss/value": value_loss.item(),
                "entropy": entropy.mean().item(),
                "approx_kl": (ratio - 1 - log_ratio).mean().item(),
                "clip_fraction": ((ratio - 1).abs() > clip).to(T.float32).mean().item(),
                "grad_norm": float(norm),
            }

    # --- keeping ------------------------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Weights, optimizer, the rollout under way, counters and the generator."""
        return {
            "networks": pack(self.networks.state_dict()),
            "optimizer": pack(self.optimizer.state_dict()),
            "rollout": self.rollout.state_dict(),
            "last_observation": self._last_observation.copy(),
            "steps": self.steps,
            "generator": generator_state(self.rng),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave, bit for bit."""
        self.networks.load_state_dict(unpack(state["networks"]))
        self.optimizer.load_state_dict(unpack(state["optimizer"]))
        self.rollout.load_state_dict(state["rollout"])
        self._last_observation = state["last_observation"].copy()
        self.steps = state["steps"]
        load_generator(self.rng, state["generator"])
        self._drawn = None


def _explained_variance(predicted: NDArray[Any], actual: NDArray[Any]) -> float:
    """1 for perfect values, 0 for values that tell nothing."""
    variance = float(np.var(actual))
    return 1.0 - float(np.var(actual - predicted)) / variance if variance > 0 else 0.0
