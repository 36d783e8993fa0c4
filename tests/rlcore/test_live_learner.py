"""The queue between the acting thread and the learner's: what is dropped, what follows on what, and when is saved."""

from __future__ import annotations

import sys
import time

import pytest

from rlcore.live import Learner


class Notes:
    """Learns nothing, and remembers what it was told."""

    def __init__(self):
        self.told = []

    def observe(self, number):
        self.told.append(number)

    def learn(self):
        return None

    def interrupt(self):
        self.told.append("gap")

    def state_dict(self):
        return list(self.told)


def kept(agent, capacity=1000, **options):
    saved = []
    learner = Learner(agent, capacity=capacity, save=lambda state, beside: saved.append((state, beside)), **options)
    return learner, saved


def test_a_step_dropped_while_the_learner_is_quiet_is_not_missed_by_it(monkeypatch):
    learner, _ = kept(Notes(), capacity=1)

    def while_quiet(seconds):
        learner._drop()  # what the acting thread does where the queue is full
        learner.run_until(float("inf"))

    monkeypatch.setattr(time, "sleep", while_quiet)
    learner.give((1,))
    learner.run_until(0.0)
    learner._work()
    assert (learner.backlog, learner.learnt, learner.lost) == (0, 0, 1)
    learner.give((2,))
    learner._work()
    assert learner._agent.told == ["gap", 2]


@pytest.mark.parametrize("capacity", [1, 2, 7])
def test_no_step_follows_on_one_that_was_lost(capacity):
    agent = Notes()
    learner, saved = kept(agent, capacity)
    learner.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(1, 20_001):
            learner.give((number,))
            if number % 5000 == 0:
                learner.request_save(number)
    finally:
        sys.setswitchinterval(interval)
    learner.stop()
    assert learner.error is None
    numbers = [n for n in agent.told if n != "gap"]
    assert (learner.learnt, learner.learnt + learner.lost) == (len(numbers), 20_000)
    assert numbers[-1] == 20_000
    expected = []
    for number in numbers:
        before = next((n for n in reversed(expected) if n != "gap"), 0)
        expected += ["gap", number] if number != before + 1 else [number]
    assert agent.told == expected
    for state, number in saved:
        assert max(n for n in state if n != "gap") <= number
    assert [number for _, number in saved] == [5000, 10_000, 15_000, 20_000]


def test_a_checkpoint_is_of_the_step_at_which_it_was_asked_for():
    learner, saved = kept(Notes())
    learner.run_until(0.0)
    learner.start()
    for number in range(1, 10):
        learner.give((number,))
        if number in (3, 7):
            learner.request_save(number)
    learner.gap()
    learner.request_save("end")
    learner.stop()
    assert [(len(state), beside) for state, beside in saved] == [(3, 3), (7, 7), (9, "end")]
