"""Finished functions as images: run where they lie, without LLVM, and refused where anything is not as it should be."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tensor.jit.codegen import available, host, image
from tensor.jit.codegen.kernel import finish
from tensor.jit.codegen.text import Function

pytestmark = pytest.mark.skipif(
    not available() or sys.platform != "linux" or platform.machine() != "x86_64", reason="images are of x86-64 and ELF"
)

STEP = """
import sys
from pathlib import Path
import tensor as T
from tensor.jit import codegen, compiled

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
print(*losses, "llvmlite.binding" in sys.modules)
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


def written(*lines: str, declared: str = "") -> tuple[str, bytes]:
    """A function of some lines of LLVM's language: its name, and its object file."""
    function = Function()
    function.lines = [f"  {line}" for line in lines]
    if declared:
        function.declared.add(declared)
    code = finish(function, [], "ptr %a0")
    return code.name, host._generated([code], host._machine(1, movable=True))


def test_constants_and_c_functions() -> None:
    name, content = written(
        "%v1 = load <8 x float>, ptr %a0, align 4",
        f"%v2 = fadd <8 x float> %v1, <{', '.join(f'float {n}.5' for n in range(8))}>",
        "%v3 = extractelement <8 x float> %v2, i64 3",
        "%v4 = call float @cbrtf(float %v3)",
        "%v5 = insertelement <8 x float> %v2, float %v4, i64 3",
        "store <8 x float> %v5, ptr %a0, align 4",
        "ret void",
        declared="declare float @cbrtf(float)",
    )
    made = image.flat(content, name)
    assert made is not None
    addresses = image.load({name: made, "again": made})
    for each in (name, "again"):
        x = np.arange(8, dtype="f4")
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(addresses[each])(x.ctypes.data)
        expected = 2 * np.arange(8, dtype="f4") + 0.5
        expected[3] = np.cbrt(expected[3])
        np.testing.assert_allclose(x, expected, rtol=1e-6)


def test_what_has_no_image() -> None:
    name, content = written("ret void")
    assert image.flat(content, name) is not None
    assert image.flat(content, "another") is None
    assert image.flat(content[:200], name) is None
    assert image.flat(b"\xcf\xfa\xed\xfe" + content[4:], name) is None


def test_a_function_that_this_system_lacks() -> None:
    name, content = written("call void @no_such_function()", "ret void", declared="declare void @no_such_function()")
    made = image.flat(content, name)
    assert made is not None
    assert image.load({name: made}) == {}
