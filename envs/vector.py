"""n copies of an environment as one Gymnasium `VectorEnv`: stepped one after another, or each in its own process.

Both reset an environment in the step that ends its episode (`AutoresetMode.SAME_STEP`), so no step is spent on
resetting, and both give the same results.
"""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv
from gymnasium.vector.async_vector_env import AsyncState
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.observations import Flattener
from envs.state import StateMismatchError, capture_env, restore_env

__all__ = ["AsyncVector", "EnvFailure", "SyncVector"]

MakeEnv = Callable[[], gymnasium.Env[Any, Any]]


class EnvFailure(Exception):
    """One environment of several raised; what it raised is the cause. The world turns it into a `WorldError`."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class SyncVector(VectorEnv[NDArray[np.float32], NDArray[Any], NDArray[Any]]):
    """Steps n environments one after another and gives their observations flattened, ``[n, d]`` float32.

    Gymnasium's `SyncVectorEnv` takes twice the time per step for small environments, much of it for batching the
    ``info`` dictionaries. Here they are dropped (a `World` has none), but for ``final_obs``, which is flattened too.

    Args:
        make_envs: each makes one environment; all have the same spaces.
        name: of the environment, for error messages.

    Raises:
        SpaceError: the observations cannot be flattened.
        ValueError: the spaces differ.
    """

    def __init__(self, make_envs: Sequence[MakeEnv], name: str = "environment") -> None:
        self.envs = [make_env() for make_env in make_envs]
        first = self.envs[0]
        for env in self.envs:
            if env.observation_space != first.observation_space or env.action_space != first.action_space:
                message = f"{name}: expected environments with the same spaces, got {env} unlike {first}"
                raise ValueError(message)
        self._flattener = Flattener(first.observation_space, name)
        self.num_envs = len(self.envs)
        self.metadata = {**first.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode = first.render_mode
        self.single_observation_space = self._flattener.space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.single_action_space = first.action_space
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        # Python integers: environments index lists with them, and compare them, faster than with NumPy's.
        self._plain_actions = isinstance(self.single_action_space, Discrete)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Reset all; environment i with seed ``seed + i``, or ``seed[i]``."""
        count = self.num_envs
        seeds = seed if isinstance(seed, Sequence) else [None if seed is None else seed + i for i in range(count)]
        observations = np.zeros((count, self._flattener.size), np.float32)
        for index, env in enumerate(self.envs):
            try:
                observation, _ = env.reset(seed=seeds[index], options=options)
                self._flattener.row(observation, observations[index])
            except Exception as error:
                raise EnvFailure(index) from error
        return observations, {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Step all; ``infos`` holds ``final_obs``, flattened, where an episode ended."""
        count = self.num_envs
        plain: Any = actions.tolist() if self._plain_actions else actions
        observations = np.zeros((count, self._flattener.size), np.float32)
        rewards = np.empty(count)
        terminations, truncations = np.empty(count, np.bool_), np.empty(count, np.bool_)
        infos: dict[str, Any] = {}
        flatten, index = self._flattener.row, 0
        try:
            for index, env in enumerate(self.envs):
                observation, reward, terminated, truncated, _ = env.step(plain[index])
                if terminated or truncated:
                    if not infos:
                        infos["final_obs"] = np.full(count, None, object)
                    infos["final_obs"][index] = self._flattener.one(observation)
                    observation, _ = env.reset()
                flatten(observation, observations[index])
                rewards[index], terminations[index], truncations[index] = reward, terminated, truncated
        except Exception as error:
            raise EnvFailure(index) from error
        if infos:
            infos["_final_obs"] = terminations | truncations
        return observations, rewards, terminations, truncations, infos

    def render(self) -> tuple[Any, ...] | None:
        """A frame of each."""
        return tuple(env.render() for env in self.envs)

    def get_state(self) -> list[Any] | None:
        """See `envs.state`; None where an environment cannot give it."""
        states = [capture_env(env) for env in self.envs]
        return None if None in states else states

    def set_state(self, states: list[Any]) -> None:
        """See `envs.state`."""
        for env, state in zip(self.envs, states, strict=True):
            restore_env(env, state)

    def close_extras(self, **_: Any) -> None:
        """Close all."""
        for env in self.envs:
            env.close()


class _Portable(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gives an environment's state as an attribute: what a worker process can be asked for, and told."""

    @property
    def portable_state(self) -> Any:
        return capture_env(self.env)

    @portable_state.setter
    def portable_state(self, state: Any) -> None:
        restore_env(self.env, state)


def _make_portable(make_env: MakeEnv) -> gymnasium.Env[Any, Any]:
    return _Portable(make_env())


class AsyncVector(AsyncVectorEnv):
    """Gymnasium's `AsyncVectorEnv`, whose errors name the environment, and whose state can be kept.

    Workers are started from a clean server process where the platform has one, not forked: a fork copies the locks
    of other threads (a learner's, BLAS's) in whatever state they are. As always then, a script that makes worlds
    needs ``if __name__ == "__main__":``.
    """

    def __init__(self, make_envs: Sequence[MakeEnv]) -> None:
        self._broken = False
        super().__init__(
            [functools.partial(_make_portable, make_env) for make_env in make_envs],
            context="forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn",
            autoreset_mode=AutoresetMode.SAME_STEP,
        )

    def get_state(self) -> list[Any] | None:
        """See `envs.state`; None where an environment cannot give it."""
        states = list(self.get_attr("portable_state"))
        return None if None in states else states

    def set_state(self, states: list[Any]) -> None:
        """See `envs.state`."""
        current = self.get_state()  # an error in a worker would end it: compare here
        if current is None or [_names(layers) for layers in current] != [_names(layers) for layers in states]:
            message = "expected a state of the same environments"
            raise StateMismatchError(message)
        self.set_attr("portable_state", states)

    def _raise_if_errors(self, successes: Iterable[bool]) -> None:
        """Raise the first failure with its index (the parent class warns, and drops the index)."""
        failures = [self.error_queue.get() for success in successes if not success]
        if not failures:
            return
        self._broken, self._state = True, AsyncState.DEFAULT
        index, kind, value, _ = min(failures, key=lambda failure: int(failure[0]))
        raise EnvFailure(index) from (value if isinstance(value, BaseException) else kind(value))

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """End the worker processes; by force where one has failed, since it would not answer."""
        if self._broken or not all(process.is_alive() for process in self.processes):
            terminate, self._state = True, AsyncState.DEFAULT
        super().close_extras(timeout=timeout, terminate=terminate)


def _names(layers: list[tuple[str, Any]]) -> list[str]:
    return [name for name, _ in layers]
