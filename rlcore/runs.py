"""Runs by their directory: `train` makes or continues one, `load` opens one to use its agent.

A run's directory holds ``checkpoint.safetensors``, ``config.toml``, ``metrics.jsonl`` and, if asked for,
``tensorboard/``.
"""

from __future__ import annotations

import contextlib
import shutil
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rlcore import checkpoint
from rlcore.config import Settings
from rlcore.errors import CheckpointError, ConfigError, RlcoreError, RunExistsError, SaveError, UsageError
from rlcore.evaluation import Evaluation, evaluate
from rlcore.living import Life, read_plan, replay
from rlcore.logging import JsonlLogger, Logger, Progress, TensorBoardLogger, make_progress
from rlcore.registry import AGENTS
from rlcore.runner import Runner, TrainResult
from rlcore.types import Agent, State, Translating, World
from rlcore.worlds import make_world

__all__ = [
    "LoadedRun",
    "check_free",
    "load",
    "make_agent",
    "make_directory",
    "make_run_world",
    "read",
    "state_to_resume",
    "train",
    "write_config",
]

_CONFIG = "config.toml"
_METRICS = "metrics.jsonl"
_TENSORBOARD = "tensorboard"
_EVALUATION_ENVS = 10  # fixed, because the result of a seed depends on it


def train(
    settings: Settings,
    directory: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    tensorboard: bool = False,
    progress: Progress | None = None,
) -> TrainResult:
    """Train an agent, from the beginning or from a run's checkpoint.

    Args:
        settings: the configuration. To resume, it must be the stored one, but for ``steps``, ``log_every`` and
            ``checkpoint_every``; schedules then run to the new ``steps``.
        directory: the run's directory; made where it is missing.
        resume: continue the run in ``directory``.
        overwrite: replace the run in ``directory``, if any; it is gone once the new one has its first checkpoint.
        tensorboard: also write TensorBoard event files.
        progress: shows how far the run is; by default a bar, or lines, on stderr.

    Raises:
        RunExistsError: ``directory`` already holds a run, and neither ``resume`` nor ``overwrite`` is given.
        CheckpointError: nothing to resume, or its checkpoint is damaged or of another agent or environment.
        ConfigError: settings that cannot change on resume, or an impossible directory.
        SpaceError, UnknownNameError: the agent cannot serve the environment, or there is no such agent or environment.
        MissingExtraError: ``tensorboard`` is not installed.
        RunError: something failed while running; the last good checkpoint stays.
    """
    if not isinstance(settings, Settings):
        message = f"train: expected Settings, such as rlcore.config.resolve('CartPole-v1', 'ppo'), got {settings!r}"
        raise ConfigError(message)
    directory = Path(directory)
    progress = progress or make_progress()
    if tensorboard:
        TensorBoardLogger.require()
    state = state_to_resume(settings, directory) if resume else None
    if not resume:
        check_free(directory, overwrite=overwrite)
    with contextlib.ExitStack() as stack:
        world = make_run_world(settings, num_envs=settings.run.num_envs, training=True)
        stack.callback(world.close)
        plan = None if settings.structure is None else read_plan(settings.structure, "structure")
        runner = Runner(settings, make_agent(settings, world), world, directory / checkpoint.FILE_NAME, plan)
        if state is not None:
            if not runner.restore(state, same_plan=state["structure"] == settings.structure):
                progress.message("the environments cannot give their state: the episodes under way start again")
            if runner.tally.steps >= settings.run.steps:
                progress.message(f"all its {settings.run.steps:,} steps are made; --steps gives it more")
            del state  # its replay memory is now twice in memory
        else:
            make_directory(directory)
            runner.begin()
        resume_at = runner.tally.steps if resume else None
        write_config(settings, directory)
        metrics = JsonlLogger(directory / _METRICS, resume_at=resume_at)
        loggers: list[Logger] = [metrics]
        if not resume:
            shutil.rmtree(directory / _TENSORBOARD, ignore_errors=True)
        if tensorboard:
            loggers.append(TensorBoardLogger(directory / _TENSORBOARD, resume_at=resume_at))
        for logger in loggers:
            stack.callback(logger.close)
        stack.callback(progress.close)
        return runner.run(loggers, progress, seconds=metrics.seconds)


@dataclass(frozen=True)
class LoadedRun:
    """A trained agent with what it was trained on; `load` makes one."""

    path: Path  #: the checkpoint file
    settings: Settings  #: the run's configuration
    steps: int  #: that the agent was trained for
    agent: Agent = field(repr=False)
    world_state: State = field(repr=False)  #: normaliser statistics, for `make_world`
    edits: list[dict[str, Any]]  #: the history of the agent's networks
    start: dict[str, int]  #: the units of each of their layers at the beginning

    def replay(self, edits: Sequence[Mapping[str, Any]]) -> None:
        """Edit the agent as another run's was, with the same draws: its weights, in a structure that came later.

        >>> earlier = load("runs/early.safetensors") # doctest: +SKIP
        >>> earlier.replay(load("runs/grown").edits) # doctest: +SKIP
        """
        replay(self.agent, edits)  # type: ignore[arg-type]

    def make_world(self, *, num_envs: int = 1, render_mode: str | None = None) -> World:
        """The environment the agent was trained on, its normaliser's statistics restored and frozen; reset it first."""
        world = make_run_world(self.settings, num_envs=num_envs, training=False, render_mode=render_mode)
        world.load_state_dict(self.world_state)
        return world

    def act(self, observation: Any, *, deterministic: bool = True) -> Any:
        """The action for one observation, both as the environment itself has them: in loops of others, on a robot.

        Raises:
            ValueError: no observation of this environment.
            UsageError: the run's world is a third party's, and cannot translate.

        >>> run = load("runs/cartpole") # doctest: +SKIP
        >>> observation, info = env.reset() # doctest: +SKIP
        >>> env.step(run.act(observation)) # doctest: +SKIP
        """
        world = self._translating
        if not isinstance(world, Translating):
            message = (
                f"act: expected a world with row() and executed(), got {type(world).__name__}; use make_world() and agent.act"
            )
            raise UsageError(message)
        try:
            row = world.row(observation)
        except (ValueError, TypeError, LookupError) as error:
            both = isinstance(observation, tuple) and len(observation) == 2 and isinstance(observation[1], dict)
            hint = "; reset() returns two things: observation, info = env.reset()" if both else ""
            message = f"act: {self.settings.run.env}: {error}{hint}"
            raise ValueError(message) from error
        return world.executed(self.agent.act(row, deterministic=deterministic))

    @cached_property
    def _translating(self) -> World:
        world = self.make_world()
        weakref.finalize(self, world.close)
        return world

    def evaluate(
        self,
        *,
        episodes: int = 100,
        seed: int = 0,
        deterministic: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> Evaluation:
        """`rlcore.evaluation.evaluate` on a world made for it; the same arguments give the same result."""
        if episodes < 1:
            message = f"episodes: expected at least 1, got {episodes}"
            raise ConfigError(message)
        with contextlib.closing(self.make_world(num_envs=min(episodes, _EVALUATION_ENVS))) as world:
            return evaluate(self.agent, world, episodes=episodes, seed=seed, deterministic=deterministic, progress=progress)


def load(path: Path | str) -> LoadedRun:
    """Open a run by its directory or checkpoint file.

    Raises:
        CheckpointError: no checkpoint there, or it is damaged, or of a different agent than is registered by that name.
    """
    path = checkpoint.find(path)
    state, metadata = checkpoint.load(path)
    settings = _settings(metadata, path)
    with contextlib.closing(make_run_world(settings, num_envs=1, training=False)) as world:
        agent = make_agent(settings, world)
    try:
        agent.load_state_dict(state["agent"])
    except RlcoreError:
        raise
    except Exception as error:
        message = f"{path}: does not fit agent {settings.run.agent}: {type(error).__name__}: {error}"
        raise CheckpointError(message) from error
    life = state.get("life") or Life(agent).state_dict()
    return LoadedRun(path, settings, metadata["steps"], agent, state["world"], life["edits"], life["start"])


def read(path: Path | str) -> tuple[Path, Settings, dict[str, Any]]:
    """The checkpoint file of a run, its settings and its metadata; makes no agent.

    Raises:
        CheckpointError: no checkpoint there, or it is damaged.
    """
    path = checkpoint.find(path)
    _, metadata = checkpoint.load(path)
    return path, _settings(metadata, path), metadata


def _settings(metadata: dict[str, Any], path: Path) -> Settings:
    try:
        return Settings.from_json(metadata["settings"], str(path))
    except KeyError as error:
        message = f"{path}: not the checkpoint of a run: it has no {error}"
        raise CheckpointError(message) from error


def make_run_world(settings: Settings, *, num_envs: int, training: bool, render_mode: str | None = None) -> World:
    """The environment of a run."""
    run = settings.run
    return make_world(
        run.env,
        num_envs=num_envs,
        vectorization=run.vectorization if training else "auto",
        normalize_observation=run.normalize_observation,
        normalize_reward=run.normalize_reward,
        discount=settings.discount,
        training=training,
        render_mode=render_mode,
        env_kwargs=run.env_kwargs,
    )


def make_agent(settings: Settings, world: World) -> Agent:
    """The agent of a run, as at its beginning."""
    run = settings.run
    agent: Agent = AGENTS.load(run.agent)(
        settings.agent,
        world.observation_space,
        world.action_space,
        num_envs=run.num_envs,
        total_steps=run.steps,
        seed=run.seed,
    )
    return agent


#: What may differ between the sessions of a run.
_FREE = {"steps", "log_every", "checkpoint_every"}


def state_to_resume(settings: Settings, directory: Path) -> State:
    """The state of the run in a directory; ConfigError where it was another run."""
    path = checkpoint.find(directory)
    state, metadata = checkpoint.load(path)
    stored = _settings(metadata, path)
    for name in ("agent", "env"):
        ours, theirs = getattr(settings.run, name), getattr(stored.run, name)
        if ours != theirs:
            message = f"{path}: is of the {name} {theirs}, not {ours}"
            raise CheckpointError(message)
    wanted = settings.to_json()
    for table in ("run", "agent"):
        for name, value in stored.to_json()[table].items():
            if wanted[table][name] != value and not (table == "run" and name in _FREE):
                message = f"{name}: cannot change when a run is resumed; expected {value}, got {wanted[table][name]}"
                raise ConfigError(message)
    if settings.run.steps < metadata["steps"] and settings.run.steps != stored.run.steps:
        message = f"steps: the run already has {metadata['steps']}; expected more, got {settings.run.steps}"
        raise ConfigError(message)
    return {**state, "structure": stored.structure}


def check_free(directory: Path, *, overwrite: bool) -> None:
    """Raise RunExistsError where a directory holds a run that is not to be replaced."""
    if directory.exists() and not directory.is_dir():
        message = f"dir: expected a directory, got the file {directory}"
        raise ConfigError(message)
    if not overwrite and any((directory / name).exists() for name in (checkpoint.FILE_NAME, _CONFIG, _METRICS)):
        ways = f"continue it with --resume {directory}, or replace it with --overwrite"
        message = f"{directory} already holds a run; {ways} (in Python resume=True, overwrite=True)"
        raise RunExistsError(message)


def make_directory(directory: Path) -> None:
    """Make the directory of a run; SaveError where that is impossible."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{directory}: cannot be made: {error.strerror}"
        raise SaveError(message) from error


def write_config(settings: Settings, directory: Path) -> None:
    """For people, and to start a similar run with ``--config``; the checkpoint has its own copy."""
    path = directory / _CONFIG
    try:
        path.write_text(settings.to_toml(), encoding="utf-8")
    except OSError as error:
        message = f"{path}: cannot be written: {error.strerror}"
        raise SaveError(message) from error
