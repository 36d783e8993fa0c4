"""n-step transitions from single steps, for each of several environments."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcore.types import State

__all__ = ["NStep"]


class NStep:
    """Sums up to ``n`` discounted rewards before it hands a transition on; fewer at an episode's end.

    A transition carries its own ``discount``: ``gamma**k`` for k rewards, 0 where the episode terminated, so that a target is
    always ``reward + discount * value(next_observation)``.

    >>> steps = NStep(1, 1, gamma=0.9)
    >>> no = np.array([False])
    >>> x = np.zeros((1, 2), np.float32)
    >>> steps.add(x, np.array([1]), np.array([2.0]), x, no, no, ~no)["discount"]
    array([0.9], dtype=float32)
    """

    def __init__(self, n: int, num_envs: int, gamma: float) -> None:
        self.n, self.gamma = n, gamma
        self._pending: list[list[tuple[NDArray[np.float32], int, float]]] = [[] for _ in range(num_envs)]

    def add(
        self,
        observation: NDArray[np.float32],
        action: NDArray[Any],
        reward: NDArray[np.float32],
        next_observation: NDArray[np.float32],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        valid: NDArray[np.bool_],
    ) -> dict[str, NDArray[Any]] | None:
        """Take one step of all environments; returns the transitions that are complete, or None."""
        if self.n == 1:
            single = {
                "observation": observation,
                "action": action,
                "reward": reward,
                "next_observation": next_observation,
                "discount": np.where(terminated, np.float32(0), np.float32(self.gamma)),
            }
            return single if valid.all() else {name: a[valid] for name, a in single.items()}
        done: list[tuple[NDArray[np.float32], int, float, NDArray[np.float32], float]] = []
        # As Python's own numbers, of which each is used a few times.
        rows = zip(
            self._pending, action.tolist(), reward.tolist(), terminated.tolist(), truncated.tolist(), valid.tolist(), strict=True
        )
        for i, (pending, chosen, gained, terminal, cut, counts) in enumerate(rows):
            if not counts:
                continue
            pending.append((observation[i].copy(), chosen, gained))
            while pending and (terminal or cut or len(pending) == self.n):
                total = 0.0
                for _, _, r in reversed(pending):
                    total = r + self.gamma * total
                discount = 0.0 if terminal else self.gamma ** len(pending)
                first, taken, _ = pending.pop(0)
                done.append((first, taken, total, next_observation[i], discount))
        if not done:
            return None
        firsts, actions, totals, lasts, discounts = zip(*done, strict=True)
        return {
            "observation": np.array(firsts),
            "action": np.array(actions),
            "reward": np.array(totals, np.float32),
            "next_observation": np.array(lasts),
            "discount": np.array(discounts, np.float32),
        }

    def widen(self, width: int) -> None:
        """Give the observations that wait zeros behind, up to a width."""
        for pending in self._pending:
            pending[:] = [(np.pad(o, (0, width - len(o))), a, r) for o, a, r in pending]

    def clear(self) -> None:
        """Forget all incomplete transitions."""
        for pending in self._pending:
            pending.clear()

    def state_dict(self) -> State:
        """The incomplete transitions."""
        return [[[o, a, r] for o, a, r in pending] for pending in self._pending]

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave."""
        self._pending = [[(o, a, r) for o, a, r in pending] for pending in state]
