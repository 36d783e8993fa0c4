"""What breaks between a learner and a sensor or a remote environment: a try of each of `benchmarks/faults.py`."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.streams import open_stream, publish

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def faults() -> Any:
    sys.path.insert(0, str(BENCHMARKS))  # its processes import it by its name
    try:
        yield importlib.import_module("faults")
    finally:
        sys.path.remove(str(BENCHMARKS))


QUICK = (
    "publisher_killed", "subscriber_killed", "slow_subscriber", "reordered_and_duplicated", "clock_jumps", "truncated",
    "wrong_schema", "garbage_at_the_port", "wrong_key",
)  # fmt: skip
#: Of `remote_faults.py`.
REMOTE = ("server_killed", "server_gone", "client_killed", "connection_broken")
CABLED = ("cable_pulled", "server_killed_behind_a_cut")


@pytest.mark.parametrize("name", QUICK)
def test_nothing_is_lost_in_silence(faults: Any, name: str) -> None:
    counts = faults.FAULTS[name](random.Random(1))
    assert counts["received"] > 0


@pytest.mark.parametrize("name", REMOTE)
def test_no_step_is_lost_doubled_or_made_up(faults: Any, name: str) -> None:
    counts = faults.FAULTS[name](random.Random(1))
    assert counts["steps answered"] > 0


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces need root and iproute2")
@pytest.mark.parametrize("name, answered", [("network_cut", "received"), ("server_killed_behind_a_cut", "steps answered")])
def test_a_network_that_is_cut(faults: Any, name: str, answered: str) -> None:
    result = faults.run(name, 1)
    assert result["failed"] == 0, result
    assert result[answered] > 0


def test_fuzzed_frames(faults: Any) -> None:
    assert faults.fuzz(20_000)["rejected"] > 15_000


def test_every_fault_is_tried(faults: Any) -> None:
    assert set(faults.FAULTS) == {*QUICK, "network_cut", *REMOTE, *CABLED}


def test_what_is_larger_than_allowed_cuts_the_connection_and_is_told() -> None:
    with publish("zmq+tcp://127.0.0.1:0") as publisher, open_stream(publisher.uri, timeout=10, max_bytes=10_000) as stream:
        assert publisher.wait_for_subscriber()
        publisher.send("a", 0.0)
        assert next(stream).lost == 0
        publisher.send("a", np.zeros(100_000))
        while (sample := stream.poll(0.02)) is None:
            publisher.send("a", 0.0)
        assert sample.lost >= 1
        assert stream.disconnects == 1


def test_a_busy_subscriber_is_waited_for() -> None:
    """What was sent last arrives, though its publisher has gone before it was read."""
    publisher = publish("zmq+tcp://127.0.0.1:0", block=True)
    with open_stream(publisher.uri, timeout=5, high_water=10) as stream:
        assert publisher.wait_for_subscriber()
        for i in range(300):
            publisher.send("a", np.full(5000, i))
        leaving = threading.Thread(target=publisher.drain)
        leaving.start()
        time.sleep(0.2)
        got = [int(next(stream).value[0]) for _ in range(300)]
        leaving.join()
    assert got == list(range(300))
