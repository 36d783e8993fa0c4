"""From a network's outputs to actions: one head for each kind of action space.

A head draws actions with a NumPy generator (so that a checkpoint holds its state) and scores them with differentiable operators.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

import tensor as T
from rlcore.errors import SpaceError
from tensor import Tensor, nn

__all__ = ["ActionHead", "BernoulliHead", "CategoricalHead", "GaussianHead", "MultiCategoricalHead", "make_head"]


class ActionHead(nn.Module):
    """What heads have in common. ``outputs`` are ``[n, size]``, actions ``[n, *action_shape]``."""

    size: int  #: how many outputs the network must have
    action_shape: tuple[int, ...]
    action_dtype: type[Any]

    def sample(self, outputs: Tensor, rng: np.random.Generator) -> NDArray[Any]:
        """Draw actions."""
        raise NotImplementedError

    def mode(self, outputs: Tensor) -> NDArray[Any]:
        """The most likely actions."""
        raise NotImplementedError

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """The pair (log probability of the actions, entropy), both ``[n]``."""
        raise NotImplementedError


def _gumbel_argmax(logits: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    """An index for each row, with probabilities softmax(logits) (Gumbel's trick: no cumulative sums)."""
    return (logits + rng.gumbel(size=logits.shape)).argmax(-1)  # type: ignore[no-any-return]


def _categorical(logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    logp = logits.log_softmax(-1)
    chosen = logp.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    return chosen, -(logp * logp.exp()).sum(-1)


class CategoricalHead(ActionHead):
    """One of ``n`` actions, by logits."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.size, self.action_shape, self.action_dtype = n, (), np.int64

    def sample(self, outputs: Tensor, rng: np.random.Generator) -> NDArray[Any]:
        return _gumbel_argmax(outputs.numpy(), rng)

    def mode(self, outputs: Tensor) -> NDArray[Any]:
        return outputs.numpy().argmax(-1)  # type: ignore[no-any-return]

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        return _categorical(outputs, actions)


class MultiCategoricalHead(ActionHead):
    """Several independent choices, each among its own number of actions."""

    def __init__(self, counts: list[int]) -> None:
        super().__init__()
        self.counts = counts
        self.size, self.action_shape, self.action_dtype = sum(counts), (len(counts),), np.int64

    def sample(self, outputs: Tensor, rng: np.random.Generator) -> NDArray[Any]:
        return np.stack([_gumbel_argmax(part.numpy(), rng) for part in outputs.split(self.counts, -1)], -1)

    def mode(self, outputs: Tensor) -> NDArray[Any]:
        return np.stack([part.numpy().argmax(-1) for part in outputs.split(self.counts, -1)], -1)

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        parts = zip(outputs.split(self.counts, -1), actions.unbind(-1), strict=True)
        scores = [_categorical(logits, a) for logits, a in parts]
        return T.stack([s for s, _ in scores]).sum(0), T.stack([e for _, e in scores]).sum(0)


class BernoulliHead(ActionHead):
    """Independent yes-or-no choices, by the logits of yes."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.size, self.action_shape, self.action_dtype = n, (n,), np.int64

    def sample(self, outputs: Tensor, rng: np.random.Generator) -> NDArray[Any]:
        p = outputs.sigmoid().numpy()
        return (rng.random(p.shape) < p).astype(np.int64)

    def mode(self, outputs: Tensor) -> NDArray[Any]:
        return (outputs.numpy() > 0).astype(np.int64)

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        yes, no = nn.functional.logsigmoid(outputs), nn.functional.logsigmoid(-outputs)
        chosen = actions.to(outputs.dtype)
        logp = (chosen * yes + (1 - chosen) * no).sum(-1)
        p = outputs.sigmoid()
        return logp, -(p * yes + (1 - p) * no).sum(-1)


class GaussianHead(ActionHead):
    """Independent normal distributions around the network's outputs, with a learnt standard deviation that no state changes.

    Drawn actions are not clipped: the world clips what it executes, the agent learns from what it drew.
    """

    def __init__(self, shape: tuple[int, ...], initial_log_std: float = 0.0) -> None:
        super().__init__()
        self.size, self.action_shape, self.action_dtype = math.prod(shape), shape, np.float32
        self.log_std = nn.Parameter(T.full((self.size,), initial_log_std, dtype=T.float32))

    def _shaped(self, flat: NDArray[Any]) -> NDArray[Any]:
        return flat.reshape(len(flat), *self.action_shape)

    def sample(self, outputs: Tensor, rng: np.random.Generator) -> NDArray[Any]:
        std = np.exp(self.log_std.detach().numpy())
        mean = outputs.numpy()
        return self._shaped(mean + std * rng.standard_normal(mean.shape, dtype=np.float32))

    def mode(self, outputs: Tensor) -> NDArray[Any]:
        return self._shaped(outputs.numpy().copy())

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        z = (actions.reshape(len(actions), self.size) - outputs) * (-self.log_std).exp()
        constant = 0.5 * math.log(2 * math.pi)
        logp = ((z * z) * -0.5 - self.log_std - constant).sum(-1)
        entropy = (self.log_std + (0.5 + constant)).sum()
        return logp, entropy.expand(len(actions))


def make_head(space: spaces.Space[Any], agent: str) -> ActionHead:
    """The head for an action space; SpaceError names the agent when there is none."""
    if isinstance(space, spaces.Discrete):
        return CategoricalHead(int(space.n))
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return MultiCategoricalHead([int(n) for n in space.nvec])
    if isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
        return BernoulliHead(space.shape[0])
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return GaussianHead(space.shape)
    msg = f"{agent} cannot serve the action space {space}: expected Discrete, MultiDiscrete, MultiBinary or a float Box"
    raise SpaceError(msg)
