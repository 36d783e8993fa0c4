"""How an edit on trial is judged, and how far all goes back where the return has fallen."""

import copy
import dataclasses
import warnings

import numpy as np
import pytest
import scipy.stats
from gymnasium.spaces import Discrete
from hypothesis import given
from hypothesis import strategies as st

from agents.checks import OBSERVATION, Driver, same, small
from agents.dqn import DQN
from rlcore.drawing.births import births
from rlcore.living import Life, read_plan
from rlcore.living.history import standing, widths
from rlcore.living.trial import DEPTH, Returns, Trial, interval
from rlcore.types import EpisodeEnd

RULE = {"layer": ["network.0"], "interval": 1, "policy": {"name": "every"}, "edit": {"name": "grow", "units": 2}}
NUM_ENVS = 3


class Story:
    """A DQN's life, told by the returns of its episodes."""

    def __init__(self, *rules):
        config = dataclasses.replace(small(DQN), compile=False)
        self.agent = DQN(config, OBSERVATION, Discrete(3), num_envs=NUM_ENVS, total_steps=4000, seed=0)
        Driver(self.agent).run(30)
        self.life = Life(self.agent, read_plan({"rule": list(rules)}, "test"), num_envs=NUM_ENVS)
        self.step = 0

    def look(self):
        self.step += 1
        self.life.look(self.step, {})

    def episodes(self, *returns):
        """Those under way in each environment, which count for nothing, and then these."""
        self.life.add_episodes(EpisodeEnd(i, -1e9, 1) for i in sorted(self.life._trials.returns.under_way))
        self.life.add_episodes(EpisodeEnd(0, reward, 1) for reward in returns)

    @property
    def units(self):
        return widths(self.agent.parts())["network.0"]

    @property
    def told(self):
        return [(e["edit"], e.get("trial")) for e in self.life.edits]


def trial(**options):
    return {**RULE, "trial": {"episodes": 4, "rest": 0, **options}}


@given(
    st.lists(st.integers(-50, 50), min_size=2, max_size=12),
    st.lists(st.integers(-50, 50), min_size=2, max_size=12),
    st.floats(0.5, 0.999),
)
def test_the_interval_is_welchs(before, after, confidence):
    low, high = interval(before, after, confidence)
    if len(set(before)) == len(set(after)) == 1:
        assert low == high == np.mean(after) - np.mean(before)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of returns that are all alike on one side
        wanted = scipy.stats.ttest_ind(after, before, equal_var=False).confidence_interval(confidence)
    np.testing.assert_allclose((low, high), wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "after, kept, episodes",
    [
        ([100, 101, 99, 100], True, 4),
        ([50, 51, 49, 50], False, 4),
        ([140, 60, 130, 70], None, 4),  # as good in the mean, but that shows nothing yet
        ([140, 60, 130, 70] * 4, True, 16),  # and in the end the means decide
        ([130, 60, 130, 50] * 4, False, 16),
        ([120, 60, 80, 85, 60, 62, 61, 60], False, 8),
    ],
)
def test_a_trial_is_decided_as_soon_as_the_returns_show_it_and_at_last_by_the_means(after, kept, episodes):
    one = Trial(0, [0], 0, [100.0, 101.0, 99.0, 100.0], {}, episodes=4, tolerance=0.05, confidence=0.95)
    for number, reward in enumerate(after, 1):
        one.add(0, float(reward))
        assert (one.kept is None) == (number < episodes or kept is None)
    assert one.kept is kept
    one.add(0, 1e9)
    assert (one.mean == pytest.approx(np.mean(after))) == (kept is not None)


def test_episodes_under_way_count_for_neither_side():
    returns = Returns(range(2))
    assert [returns.add(i, x) for i, x in ((1, 5.0), (1, 6.0), (0, 7.0), (0, 8.0))] == [False, True, False, True]
    assert returns.values == [6.0, 8.0]
    other = Returns(**returns.state_dict())
    assert vars(other) == vars(returns)


def test_returns_of_what_was_taken_back_are_not_what_the_next_edit_is_compared_with():
    story = Story(trial())
    story.episodes(100, 100, 100, 100)
    story.look()
    story.episodes(10, 10, 10, 10)
    story.look()
    assert story.told[-1] == ("rollback", None)
    story.look()
    assert story.told[-1] == ("rollback", None)  # not before the return is back
    story.episodes(100, 100, 100, 100)
    story.look()
    assert story.told[-1] == ("grow", "running")
    assert story.life._trials.now.before == [100.0] * 4
    story.episodes(95, 95, 95, 95)  # the most that is tolerated of 100, though more than twice the mean of all
    story.look()
    assert story.told[2] == ("grow", "kept")
    assert story.life._trials.now.before == [95.0] * 4


def test_where_a_rollback_does_not_bring_the_return_back_the_edit_before_goes_back_too():
    story = Story(trial())
    start = story.units
    for number in range(DEPTH + 2):
        story.episodes(*[100 + number] * 4)
        story.look()
    assert story.units == start + 2 * (DEPTH + 2)
    assert story.told == [("grow", "kept")] * (DEPTH + 1) + [("grow", "running")]
    for back in range(DEPTH + 1):
        story.episodes(10, 10, 10, 10)
        story.look()
        assert story.told[-1] == ("rollback", None)
        assert story.units == start + 2 * (DEPTH + 1 - back)
        assert story.life.edits[-1]["back_to"] == DEPTH + 1 - back
        assert story.life.edits[-1]["reason"] == f"mean return 10 of 4 episodes, {100 + DEPTH + 1 - max(back - 1, 0)} before"
    assert [kind for _, kind in story.told[: DEPTH + 2]] == ["kept"] + ["taken back"] * (DEPTH + 1)
    assert [e["number"] for e in standing(story.life.edits)] == [0]
    assert len(births(story.life.start, story.life.edits)["network.0"]) == story.units == start + 2
    story.episodes(10, 10, 10, 10)
    story.look()
    story.look()
    assert story.told[-1] == ("grow", "running")  # as far as it goes: from here on what there is, is compared with


def test_nothing_goes_back_to_what_was_no_better():
    story = Story(trial())
    for reward in (50, 100):  # before the first edit, and after it
        story.episodes(*[reward] * 4)
        story.look()
    story.episodes(20, 20, 20, 20)
    story.look()
    assert story.told == [("grow", "kept"), ("grow", "taken back"), ("rollback", None)]
    story.episodes(60, 60, 60, 60)  # less than the 100 that were to come back, and yet more than before the first
    story.look()
    story.look()
    assert story.told[3:] == [("grow", "running")]


def test_harm_that_shows_after_the_trial_is_taken_back_and_told():
    story = Story(trial())
    story.episodes(100, 100, 100, 100)
    story.look()
    story.episodes(100, 100, 100, 100)
    story.life._watches[0].rest = 3
    story.look()
    assert story.told == [("grow", "kept")]
    kept = [o["trial"] for o in story.life.take_events().outcomes]
    story.episodes(20, 20, 20, 20)
    story.look()
    story.look()
    assert story.told == [("grow", "kept")]  # the rule rests
    story.look()
    assert story.told == [("grow", "taken back"), ("rollback", None)]
    assert kept + [o["trial"] for o in story.life.take_events().outcomes] == ["kept", "taken back"]
    assert story.life.edits[-1]["reason"] == "mean return 20 of 4 episodes, 100 before"


def test_an_edit_that_is_not_on_trial_does_not_go_back_with_one_that_was():
    late = {**RULE, "interval": 4, "budget": {"edits": 1}}
    story = Story({**trial(), "budget": {"edits": 1}}, late)
    story.episodes(100, 100, 100, 100)
    story.look()
    story.episodes(100, 100, 100, 100)
    for _ in range(3):
        story.look()
    assert story.told == [("grow", "kept"), ("grow", None)]
    story.episodes(1, 1, 1, 1)
    for _ in range(3):
        story.look()
    assert story.told == [("grow", "kept"), ("grow", None)]


@pytest.mark.parametrize(
    "returns, kept, reason",
    [
        ([80, 125], True, ""),
        ([80, 105], False, "mean return 92.5 of 2 episodes, 100 before"),
        ([90], False, "mean return 90 of 1 episodes, 100 before"),
        ([], False, "no episode ended while it was on trial"),
    ],
)
def test_at_the_end_of_a_run_the_returns_that_there_are_decide(returns, kept, reason):
    story = Story(trial())
    story.episodes(100, 100, 100, 100)
    story.look()
    story.episodes(*returns)
    story.look()
    assert story.told == [("grow", "running")]
    story.life.finish(story.step)
    if kept:
        assert story.told == [("grow", "kept")]
    else:
        assert story.told == [("grow", "taken back"), ("rollback", None)]
        assert story.life.edits[-1]["reason"] == reason
    told = list(story.told)
    story.life.finish(story.step)
    assert story.told == told


def test_a_checkpoint_knows_what_can_still_go_back():
    story = Story(trial())
    for _ in range(3):
        story.episodes(100, 100, 100, 100)
        story.look()
    other = Story(trial())
    other.agent.load_state_dict(copy.deepcopy(story.agent.state_dict()))
    other.life.load_state_dict(copy.deepcopy(story.life.state_dict()))
    other.step = story.step
    for each in (story, other):
        for _ in range(3):
            each.episodes(1, 1, 1, 1)
            each.look()
    assert [edit for edit, _ in story.told].count("rollback") == 3
    assert story.told == other.told
    assert same(story.life.state_dict(), other.life.state_dict())
    assert same(story.agent.state_dict(), other.agent.state_dict())
    state = story.life.state_dict()
    del state["trials"]  # as before there was such a thing
    state["edits"][0]["trial"] = "running"
    other.life.load_state_dict(state)
    assert other.life.edits[0]["trial"] == "kept"
