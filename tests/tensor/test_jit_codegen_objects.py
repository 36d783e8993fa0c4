"""Machine code kept on disk: found again by another process, and never trusted when damaged."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tensor.jit.codegen import available
from tensor.jit.codegen.objects import Objects, current, default_directory, use

STEP = """
import sys
from pathlib import Path
import numpy as np
from tensor.jit.codegen import compile_program, entry, host, kernel, keep_on_disk, llvm, loops
from tensor.jit.program import Buffer, Elementwise, Literal, Program, contiguous

host.use_disk(Path(sys.argv[1]))
written = []
finish = kernel.finish
for module in (loops, entry):
    module.finish = lambda *args: written.append(args) or finish(*args)
buffers = tuple(Buffer(i, np.dtype("f4"), 100, "external") for i in range(2))
x, y = (contiguous(buffer, (100,)) for buffer in buffers)
arrays = [np.linspace(0, 1, 100).astype("f4"), np.zeros(100, "f4")]
program = Program(buffers, (Elementwise("exp", y, (x,)), Elementwise("sin", y, (y,))))
compiled = [0]
make = llvm.Generator.object
llvm.Generator.object = lambda self, text: compiled.__setitem__(0, compiled[0] + 1) or make(self, text)
compile_program(program).run(arrays, [])
np.testing.assert_allclose(arrays[1], np.sin(np.exp(arrays[0])), rtol=1e-6)
print(compiled[0], len(written))
keep_on_disk()
"""


@pytest.mark.skipif(not available(), reason="llvmlite is not installed")
def test_another_process_compiles_nothing_and_damage_is_repaired(tmp_path: Path) -> None:
    def run() -> list[int]:
        done = subprocess.run([sys.executable, "-c", STEP, str(tmp_path)], capture_output=True, text=True, check=True)
        return list(map(int, done.stdout.split()))

    assert run() == [2, 2]  # the kernel and its entry
    assert run() == [0, 1]  # the entry only, to which the program says what it needs
    first, second = sorted(tmp_path.glob("k*.o"))
    (program,) = tmp_path.glob("p*.o")
    first.write_bytes(first.read_bytes()[:-1] + b"?")
    second.write_bytes(second.read_bytes()[:50])
    assert run() == [2, 2]
    assert run() == [0, 1]
    program.write_bytes(program.read_bytes()[:-1])
    assert run() == [0, 2]
    assert run() == [0, 1]
    first.unlink()
    assert run()[0] == 1  # what a program names is not taken for there
    assert run() == [0, 1]


def test_only_what_was_made_alike_is_found(tmp_path: Path) -> None:
    objects = Objects(tmp_path / "deep" / "down", "this processor")
    assert objects.get("k1") is None
    objects.put("k1", b"code")
    assert objects.get("k1") == b"code"
    assert Objects(tmp_path / "deep" / "down", "another").get("k1") is None
    (file,) = (tmp_path / "deep" / "down").iterdir()
    file.rename(file.with_name(file.name.replace("k1", "k2")))
    assert objects.get("k2") is None


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    objects = Objects(tmp_path / "file", "")
    objects.put("k1", b"code")
    assert objects.get("k1") is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="of POSIX systems")
def test_a_place_that_others_may_write_into_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    use(shared, "tag")
    assert current() is None
    assert f"machine code is not kept in {shared}, which others may write into" in caplog.text


def test_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLCORE_CACHE", str(tmp_path))
    assert default_directory() == tmp_path
    monkeypatch.setenv("RLCORE_CACHE", "")
    assert default_directory() is None
    monkeypatch.delenv("RLCORE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert default_directory() == tmp_path / "rlcore" / "kernels"


def test_what_was_used_last_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensor.jit.codegen.objects.MOST_FILES", 2)
    objects = Objects(tmp_path, "")
    for number in range(3):
        objects.put(f"k{number}", b"code")
        os.utime(next(tmp_path.glob(f"k{number}-*")), (number, number))
    assert objects.get("k0") == b"code"
    for number in range(3, 300):
        objects.put(f"k{number}", b"code")
        os.utime(next(tmp_path.glob(f"k{number}-*")), (number, number))
    assert objects.get("k0") == b"code"
    assert objects.get("k1") is None


def test_the_oldest_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensor.jit.codegen.objects.MOST_FILES", 3)
    objects = Objects(tmp_path, "")
    for number in range(300):
        objects.put(f"k{number}", b"code")
    assert objects.get("k299") == b"code"
    assert objects.get("k0") is None


def test_writers_at_the_same_time(tmp_path: Path) -> None:
    def write() -> None:
        for number in range(20):
            Objects(tmp_path, "").put(f"k{number}", b"code" * number)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [Objects(tmp_path, "").get(f"k{number}") for number in range(20)] == [b"code" * number for number in range(20)]
    assert not list(tmp_path.glob("*.part"))
