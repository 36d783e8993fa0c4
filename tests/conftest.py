"""For all tests: machine code is kept in a directory of this run's own, and made for every recording that is used twice."""

from __future__ import annotations

import os
import tempfile

import hypothesis

from tensor.jit import compiled

# Shared machines make single examples slow now and then.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")


def pytest_configure() -> None:
    os.environ.setdefault("RLCORE_CACHE", tempfile.mkdtemp(prefix="rlcore-tests-"))
    compiled.LATER = 1
