"""A live run by its directory: made, or continued."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from pathlib import Path

import numpy as np

from rlcore import checkpoint
from rlcore.config import Settings
from rlcore.errors import ConfigError
from rlcore.live.config import Hooks, LiveConfig, LiveResult
from rlcore.live.runner import LiveRunner
from rlcore.living import read_plan
from rlcore.logging import JsonlLogger, Logger, Progress, TensorBoardLogger, make_progress
from rlcore.registry import AGENTS
from rlcore.runs import check_free, make_agent, make_directory, make_run_world, state_to_resume, write_config
from rlcore.types import Agent

__all__ = ["run_live"]

_METRICS = "metrics.jsonl"
_TENSORBOARD = "tensorboard"


def run_live(
    settings: Settings,
    config: LiveConfig,
    directory: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    tensorboard: bool = False,
    progress: Progress | None = None,
    hooks: Hooks | None = None,
) -> LiveResult:
    """Act on an environment in real time, and learn meanwhile.

    The run's directory is as that of `rlcore.train`: the one can continue what the other began, and ``run-agent eval``
    evaluates it.

    Args:
        settings: what to run; its ``steps`` become those of the whole session, after which exploration has been lowered.
        config: how fast, how long, and what counts as late.
        directory: of the run; made where it is missing.
        resume: continue the run in ``directory``.
        overwrite: replace the run in ``directory``, if any.
        tensorboard: also write TensorBoard event files.
        progress: shows how it goes; by default a bar, or lines, on stderr.
        hooks: who else has a say.

    Raises:
        RunExistsError, CheckpointError, ConfigError, SpaceError, UnknownNameError: as `rlcore.train` does.
        RunError: something failed while running; what was learnt is saved.
    """
    directory = Path(directory)
    progress = progress or make_progress()
    if settings.run.num_envs != 1:
        message = f"num_envs: expected 1 for a live run, got {settings.run.num_envs}"
        raise ConfigError(message)
    if tensorboard:
        TensorBoardLogger.require()
    plan = None if settings.structure is None else read_plan(settings.structure, "structure")
    state = state_to_resume(settings, directory) if resume else None
    if not resume:
        check_free(directory, overwrite=overwrite)
    done = 0 if state is None else int(state["tally"]["steps"])
    steps = done + max(round(config.hz * config.minutes * 60), 1)
    settings = dataclasses.replace(
        settings, run=dataclasses.replace(settings.run, steps=max(steps, settings.run.steps if resume else 1))
    )
    with contextlib.ExitStack() as stack:
        world = make_run_world(settings, num_envs=1, training=True)
        stack.callback(world.close)
        learner = make_agent(settings, world)

        def make_actor(number: int) -> Agent:
            run = settings.run
            seed = int(np.random.SeedSequence([run.seed, done, number]).generate_state(1)[0])
            agent: Agent = AGENTS.load(run.agent)(
                settings.agent, *spaces, num_envs=1, total_steps=run.steps, seed=seed
            )  # fmt: skip
            return agent

        path, spaces = directory / checkpoint.FILE_NAME, (world.observation_space, world.action_space)
        runner = LiveRunner(settings, config, learner, make_actor(0), world, path, hooks, plan, make_actor)
        if state is None:
            make_directory(directory)
            shutil.rmtree(directory / _TENSORBOARD, ignore_errors=True)
            runner.begin()
        elif not runner.restore(state, same_plan=state["structure"] == settings.structure):
            progress.message("the environment cannot give its state: a new episode begins")
        write_config(settings, directory)
        metrics = JsonlLogger(directory / _METRICS, resume_at=done if resume else None)
        loggers: list[Logger] = [metrics]
        if tensorboard:
            loggers.append(TensorBoardLogger(directory / _TENSORBOARD, resume_at=done if resume else None))
        for logger in loggers:
            stack.callback(logger.close)
        stack.callback(progress.close)
        return runner.run(loggers, progress, seconds=metrics.seconds)
