"""Every registered agent runs every check."""

import pytest

from agents.checks import CHECKS
from rlcore.registry import AGENTS


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", ["dqn", "ppo"])
def test_agent_passes(name, check):
    check(AGENTS.load(name))


def test_all_our_agents_are_checked():
    assert {"dqn", "ppo"} <= set(AGENTS.names())
