from __future__ import annotations

import subprocess
import sys

import pytest

import rlcore


@pytest.mark.parametrize("name", rlcore.__all__)
def test_every_exported_name_exists(name):
    assert getattr(rlcore, name).__module__.startswith("rlcore.")
    assert name in dir(rlcore)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        _ = rlcore.nothing


def test_importing_rlcore_and_the_help_import_nothing_heavy(environment):
    code = "import sys, rlcore, rlcore.cli; rlcore.cli.main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"numpy", "gymnasium", "tyro", "rich", "safetensors", "importlib.metadata"}
