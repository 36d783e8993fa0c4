"""Finished functions as images: run where they lie, without LLVM, and refused where anything is not as it should be."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensor.jit.codegen import available, host, image
from tensor.jit.codegen.kernel import Code, Finished, finish
from tensor.jit.codegen.text import Function

pytestmark = pytest.mark.skipif(
    not available() or sys.platform != "linux" or platform.machine() != "x86_64", reason="images are of x86-64 and ELF"
)

STEP = """
import sys
from pathlib import Path
import tensor as T
from tensor.jit import codegen, compiled
from tensor.jit.codegen import llvm

codegen.use_disk(Path(sys.argv[1]))
compiled.codegen.use_disk = lambda directory: None  # the thread does not use another
T.manual_seed(0)
net = T.nn.Sequential(T.nn.Linear(3, 20), T.nn.Tanh(), T.nn.Linear(20, 2))
optimizer = T.optim.Adam(net.parameters(), lr=1e-2)

@T.compile
def step(x):
    optimizer.zero_grad()
    loss = (net(x).sin() ** 2.7).abs().mean() + T.fmod(x, x + 3).lgamma().mean() * 0
    loss.backward()
    optimizer.step()
    return loss.detach()

x = T.randn(5, 3).abs()
losses = []
for _ in range(8):
    losses.append(step(x).item())
    compiled._queue.join()
assert step.plans[0].tier == 1
codegen.keep_on_disk()
print(*losses, bool(llvm._library.cache_info().currsize))
"""


def test_a_process_that_finds_all_on_disk_does_not_load_llvm(tmp_path: Path) -> None:
    def run() -> list[str]:
        return subprocess.run(
            [sys.executable, "-c", STEP, str(tmp_path)], capture_output=True, text=True, check=True
        ).stdout.split()

    first, second = run(), run()
    assert first[-1] == "True"
    assert second[-1] == "False"
    assert second[:-1] == first[:-1]
    for path in tmp_path.glob("k*.o"):  # what programs and steps of optimizers are remembered to want
        path.unlink()
    assert run() == first
    for path in tmp_path.glob("*.o"):
        path.write_bytes(path.read_bytes()[:-1])
    assert run() == first


def written(*lines: str, declared: str = "") -> Code:
    """A function of some lines of LLVM's language."""
    function = Function()
    function.lines = [f"  {line}" for line in lines]
    if declared:
        function.declared.add(declared)
    return finish(function, [], "ptr %a0")


def compiled(*codes: Code) -> bytes:
    """Their object file."""
    return host._generated(codes, 1, movable=True)


def run(function: Finished, x: np.ndarray[Any, Any]) -> None:
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function.address)(x.ctypes.data)


def plus(*numbers: float) -> Code:
    """Adds to eight floats numbers of their own, and takes the cube root of the fourth."""
    return written(
        "%v1 = load <8 x float>, ptr %a0, align 4",
        f"%v2 = fadd <8 x float> %v1, <{', '.join(f'float {n}' for n in numbers)}>",
        "%v3 = extractelement <8 x float> %v2, i64 3",
        "%v4 = call float @cbrtf(float %v3)",
        "%v5 = insertelement <8 x float> %v2, float %v4, i64 3",
        "store <8 x float> %v5, ptr %a0, align 4",
        "ret void",
        declared="declare float @cbrtf(float)",
    )


def jumps(first: int) -> Code:
    """Sets an integer by a table of jumps."""
    targets = " ".join(f"i64 {n}, label %to{n}" for n in range(8))
    cases = [line for n in range(8) for line in (f"to{n}:", f"store i64 {first + n * n}, ptr %a0", "ret void")]
    return written("%v1 = load i64, ptr %a0", f"switch i64 %v1, label %none [ {targets} ]", "none:", "ret void", *cases)


def test_constants_and_c_functions_of_several_functions_in_one_object_file() -> None:
    numbers = [[n + 0.5 for n in range(8)], [3.25 * n for n in range(8)]]
    codes = [plus(*row) for row in numbers]
    made = image.images(compiled(*codes))
    assert set(made) == {code.name for code in codes}
    finished = image.load({**made, "again": made[codes[0].name]})
    for name, row in zip((codes[0].name, codes[1].name, "again"), (*numbers, numbers[0]), strict=True):
        x = np.arange(8, dtype="f4")
        run(finished[name], x)
        expected = np.arange(8, dtype="f4") + np.array(row, "f4")
        expected[3] = np.cbrt(expected[3])
        np.testing.assert_allclose(x, expected, rtol=1e-6)


def test_tables_of_jumps() -> None:
    codes = [jumps(first) for first in (100, 200, 300)]
    made = image.images(compiled(*codes))
    for first, code in zip((100, 200, 300), codes, strict=True):
        finished = image.load({code.name: made[code.name]})
        for n in range(9):
            x = np.array([n])
            run(finished[code.name], x)
            assert x == (first + n * n if n < 8 else n)


def test_what_has_no_image() -> None:
    content = compiled(written("ret void"))
    assert image.images(content)
    assert image.images(content[:200]) == {}
    assert image.images(b"\xcf\xfa\xed\xfe" + content[4:]) == {}
    other = written("store ptr @cbrtf, ptr %a0", "ret void", declared="declare float @cbrtf(float)")  # an address, not a call
    assert image.images(compiled(other)) == {}
    finished = host.compiled([other])[other.name]  # by LLVM's own linker
    x = np.array([0])
    run(finished, x)
    assert x == image.c_function("cbrtf")


def test_a_function_that_this_system_lacks() -> None:
    code = written("call void @no_such_function()", "ret void", declared="declare void @no_such_function()")
    made = image.images(compiled(code))
    assert made
    assert image.load(made) == {}
    with pytest.raises(RuntimeError, match="expected the C function no_such_function, which"):
        host.compiled([code])
