"""What a recording is told of the code that runs: all of its own thread's, nothing of others', whoever else is watching."""

from __future__ import annotations

import cProfile
import sys
import threading
import types
from collections.abc import Callable

import pytest

import tensor as T
from tensor.jit import Compiled
from tensor.jit.called import watcher


def fresh(number: int) -> Callable[[], int]:
    """A function whose code never ran before."""
    scope: dict[str, Callable[[], int]] = {}
    exec(compile(f"def f{number}(): return {number}", f"<made {number}>", "exec"), scope)
    return scope[f"f{number}"]


def names(told: list[types.CodeType]) -> set[str]:
    return {code.co_name for code in told if code.co_filename.startswith("<made") and code.co_name != "<module>"}


def test_each_code_of_this_thread_is_told() -> None:
    told: list[types.CodeType] = []
    functions = [fresh(i) for i in range(3)]
    functions[2]()
    look = watcher(told.extend)
    assert look is not None
    for _ in range(4):
        functions[0]()
    (fresh(9) for _ in range(1)).__next__()()
    look.look_away()
    functions[1]()
    look.look()
    look.stop()
    functions[2]()
    assert names(told) == {"f0", "f9"}


def test_code_that_was_told_of_once_is_told_of_at_the_next_watch() -> None:
    function = fresh(1)
    for _ in range(3):
        told: list[types.CodeType] = []
        look = watcher(told.extend)
        assert look is not None
        function()
        look.stop()
        assert names(told) == {"f1"}


def test_other_threads_run_what_they_like() -> None:
    shared, stop, started = fresh(7), threading.Event(), threading.Event()

    def work() -> None:
        number = 100
        while not stop.is_set():
            fresh(number)()
            shared()
            number += 1
            started.set()

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    try:
        for _ in range(20):
            told: list[types.CodeType] = []
            look = watcher(told.extend)
            assert look is not None
            function = Compiled(lambda x: x * 2 + 1, native=False)
            for _ in range(200):
                sum(range(50))
            shared()
            look.stop()
            assert names(told) == {"f7"}
            for _ in range(3):
                assert function(T.ones(2)).tolist() == [3.0, 3.0]
            assert function.hits == 2, function.explain()
    finally:
        stop.set()
        thread.join()


def test_a_recording_beside_a_profile() -> None:
    hidden: list[Callable[[], int]] = [lambda: 3]

    class Reader:
        def __len__(self) -> int:
            return hidden[0]()

    reader = Reader()
    function = Compiled(lambda x: x * len(reader), native=False)
    profile = cProfile.Profile()
    profile.enable()
    try:
        results = [function(T.ones(1)).item() for _ in range(3)]
    finally:
        profile.disable()
    assert results == [3.0, 3.0, 3.0]
    hidden[0] = lambda: 4
    assert function(T.ones(1)).item() == 4.0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is of Python 3.12")
def test_all_tools_taken() -> None:
    monitoring = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
    taken = [tool for tool in (3, 4) if monitoring.get_tool(tool) is None]
    for tool in taken:
        monitoring.use_tool_id(tool, "test")
    try:
        assert watcher(lambda codes: None) is None
        function = Compiled(lambda x: x + 1, native=False)
        assert [function(T.ones(1)).item() for _ in range(3)] == [2.0, 2.0, 2.0]
        assert function.hits == 2
    finally:
        for tool in taken:
            monitoring.free_tool_id(tool)
