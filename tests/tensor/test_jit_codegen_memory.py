"""Machine code that no program uses any more gives its memory back, and what anybody may still call stays."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensor as T
from tensor.jit.codegen import available, compile_program, host, image
from tensor.jit.codegen.kernel import Code
from tensor.jit.codegen.objects import Objects
from tensor.jit.compiled import KEPT
from tensor.jit.program import Buffer, Elementwise, Literal, Program, contiguous

pytestmark = pytest.mark.skipif(not available(), reason="llvmlite is not installed")
images_only = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="counts the memory of images, which are of x86-64 and ELF"
)

PAGE = 4096


@pytest.fixture(params=[0, 8 * PAGE])
def unused(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """How much code may stay that no program uses."""
    monkeypatch.setattr(host, "MOST_UNUSED", request.param)
    yield request.param
    host.forget_unused()


def times(factor: float, count: int = 8) -> tuple[Any, Any]:
    """A program that multiplies, and its arrays."""
    buffers = tuple(Buffer(i, np.dtype("f4"), count, "external") for i in range(2))
    x, y = (contiguous(buffer, (count,)) for buffer in buffers)
    program = Program(buffers, (Elementwise("multiply", y, (x, Literal(factor))),))
    return compile_program(program), [np.arange(count, dtype="f4"), np.zeros(count, "f4")]


def is_times(factor: float, compiled: Any, arrays: Any) -> bool:
    compiled.run(arrays, [])
    return bool((arrays[1] == arrays[0] * np.float32(factor)).all())


@images_only
def test_thousands_of_functions_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused: int) -> None:
    """Each found on disk, so that no time goes into compiling them."""
    compiled, arrays = times(0.5)
    store = Objects(tmp_path, "")
    monkeypatch.setattr(host.objects, "_current", store)
    text = "define void @idle(ptr %a0) {\nentry:\n  ret void\n}"
    made = image.images(host._generated([Code("idle", text, (), ())], 1, movable=True))["idle"]
    for n in range(3000):
        store.put(f"k{n}", made)
    host.forget_unused()
    gc.collect()
    before, most, held = image.resident(), 0, deque[Any](maxlen=10)
    for n in range(3000):
        held.append(host.compiled([Code(f"k{n}", "", (), ())]))
        most = max(most, image.resident() - before)
    assert most <= (10 + 2) * PAGE + unused
    held.clear()
    assert image.resident() - before <= unused
    assert is_times(0.5, compiled, arrays)


@images_only
def test_programs_through_a_small_cache(unused: int) -> None:
    host.forget_unused()
    gc.collect()
    before, held = image.resident(), deque[Any](maxlen=5)
    for n in range(100):
        held.append((n + 0.25, *times(n + 0.25)))
        assert all(is_times(*each) for each in held)
        assert image.resident() - before <= (5 + 2) * 2 * PAGE + unused


def test_what_one_program_leaves_another_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "MOST_UNUSED", 0)
    first, arrays = times(3.5)
    second, _ = times(3.5)
    mine = weakref.ref(next(each for name, each in host._finished.items() if name in names_of(first)))
    del first
    gc.collect()
    assert is_times(3.5, second, arrays)
    assert mine() is not None
    del second
    gc.collect()
    assert mine() is None
    third, _ = times(3.5)  # made again
    assert is_times(3.5, third, arrays)


def names_of(compiled: Any) -> set[str]:
    """The functions that a program's entry holds."""
    (finished,) = (each for each in compiled.run.__self__.kept if isinstance(each, dict))
    return set(finished)


def test_by_llvms_own_linker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "MOST_UNUSED", 0)
    monkeypatch.setattr(image, "SUPPORTED", False)
    held = deque[Any](maxlen=3)
    for n in range(20):
        held.append((n + 0.75, *times(n + 0.75)))
        assert all(is_times(*each) for each in held)
    alive = {name for name in host._finished if name in {n for _, compiled, _ in held for n in names_of(compiled)}}
    assert len(alive) == 4  # three kernels and the entry that they share
    held.clear()
    gc.collect()
    assert not alive & set(host._finished)


@images_only
def test_a_function_of_many_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "MOST_UNUSED", 0)
    T.compile.reset()  # what other functions keep may serve this one, too: its own code would be less at first
    host.forget_unused()
    gc.collect()

    @T.compile
    def f(x: T.Tensor) -> T.Tensor:
        return (x @ x.mT).tanh() * 2 + x.sum().cos()  # a product's code is for its sizes

    def use(n: int) -> None:
        for _ in range(2):
            f(T.ones(3, n))
        f.hasten()
        f.wait()
        assert f.native
        np.testing.assert_allclose(f(T.ones(3, n)).numpy(), 2 * np.tanh(n) + np.cos(3 * n), rtol=1e-5)

    sizes = []
    for n in range(1, 2 * KEPT):
        use(n)
        gc.collect()
        sizes.append(image.resident())
    assert max(sizes[KEPT + 2 :]) <= max(sizes[: KEPT + 2]) + 2 * PAGE
    assert sizes[KEPT] - sizes[0] > KEPT // 2 * PAGE
    f.reset()
    gc.collect()
    assert image.resident() <= sizes[0]


THREADS = """
import random, sys, threading
sys.path.insert(0, sys.argv[1])
from test_jit_codegen_memory import host, is_times, times

host.MOST_UNUSED = 0
shared, wrong, made = {n: (n, *times(n)) for n in range(4)}, [], iter(range(100, 160))
locks = {n: threading.Lock() for n in range(4)}
replacing = [threading.Thread(target=lambda: replace()) for _ in range(2)]

def call():
    while any(each.is_alive() for each in replacing):
        n = random.randrange(4)
        with locks[n]:  # arrays and temporaries serve one run at a time
            factor, compiled, arrays = shared[n]
            if not is_times(factor, compiled, arrays):
                wrong.append(factor)

def replace():
    for n in made:
        shared[n % 4] = (n, *times(n, 8 + n % 5))

sys.setswitchinterval(1e-5)
threads = [*replacing, *(threading.Thread(target=call) for _ in range(3))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(wrong), next(made, None))
"""


def test_no_call_after_its_code_is_gone() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", THREADS, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (["0", "None"], "")
