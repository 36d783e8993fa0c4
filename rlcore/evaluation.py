"""How good an agent is: a fixed number of episodes, and figures that say how sure they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcore.types import Agent, World

__all__ = ["Evaluation", "evaluate", "interquartile_mean"]

_RESAMPLES = 2_000
_CHUNK = 1_000_000  # drawn indices held at a time: 8 MB


@dataclass(frozen=True)
class Evaluation:
    """Returns of evaluation episodes, in the environment's own rewards, and what they say."""

    returns: list[float]  #: one per episode, in an order that depends on the seed alone
    lengths: list[int]  #: steps, in the same order
    mean: float
    std: float  #: population standard deviation over episodes
    median: float
    iqm: float  #: interquartile mean: of the middle half
    mean_interval: tuple[float, float]  #: 95 % bootstrap interval of the mean
    iqm_interval: tuple[float, float]  #: 95 % bootstrap interval of the interquartile mean

    @classmethod
    def of(cls, returns: Sequence[float], lengths: Sequence[int], *, seed: int = 0) -> Evaluation:
        """The statistics of given episodes; ``seed`` draws the bootstrap samples.

        >>> result = Evaluation.of([1.0, 2.0, 3.0, 10.0], [5, 5, 5, 5])
        >>> result.mean, result.median, result.iqm
        (4.0, 2.5, 2.5)
        """
        values = np.asarray(returns, np.float64)
        return cls(
            returns=values.tolist(),
            lengths=[int(length) for length in lengths],
            mean=float(values.mean()),
            std=float(values.std()),
            median=float(np.median(values)),
            iqm=float(interquartile_mean(values)),
            mean_interval=_bootstrap(values, lambda sample: sample.mean(axis=-1), seed),
            iqm_interval=_bootstrap(values, interquartile_mean, seed),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values under the names that ``run-agent eval --json`` prints."""
        values = asdict(self)
        return {
            "mean_return": values["mean"],
            "std_return": values["std"],
            "episodes": len(self.returns),
            "returns": values["returns"],
            "lengths": values["lengths"],
            "median": values["median"],
            "iqm": values["iqm"],
            "mean_interval": list(self.mean_interval),
            "iqm_interval": list(self.iqm_interval),
        }

    def __str__(self) -> str:
        low, high = self.mean_interval
        return (
            f"mean return {self.mean:.2f} ± {self.std:.2f} over {len(self.returns)} episode{'s' * (len(self.returns) != 1)} "
            f"(95% interval of the mean {low:.2f} to {high:.2f}; median {self.median:.2f}, IQM {self.iqm:.2f})"
        )


def evaluate(
    agent: Agent,
    world: World,
    *,
    episodes: int = 100,
    seed: int = 0,
    deterministic: bool = True,
    on_step: Callable[[], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Run whole episodes without learning.

    Each of the world's n environments has its own fixed share of the episodes. (Taking whichever episodes finish first
    would favour short ones.)

    Args:
        agent: acts; it neither observes nor learns.
        world: made with ``training=False``; it is reset here, and left open.
        episodes: how many, at least 1.
        seed: of the environments and of the bootstrap; same agent, ``world.num_envs`` and seed, same result.
        deterministic: the agent's best action; False lets it draw from its generator.
        on_step: called after the reset and after every step, for example to take a picture.
        progress: told after every step how many episodes have ended, and how many steps each environment has made.

    Raises:
        ValueError: less than one episode.
    """
    if episodes < 1:
        message = f"episodes: expected at least 1, got {episodes}"
        raise ValueError(message)
    count = world.num_envs
    open_episodes = [episodes // count + (index < episodes % count) for index in range(count)]
    finished: list[list[tuple[float, int]]] = [[] for _ in range(count)]
    observation = world.reset(seed)
    missing, steps = episodes, 0
    while True:
        if on_step is not None:
            on_step()
        if not missing:
            break
        step = world.step(agent.act(observation, deterministic=deterministic))
        observation = step.observation
        for end in step.episodes:
            if open_episodes[end.index]:
                open_episodes[end.index] -= 1
                missing -= 1
                finished[end.index].append((float(end.total_reward), int(end.length)))
        steps += 1
        if progress is not None:
            progress(episodes - missing, steps)
    pairs = [pair for one in finished for pair in one]
    return Evaluation.of([total for total, _ in pairs], [length for _, length in pairs], seed=seed)


def interquartile_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis without its lowest and highest quarter (each rounded down to whole elements).

    >>> float(interquartile_mean(np.array([-100.0, 1.0, 2.0, 3.0, 100.0])))
    2.0
    """
    count = values.shape[-1]
    cut = count // 4
    mean: NDArray[np.float64] = np.sort(values, axis=-1)[..., cut : count - cut].mean(axis=-1)
    return mean


def _bootstrap(
    values: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]], seed: int
) -> tuple[float, float]:
    """The percentile interval of a statistic, at 95 %."""
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // len(values))
    chunks = [
        statistic(values[rng.integers(len(values), size=(min(rows, _RESAMPLES - done), len(values)))])
        for done in range(0, _RESAMPLES, rows)
    ]
    low, high = np.quantile(np.concatenate(chunks), [0.025, 0.975])
    return float(low), float(high)
