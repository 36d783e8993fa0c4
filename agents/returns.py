"""Returns and advantages as pure functions of arrays: time first, environments second.

Two flags end an episode: ``terminated`` (the next state has no value) and ``truncated`` (cut short: the next state's value is
bootstrapped). Nothing ever flows backwards across either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["discounted_returns", "gae", "lambda_returns", "td_errors"]

Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]


def td_errors(rewards: Floats, values: Floats, next_values: Floats, terminated: Flags, gamma: float) -> Floats:
    """One-step temporal-difference errors ``r + gamma * V(s') - V(s)``, without V(s') where the episode terminated.

    All arrays are ``[t, n]``. ``next_values`` are of the state the action led to: at an episode's end the true final one.

    >>> td_errors(np.array([1.0]), np.array([2.0]), np.array([10.0]), np.array([True]), 0.9)
    array([-1.])
    """
    return rewards + gamma * next_values * ~terminated - values


def gae(
    rewards: Floats,
    values: Floats,
    next_values: Floats,
    terminated: Flags,
    truncated: Flags,
    gamma: float,
    lam: float,
) -> Floats:
    """Generalised advantage estimates ``[t, n]`` (arXiv 1506.02438).

    >>> r = np.array([[1.0], [1.0]])
    >>> v = np.zeros((2, 1))
    >>> no = np.zeros((2, 1), bool)
    >>> gae(r, v, v, no, no, gamma=0.5, lam=1.0).ravel()
    array([1.5, 1. ])
    """
    deltas = td_errors(rewards, values, next_values, terminated, gamma)
    decay = (gamma * lam) * ~(terminated | truncated)
    advantages = np.empty_like(deltas)
    running = np.zeros_like(deltas[0])
    for t in range(len(deltas) - 1, -1, -1):
        running = deltas[t] + decay[t] * running
        advantages[t] = running
    return advantages


def lambda_returns(
    rewards: Floats,
    values: Floats,
    next_values: Floats,
    terminated: Flags,
    truncated: Flags,
    gamma: float,
    lam: float,
) -> Floats:
    """TD(lambda) returns ``[t, n]``: the advantages of `gae` on top of the values."""
    return gae(rewards, values, next_values, terminated, truncated, gamma, lam) + values


def discounted_returns(rewards: Floats, next_values: Floats, terminated: Flags, truncated: Flags, gamma: float) -> Floats:
    """Monte-Carlo returns ``[t, n]``, bootstrapped from ``next_values`` at truncations and at the end of the arrays.

    >>> r = np.array([[1.0], [2.0]])
    >>> no = np.zeros((2, 1), bool)
    >>> discounted_returns(r, np.full((2, 1), 8.0), no, no, gamma=0.5).ravel()
    array([4., 6.])
    """
    returns = np.empty_like(rewards)
    running = next_values[-1]
    for t in range(len(rewards) - 1, -1, -1):
        running = np.where(truncated[t], next_values[t], running)
        running = rewards[t] + gamma * running * ~terminated[t]
        returns[t] = running
    return returns
