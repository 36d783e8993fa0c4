"""Every registered agent runs every check."""

import pytest

from agents.checks import CHECKS
from rlcore.registry import AGENTS

OURS = ["dqn", "ppo", "stream-ac", "stream-q", "stream-sarsa"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", OURS)
def test_agent_passes(name, check):
    check(AGENTS.load(name))


def test_all_our_agents_are_checked():
    assert set(OURS) <= set(AGENTS.names())
