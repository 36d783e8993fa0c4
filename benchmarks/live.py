#!/usr/bin/env python3
"""A car that learns to drive while it drives: `python benchmarks/live.py [--minutes 10] [--seeds 3]`.

For each seed, `run-agent world car` runs in a process of its own and waits for nobody; `run-agent live stream-ac` drives it
through its sensors, 20 actions a second, and learns meanwhile. A third process listens to the judge. Run it on an idle machine of
two cores: deadlines say as much of the machine as of the code. The figure: `python scripts/plot_live.py`.

Records in ``benchmarks/results/live.json``; about half an hour on two cores: the drives are in real time.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from envs.streams import open_stream  # noqa: E402

RUN_AGENT = (sys.executable, "-c", "import sys; from rlcore.cli import main; sys.exit(main())")
P99_MS, MISSED = 5.0, 0.001
HZ = 20


def start(*arguments: object) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*RUN_AGENT, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT)


class Judge(threading.Thread):
    """Listens to the car: seconds, metres along the road, crashes."""

    def __init__(self, uri: str) -> None:
        super().__init__(daemon=True)
        self.uri, self.rows, self.begun = uri, [], time.monotonic()
        self.ended = threading.Event()

    def run(self) -> None:
        with open_stream(self.uri, topics=["race"]) as stream:
            while not self.ended.is_set():
                sample = stream.poll(0.5)
                if sample is not None:
                    race = sample.value
                    self.rows.append((time.monotonic() - self.begun, float(race["progress"]), int(race["crashes"])))

    def per_interval(self, minutes: float, width: float) -> list[dict[str, float]]:
        """Progress (m) and crashes in each stretch of ``width`` seconds, as figures of a minute."""
        stretches = []
        for k in range(int(minutes * 60 / width)):
            inside = [row for row in self.rows if k * width <= row[0] < (k + 1) * width]
            if len(inside) > 1:
                (_, first, fell), (_, last, more) = inside[0], inside[-1]
                scale = 60 / width
                metres, crashes = round((last - first) * scale, 1), (more - fell) * scale
                stretches.append({"minute": (k + 1) * width / 60, "metres": metres, "crashes": crashes})
        return stretches


def drive(agent: str, seed: int, minutes: float, directory: Path, flags: list[str]) -> dict[str, Any]:
    width = min(60.0, minutes * 6)
    port = 5800 + 2 * seed
    actions = f"zmq+tcp://127.0.0.1:{port}"
    car = start("world", "car", "--publish", "zmq+tcp://127.0.0.1:0", "--actions", actions, "--no-camera")
    try:
        assert car.stdout is not None
        sensors = car.stdout.readline().split()[3].rstrip(",")
        judge = Judge(sensors)
        learner = start(
            "live", agent, "rlcore/CarLive-v0", "--env-args", f"sensors={sensors}", f"actions={actions}", "--hz", HZ,
            "--minutes", minutes, "--seed", seed, "--dir", directory / f"{agent}-{seed}", "--log-seconds", width,
            "--quiet", "--json", *flags,
        )  # fmt: skip
        # Its minutes begin when it is ready, which its first action shows.
        _first_action(sensors)
        judge.begun = time.monotonic()
        judge.start()
        output, _ = learner.communicate()
        judge.ended.set()
        judge.join()
        if learner.returncode:
            sys.exit(f"run-agent live ended with {learner.returncode}")
    finally:
        car.terminate()
        car.wait()
    result = json.loads(output.splitlines()[-1])
    result["drive"] = judge.per_interval(minutes, width)
    return result


def _first_action(sensors: str) -> None:
    """Wait until the car is driven: until its controls are not the safe ones, which it applies by itself."""
    with open_stream(sensors, topics=["controls"]) as stream:
        first = None
        while True:
            sample = stream.poll(1.0)
            if sample is None:
                continue
            now = sample.value.tolist()
            first = now if first is None else first
            if now != first:
                return


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of each drive; in shorter ones a stretch is a tenth of it")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--agent", default="stream-ac")
    parser.add_argument("--priority", action="store_true", help="run-agent live --priority, for a machine with other work")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "live.json")
    arguments = parser.parse_args()
    flags = ["--priority"] if arguments.priority else []
    runs, ticks, missed = [], 0, 0
    with tempfile.TemporaryDirectory() as directory:
        for seed in range(arguments.seeds):
            run = drive(arguments.agent, seed, arguments.minutes, Path(directory), flags)
            for name in ("checkpoint", "env", "intervals"):
                del run[name]
            runs.append(run)
            ticks, missed = ticks + run["ticks"], missed + run["missed"]
            first, last = run["drive"][0], run["drive"][-1]
            print(
                f"seed {seed}: {first['metres']:.0f} m/min in the first stretch, {last['metres']:.0f} in the last; latency p50 "
                f"{run['latency_p50_ms']:.2f} ms, p99 {run['latency_p99_ms']:.2f} ms, highest {run['latency_max_ms']:.1f} ms; "
                f"missed {run['missed']} of {run['ticks']}; lost {run['lost']}",
                flush=True,
            )
    first, last = (statistics.mean(run["drive"][k]["metres"] for run in runs) for k in (0, -1))
    p99, share = max(run["latency_p99_ms"] for run in runs), missed / ticks
    verdicts = {"better": all(r["drive"][-1]["metres"] > r["drive"][0]["metres"] for r in runs), "p99": p99 <= P99_MS,
                "missed": share < MISSED}  # fmt: skip
    print(f"mean {first:.0f} m/min, then {last:.0f}: {'ok' if verdicts['better'] else 'MISSED'}")
    print(f"p99 {p99:.2f} ms, at most {P99_MS}: {'ok' if verdicts['p99'] else 'MISSED'}")
    print(f"missed deadlines {share:.4%}, below {MISSED:.1%}: {'ok' if verdicts['missed'] else 'MISSED'}")
    machine: dict[str, Any] = {
        "python": platform.python_version(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
    }
    told = {"agent": arguments.agent, "hz": HZ, "minutes": arguments.minutes, "priority": arguments.priority}
    figures = {"first": first, "last": last, "p99_ms": p99, "missed_share": share, "reached": verdicts}
    result = {**told, **figures, "runs": runs, "machine": machine}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
