"""Networks that change in a live run: in the learner's thread, while another acts. No time is asserted."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fake_rl
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import rlcore
from agents.checks import same
from agents.stream_ac import StreamAC, StreamACConfig
from agents.stream_q import StreamQ, StreamQConfig
from rlcore import checkpoint
from rlcore.cli import main
from rlcore.config import RunConfig, Settings
from rlcore.errors import RunError
from rlcore.live import Learner, LiveConfig, LiveRunner, run_live
from rlcore.live.learner import Spaces
from rlcore.living import Life, read_plan
from rlcore.logging.progress import SilentProgress
from rlcore.types import EpisodeEnd, Step

sys.path.insert(0, str(Path(__file__).parents[1] / "envs"))
from changing import MoreActions, MoreSensors

QUICK = {"hz": 200.0, "minutes": 0.5 / 60, "log_seconds": 0.2, "save_seconds": 100.0}
Q = {"hidden_sizes": (4,), "sparsity": 0.0, "compile": False}


def rule(layer="network.0", interval=20, edit=None, **policy):
    return {
        "layer": layer,
        "interval": interval,
        "policy": {"name": "every", **policy},
        "edit": edit or {"name": "grow", "units": 2},
    }


def plan_of(*rules):
    return read_plan({"rule": list(rules) or [rule()]}, "test")


def stream_q(seed=0, **options):
    space = Box(-10, 10, (3,), np.float32)
    return StreamQ(StreamQConfig(**{**Q, **options}), space, Discrete(2), num_envs=1, total_steps=200, seed=seed)


class Saying(SilentProgress):
    def __init__(self):
        self.said = []

    def message(self, text):
        self.said.append(text)


# --- edits in the learner's thread --------------------------------------------------------------------------------------


def steps(count, inputs=3, actions=2, seed=0):
    """Steps that follow on each other."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1, inputs)).astype(np.float32)
    for k in range(count):
        after = rng.normal(size=(1, inputs)).astype(np.float32)
        ends = np.array([k % 11 == 10])
        reward = rng.normal(size=1).astype(np.float32)
        yield x, rng.integers(actions, size=1), reward, after, ends, ~ends & False, np.array([True])
        x = after


def test_episodes_of_lost_steps_are_told_with_the_next():
    agent = stream_q()
    life = Life(agent, plan_of(rule(interval=1000)))
    learner = Learner(agent, capacity=1, save=lambda state, beside: None, life=life)
    learner.run_until(0.0)
    learner.start()
    for number, step in enumerate(steps(4)):
        learner.give(step, steps=number, episodes=(EpisodeEnd(0, float(number), 1),))
    learner.stop()
    assert learner.lost >= 2
    assert list(life._returns) == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_run_continued_across_edits_is_the_run_that_never_stopped(compiled):
    """Bit for bit, wherever it is cut: also in the calls after an edit that run as they are."""
    others = [{"name": "prune", "units": 1}, {"name": "reset_units", "units": 2}, {"name": "deepen"}]
    rules = [rule(interval=40), *(rule(interval=k, edit=edit) for k, edit in zip((60, 70, 150), others, strict=True))]

    def begin():
        agent = stream_q(compile=compiled)
        return agent, Life(agent, plan_of(*rules), seed=5)

    given = list(steps(400))
    agent, life = begin()
    states = {}

    def save(state, beside):
        states[beside] = copy.deepcopy((state, life.state_dict()))

    learner = Learner(agent, capacity=1000, save=save, life=life)
    learner.start()
    for number, step in enumerate(given, 1):
        learner.give(step, steps=number)
        if number in (75, 200):
            learner.request_save(number)
    learner.request_save("end")
    learner.stop()
    assert learner.error is None
    assert len(life.edits) > 10
    assert agent.version > 10
    for cut in (75, 200):
        agent, life = begin()
        agent.load_state_dict(states[cut][0])
        life.load_state_dict(states[cut][1])
        learner = Learner(agent, capacity=1000, save=save, life=life)
        learner.start()
        for number, step in enumerate(given[cut:], cut + 1):
            learner.give(step, steps=number)
        learner.request_save(f"end of {cut}")
        learner.stop()
        assert learner.error is None
        assert same(states["end"], states[f"end of {cut}"])


def runner(tmp_path, agents, world, plan, make_actor=None, progress=None, **config):
    settings = Settings(RunConfig(env=world.env_id, agent="stream-q"), StreamQConfig())
    options = LiveConfig(**{**QUICK, **config})
    path = tmp_path / "checkpoint.safetensors"
    made = LiveRunner(settings, options, *agents, world, path, plan=plan, make_actor=make_actor)
    made.begin()
    return made


class Gate:
    """Holds the learner's thread until the world has gone on for so many steps. It would wait in vain if acting waited for it."""

    def __init__(self, steps):
        self.steps, self.left, self.open, self.entered = steps, steps, threading.Event(), threading.Event()

    def hold(self):
        self.entered.set()
        assert self.open.wait(60), "the world did not go on while the learner was held"

    def count(self):
        if self.entered.is_set() and not self.open.is_set():
            self.left -= 1
            if not self.left:
                self.open.set()


class Counting(fake_rl.Walk):
    gate = None

    def step(self, action):
        self.gate.count()
        return super().step(action)


@pytest.mark.parametrize("held", ["edit", "actor"])
def test_acting_goes_on_by_the_old_policy_while_networks_change(tmp_path, held):
    gate, world = Gate(40), Counting("Endless-v0", 1)
    world.gate = gate
    acted, used = [], []

    class Held(StreamQ):
        def edited(self):
            super().edited()
            if held == "edit" and self.version == 1:
                gate.hold()

        def act(self, observation, *, deterministic=False):
            acted.append((threading.current_thread() is threading.main_thread(), self.version, gate.open.is_set()))
            return super().act(observation, deterministic=deterministic)

    def make(seed):
        return Held(StreamQConfig(**Q), world.observation_space, Discrete(2), num_envs=1, total_steps=200, seed=seed)

    def make_actor(number):
        used.append(make(number))
        if held == "actor" and len(used) == 1:
            gate.hold()
        return used[-1]

    learner, first = make(0), make(1)
    live = runner(tmp_path, (learner, first), world, plan_of(rule(interval=30)), make_actor, minutes=1.0, log_seconds=0.05)
    live.hooks = type(live.hooks)(stop=lambda figures: "enough" if live._actor is not first else None)
    result = live.run([], SilentProgress())
    assert result.reason == "enough"
    own = [(version, opened) for main, version, opened in acted if main]
    assert sum(version == 0 for version, opened in own if not opened) > 60  # before the edit, and for 40 steps of it
    assert {version for version, opened in own if not opened} == {0}
    assert live._actor in used
    assert live._actor.version >= 1
    assert first.version == 0  # nobody rebuilt the one that acted


@pytest.mark.parametrize("kind", ["q", "ac"])
def test_the_actor_is_what_the_learner_has_become(tmp_path, kind):
    world = fake_rl.make_walk("Walk-v0")
    agent_class, config = {"q": (StreamQ, StreamQConfig(**Q)), "ac": (StreamAC, StreamACConfig(**Q))}[kind]

    def make(seed):
        return agent_class(config, world.observation_space, Discrete(2), num_envs=1, total_steps=200, seed=seed)

    plan = plan_of(rule("network.0" if kind == "q" else "actor.0"))
    live = runner(tmp_path, (make(0), make(1)), world, plan, make)
    result = live.run([], SilentProgress())
    live._adopt(live._thread.snapshot)  # the run may have ended before it acted by this one
    learner, actor = live._agent, live._actor
    assert actor.version == learner.version >= 2
    assert same(actor.policy()["values"], learner.policy()["values"])
    state, metadata = checkpoint.load(tmp_path)
    assert metadata["steps"] == result.steps == state["tally"]["steps"]
    assert len(state["life"]["edits"]) == len(metadata["structure"]["edits"]) == learner.version


def test_an_edit_that_fails_ends_the_run_with_the_rule(tmp_path):
    live = runner(
        tmp_path, (stream_q(), stream_q()), fake_rl.make_walk("Endless-v0"), plan_of(rule(edit={"name": "prune"})), minutes=1
    )
    with pytest.raises(RunError, match=r"structure: rule 1 at step 80: prune: expected at least 1 unit to be left in '0'"):
        live.run([], SilentProgress())


# --- spaces that change -------------------------------------------------------------------------------------------------


class Late:
    """More sensors, and more dimensions of actions, from the tenth step on."""

    env_id, num_envs = "Late-v0", 1

    def __init__(self):
        self.observation_space, self.action_space = Box(-9, 9, (2,), np.float32), Box(-1, 1, (1,), np.float32)
        self.actions, self.rng = [], np.random.default_rng(0)

    def _look(self):
        return self.rng.normal(size=(1, *self.observation_space.shape)).astype(np.float32)

    def reset(self, seed=None):
        return self._look()

    def step(self, action):
        assert action.shape == (1, *self.action_space.shape)
        self.actions.append(action.copy())
        if len(self.actions) == 10:
            self.observation_space, self.action_space = Box(-9, 9, (4,), np.float32), Box(-1, 1, (3,), np.float32)
        x, no = self._look(), np.zeros(1, bool)
        return Step(x, np.ones(1, np.float32), x, no, no, ~no, ())

    def state_dict(self):
        return {"steps": len(self.actions)}


def test_new_sensors_and_dimensions_are_served_while_acting_goes_on(tmp_path):
    world, gate = Late(), threading.Event()

    def make(seed):
        if seed > 1:
            assert gate.wait(60)
        return StreamAC(StreamACConfig(**Q), Box(-9, 9, (2,), np.float32), Box(-1, 1, (1,), np.float32),
                        num_envs=1, total_steps=200, seed=seed)  # fmt: skip

    live = runner(tmp_path, (make(0), make(1)), world, None, lambda number: make(1 + number), minutes=1, log_seconds=0.05)

    def stop(figures):
        if len(world.actions) > 40:
            gate.set()
        return "enough" if live._actor.version and len(world.actions) > 80 else None

    live.hooks = type(live.hooks)(stop=stop)
    live.run([], SilentProgress())
    assert live._agent.inputs == live._actor.inputs == 4
    assert {edit["edit"] for edit in live._base.life.edits} == {"add_inputs", "add_outputs"}
    assert {edit["step"] for edit in live._base.life.edits} == {10}
    meanwhile = np.concatenate(world.actions[10:40])  # by the old actor, to which two dimensions are unknown
    assert not meanwhile[:, 1:].any()
    assert meanwhile[:, 0].all()
    assert world.actions[-1][:, 1:].any()


@pytest.mark.parametrize("env", [MoreActions, MoreSensors])
def test_a_changing_world_leaves_a_run_that_goes_on(tmp_path, env):
    name = f"Live{env.__name__}-v0"
    rlcore.ENVS.register(name, type(name, (env,), {"__init__": lambda self, render_mode=None: env.__init__(self, 25)}))
    settings = Settings(RunConfig(env=name, agent="stream-q"), StreamQConfig(**Q))
    result = run_live(settings, LiveConfig(**QUICK), tmp_path / "run", progress=SilentProgress())
    state, _ = checkpoint.load(tmp_path / "run")
    if env is MoreActions:
        assert state["agent"]["structure"]["actions"][0] == 3
    else:
        assert state["agent"]["recent"]["rows"].shape[1] == 3
    assert [edit["step"] for edit in state["life"]["edits"]] == ([25] if env is MoreActions else [25, 25, 50])
    again = run_live(settings, LiveConfig(**QUICK), tmp_path / "run", resume=True, progress=SilentProgress())
    assert again.steps > result.steps
    assert again.figures.lost == 0
    assert len(rlcore.load(tmp_path / "run").edits) == len(state["life"]["edits"])


def test_an_agent_that_cannot_change_says_so(tmp_path):
    live = runner(
        tmp_path,
        [
            fake_rl.FakeAgent(fake_rl.FakeConfig(), Box(-9, 9, (2,)), Discrete(2), num_envs=1, total_steps=9, seed=k)
            for k in range(2)
        ],
        type(
            "Wider", (Late,), {"step": lambda self, action: Late.step(self, np.zeros((1, *self.action_space.shape), np.float32))}
        )(),
        None,
        minutes=1,
    )
    with pytest.raises(rlcore.errors.SpaceError, match="FakeAgent cannot serve spaces that change while it learns"):
        live.run([], SilentProgress())


# --- what is told, and the command line ---------------------------------------------------------------------------------


def test_edits_are_told_where_those_of_other_runs_are(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    structure = {"rule": [{**rule(interval=15), "budget": {"edits": 3}}]}
    settings = Settings(RunConfig(env="CartPole-v1", agent="stream-q"), StreamQConfig(**Q), structure)
    progress = Saying()
    run_live(settings, LiveConfig(**QUICK), tmp_path / "run", progress=progress, tensorboard=True)
    run = rlcore.load(tmp_path / "run")
    assert len(run.edits) == 3
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    told = [event for line in lines for event in line.get("edits", ())]
    assert [event["edit"] for event in told] == ["grow"] * 3 + ["budget reached"]
    assert [event["step"] for event in told[:3]] == [edit["step"] for edit in run.edits]
    assert [text.split(" by")[0] for text in progress.said[:3]] == [f"step {e['step']}: grow network.0" for e in run.edits]
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Tensors("structure/edits")] == [event["step"] for event in told]


def test_what_a_killed_run_had_not_told_is_told_by_the_one_that_goes_on(tmp_path):
    structure = {"rule": [rule(interval=15)]}
    settings = Settings(RunConfig(env="CartPole-v1", agent="stream-q"), StreamQConfig(**Q), structure)
    run_live(settings, LiveConfig(**{**QUICK, "log_seconds": 100.0}), tmp_path / "run", progress=SilentProgress())
    path = tmp_path / "run" / "checkpoint.safetensors"
    state, _ = checkpoint.load(path)
    assert state["tally"]["events"][0] == state["life"]["edits"] != []
    (tmp_path / "run" / "metrics.jsonl").write_text("")  # it was killed before its first line
    run_live(settings, LiveConfig(**QUICK), tmp_path / "run", resume=True, progress=SilentProgress())
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    told = [event["number"] for line in lines for event in line.get("edits", ())]
    assert told == list(range(len(rlcore.load(tmp_path / "run").edits)))


def test_killed_in_the_middle_it_goes_on_with_the_networks_that_it_had(tmp_path, environment, capsys):
    (tmp_path / "growth.toml").write_text(
        "[[rule]]\nlayer = 'network.0'\ninterval = 40\npolicy = { name = 'every' }\nedit = { name = 'grow', units = 4 }\n"
    )
    command = [sys.executable, "-c", "import sys; from rlcore.cli import main; sys.exit(main())", "live"]
    flags = ["--hz", "100", "--save-seconds", "0.05", "--log-seconds", "0.1", "--quiet"]
    begin = ["stream-q", "CartPole-v1", "--dir", "run", "--structure", "growth.toml", "--hidden-sizes", "8", "--minutes", "1"]
    run = tmp_path / "run"
    with subprocess.Popen([*command, *begin, *flags], cwd=tmp_path, env=environment) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.02)
            if (run / "checkpoint.safetensors").exists() and len(_structure(run)["edits"]) >= 2:
                break
        process.send_signal(signal.SIGKILL)
    before = _structure(run)
    assert len(before["edits"]) >= 2
    assert before["now"]["network.0"] == 8 + 4 * len(before["edits"])
    last = [*command, "--resume", "run", *flags, "--minutes", "0.02", "--json"]
    done = subprocess.run(last, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["learnt"] > 0
    after = _structure(run)
    assert after["edits"][: len(before["edits"])] == before["edits"]
    assert len(after["edits"]) > len(before["edits"])
    assert after["now"]["network.0"] == 8 + 4 * len(after["edits"])
    told = [e["number"] for line in (run / "metrics.jsonl").read_text().splitlines() for e in json.loads(line).get("edits", ())]
    assert told == list(range(len(after["edits"])))
    assert main(["info", str(run)]) == 0
    assert f"network.0 {after['now']['network.0']} (was 8)" in capsys.readouterr().out
    assert main(["draw", str(run), "--out", str(tmp_path / "picture.svg")]) == 0
    assert f"{len(after['edits'])} edits" in (tmp_path / "picture.svg").read_text()


def _structure(run):
    return checkpoint.load(run)[1]["structure"]


@pytest.mark.parametrize("text, message", [
    ("[[rule]]\nlayer = 'network.0'\n", "growth.toml: rule 1: expected a table [rule.policy] with a name"),
    ("[[rule]]\nlayer = 'network.7'\npolicy = {name = 'every'}\nedit = {name = 'grow'}\n", "rule 1: grow: no layer '7'"),
    ("rules = 3", "growth.toml: unknown key 'rules'; did you mean 'rule'?"),
])  # fmt: skip
def test_a_wrong_file_is_said_before_anything_starts(tmp_path, monkeypatch, capsys, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "growth.toml").write_text(text)
    assert main(["live", "stream-q", "CartPole-v1", "--structure", "growth.toml", "--dir", "run"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_spaces_tell_whether_they_are_still_those_of_a_world():
    world = Late()
    spaces = Spaces.of(world)
    assert spaces.still(world)
    world.action_space = Box(-1, 1, (3,), np.float32)
    assert not spaces.still(world)
