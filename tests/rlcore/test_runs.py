"""The runner through `train` and `load`: what a run leaves behind, exact resume, and failures in the middle."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading

import fake_rl
import numpy as np
import pytest

import rlcore
from rlcore import checkpoint
from rlcore.config import RunConfig, Settings
from rlcore.errors import (
    CheckpointError,
    ConfigError,
    RunError,
    RunExistsError,
    SaveError,
    SpaceError,
    UnknownNameError,
    WorldError,
)
from rlcore.logging.progress import SilentProgress
from rlcore.runs import load, train


def settings(env: str = "Walk-v0", agent: str = "fake", **run: object) -> Settings:
    defaults = {"steps": 500, "num_envs": 3, "checkpoint_every": 100, "log_every": 40}
    return Settings(RunConfig(env=env, agent=agent, **{**defaults, **run}), fake_rl.FakeConfig())


def run(directory, config: Settings | None = None, **options: object):
    return train(config or settings(), directory, progress=SilentProgress(), **options)


def steps_of(directory) -> int:
    return checkpoint.load(directory)[1]["steps"]


class StopAt(SilentProgress):
    """Sends a signal once a step is reached; shows nothing."""

    interval = 0.0

    def __init__(self, step: int, number: int = signal.SIGINT) -> None:
        self.step, self.number = step, number

    def update(self, step, steps_per_s, mean_return):
        if step >= self.step:
            self.step = 10**9
            os.kill(os.getpid(), self.number)


def test_a_run_leaves_a_checkpoint_a_configuration_and_a_log(tmp_path):
    result = run(tmp_path / "deep" / "run")
    directory = tmp_path / "deep" / "run"
    assert {path.name for path in directory.iterdir()} == {"checkpoint.safetensors", "config.toml", "metrics.jsonl"}
    assert 500 <= result.steps < 503
    assert result.checkpoint == directory / "checkpoint.safetensors"
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == result.steps
    assert sum(len(line["returns"]) for line in lines) == result.episodes == lines[-1]["episodes"]
    returns = [value for line in lines for value in line["returns"]]
    assert result.mean_return == pytest.approx(np.mean(returns[-100:]))
    state, metadata = checkpoint.load(directory)
    assert metadata["steps"] == result.steps
    assert metadata["parameters"] == 6
    assert len(state["agent"]["buffer"]["fields"]["reward"]) == 500, "only valid rows are counted and learnt from"


def test_logging_and_saving_often_change_no_result(tmp_path):
    run(tmp_path / "a", settings(checkpoint_every=7, log_every=3))
    run(tmp_path / "b", settings(checkpoint_every=10_000, log_every=10_000))
    one, two = (checkpoint.load(tmp_path / name)[0] for name in "ab")
    assert np.array_equal(one["agent"]["weights"], two["agent"]["weights"])


@pytest.mark.parametrize("stop", [1, 99, 250, 437])
def test_a_stopped_and_resumed_run_is_the_same_file_byte_for_byte(tmp_path, stop):
    run(tmp_path / "whole")
    first = train(settings(), tmp_path / "parts", progress=StopAt(stop))
    assert first.signal == signal.SIGINT
    assert stop <= first.steps < 500
    assert steps_of(tmp_path / "parts") == first.steps, "Ctrl-C saves where it stopped"
    second = run(tmp_path / "parts", resume=True)
    assert second.signal is None
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert (whole / checkpoint.FILE_NAME).read_bytes() == (parts / checkpoint.FILE_NAME).read_bytes()
    assert figures(whole) == figures(parts)


def figures(directory) -> list[dict[str, object]]:
    """The log without its clock."""
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]


def test_sigterm_saves_too_and_handlers_are_put_back(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    result = train(settings(), tmp_path, progress=StopAt(50, signal.SIGTERM))
    assert result.signal == signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_training_works_in_a_thread(tmp_path):
    thread = threading.Thread(target=run, args=(tmp_path / "run",))
    thread.start()
    thread.join()
    assert steps_of(tmp_path / "run") >= 500


def test_environments_without_state_start_again_reproducibly_and_the_log_says_so(tmp_path):
    config = settings("Forgetful-v0")
    results = []
    for name in "ab":
        train(config, tmp_path / name, progress=StopAt(200))
        run(tmp_path / name, config, resume=True)
        results.append(checkpoint.load(tmp_path / name)[0]["agent"]["weights"])
        marked = [line["step"] for line in figures(tmp_path / name) if "resume/episodes_restarted" in line]
        assert len(marked) == 1
    assert np.array_equal(*results)


def test_a_finished_run_resumes_to_nothing_and_can_be_extended(tmp_path):
    first = run(tmp_path)
    assert run(tmp_path, resume=True).steps == first.steps
    with pytest.raises(ConfigError, match="steps: the run already has 50"):
        run(tmp_path, settings(steps=100), resume=True)
    longer = run(tmp_path, settings(steps=800), resume=True)
    assert longer.steps >= 800
    assert load(tmp_path).agent.total_steps == 800, "schedules run to the new end"


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"agent": "broken"}, CheckpointError, "is of the agent fake, not broken"),
        ({"env": "Endless-v0"}, CheckpointError, "is of the env Walk-v0, not Endless-v0"),
        ({"seed": 4}, ConfigError, "seed: cannot change when a run is resumed; expected 0, got 4"),
        ({"num_envs": 4}, ConfigError, "num_envs: cannot change"),
    ],
)
def test_another_run_cannot_be_resumed(tmp_path, change, error, message):
    run(tmp_path)
    with pytest.raises(error, match=message):
        run(tmp_path, settings(**change), resume=True)


def test_a_state_that_does_not_fit_is_refused(tmp_path):
    run(tmp_path)
    state, metadata = checkpoint.load(tmp_path)
    del state["agent"]["buffer"]
    checkpoint.save(tmp_path / checkpoint.FILE_NAME, state, metadata)
    for use in (lambda: load(tmp_path), lambda: run(tmp_path, resume=True)):
        with pytest.raises(CheckpointError, match=r"does not fit agent fake.*KeyError: 'buffer'"):
            use()
    checkpoint.save(tmp_path / checkpoint.FILE_NAME, {}, {"other": 1})
    with pytest.raises(CheckpointError, match="not the checkpoint of a run: it has no 'settings'"):
        load(tmp_path)


def test_an_existing_run_is_not_overwritten_by_accident(tmp_path):
    run(tmp_path)
    data = (tmp_path / checkpoint.FILE_NAME).read_bytes()
    with pytest.raises(RunExistsError, match="already holds a run; continue it with --resume"):
        run(tmp_path)
    with pytest.raises(SpaceError):
        run(tmp_path, settings(agent="picky"), overwrite=True)
    assert (tmp_path / checkpoint.FILE_NAME).read_bytes() == data, "a run that cannot start replaces nothing"
    run(tmp_path, settings(seed=1), overwrite=True)
    assert load(tmp_path).settings.run.seed == 1
    assert figures(tmp_path)[0]["step"] < 50


def test_a_file_in_place_of_the_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="expected a directory, got the file"):
        run(tmp_path / "file")
    with pytest.raises(SaveError, match="cannot be made"):
        run(tmp_path / "file" / "run")


@pytest.mark.parametrize(
    "env, message",
    [
        ("Raises-v0", r"^Raises-v0 at step \d+: RuntimeError: motor on fire$"),
        (
            "Nan-v0",
            r"^Nan-v0 at step \d+: expected finite numbers, got the observation \[.*nan.*\] from environment 2$",
        ),
        ("Shape-v0", r"^Shape-v0 at step \d+: expected observations of shape \(3, 3\), got \(3, 2\)"),
    ],
)
def test_a_world_that_fails_leaves_the_last_checkpoint(tmp_path, env, message):
    with pytest.raises(WorldError, match=message):
        run(tmp_path, settings(env, checkpoint_every=25))
    assert 25 <= steps_of(tmp_path) <= 100
    assert run_after_repair(tmp_path, env) >= 500


def run_after_repair(directory, env) -> int:
    """The checkpoint of a failed run is sound: with a world that works again, the run goes on."""
    state, metadata = checkpoint.load(directory)
    metadata["settings"]["run"]["env"] = "Walk-v0"
    checkpoint.save(directory / checkpoint.FILE_NAME, state, metadata)
    return run(directory, settings(checkpoint_every=25), resume=True).steps


def test_an_agent_that_fails_is_named_with_environment_and_step(tmp_path):
    with pytest.raises(RunError, match=r"^agent broken on Walk-v0 at step \d+: LinAlgError: singular matrix$"):
        run(tmp_path, settings(agent="broken", checkpoint_every=20))
    assert steps_of(tmp_path) >= 20


def test_a_disk_that_is_full_stops_the_run_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    save = checkpoint.save

    def fill_up(path, state, metadata):
        if metadata["steps"] > 150:
            monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        save(path, state, metadata)

    monkeypatch.setattr(checkpoint, "save", fill_up)
    with pytest.raises(SaveError, match="No space left on device; the previous checkpoint is whole"):
        run(tmp_path)
    monkeypatch.undo()
    assert 100 <= steps_of(tmp_path) < 150
    assert run(tmp_path, resume=True).steps >= 500


def test_worlds_are_closed_whatever_happens(tmp_path, monkeypatch):
    worlds = []

    def make(env_id, *, num_envs=1, **options):
        worlds.append(fake_rl.Walk(env_id, num_envs))
        return worlds[-1]

    monkeypatch.setitem(rlcore.ENVS._entries, "Raises-v0", make)
    with pytest.raises(WorldError):
        run(tmp_path, settings("Raises-v0"))
    assert worlds[0].closed


def test_a_run_in_which_no_episode_ends(tmp_path):
    assert run(tmp_path, settings("Endless-v0", steps=60)).mean_return is None


def test_load_gives_the_agent_and_its_evaluation(tmp_path):
    result = run(tmp_path)
    loaded = rlcore.load(tmp_path)
    assert loaded.steps == result.steps
    assert loaded.settings == settings()
    assert np.array_equal(loaded.agent.weights, checkpoint.load(tmp_path)[0]["agent"]["weights"])
    one, two = (rlcore.load(path).evaluate(episodes=12, seed=3) for path in (tmp_path, loaded.path))
    assert one == two
    assert len(one.returns) == 12


def test_tensorboard_is_written_when_asked_for(tmp_path):
    pytest.importorskip("tensorboard")
    run(tmp_path, tensorboard=True)
    assert list((tmp_path / "tensorboard").iterdir())
    run(tmp_path, overwrite=True)
    assert not (tmp_path / "tensorboard").exists()


def test_unknown_names(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'fake'"):
        run(tmp_path, settings(agent="fakr"))


def test_settings_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings().run.steps = 3
