"""Which releases of llvmlite are taken, and what is said of others."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from tensor.jit.codegen import host, llvm

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package llvmlite with a library, whose version is to be written."""
    (tmp_path / "binding").mkdir()
    (tmp_path / "binding" / "libllvmlite.so").touch()
    spec = ModuleSpec("llvmlite", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(llvm, "libraries", llvm.libraries.__wrapped__)
    return tmp_path


@pytest.mark.parametrize("release", ["0.45.0", "0.49.1", "0.50.0"])
def test_known_releases_are_taken(release: str, installed: Path) -> None:
    (installed / "_version.py").write_text(f"version_version = '{release}'\n")
    assert llvm.libraries() == [installed / "binding" / "libllvmlite.so"]
    assert host.available()


@pytest.mark.parametrize(
    "text, got",
    [
        ("version_version = '0.44.0'", "0.44"),
        ("version_version = '0.51.0rc1'", "0.51"),
        ("version_version = '1.0.0'", "1.0"),
        ("version = 'spelt otherwise'", "one that does not say which it is"),
        (None, "one that does not say which it is"),
    ],
)
def test_others_are_left_alone(text: str | None, got: str, installed: Path) -> None:
    if text is not None:
        (installed / "_version.py").write_text(text)
    assert not host.available()
    assert host.why_not() == (
        f"functions are replayed by NumPy: expected a release of llvmlite from 0.45 to 0.50, got {got}; "
        "pip install 'rlcore[compile]'"
    )


def test_a_package_without_its_library(installed: Path) -> None:
    (installed / "_version.py").write_text("version_version = '0.50.0'\n")
    (installed / "binding" / "libllvmlite.so").unlink()
    assert not host.available()
    assert f"expected the library of llvmlite in {installed / 'binding'}, found none" in host.why_not()


def test_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(llvm, "libraries", llvm.libraries.__wrapped__)
    assert not host.available()
    assert "the package llvmlite is not installed" in host.why_not()


def test_the_project_asks_for_the_releases_that_are_known() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (major, first), (_, last) = llvm.KNOWN
    assert extras["compile"] == [f"llvmlite>={major}.{first},<{major}.{last + 1}"]


def test_a_step_is_replayed_without_it_and_that_is_said_once() -> None:
    """In a process of its own, since the thread that compiles asks once."""
    program = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
from tensor.jit.codegen import llvm
llvm.KNOWN = (7, 0), (7, 1)
import tensor as T
double = T.compile(lambda x: x * 2)
print([double(T.ones(1)).item() for _ in range(4)])
double.wait()
triple = T.compile(lambda x: x * 3)
print([triple(T.ones(1)).item() for _ in range(4)])
triple.wait()
print(double.native, triple.native)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert said.count("expected a release of llvmlite from 7.0 to 7.1, got 0.") == 1
    assert "[2.0, 2.0, 2.0, 2.0]" in said
    assert "[3.0, 3.0, 3.0, 3.0]" in said
    assert said.endswith("False False\n")
