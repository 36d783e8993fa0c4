"""`third_party/` is an installed distribution as far as rlcore can tell: entry points and a module on the path."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
THIRD_PARTY = HERE / "third_party"
ROOT = HERE.parents[1]

if str(THIRD_PARTY) not in sys.path:
    sys.path.insert(0, str(THIRD_PARTY))

RunAgent = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment of a process that sees the project and the third party."""
    paths = [str(ROOT), str(THIRD_PARTY)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "100"}


@pytest.fixture
def run_agent(tmp_path: Path, environment: dict[str, str]) -> RunAgent:
    """Run the command line in a process of its own, in an empty directory."""

    def run(*arguments: object, code: str = "") -> subprocess.CompletedProcess[str]:
        program = f"{code}\nimport sys; from rlcore.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", program, *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)

    return run
