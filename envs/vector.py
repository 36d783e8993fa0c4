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

from envs.layout import Layout
from envs.observations import Flattener
from envs.state import StateMismatchError, capture_env, restore_env

__all__ = ["AsyncVector", "EnvFailure", "SyncVector"]

MakeEnv = Callable[[], gymnasium.Env[Any, Any]]
Row = Callable[[Any, NDArray[np.float32]], None]


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
        self.name = name
        self._flattener = Flattener(first.observation_space, name)
        self._rows: list[Row] = [self._flattener.row] * len(self.envs)
        # An environment announces a change by another space in the place of its own.
        self._bare = [env.unwrapped for env in self.envs]
        self._seen = [(bare.observation_space, bare.action_space) for bare in self._bare]
        self._layout: Layout | None = None  # once a space has changed
        self.num_envs = len(self.envs)
        self.metadata = {**first.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode = first.render_mode
        self.envs_space = first.observation_space  #: of one environment, as it began
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
        arrived: list[Any] = []
        index = 0
        try:
            for index, env in enumerate(self.envs):
                arrived.append(env.reset(seed=seeds[index], options=options)[0])
            if any(
                b.observation_space is not o or b.action_space is not a for b, (o, a) in zip(self._bare, self._seen, strict=True)
            ):
                self._follow()
            observations = np.zeros((count, self._width), np.float32)
            for index, flatten in enumerate(self._rows):
                flatten(arrived[index], observations[index])
        except Exception as error:
            raise EnvFailure(index) from error
        return observations, {}

    def row(self, observation: Any) -> NDArray[np.float32]:
        """One observation as the first environment gives it, as a row ``[1, d]``."""
        out = np.zeros((1, self._width), np.float32)
        self._rows[0](observation, out[0])
        return out

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Step all; ``infos`` holds ``final_obs``, flattened, where an episode ended."""
        count = self.num_envs
        plain: Any = actions.tolist() if self._plain_actions else actions
        rewards = np.empty(count)
        terminations, truncations = np.empty(count, np.bool_), np.empty(count, np.bool_)
        arrived: list[Any] = []
        final: dict[int, Any] = {}
        infos: dict[str, Any] = {}
        before, bares, seen, changed, index = self._rows, self._bare, self._seen, False, 0
        try:
            for index, env in enumerate(self.envs):
                observation, reward, terminated, truncated, _ = env.step(plain[index])
                if terminated or truncated:
                    final[index] = observation
                    observation, _ = env.reset()
                arrived.append(observation)
                rewards[index], terminations[index], truncations[index] = reward, terminated, truncated
                bare, (observed, acted) = bares[index], seen[index]
                if bare.observation_space is not observed or bare.action_space is not acted:
                    changed = True
            if changed:
                self._follow()
            observations = np.zeros((count, self._width), np.float32)
            for index, flatten in enumerate(self._rows):
                flatten(arrived[index], observations[index])
            if final:
                infos["final_obs"] = np.full(count, None, object)
                infos["_final_obs"] = terminations | truncations
                for index, observation in final.items():
                    row = infos["final_obs"][index] = np.zeros(self._width, np.float32)
                    self._flatten_final(observation, row, self._rows[index], before[index])
        except Exception as error:
            raise EnvFailure(index) from error
        return observations, rewards, terminations, truncations, infos

    @property
    def _width(self) -> int:
        return self._flattener.size if self._layout is None else int(self._layout.space.shape[0])

    def _flatten_final(self, observation: Any, out: NDArray[np.float32], now: Row, before: Row) -> None:
        try:
            now(observation, out)
        except ValueError:
            if now is before:
                raise
            before(observation, out[: self._flattener.size])  # the episode ended with the old space, the next began with the new

    def _follow(self) -> None:
        """Take on spaces that have changed: observations as soon as one environment's have, actions once all have new ones."""
        seen = [(bare.observation_space, bare.action_space) for bare in self._bare]
        spaces = [env.observation_space for env in self.envs]
        if self._layout is not None or any(space != self.envs_space for space in spaces):
            self._lay(spaces)
        self._seen = seen
        actions = [env.action_space for env in self.envs]
        if actions[0] != self.single_action_space and all(space == actions[0] for space in actions):
            self.single_action_space = actions[0]
            self.action_space = batch_space(actions[0], self.num_envs)

    def _lay(self, spaces: Sequence[Any]) -> None:
        if self._layout is None:
            self._layout = Layout()
            self._layout.place(self.envs_space)
        self._rows = [_placed(Flattener(space, self.name), self._layout.place(space)) for space in spaces]
        if self._layout.space != self.single_observation_space:
            self.single_observation_space = self._layout.space
            self.observation_space = batch_space(self._layout.space, self.num_envs)

    def render(self) -> tuple[Any, ...] | None:
        """A frame of each."""
        return tuple(env.render() for env in self.envs)

    def get_state(self) -> Any:
        """See `envs.state`; None where an environment cannot give it."""
        states = [capture_env(env) for env in self.envs]
        if None in states:
            return None
        return states if self._layout is None else {"envs": states, "layout": self._layout.state_dict()}

    def set_state(self, states: Any) -> None:
        """See `envs.state`."""
        if isinstance(states, dict):
            self._layout = Layout()
            self._layout.load_state_dict(states["layout"])
        for env, state in zip(self.envs, states["envs"] if isinstance(states, dict) else states, strict=True):
            restore_env(env, state)
        self._follow()

    def close_extras(self, **_: Any) -> None:
        """Close all."""
        for env in self.envs:
            env.close()


def _placed(flattener: Flattener, columns: NDArray[np.intp]) -> Row:
    """Flattening into some of the columns of a row."""

    def row(observation: Any, out: NDArray[np.float32]) -> None:
        out[columns] = flattener.one(observation)

    return row


#: In an ``info``: the action space that an environment in a process of its own has changed to.
ANNOUNCED = "rlcore.action_space"


class _Portable(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gives an environment's state as an attribute: what a worker process can be asked for, and told; announces spaces."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._seen = env.observation_space, env.action_space

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        # What is said at an episode's last step is lost where the next begins at once: it is said again.
        info = self._announce(info, last=terminated or truncated)
        return observation, reward, terminated, truncated, info

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**options)
        return observation, self._announce(info, last=False)

    def _announce(self, info: dict[str, Any], *, last: bool) -> dict[str, Any]:
        observed, acted = self._seen
        if self.env.observation_space != observed:
            message = (
                "the observation space changed, which environments in processes of their own cannot: use vectorization 'sync'"
            )
            raise ValueError(message)
        if self.env.action_space == acted:
            return info
        if not last:
            self._seen = observed, self.env.action_space
        return {**info, ANNOUNCED: self.env.action_space}

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
        self._announced: list[Any] = [None] * len(make_envs)
        super().__init__(
            [functools.partial(_make_portable, make_env) for make_env in make_envs],
            context="forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn",
            autoreset_mode=AutoresetMode.SAME_STEP,
        )

    def step_wait(self, timeout: float | None = None) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """As Gymnasium's; takes on an action space once all environments have it."""
        result = super().step_wait(timeout)
        announced = result[4].pop(ANNOUNCED, None)
        if announced is not None:
            for index, space in enumerate(announced):
                self._announced[index] = space or self._announced[index]
            if all(space == self._announced[0] for space in self._announced):
                self._take(self._announced[0])
        return result

    def _take(self, space: Any) -> None:
        if space is not None and space != self.single_action_space:
            self.single_action_space = space
            self.action_space = batch_space(space, self.num_envs)

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
        self._take(self.get_attr("action_space")[0])

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
