"""Functions that are written when they are first called: nobody can tell."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from typing import Any

import pytest

import tensor as T
from tensor.ops import OPERATORS
from tensor.ops.written import parameters, written


def test_parameters_are_those_that_inspect_finds() -> None:
    def every(a: int, /, b: Any, c: float = 1.0, *rest: int, d: str, e: Any = None, **more: Any) -> None: ...

    samples: list[Any] = [every, lambda: 0, lambda x, *y: x, lambda *, k=1: k, T.add, T.nn.functional.linear, sum]
    for function in [*samples, *(op.forward for op in OPERATORS.values() if inspect.isfunction(op.forward))]:
        expected = list(inspect.signature(function).parameters.values())
        assert [(p.name, p.kind, p.default, p.annotation) for p in parameters(function)] == [
            (p.name, p.kind, p.default, p.annotation) for p in expected
        ]


FRESH = """
import inspect, pydoc, tensor as T
from tensor.ops import OPERATORS
before = {n: (str(inspect.signature(op.function)), pydoc.render_doc(op.function)) for n, op in OPERATORS.items()}
assert str(inspect.signature(T.cat)) == "(tensors: 'Sequence[Array]', dim: 'int' = 0) -> 'Array'", inspect.signature(T.cat)
assert str(inspect.signature(T.add)) == "(a: 'Any', b: 'Any', *, alpha: 'float' = 1) -> 'Tensor'", inspect.signature(T.add)
for wrong in (lambda: T.cat(), lambda: T.add(1), lambda: T.cat([], 0, None, None, 1), lambda: T.nn.functional.linear(T.ones(1), wight=1)):
    try:
        wrong()
    except TypeError as e:
        print(e)
for name, op in OPERATORS.items():  # written, whatever they make of this
    try:
        op.function(*[None] * 20)
    except Exception:
        pass
after = {n: (str(inspect.signature(op.function)), pydoc.render_doc(op.function)) for n, op in OPERATORS.items()}
assert before == after
"""


def test_signatures_and_errors_are_the_same_before_the_first_call() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", FRESH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [line.partition(". Did you mean")[0] for line in done.stdout.splitlines()]  # which Python 3.13 adds
    assert said == [
        "cat() missing 1 required positional argument: 'tensors'",
        "add() missing 1 required positional argument: 'b'",
        "cat() takes from 1 to 4 positional arguments but 5 were given",
        "linear() got an unexpected keyword argument 'wight'",
    ]


def test_many_threads_may_make_the_first_call() -> None:
    for _ in range(20):
        started = threading.Barrier(4)
        function = written({"scale": 3}, lambda: ["def call(x, y=2, *, z=1):", "    return scale * x + y + z"])
        found: list[int] = []

        def work(started: Any = started, function: Any = function, found: Any = found) -> None:
            started.wait()
            found.append(function(5, z=4))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert found == [21] * 4
        assert function(1) == 6


def test_a_source_that_fails_says_so_at_every_call() -> None:
    def source() -> list[str]:
        msg = "no source"
        raise LookupError(msg)

    function = written({}, source)
    for _ in range(2):
        with pytest.raises(LookupError, match="no source"):
            function()
