"""For all tests: machine code is kept in a directory of this run's own, not in the user's."""

from __future__ import annotations

import os
import tempfile


def pytest_configure() -> None:
    os.environ.setdefault("RLCORE_CACHE", tempfile.mkdtemp(prefix="rlcore-tests-"))
