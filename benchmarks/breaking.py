"""What breaks things for `faults.py`: processes that are killed, and two machines with a cable that can be pulled.

The two are network namespaces (root, and ``ip`` of iproute2); a process of `start` enters one by `enter`.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

APART = multiprocessing.get_context("forkserver")
APART.set_forkserver_preload(["envs.streams", "envs.remote"])
Counts = dict[str, int]
HERE, THERE = f"faults-{os.getpid()}-a", f"faults-{os.getpid()}-b"


def check(holds: bool, told: object) -> None:
    if not holds:
        raise AssertionError(told)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        check(time.monotonic() < end, "nothing came in time")
        time.sleep(0.002)


def enter(namespace: str | None) -> None:
    """Into a network namespace; os.setns came with Python 3.12."""
    if namespace is not None:
        with Path(f"/var/run/netns/{namespace}").open() as file:
            check(ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0x40000000) == 0, f"setns {namespace}")


def start(target: Callable[..., None], *arguments: Any) -> Any:
    process = APART.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def kill(process: Any) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def network(on: bool) -> None:
    subprocess.run(["ip", "-n", HERE, "link", "set", "va", "up" if on else "down"], check=True)


def lay_cable() -> None:
    """Two machines, as the kernel sees it, and a cable."""
    for text in (
        f"netns add {HERE}", f"netns add {THERE}", f"link add va netns {HERE} type veth peer name vb netns {THERE}",
        f"-n {HERE} addr add 10.77.0.1/24 dev va", f"-n {THERE} addr add 10.77.0.2/24 dev vb",
        f"-n {HERE} link set va up", f"-n {THERE} link set vb up", f"-n {HERE} link set lo up", f"-n {THERE} link set lo up",
    ):  # fmt: skip
        subprocess.run(["ip", *text.split()], check=True)


def remove_cable() -> None:
    for name in (HERE, THERE):
        subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)
