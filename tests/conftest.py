"""For all tests: machine code is kept in a directory of this run's own, and made for every recording that is used twice."""

from __future__ import annotations

import os
import tempfile

from tensor.jit import compiled


def pytest_configure() -> None:
    os.environ.setdefault("RLCORE_CACHE", tempfile.mkdtemp(prefix="rlcore-tests-"))
    compiled.LATER = 1
