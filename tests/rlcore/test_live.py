"""Runs in real time: what gives way when, what is kept, and who has a say. No time is asserted but in virtual clocks."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fake_rl
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary

from agents.stream_ac import StreamACConfig
from rlcore import checkpoint
from rlcore.cli import main
from rlcore.config import RunConfig, Settings
from rlcore.errors import ConfigError, RunError, WorldError
from rlcore.live import Clock, Figures, Hooks, Latencies, Learner, LiveConfig, LiveRunner, run_live
from rlcore.live.config import safe_action
from rlcore.logging.progress import SilentProgress

ROOT = Path(__file__).resolve().parents[2]
QUICK = {"hz": 200.0, "minutes": 0.5 / 60, "log_seconds": 0.2, "save_seconds": 100.0}


def settings(env="Endless-v0", agent="fake", config=None, **run):
    return Settings(RunConfig(env=env, agent=agent, **run), config or fake_rl.FakeConfig())


def live(directory, hooks=None, run=None, resume=False, **config):
    options = LiveConfig(**{**QUICK, **config})
    return run_live(run or settings(), options, directory, resume=resume, progress=SilentProgress(), hooks=hooks)


def lines_of(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


class Slow(fake_rl.Walk):
    """A world that sometimes takes as long as several ticks to answer."""

    def step(self, action):
        if self.calls % 10 == 9:
            time.sleep(0.02)
        return super().step(action)


def runner(tmp_path, world, hooks=None, agent=fake_rl.FakeAgent, **config):
    made = [
        agent(fake_rl.FakeConfig(), world.observation_space, world.action_space, num_envs=1, total_steps=100, seed=k)
        for k in range(2)
    ]
    options = LiveConfig(**{**QUICK, **config})
    live_runner = LiveRunner(settings(), options, *made, world, tmp_path / "checkpoint.safetensors", hooks)
    live_runner.begin()
    return live_runner


# --- the whole ---------------------------------------------------------------------------------------------------------


def test_acts_and_learns_and_leaves_a_run(tmp_path):
    result = live(tmp_path / "run", run=settings("Walk-v0"))
    figures = result.figures
    assert result.reason == "the time is over"
    assert figures.ticks == sum(each.ticks for each in result.intervals)
    assert figures.learnt == figures.ticks
    assert figures.lost == figures.backlog == figures.safe == figures.taken_over == 0
    state, metadata = checkpoint.load(tmp_path / "run")
    assert metadata["steps"] == result.steps == state["tally"]["steps"]
    assert state["agent"]["updates"] > 0
    lines = lines_of(tmp_path / "run")
    assert sum(line["live/ticks"] for line in lines) == figures.ticks
    assert {"live/latency_p99_ms", "live/missed", "live/staleness_ms", "live/lost", "live/drifts", "loss"} <= lines[0].keys()
    total = sum(line["live/reward"] for line in lines)
    assert figures.reward == pytest.approx(total)


def test_acts_by_what_was_learnt_meanwhile(tmp_path):
    world = fake_rl.make_walk("Endless-v0")
    live_runner = runner(tmp_path, world)
    before = [agent.weights.copy() for agent in (live_runner._agent, live_runner._actor)]
    assert not np.array_equal(*before)
    live_runner.run([], SilentProgress())
    learner, actor = live_runner._agent, live_runner._actor
    assert learner.updates > 0
    assert not np.array_equal(before[1], actor.weights)
    assert actor.updates >= learner.updates - 20  # all but what came last


def test_without_learning_nothing_changes(tmp_path):
    result = live(tmp_path / "run", learning=False)
    assert result.figures.learnt == 0
    assert checkpoint.load(tmp_path / "run")[0]["agent"]["updates"] == 0


def test_goes_on_where_it_was(tmp_path):
    first = live(tmp_path / "run")
    again = live(tmp_path / "run", resume=True)
    assert again.steps == first.steps + again.figures.ticks
    steps = [line["step"] for line in lines_of(tmp_path / "run")]
    assert steps == sorted(steps)
    state = checkpoint.load(tmp_path / "run")[0]
    assert state["agent"]["updates"] > 2 * 20


def test_a_resumed_actor_begins_with_what_had_been_learnt(tmp_path):
    live(tmp_path / "run")
    learnt = checkpoint.load(tmp_path / "run")[0]["agent"]["weights"]
    live(tmp_path / "run", resume=True, learning=False)
    world = fake_rl.make_walk("Endless-v0")
    other = runner(tmp_path / "other" if (tmp_path / "other").mkdir() is None else tmp_path, world, learning=False)
    other.restore(checkpoint.load(tmp_path / "run")[0])
    other.run([], SilentProgress())
    assert np.array_equal(other._actor.weights, learnt)


# --- what gives way -----------------------------------------------------------------------------------------------------


def test_the_world_goes_on_with_the_action_before(tmp_path):
    world = Slow("Endless-v0", 1)
    result = runner(tmp_path, world).run([], SilentProgress())
    figures = result.figures
    assert figures.held > 0
    assert figures.missed >= figures.held
    assert figures.learnt == world.calls > figures.ticks - figures.held  # ticks that were missed were made up for


def test_a_learner_that_cannot_keep_up_loses_the_oldest_and_says_so(tmp_path):
    slow = settings(config=fake_rl.FakeConfig(sleep=0.05, batch_size=1))
    result = live(tmp_path / "run", run=slow, backlog=5)
    figures = result.figures
    assert figures.lost > 0
    assert figures.learnt + figures.lost + figures.backlog == figures.ticks
    assert figures.ticks > 2 * figures.learnt  # acting did not wait for it


def test_stale_observations_get_the_safe_action(tmp_path):
    actions = []

    class Watched(fake_rl.Walk):
        def step(self, action):
            actions.append(int(action[0]))
            return super().step(action)

    turns, marks = itertools.chain([False] * 10, [True] * 20, itertools.repeat(False)), []

    def stale():
        now = next(turns)
        if now:
            marks.append(len(actions))
        return now

    hooks = Hooks(stale=stale, stop=lambda figures: "enough" if len(marks) == 20 else None)
    long = {"minutes": 1.0, "log_seconds": 0.05}
    result = runner(tmp_path, Watched("Endless-v0", 1), hooks, **long).run([], SilentProgress())
    assert result.figures.safe == 20
    assert [actions[mark] for mark in marks] == [0] * 20
    assert result.figures.learnt <= result.figures.ticks - 20


def test_an_action_that_took_too_long_is_not_given(tmp_path):
    class Thinker(fake_rl.FakeAgent):
        acts = 0

        def act(self, observation, *, deterministic=False):
            self.acts += 1
            if self.acts == 20:
                time.sleep(0.2)
            return super().act(observation, deterministic=deterministic)

    result = runner(tmp_path, fake_rl.make_walk("Endless-v0"), agent=Thinker, max_age=0.1).run([], SilentProgress())
    assert result.figures.safe == 1
    assert result.figures.held > 10


def test_the_watchdog_speaks_once_for_each_silence(tmp_path):
    silences = []

    class Hangs(fake_rl.Walk):
        def step(self, action):
            if self.calls == 20:
                time.sleep(0.4)
            return super().step(action)

    hooks = Hooks(on_watchdog=silences.append)
    result = runner(tmp_path, Hangs("Endless-v0", 1), hooks, watchdog=0.1).run([], SilentProgress())
    assert result.figures.watchdog == len(silences) == 1
    assert silences[0] > 0.1


def test_sensors_that_fall_silent_are_not_acted_on(tmp_path):
    code = "import sys; from envs.games.realtime import run_car; run_car('zmq+tcp://127.0.0.1:0', sys.argv[1], camera=False, "
    code += "on_start=lambda uri: print(uri, flush=True))"
    actions = f"zmq+ipc://{tmp_path}/actions"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, actions]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as car:
        sensors = car.stdout.readline().strip()
        run = Settings(
            RunConfig(env="rlcore/CarLive-v0", agent="stream-ac", env_args=(f"sensors={sensors}", f"actions={actions}")),
            StreamACConfig(hidden_sizes=(8,)),
        )
        turns = []

        def pause(observation, action):
            turns.append(1)
            if len(turns) == 20:
                car.send_signal(signal.SIGSTOP)
                threading.Timer(1.5, car.send_signal, [signal.SIGCONT]).start()

        result = live(tmp_path / "run", Hooks(take_over=pause), run=run, hz=20.0, minutes=4 / 60, log_seconds=1.0)
        with pytest.raises(ConfigError, match="hz: expected 20, the rate of rlcore/CarLive-v0, got 10"):
            live(tmp_path / "other", run=run, hz=10.0)
        car.kill()
    assert result.figures.safe > 0
    assert result.figures.learnt > 20
    assert result.figures.learnt <= result.figures.ticks - result.figures.safe


# --- who has a say ------------------------------------------------------------------------------------------------------


def test_a_person_takes_over_and_is_learnt_from(tmp_path):
    seen = []

    class Notes(fake_rl.FakeAgent):
        def observe(self, observation, action, *others):
            seen.append(int(action[0]))
            super().observe(observation, action, *others)

    asked = []

    def person(observation, proposed):
        assert observation.shape == (3,)
        asked.append(proposed)
        return np.int64(1) if len(asked) <= 30 else None

    hooks = Hooks(take_over=person, stop=lambda figures: "enough" if len(asked) > 40 else None)
    world = fake_rl.make_walk("Endless-v0")
    result = runner(tmp_path, world, hooks, agent=Notes, minutes=1.0, log_seconds=0.05).run([], SilentProgress())
    assert result.figures.taken_over == 30
    assert seen[:30] == [1] * 30


def test_a_hook_ends_the_run_with_its_reason(tmp_path):
    figures = []

    def stop(interval: Figures):
        figures.append(interval)
        return "good enough" if len(figures) == 2 else None

    result = live(tmp_path / "run", Hooks(stop=stop), minutes=1.0, log_seconds=0.1)
    assert result.reason == "good enough"
    assert figures == result.intervals[:2]


class Interrupts(SilentProgress):
    interval = 0.1

    def update(self, step, steps_per_s, mean_return):
        os.kill(os.getpid(), signal.SIGINT)
        self.interval = 1e9


def test_a_signal_ends_it_in_order(tmp_path):
    options = LiveConfig(**{**QUICK, "minutes": 1.0})
    result = run_live(settings(), options, tmp_path / "run", progress=Interrupts())
    assert (result.reason, result.signal) == ("a signal", signal.SIGINT)
    assert checkpoint.load(tmp_path / "run")[1]["steps"] == result.steps


# --- failures -----------------------------------------------------------------------------------------------------------


def test_an_agent_that_breaks_while_learning_ends_the_run(tmp_path):
    with pytest.raises(RunError, match=r"agent broken on Endless-v0 at step \d+: LinAlgError: singular matrix"):
        live(tmp_path / "run", run=settings(agent="broken"), minutes=1.0)
    checkpoint.load(tmp_path / "run")  # the first one is whole


def test_a_world_that_breaks_ends_the_run_with_what_was_learnt(tmp_path):
    with pytest.raises(WorldError, match=r"Raises-v0 at step \d+: RuntimeError: motor on fire"):
        live(tmp_path / "run", run=settings("Raises-v0"), minutes=1.0)
    assert checkpoint.load(tmp_path / "run")[0]["agent"]["updates"] > 0


def test_priority_is_for_the_acting_thread_alone(tmp_path, monkeypatch):
    set_by = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda *given: set_by.append((threading.get_ident(), *given[:2])))
    hooks = Hooks(stop=lambda figures: "enough")
    live(tmp_path / "run", hooks, priority=True, minutes=1.0, log_seconds=0.05)
    me, before = threading.get_ident(), os.sched_getscheduler(0)
    assert set_by == [(me, 0, os.SCHED_RR), (me, 0, before)]

    def refuse(*given):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with pytest.raises(ConfigError, match="priority: this system does not grant it; expected Linux and the right CAP_SYS_NICE"):
        live(tmp_path / "other", priority=True)


@pytest.mark.parametrize("field", ["hz", "minutes", "max_age", "watchdog", "backlog", "log_seconds", "save_seconds"])
def test_ranges(field):
    with pytest.raises(ConfigError, match=f"{field}: expected a number above 0, got 0"):
        LiveConfig(**{field: 0})
    with pytest.raises(ConfigError, match="deadline_ms: expected a number above 0, got -1"):
        LiveConfig(deadline_ms=-1)


def test_one_environment_at_a_time(tmp_path):
    with pytest.raises(ConfigError, match="num_envs: expected 1 for a live run, got 3"):
        live(tmp_path / "run", run=settings(num_envs=3))


# --- the parts ----------------------------------------------------------------------------------------------------------


def test_the_clock_keeps_its_grid():
    seconds = [100.0]
    clock = Clock(10.0, now=lambda: seconds[0], sleep=lambda wait: seconds.__setitem__(0, seconds[0] + wait))
    clock.start()
    for k in range(1, 6):
        clock.wait()
        assert seconds[0] == pytest.approx(100.0 + k / 10)
        seconds[0] += 0.03  # work
        assert clock.advance() == 0
    seconds[0] = 100.0 + 0.6 + 0.35
    assert clock.advance() == 2  # of 0.7, 0.8 and 0.9 the last is still at hand
    assert clock.due == pytest.approx(100.9)


def test_quantiles_are_never_too_low_and_at_most_two_percent_too_high():
    rng = np.random.default_rng(0)
    values, latencies = rng.lognormal(-6, 2, 5000), Latencies()
    for value in values:
        latencies.add(value)
    for q in (0.5, 0.9, 0.99, 0.999):
        true = np.quantile(values, q, method="inverted_cdf")
        assert true <= latencies.quantile(q) * (1 + 1e-9)
        assert latencies.quantile(q) <= true * 1.021
    assert latencies.quantile(1.0) == latencies.highest == values.max()
    assert np.isnan(Latencies().quantile(0.5))


@pytest.mark.parametrize("space, expected", [
    (Box(-1, 1, (2,)), [0, 0]), (Box(0.5, 1, (1,)), [0.5]), (Discrete(3), 0), (MultiBinary(2), [0, 0]),
])  # fmt: skip
def test_the_safe_action_is_no_force(space, expected):
    assert safe_action(space).tolist() == expected
    assert space.contains(safe_action(space).astype(space.dtype))


def test_published_policies_are_never_written_to():
    class Counts:
        def __init__(self):
            self.value = np.zeros(3)

        def observe(self, *step):
            self.value += 1

        def learn(self):
            return {}

        def interrupt(self):
            self.value[:] = -100

        def policy(self):
            return self.value.copy()

        def state_dict(self):
            return {"value": self.value.copy()}

    saved = []
    learner = Learner(Counts(), capacity=100, save=lambda state, extra: saved.append((state["value"][0], extra)))
    learner.start()
    snapshots = []
    for _ in range(5):
        learner.give(())
        while learner.backlog or learner.snapshot.version <= len(snapshots):
            time.sleep(0.001)
        snapshots.append(learner.snapshot)
    learner.run_until(0.0)
    learner.give(())
    time.sleep(0.05)
    assert learner.backlog <= 1
    assert learner.learnt == 5  # it rests
    learner.request_save("here")
    learner.stop()
    assert [snapshot.policy.tolist() for snapshot in snapshots] == [[k] * 3 for k in range(1, 6)]
    assert saved == [(6.0, "here")]


# --- in a process of its own --------------------------------------------------------------------------------------------


def test_killed_in_the_middle_it_can_be_continued(tmp_path, environment):
    command = [sys.executable, "-c", "import sys; from rlcore.cli import main; sys.exit(main())", "live"]
    flags = ["--hz", "100", "--save-seconds", "0.05", "--log-seconds", "0.1", "--json", "--quiet"]
    for k in range(2):
        begin = ["stream-q", "CartPole-v1", "--dir", "run"] if k == 0 else ["--resume", "run"]
        process = subprocess.Popen([*command, *begin, *flags, "--minutes", "1"], cwd=tmp_path, env=environment)
        deadline = time.monotonic() + 30
        known = checkpoint.load(tmp_path / "run")[1]["steps"] if k else 0
        while time.monotonic() < deadline:
            time.sleep(0.02)
            if (tmp_path / "run" / "checkpoint.safetensors").exists() and (
                checkpoint.load(tmp_path / "run")[1]["steps"] > known + 20
            ):
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert checkpoint.load(tmp_path / "run")[1]["steps"] > known + 20
    known = checkpoint.load(tmp_path / "run")[1]["steps"]
    last = [*command, "--resume", "run", *flags, "--minutes", "0.01"]
    done = subprocess.run(last, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["steps"] > known
    assert result["agent"] == "stream-q"


@pytest.mark.parametrize("arguments, text", [
    (["stream-q"], "live needs an agent and an environment, got stream-q; for example: run-agent live stream-q"),
    (["stream-qq", "CartPole-v1"], "unknown agent 'stream-qq'; did you mean 'stream-q' or 'stream-ac'"),
    (["stream-q", "CartPole-v1", "--hz", "0"], "--hz: expected a number above 0, got 0"),
    (["stream-q", "CartPole-v1", "--env-args", "gravity"], "--env-args: expected name=value, got 'gravity'"),
    (["stream-q", "CartPole-v1", "--env-args", "gravity=1"], "CartPole-v1: expected other arguments? got {'gravity': 1}"),
    (["stream-q", "CartPole-v1", "--resume", "nowhere"], "live --resume takes agent and environment from the run"),
])  # fmt: skip
def test_a_wrong_command_line_is_one_line(capsys, tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    assert main(["live", *arguments]) == 2
    assert text in capsys.readouterr().err.splitlines()[-1]
