"""The turns that threads take with the interpreter: one setting, several that want a say."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import pytest

from tensor.utils.turns import short_turns


def interval() -> float:
    return pytest.approx(sys.getswitchinterval())


def test_blocks_that_overlap_without_nesting() -> None:
    before = interval()
    first, second = ExitStack(), ExitStack()
    first.enter_context(short_turns(3e-4))
    assert interval() == 3e-4
    second.enter_context(short_turns(1e-4))
    assert interval() == 1e-4
    first.close()
    assert interval() == 1e-4
    first.enter_context(short_turns(3e-4))
    second.close()
    assert interval() == 3e-4
    first.close()
    assert interval() == before


def test_turns_are_never_made_longer() -> None:
    before = interval()
    with short_turns(60.0), short_turns(60.0):
        assert interval() == before
    with pytest.raises(KeyError), short_turns(1e-4):
        raise KeyError
    assert interval() == before
