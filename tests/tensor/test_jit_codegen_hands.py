"""Compiling in two threads: the same code, and the same errors, as in one."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

import tensor as T
from tensor.jit import compiled
from tensor.jit.codegen import available, host
from tensor.jit.codegen.kernel import Code, finish
from tensor.jit.codegen.text import SCALARS, Function, Lanes

pytestmark = pytest.mark.skipif(not available(), reason="llvmlite is not installed")


def kernels(count: int) -> list[Code]:
    """Some functions of different lengths."""
    made = []
    for n in range(count):
        function = Function()
        v = Lanes(function, next(s for s in SCALARS.values() if s.name == "double"), 4)
        v.store("%a0", 1, v.polynomial(v.load("%a0", 1), [n + 0.5 * k for k in range(2 + 3 * n)]))
        function.do("ret void")
        made.append(finish(function, [], "ptr %a0"))
    return made


def broken() -> Code:
    function = Function()
    function.do("ret nonsense")
    return finish(function, [], "ptr %a0")


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The threads in which code is made."""
    seen: list[str] = []
    make = host._generated

    def generated(*args: Any, **kwargs: Any) -> bytes:
        seen.append(threading.current_thread().name)
        return make(*args, **kwargs)

    monkeypatch.setattr(host, "_generated", generated)
    return seen


@pytest.mark.parametrize("hands", [1, 2])
def test_all_is_made_by_one_hand_or_two(hands: int, threads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_hands", lambda: hands)
    monkeypatch.setattr(host, "MUCH", 100)
    codes = kernels(7)
    made = host._made(codes, codes[0])
    assert set(made) == {code.name for code in codes}
    assert len({function.address for function in made.values()}) == 7
    assert (len(threads), len(set(threads))) == (hands + 1, hands)  # an entry is a piece of its own


def test_shares_are_about_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_hands", lambda: 2)
    codes = kernels(9)
    first, second = host._shares(codes, 0)
    assert {code.name for code in (*first, *second)} == {code.name for code in codes}
    sizes = [sum(len(code.text) for code in share) for share in (first, second)]
    assert max(sizes) < 2 * min(sizes)


@pytest.mark.parametrize("place", [0, 1])
def test_an_error_of_either_hand(place: int, threads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_hands", lambda: 2)
    pieces = [([code], 1) for code in kernels(2)]
    pieces[place] = ([broken()], 1)
    with pytest.raises(RuntimeError, match=r"^codegen: LLVM: ParseAssembly: .*expected"):
        host._generated_at_once(pieces, True)
    assert len(set(threads)) == 2


def test_a_processor_is_left_to_steps_that_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_processors", lambda: 2)
    assert host._hands() == 1
    with host.awaited():
        assert host._hands() == 2
    assert host._hands() == 1
    waited: list[int] = []
    monkeypatch.setattr(compiled, "_queue", SimpleNamespace(join=lambda: waited.append(host._hands())))
    T.compile(lambda x: x).wait()
    assert waited == [2]


def test_where_no_thread_is_to_be_had(threads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: threading.Thread) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    monkeypatch.setattr(host, "_hands", lambda: 2)
    monkeypatch.setattr(threading.Thread, "start", refused)
    codes = kernels(2)
    made = host._generated_at_once([([code], 1) for code in codes], True)
    assert [code.name.encode() in content for code, content in zip(codes, made, strict=True)] == [True, True]
    assert len(set(threads)) == 1
