"""The turns that threads take with the interpreter: one setting, several that want a say."""

from __future__ import annotations

import queue
import sys
import threading
import time
from contextlib import ExitStack
from typing import Any

import pytest

import tensor as T
from tensor.jit import compiled
from tensor.utils import turns
from tensor.utils.turns import short_turns


@pytest.fixture(autouse=True)
def nobody_else() -> None:
    """Wait for what other tests have asked for."""
    for _ in range(1000):
        if not turns._wanted:
            return
        time.sleep(0.01)


def interval() -> float:
    return round(sys.getswitchinterval(), 9)


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


def test_turns_are_short_before_the_thread_that_compiles_has_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the interpreter keeps to the length that turns had when the wait began."""
    jobs: queue.LifoQueue[Any] = queue.LifoQueue()
    monkeypatch.setattr(compiled, "_queue", jobs)
    monkeypatch.setattr(compiled, "_worker", threading.current_thread())  # which does not look
    step = compiled.Compiled(lambda x: x * 2)
    step(T.ones(2))
    assert interval() > compiled.GIVE_WAY
    step(T.ones(2))
    assert interval() == compiled.GIVE_WAY
    *_, given = jobs.get_nowait()
    given.close()
    assert interval() > compiled.GIVE_WAY


def test_turns_are_never_made_longer() -> None:
    before = interval()
    with short_turns(60.0), short_turns(60.0):
        assert interval() == before
    with pytest.raises(KeyError), short_turns(1e-4):
        raise KeyError
    assert interval() == before
