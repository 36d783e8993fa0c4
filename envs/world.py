"""One `rlcore.types.World` over any Gymnasium environment, whichever way it resets itself."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Space
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from envs.actions import Translator
from envs.layout import Layout
from envs.observations import Flattener
from envs.state import StateMismatchError, capture_vector, decode, encode, restore_vector, spread_vector
from envs.vector import EnvFailure, SyncVector
from rlcore.errors import CheckpointError, WorldError
from rlcore.types import EpisodeEnd, Sensors, State, Step

__all__ = ["VectorWorld", "from_env", "from_vector_env"]

# Below this sum of squares every float64 is finite, and stays so as a float32.
_SAFE_SQUARES = 1e76


class VectorWorld:
    """n environments behind the `Step` interface.

    A vector environment resets itself in one of three ways; each is brought to the same `Step`:

    - ``NEXT_STEP`` (also where its metadata name none, as Gymnasium 1.x documents): the step after an episode's end
      ignores the action and only resets. There ``valid`` is False and the reward 0.
    - ``SAME_STEP``: the step that ends an episode also resets; ``next_observation`` is taken from
      ``infos["final_obs"]``.
    - ``DISABLED``: the world resets, with ``options={"reset_mask": ended}``, in the step that ends an episode.

    ``step.observation`` and ``step.next_observation`` are the same array where no episode began in this very step.

    Args:
        venv: the environments.
        name: for error messages; the environment's id where there is one.

    Raises:
        SpaceError: observations or actions of a kind that cannot be served.

    >>> from gymnasium import make_vec
    >>> world = VectorWorld(make_vec("CartPole-v1", num_envs=2), name="CartPole-v1")
    >>> world.reset(seed=0).shape
    (2, 4)
    >>> step = world.step(np.array([0, 1]))
    >>> step.reward, step.valid
    (array([1., 1.], dtype=float32), array([ True,  True]))
    >>> world.close()
    """

    def __init__(self, venv: VectorEnv[Any, Any, Any], *, name: str) -> None:
        self.name = name
        self._venv = venv
        self._flattener = Flattener(venv.single_observation_space, name)
        self._layout = Layout()
        self._layout.place(venv.single_observation_space)
        self._columns: NDArray[np.intp] | None = None  # where the flattener's columns go, once the space has changed
        self._spaces = self._first = venv.single_observation_space, venv.single_action_space
        self._translate = Translator(venv.single_action_space, venv.num_envs, name)
        self.num_envs: int = venv.num_envs
        self.observation_space: Box = self._flattener.space
        self.action_space: Space[Any] = self._translate.space
        self._mode = AutoresetMode((venv.metadata or {}).get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self._shape = (self.num_envs, self._flattener.size)
        self._steps = 0  # calls of `step`
        self._observation: NDArray[np.float32] | None = None  # None: to be reset first
        self._all_valid = np.ones(self.num_envs, np.bool_)
        self._one = np.ones(self.num_envs, np.int64)  # adding an array is twice as fast as adding the number 1
        self._begin()

    def _begin(self) -> None:
        self._returns = np.zeros(self.num_envs, np.float64)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._resetting: NDArray[np.bool_] | None = None  # NEXT_STEP: the rows whose next step only resets

    def reset(self, seed: int | None = None) -> NDArray[np.float32]:
        """Start n new episodes; returns the first observations, ``[n, d]`` float32.

        Environment i gets the seed ``seed + i``, as in Gymnasium; one that is vectorised by itself gets ``seed``.

        Raises:
            WorldError: an environment raised, or gave a wrong shape or numbers that are not finite.
        """
        if seed is not None:
            self.action_space.seed(seed)  # for agents that sample it
        try:
            raw, _ = self._venv.reset(seed=seed)
            if self._spaces != (self._venv.single_observation_space, self._venv.single_action_space):
                self._follow()
            observation = self._flatten(raw)
        except Exception as error:
            self._fail("reset", error)
        self._check(observation)
        self._begin()
        self._observation = observation
        return observation

    def step(self, action: NDArray[Any]) -> Step:
        """Take one action each; see `Step` and the class for what comes back.

        Args:
            action: ``[n]`` integers from 0 for Discrete, ``[n, ...]`` otherwise; for Box clipped to the bounds.

        Raises:
            ValueError: actions of a wrong shape, dtype or value.
            WorldError: an environment raised, or gave a wrong shape or numbers that are not finite.
        """
        observation = self._observation
        if observation is None:
            message = f"{self.name}: call reset() before step()"
            raise RuntimeError(message)
        translated = self._translate(action)
        self._steps += 1
        try:
            raw, raw_reward, raw_terminated, raw_truncated, infos = self._venv.step(translated)
            observed, acted = self._spaces
            if self._venv.single_observation_space is not observed or self._venv.single_action_space is not acted:
                self._follow()
            arrived = self._flatten(raw)
            reward = np.array(raw_reward, np.float64)
            terminated, truncated = np.array(raw_terminated, np.bool_), np.array(raw_truncated, np.bool_)
        except Exception as error:
            self._fail("step", error)
        self._check(arrived, reward)
        if not terminated.shape == truncated.shape == reward.shape:
            got = f"{terminated.shape} and {truncated.shape}"
            self._refuse(f"expected terminated and truncated of shape {reward.shape}, got {got}")
        ended = terminated | truncated
        resetting = self._resetting
        if resetting is None:
            valid = self._all_valid.copy()
            following = ended
            self._lengths += self._one
        else:
            valid, following = ~resetting, ended
            reward[resetting] = 0.0
            terminated, truncated, ended = terminated & valid, truncated & valid, ended & valid
            self._resetting = None
            self._lengths += valid
        self._returns += reward
        episodes: tuple[EpisodeEnd, ...] = ()
        observation = next_observation = arrived
        if np.count_nonzero(following):
            episodes = self._finish(ended)
            if self._mode is AutoresetMode.NEXT_STEP:
                self._resetting = following
            elif self._mode is AutoresetMode.SAME_STEP:
                next_observation = self._final_observations(arrived, ended, infos)
            else:
                observation = self._reset_ended(ended)
        self._observation = observation
        return Step(observation, reward.astype(np.float32), next_observation, terminated, truncated, valid, episodes)

    def row(self, observation: Any) -> NDArray[np.float32]:
        """One observation as an environment gives it, as a row ``[1, d]``; ValueError for a wrong shape or an impossible value.

        >>> from gymnasium import make_vec
        >>> world = VectorWorld(make_vec("FrozenLake-v1", num_envs=1), name="FrozenLake-v1")
        >>> world.row(2).shape, world.executed(np.array([3]))
        ((1, 16), np.int64(3))
        >>> world.close()
        """
        if isinstance(self._venv, SyncVector):
            return self._flatten(self._venv.row(observation))
        flat = self._flattener.one(observation)[None]
        return flat if self._columns is None else self._place(flat)

    def executed(self, action: NDArray[Any]) -> Any:
        """The first of the agent's actions as an environment takes it."""
        return self._translate(action)[0]

    def _follow(self) -> None:
        """Take on spaces that the environments have announced (see `docs/environments.md`): new columns come last."""
        (observed, acted), venv = self._spaces, self._venv
        self._spaces = venv.single_observation_space, venv.single_action_space
        if venv.single_observation_space != observed:
            self._lay()
        if venv.single_action_space != acted:
            generator = self.action_space._np_random
            self._translate = Translator(venv.single_action_space, self.num_envs, self.name)
            self.action_space = self._translate.space
            self.action_space._np_random = generator

    def _lay(self) -> None:
        space = self._venv.single_observation_space
        self._flattener, columns = Flattener(space, self.name), self._layout.place(space)
        width = self._layout.space.shape[0]
        self._columns = None if np.array_equal(columns, np.arange(width)) else columns
        if width != self._shape[1]:
            self.observation_space, self._shape = self._layout.space, (self.num_envs, width)

    def _flatten(self, raw: Any) -> NDArray[np.float32]:
        """Rows of all observations, in the world's columns."""
        flat = self._flattener.batch(raw)
        return flat if self._columns is None else self._place(flat)

    def _place(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        rows = np.zeros((*flat.shape[:-1], self._shape[1]), np.float32)
        rows[..., self._columns] = flat
        return rows

    def _finish(self, ended: NDArray[np.bool_]) -> tuple[EpisodeEnd, ...]:
        rows = np.flatnonzero(ended).tolist()
        episodes = tuple(EpisodeEnd(row, float(self._returns[row]), int(self._lengths[row])) for row in rows)
        self._returns[ended] = 0.0
        self._lengths[ended] = 0
        return episodes

    def _final_observations(
        self, arrived: NDArray[np.float32], ended: NDArray[np.bool_], infos: dict[str, Any]
    ) -> NDArray[np.float32]:
        """``arrived`` with the final observations of the episodes that ended, which reset has overwritten there."""
        final = arrived.copy()
        try:
            given = infos["final_obs"]
            if isinstance(given, np.ndarray):  # one observation per row: of objects, or batched
                for row in np.flatnonzero(ended).tolist():
                    one = self._flattener.one(given[row])
                    final[row] = one if self._columns is None else self._place(one)
            else:
                final[ended] = self._flatten(given)[ended]
        except Exception as error:
            self._fail("step, reading infos['final_obs']", error)
        self._check(final)
        return final

    def _reset_ended(self, ended: NDArray[np.bool_]) -> NDArray[np.float32]:
        try:
            raw, _ = self._venv.reset(options={"reset_mask": ended.copy()})
            observation = self._flatten(raw)
        except Exception as error:
            self._fail("reset", error)
        self._check(observation)
        return observation

    def _check(self, observation: NDArray[np.float32], reward: NDArray[np.float64] | None = None) -> None:
        """Refuse wrong shapes and numbers that are not finite.

        A dot product of an array with itself is the cheapest test for NaN (0.5 us, 4 with `isfinite`). It overflows
        for large finite numbers too, so where it is not finite the elements are looked at.
        """
        if observation.shape != self._shape:
            self._refuse(f"expected observations of shape {self._shape}, got {observation.shape}")
        if not math.isfinite(np.vdot(observation, observation)):
            self._refuse_not_finite("observation", observation)
        if reward is None:
            return
        if reward.shape != self._shape[:1]:
            self._refuse(f"expected rewards of shape {self._shape[:1]}, got {reward.shape}")
        if not np.vdot(reward, reward) < _SAFE_SQUARES:
            with np.errstate(over="ignore"):  # infinite as float32 is refused
                self._refuse_not_finite("reward", reward.astype(np.float32))

    def _refuse_not_finite(self, what: str, array: NDArray[np.float32]) -> None:
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            row = int(bad[0][0])
            values = np.array2string(array[row], threshold=8, separator=", ").replace("\n", "")
            self._refuse(f"environment {row}: expected a finite {what}, got {values}")

    def _refuse(self, text: str) -> NoReturn:
        self._observation = None
        message = f"{self.name}: step {self._steps}: {text}"
        raise WorldError(message)

    def _fail(self, doing: str, error: Exception) -> NoReturn:
        self._observation = None
        where = f"{self.name}: step {self._steps}"
        cause: BaseException = error
        if isinstance(error, EnvFailure) and error.__cause__ is not None:
            where, cause = f"{where}: environment {error.index}", error.__cause__
        text = " ".join(str(cause).split())
        message = f"{where}: {doing} raised {type(cause).__name__}" + (f": {text}" if text else "")
        raise WorldError(message) from cause

    @property
    def sensors(self) -> Sensors | None:
        """The environment itself, where it is one of sensors in real time; None for all others."""
        env = getattr(self._venv, "envs", (None,))[0]
        inner = None if env is None else env.unwrapped
        return inner if getattr(inner, "realtime", False) else None

    def state_dict(self) -> State:
        """The exact state of the episodes under way where the environments can give it (see `envs.state`).

        Returns:
            ``{"steps", "action_rng", "episodes"}``; ``episodes`` is None where they cannot be continued.
        """
        episodes = None
        if self._observation is not None and (captured := capture_vector(self._venv)) is not None:
            episodes = {
                "venv": captured,
                "observation": self._observation.copy(),
                "returns": self._returns.copy(),
                "lengths": self._lengths.copy(),
                "resetting": None if self._resetting is None else self._resetting.copy(),
            }
        state = {"steps": self._steps, "action_rng": encode(self.action_space._np_random), "episodes": episodes}
        return state if not self._changed else {**state, "layout": encode(self._layout.state_dict())}

    @property
    def _changed(self) -> bool:
        """Whether a space is another than at the beginning."""
        return self._first is not self._spaces and self._first != self._spaces

    def load_state_dict(self, state: State) -> NDArray[np.float32] | None:
        """Continue from `state_dict`.

        Returns:
            The current observations ``[n, d]``, or None where `reset` must be called: the environments could not give
            their state, or these are others, or another number of them.

        Raises:
            WorldError: an environment's ``set_state`` raised.
        """
        self._steps = state["steps"]
        if state["action_rng"] is not None:
            self.action_space._np_random = decode(state["action_rng"])
        self._observation = None
        episodes = state["episodes"]
        if episodes is None:
            if "layout" in state:
                message = (
                    f"{self.name}: its spaces had changed, and it cannot give its state: give it get_state() and set_state()"
                )
                raise CheckpointError(message)
            return None
        if "layout" in state:
            self._layout.load_state_dict(decode(state["layout"]))
        try:
            restore_vector(self._venv, episodes["venv"])
        except StateMismatchError:
            if "layout" in state:  # other episodes, but the same spaces
                self._adopt(episodes["venv"])
            return None
        except Exception as error:
            self._fail("set_state", error)
        self._follow()
        self._observation = observation = np.array(episodes["observation"])
        self._returns = np.array(episodes["returns"])
        self._lengths = np.array(episodes["lengths"])
        self._resetting = decode(episodes["resetting"])
        return observation

    def _adopt(self, saved: State) -> None:
        """Have the environments, of another number, go on where those of a state were, so that they have their spaces."""
        spread = spread_vector(self._venv, saved)
        if spread is not None:
            restore_vector(self._venv, spread)
            self._follow()

    def render(self) -> NDArray[np.uint8] | None:
        """A picture ``[height, width, 3]`` of environment 0, or None unless made with ``render_mode="rgb_array"``."""
        if self._venv.render_mode is None:
            return None
        inner = getattr(self._venv, "envs", None)  # one picture, where they can be had one by one
        frame = inner[0].render() if inner else (self._venv.render() or (None,))[0]
        return frame if isinstance(frame, np.ndarray) else None

    def close(self) -> None:
        """Release windows, processes and sockets. Closing twice does nothing."""
        self._venv.close()


def from_vector_env(venv: VectorEnv[Any, Any, Any], *, name: str | None = None) -> VectorWorld:
    """A world of a vector environment that you made.

    It may reset itself in any of Gymnasium's three ways; where ``metadata["autoreset_mode"]`` is missing, in the next
    step.

    Args:
        venv: the environments, reset or not.
        name: for error messages; else its id, or its class.

    Raises:
        SpaceError: observations or actions of a kind that cannot be served.

    >>> import gymnasium
    >>> world = from_vector_env(gymnasium.make_vec("CartPole-v1", num_envs=3))
    >>> world.name, world.num_envs
    ('CartPole-v1', 3)
    """
    return VectorWorld(venv, name=name or _name_of(venv))


def from_env(env: gymnasium.Env[Any, Any], *, name: str | None = None) -> VectorWorld:
    """A world of one environment that you made.

    Args:
        env: the environment, reset or not.
        name: for error messages; else its id, or its class.

    Raises:
        SpaceError: observations or actions of a kind that cannot be served.

    >>> import gymnasium
    >>> from_env(gymnasium.make("FrozenLake-v1")).observation_space.shape
    (16,)
    """
    name = name or _name_of(env)
    return VectorWorld(SyncVector([lambda: env], name), name=name)


def _name_of(env: gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
