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

__all__ = [
    "ActionHead",
    "BernoulliHead",
    "CategoricalHead",
    "GaussianHead",
    "MultiCategoricalHead",
    "SpreadGaussianHead",
    "make_head",
]


LEAST_DEVIATION = 1e-6  # a density needs a deviation above 0
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


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

    def log_prob(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """The log probability (density) of the actions, ``[n]``."""
        raise NotImplementedError

    def entropy(self, outputs: Tensor) -> Tensor:
        """The entropy of the distributions, ``[n]``."""
        raise NotImplementedError


def _gumbel_argmax(logits: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    """An index for each row, with probabilities softmax(logits) (Gumbel's trick: no cumulative sums)."""
    return (logits + rng.gumbel(size=logits.shape)).argmax(-1)  # type: ignore[no-any-return]


def _categorical_log_prob(logits: Tensor, actions: Tensor) -> Tensor:
    return logits.log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def _categorical_entropy(logits: Tensor) -> Tensor:
    logp = logits.log_softmax(-1)
    return -(logp * logp.exp()).sum(-1)


class CategoricalHead(ActionHead):
    """One of ``n`` actions, by logits."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.size, self.action_shape, self.action_dtype = n, (), np.int64

    def sample(self, outputs: Tensor, rng: np.random.Generator) -> NDArray[Any]:
        return _gumbel_argmax(outputs.numpy(), rng)

    def mode(self, outputs: Tensor) -> NDArray[Any]:
        return outputs.numpy().argmax(-1)  # type: ignore[no-any-return]

    def log_prob(self, outputs: Tensor, actions: Tensor) -> Tensor:
        return _categorical_log_prob(outputs, actions)

    def entropy(self, outputs: Tensor) -> Tensor:
        return _categorical_entropy(outputs)


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

    def log_prob(self, outputs: Tensor, actions: Tensor) -> Tensor:
        parts = zip(outputs.split(self.counts, -1), actions.unbind(-1), strict=True)
        return T.stack([_categorical_log_prob(logits, a) for logits, a in parts]).sum(0)

    def entropy(self, outputs: Tensor) -> Tensor:
        return T.stack([_categorical_entropy(logits) for logits in outputs.split(self.counts, -1)]).sum(0)


class BernoulliHead(ActionHead):
    """Independent yes-or-no choices, by the logits of yes."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.size, self.action_shape, self.action_dtype = n, (n,), np.int64

    def sample(self, outputs: Tensor, rng: np.random.Generator) -> NDArray[Any]:
        p: NDArray[Any] = outputs.sigmoid().numpy()
        drawn: NDArray[Any] = (rng.random(p.shape) < p).astype(np.int64)
        return drawn

    def mode(self, outputs: Tensor) -> NDArray[Any]:
        return (outputs.numpy() > 0).astype(np.int64)

    def log_prob(self, outputs: Tensor, actions: Tensor) -> Tensor:
        return self._weighted(outputs, actions.to(outputs.dtype))

    def entropy(self, outputs: Tensor) -> Tensor:
        return -self._weighted(outputs, outputs.sigmoid())

    def _weighted(self, outputs: Tensor, yes: Tensor) -> Tensor:
        logsigmoid = nn.functional.logsigmoid
        return (yes * logsigmoid(outputs) + (1 - yes) * logsigmoid(-outputs)).sum(-1)


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

    def log_prob(self, outputs: Tensor, actions: Tensor) -> Tensor:
        z = (actions.reshape(len(actions), self.size) - outputs) * (-self.log_std).exp()
        return ((z * z) * -0.5 - self.log_std - HALF_LOG_TWO_PI).sum(-1)

    def entropy(self, outputs: Tensor) -> Tensor:
        return (self.log_std + (0.5 + HALF_LOG_TWO_PI)).sum().expand(len(outputs))


class SpreadGaussianHead(ActionHead):
    """Independent normal distributions of which the network gives both the means and, through softplus, the deviations.

    Drawn actions are not clipped, as with `GaussianHead`.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.dimensions = math.prod(shape)
        self.size, self.action_shape, self.action_dtype = 2 * self.dimensions, shape, np.float32

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        mean, spread = outputs[:, : self.dimensions], outputs[:, self.dimensions :]
        return mean, nn.functional.softplus(spread) + LEAST_DEVIATION

    def sample(self, outputs: Tensor, rng: np.random.Generator) -> NDArray[Any]:
        array = outputs.numpy()
        mean, spread = array[:, : self.dimensions], array[:, self.dimensions :]
        std = np.logaddexp(spread, np.float32(0)) + np.float32(LEAST_DEVIATION)  # softplus
        drawn: NDArray[Any] = mean + std * rng.standard_normal(mean.shape, dtype=np.float32)
        return drawn.reshape(len(drawn), *self.action_shape)

    def mode(self, outputs: Tensor) -> NDArray[Any]:
        mean: NDArray[Any] = outputs.numpy()[:, : self.dimensions].copy()
        return mean.reshape(len(mean), *self.action_shape)

    def log_prob(self, outputs: Tensor, actions: Tensor) -> Tensor:
        mean, std = self._split(outputs)
        z = (actions.reshape(len(actions), self.dimensions) - mean) / std
        return ((z * z) * -0.5 - std.log() - HALF_LOG_TWO_PI).sum(-1)

    def entropy(self, outputs: Tensor) -> Tensor:
        return (self._split(outputs)[1].log() + (0.5 + HALF_LOG_TWO_PI)).sum(-1)


def make_head(space: spaces.Space[Any], agent: str, *, spread: bool = False) -> ActionHead:
    """The head for an action space; SpaceError names the agent when there is none.

    ``spread`` gives continuous actions deviations that depend on the state.
    """
    if isinstance(space, spaces.Discrete):
        return CategoricalHead(int(space.n))
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return MultiCategoricalHead([int(n) for n in space.nvec])
    if isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
        return BernoulliHead(space.shape[0])
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return SpreadGaussianHead(space.shape) if spread else GaussianHead(space.shape)
    msg = f"{agent} cannot serve the action space {space}: expected Discrete, MultiDiscrete, MultiBinary or a float Box"
    raise SpaceError(msg)
