"""What structure files say besides growing: units that start anew, edits on trial, a budget of latency; on agents that learn."""

import copy
import dataclasses
import time
from dataclasses import dataclass

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import tensor as T
from agents.checks import OBSERVATION, Driver, make, same, small
from agents.compiled import LearningStep
from agents.dqn import DQN
from agents.ppo import PPO
from rlcore import checkpoint
from rlcore.errors import ConfigError, RunError
from rlcore.living import Life, read_plan
from rlcore.types import EpisodeEnd, RevertibleAgent
from tensor import nn, structure

LAYERS = {PPO: ["actor.0", "critic.0"], DQN: ["network.0"]}
CONTINUAL = {"name": "continual_backprop", "rate": 0.2, "maturity": 1, "decay": 0.5}
BOTH = pytest.mark.parametrize("agent_class", [PPO, DQN])


def rule(agent_class, **changes):
    layer = LAYERS[agent_class]
    return {"layer": layer, "interval": 1, "policy": {"name": "every"}, "edit": {"name": "grow", "units": 2}, **changes}


def renewing(agent_class, policy=CONTINUAL):
    return {"layer": LAYERS[agent_class], "interval": 1, "policy": policy}


class Run:
    """An agent, its life, and episodes of which the test says how they ended."""

    def __init__(self, agent_class, *rules, seed=0, compile=False, hidden_sizes=(8,), **tables):
        config = dataclasses.replace(small(agent_class), compile=compile, hidden_sizes=hidden_sizes)
        agent = agent_class(config, OBSERVATION, Discrete(3), num_envs=3, total_steps=4000, seed=seed)
        self.driver = Driver(agent)
        self.agent = self.driver.agent
        self.life = Life(self.agent, read_plan({"rule": list(rules), **tables}, "test.toml"), seed=0, num_envs=3)
        self.step = 0

    def learn(self, updates=1):
        """So many updates, with a look after each."""
        for _ in range(updates):
            seen = len(self.driver.metrics)
            while len(self.driver.metrics) == seen:
                self.driver.run(1)
            self.step += 100
            self.life.look(self.step, self.driver.metrics[-1])

    def play(self, reward, episodes=20):
        """Episodes that end, after those under way in each environment."""
        ends = [EpisodeEnd(index, reward, 1) for index in sorted(self.life._trials.returns.under_way)]
        self.life.add_episodes(ends + [EpisodeEnd(0, reward, 1)] * episodes)

    @property
    def kinds(self):
        return [entry["edit"] for entry in self.life.edits]

    def weights(self):
        return copy.deepcopy({k: v for k, v in self.agent.snapshot().items() if k != "structure"})


# --- units that start anew -----------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("policy", [CONTINUAL, {"name": "redo", "threshold": 0.9}])
def test_a_compiled_step_is_recorded_once_for_all_renewals(agent_class, policy):
    pytest.importorskip("llvmlite")
    run = Run(agent_class, renewing(agent_class, policy), compile=True)
    run.learn(6)
    assert run.life.edits
    step = run.agent._gradient_step
    while step.grace:  # after the first of them
        run.driver.run(1)
    run.driver.run(20)
    edits = len(run.life.edits)
    run.learn(30)
    assert len(run.life.edits) > edits + 5
    compiled = step._call
    assert (len(compiled.plans), compiled.recorded, compiled.missed, compiled.eager) == (1, 1, 0, 0)
    assert compiled.plans[0].tier == 1
    assert step.grace == 0
    assert set(run.kinds) == {"reset_units"}
    entry = run.life.edits[-1]
    assert entry["layer"] in LAYERS[agent_class]
    assert len(entry["numbers"]) == entry["units"]
    assert ("least utility of 8 units" if policy is CONTINUAL else "of 8 units at most 0.9 of the mean") in entry["reason"]
    assert entry["widths"] == run.life.start


@BOTH
def test_a_run_with_renewals_goes_on_from_a_checkpoint_bit_for_bit(agent_class, tmp_path):
    rules = renewing(agent_class), renewing(agent_class, {"name": "redo", "threshold": 0.2})
    run = Run(agent_class, *rules, compile=True)
    for updates in (4, 40):  # in the middle of the calls without machine code, and with it
        run.learn(updates)
        checkpoint.save(tmp_path / "c", {"agent": run.agent.state_dict(), "life": run.life.state_dict()}, {})
        state, _ = checkpoint.load(tmp_path / "c")
        other = Run(agent_class, *rules, seed=7, compile=True)
        other.agent.load_state_dict(state["agent"])
        other.life.load_state_dict(state["life"])
        other.step = run.step
        other.driver.rng.bit_generator.state = run.driver.rng.bit_generator.state
        other.driver.observation = run.driver.observation
        for each in (run, other):
            each.learn(25)
        assert len(run.life.edits) > 10
        assert same(run.agent.state_dict(), other.agent.state_dict())
        assert same(run.life.state_dict(), other.life.state_dict())


@BOTH
def test_renewals_stop_at_a_budget_of_edits_and_go_on_where_the_agent_is_full(agent_class):
    run = Run(agent_class, renewing(agent_class), rule(agent_class), budget={"parameters": 30})
    run.learn(12)
    assert set(run.kinds) == {"reset_units"}
    assert [e["edit"] for e in run.life.take_events().edits].count("budget reached") == 1
    run = Run(agent_class, {**renewing(agent_class), "budget": {"edits": 3}})
    run.learn(12)
    assert len(run.life.edits) == 3
    (event,) = [e for e in run.life.take_events().edits if e["edit"] == "budget reached"]
    assert event["reason"] == "3 edits of 3"


# --- trials --------------------------------------------------------------------------------------------------------------


def trial(agent_class, **options):
    return rule(agent_class, trial={"episodes": 5, **options})


@BOTH
def test_an_edit_after_which_the_return_falls_is_taken_back(agent_class):
    run = Run(agent_class, trial(agent_class, rest=2))
    assert isinstance(run.agent, RevertibleAgent)
    run.learn()
    assert not run.life.edits  # with what should it be compared?
    run.play(100.0)
    version = run.agent.version
    run.learn()
    layers = LAYERS[agent_class]
    assert [e["trial"] for e in run.life.edits] == ["running"] * len(layers)
    before = {k: v for k, v in run.life._trials.now.snapshot.items() if k != "structure"}
    run.play(94.0, 4)
    run.learn(3)
    assert run.kinds == ["grow"] * len(layers)  # the verdict has to wait, and so has the next edit
    run.play(94.0, 3)
    steps = run.agent.steps
    assert not same(run.weights(), before)
    run.life.look(run.step, {})
    assert run.kinds[len(layers)] == "rollback"
    assert same(run.weights(), before)
    assert run.agent.steps == steps  # what was experienced stays
    assert run.agent.version == version + 2
    entry = run.life.edits[-1]
    assert entry["reason"] == "mean return 94 of 5 episodes, 100 before"
    assert entry["back_to"] == 0
    assert entry["widths"] == run.life.start
    assert [e["trial"] for e in run.life.edits[:-1]] == ["taken back"] * len(layers)
    outcomes = run.life.take_events().outcomes
    told = [(o["number"], o["trial"], o["reward_after"]) for o in outcomes]
    assert told == [(i, "taken back", 94.0) for i in range(len(layers))]
    run.learn(4)
    assert run.kinds[-1] == "rollback"  # the rule has rested, and the return has to come back
    run.play(100.0)
    run.learn(1)
    assert run.kinds[-1] == "grow"
    run.learn(2)
    draws = [run.life.edits[0]["seed"], run.life.edits[-len(layers)]["seed"]]
    assert draws[0] != draws[1]  # not the same again


@BOTH
@pytest.mark.parametrize("after", [95.0, 120.0])
def test_an_edit_that_the_return_survives_is_kept(agent_class, after):
    run = Run(agent_class, {**trial(agent_class), "budget": {"edits": 1}})
    run.play(100.0)
    run.learn()
    run.play(after)
    run.learn()
    count = len(LAYERS[agent_class])
    assert run.kinds == ["grow"] * count
    assert [(e["trial"], e["reward_after"]) for e in run.life.edits] == [("kept", after)] * count
    assert run.agent.parts()[LAYERS[agent_class][0].partition(".")[0]].net[0].out_features == 10


def test_returns_below_zero_are_compared_by_their_size():
    for after, kind in ((-104.0, "grow"), (-106.0, "rollback")):
        run = Run(DQN, trial(DQN))
        run.play(-100.0)
        run.learn()
        run.play(after)
        run.life.look(run.step, {})
        assert run.kinds[-1] == kind


@BOTH
def test_while_an_edit_is_on_trial_other_rules_wait_but_units_are_renewed_and_that_goes_back_too(agent_class):
    other = rule(agent_class, edit={"name": "deepen"}, interval=1)
    run = Run(agent_class, trial(agent_class, rest=50), {**other, "budget": {"edits": 1}}, renewing(agent_class))
    run.play(100.0)
    run.learn(8)
    count = len(LAYERS[agent_class])
    assert run.kinds[:count] == ["grow"] * count
    assert set(run.kinds[count:]) == {"reset_units"}
    run.play(1.0)
    run.life.look(run.step, {})
    back = run.kinds.index("rollback")
    assert all(e["trial"] == "taken back" for e in run.life.edits[:back])
    run.play(100.0)
    run.learn(6)
    assert "deepen" in run.kinds[back:]
    assert "reset_units" in run.kinds[back:]


@BOTH
@pytest.mark.parametrize("edit", [{"name": "deepen"}, {"name": "inject"}, {"name": "reset_units"}, {"name": "prune"}])
def test_every_edit_can_be_taken_back(agent_class, edit):
    run = Run(agent_class, {**trial(agent_class), "edit": edit})
    x = np.random.default_rng(0).uniform(-1, 1, (20, 4)).astype(np.float32)
    run.play(1.0)
    run.learn()
    wanted = run.life._trials.now.snapshot
    run.learn(3)
    run.play(0.0)
    run.life.look(run.step, {})
    assert run.kinds[-1] == "rollback"
    assert same(run.weights(), {k: v for k, v in wanted.items() if k != "structure"})
    assert run.agent.act(x, deterministic=True).shape == (20,)
    run.learn(4)  # and learning goes on


@BOTH
def test_a_checkpoint_in_the_middle_of_a_trial_goes_on_bit_for_bit(agent_class, tmp_path):
    rules = {**trial(agent_class, rest=1), "edit": {"name": "grow", "units": 2, "init": "net2wider"}}, renewing(agent_class)
    run = Run(agent_class, *rules, compile=True)
    run.play(100.0)
    run.learn(6)
    run.play(50.0, 3)
    checkpoint.save(tmp_path / "c", {"agent": run.agent.state_dict(), "life": run.life.state_dict()}, {})
    state, _ = checkpoint.load(tmp_path / "c")
    other = Run(agent_class, *rules, seed=7, compile=True)
    other.agent.load_state_dict(state["agent"])
    other.life.load_state_dict(state["life"])
    other.step = run.step
    other.driver.rng.bit_generator.state = run.driver.rng.bit_generator.state
    other.driver.observation = run.driver.observation
    for each in (run, other):
        each.learn(3)
        each.play(50.0, 2)
        each.learn(30)
    assert "rollback" in run.kinds
    assert same(run.agent.state_dict(), other.agent.state_dict())
    assert same(run.life.state_dict(), other.life.state_dict())
    assert run.life.edits == other.life.edits


def test_a_world_that_changes_ends_a_trial():
    run = Run(DQN, trial(DQN))
    run.play(100.0)
    run.learn()
    run.play(1.0, 2)
    run.life.adapt(Box(-1, 1, (4,), np.float32), Discrete(4), run.step)
    assert run.kinds == ["grow", "add_outputs"]
    assert run.life.edits[0]["trial"] == "kept"
    run.play(1.0)
    run.life.look(run.step, {})
    assert run.agent.actions == 4
    assert run.kinds[:2] == ["grow", "add_outputs"]
    assert run.life.edits[0]["reward_after"] == 1.0


def test_an_agent_that_cannot_go_back_is_told_before_anything_is_learnt():
    class Forward:
        """An agent without snapshots."""

        def __init__(self, agent):
            self.version, self.parts, self.sample = 0, agent.parts, agent.sample
            self.edited, self.adapt = agent.edited, agent.adapt

    life = Life(Forward(make(DQN, "discrete")), read_plan({"rule": [trial(DQN)]}, "test.toml"))
    expected = r"structure: rule 1: trial: Forward cannot take an edit back: it has no snapshot\(\) and roll_back\(\)"
    with pytest.raises(ConfigError, match=expected):
        life.check(Box(-1, 1, (4,), np.float32))


# --- budgets -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("short", [0, 1])
def test_the_layers_of_a_rule_are_edited_together_or_not_at_all(short):
    layers = ["actor.0", "critic.0", "actor.2"]  # two of them in one network, the second beside what the first adds
    start = Run(PPO, rule(PPO), hidden_sizes=(8, 8)).agent
    grown = 2 * (4 + 1) + 2 * 8, 2 * (4 + 1) + 2 * 8, 2 * (8 + 2 + 1) + 2 * 3
    most = start.num_parameters + sum(grown) - short
    run = Run(PPO, rule(PPO, layer=layers), hidden_sizes=(8, 8), budget={"parameters": most})
    run.learn()
    if short:
        assert not run.life.edits
        (event,) = run.life.take_events().edits
        assert event["reason"] == f"{most + 1:,} parameters of {most:,}"
        assert event["layer"] == "actor.0, critic.0, actor.2"
    else:
        assert [e["layer"] for e in run.life.edits] == layers
        assert run.agent.num_parameters == most


@BOTH
def test_pruning_leaves_the_fewest_units_that_the_budget_names(agent_class):
    run = Run(agent_class, rule(agent_class, edit={"name": "prune", "units": 3}, budget={"least": 2}))
    run.learn(4)
    assert run.kinds == ["prune"] * 2 * len(LAYERS[agent_class])
    (event,) = [e for e in run.life.take_events().edits if e["edit"] == "budget reached"]
    assert event["reason"] == f"fewer than 2 units would be left in {LAYERS[agent_class][0]}"
    assert run.life.edits[-1]["widths"][LAYERS[agent_class][0]] == 2


# --- latency -------------------------------------------------------------------------------------------------------------


class Slow(nn.Module):
    """Takes its time."""

    def forward(self, x):
        time.sleep(0.02)
        return T.tanh(x)


@dataclass
class Slower:
    def __call__(self, place):
        return structure.replace(place.net, place.layer, Slow())


@BOTH
def test_an_edit_that_would_make_acting_too_slow_is_not_made_and_said_once(agent_class):
    first = LAYERS[agent_class][0].partition(".")[0]
    slow = rule(agent_class, layer=f"{first}.1", edit={"name": __name__ + ":Slower"})
    run = Run(agent_class, slow, rule(agent_class), renewing(agent_class), compile=True, budget={"latency_ms": 15.0})
    while not run.driver.metrics:
        run.driver.run(1)
    state, recorded = copy.deepcopy(run.agent.state_dict()), _recorded(run.agent)
    run.life.look(100, {})
    assert same(run.agent.state_dict(), state)  # the network stood aside, and is back
    (event,) = run.life.take_events().edits
    assert (event["edit"], event["layer"]) == ("budget reached", f"{first}.1")
    assert float(event["reason"].split()[0]) >= 20
    assert event["reason"].endswith(" ms to act of 15")
    run.driver.run(10)
    assert _recorded(run.agent) == recorded  # and what was compiled for it goes on
    run.learn(8)
    assert set(run.kinds) == {"reset_units"}
    assert not [e for e in run.life.take_events().edits if e["edit"] == "budget reached"]


def _recorded(agent):
    steps = [step for step in vars(agent).values() if isinstance(step, LearningStep)]
    return [step._call.recorded for step in steps if not step._trials]


@BOTH
def test_within_the_latency_all_goes_on(agent_class):
    run = Run(agent_class, rule(agent_class), budget={"latency_ms": 60_000.0})
    run.learn(2)
    assert run.kinds == ["grow"] * 2 * len(LAYERS[agent_class])


def test_an_edit_that_fails_after_the_run_has_begun_names_the_rule():
    run = Run(DQN, renewing(DQN))
    run.life._watches[0].rule.layers = ("network.7",)
    with pytest.raises(RunError, match=r"structure: rule 1 at step 100: ContinualBackprop: no layer '7'"):
        run.learn()
