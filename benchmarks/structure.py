#!/usr/bin/env python3
"""Edits of networks that learn: what they cost. What they are good for is `benchmarks/plasticity.py`'s.

    python benchmarks/structure.py [--json FILE]

Planning and applying a growth by 8 units, with Adam's state, and a learning step before and after it; medians of 25.

Units that start anew under a compiled learning step, as continual backprop has them: the edit, the first step after it and the
next ones, a step before all edits and after them, and how often the step was recorded; medians of 40.

The same for streaming agents, in processor time: 300 learning steps, in turn with and without a unit of each network's first
layer that starts anew before them; medians of 8.

``python benchmarks/structure.py --json benchmarks/results/structure.json`` records; about twenty seconds on two cores.
"""

import argparse
import json
import os
import statistics
import sys
import time
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


from gymnasium.spaces import Discrete  # noqa: E402

import tensor as T  # noqa: E402
from agents.checks import OBSERVATION, Driver  # noqa: E402
from agents.stream_ac import StreamAC  # noqa: E402
from agents.stream_q import StreamQ  # noqa: E402
from agents.stream_sarsa import StreamSarsa  # noqa: E402
from tensor import nn, structure  # noqa: E402

#: Sizes of a network, and the milliseconds that an edit of it may take.
EDITS = {(4, 64, 64, 2): 1.0, (100, 900, 900, 100): 5.0, (4, 1000, 1000, 2): 5.0}


def network(sizes: tuple[int, ...], activation: Any) -> nn.Sequential:
    """Linear layers with an activation between."""
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1])


def edit_times(sizes: tuple[int, ...], rounds: int = 25) -> dict[str, float]:
    """Milliseconds of plan, apply, both, and of learning steps before and after."""
    times: dict[str, list[float]] = {name: [] for name in ("plan", "apply", "edit", "step before", "step after")}
    for seed in range(rounds):
        T.manual_seed(seed)
        net, x = network(sizes, nn.Tanh), T.randn(8, sizes[0])
        optimizer = T.optim.Adam(net.parameters())

        def step(net: Any = net, x: Any = x, optimizer: Any = optimizer) -> float:
            start = time.perf_counter()
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
            return time.perf_counter() - start

        step()
        times["step before"].append(min(step() for _ in range(3)))
        start = time.perf_counter()
        edit = structure.grow(net, "2", 8)
        planned = time.perf_counter()
        edit.apply(optimizer)
        done = time.perf_counter()
        times["plan"].append(planned - start)
        times["apply"].append(done - planned)
        times["edit"].append(done - start)
        step()
        times["step after"].append(min(step() for _ in range(3)))
    return {name: round(statistics.median(values) * 1e3, 3) for name, values in times.items()}


def renewal_times(sizes: tuple[int, ...], rounds: int = 40) -> dict[str, float]:
    """Milliseconds of an edit, and of compiled steps around it."""
    T.manual_seed(0)
    net = network(sizes, nn.Tanh)
    optimizer = T.optim.Adam(net.parameters())
    # Of noise, so that there is always something to learn: gradients of almost nothing are slow to compute with.
    batches = cycle([(T.randn(32, sizes[0]), T.randn(32, sizes[-1])) for _ in range(500)])

    @T.compile
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = (net(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    def timed(function: Any, *arguments: Any) -> float:
        start = time.perf_counter()
        function(*arguments)
        return (time.perf_counter() - start) * 1e3

    for _ in range(300):
        step(*next(batches))
        step.wait()
    times: dict[str, list[float]] = {name: [] for name in ("edit", "first step", "next 19")}
    usual = statistics.median(timed(step, *next(batches)) for _ in range(200))
    recorded = step.recorded
    for unit in range(rounds):
        times["edit"].append(timed(lambda unit=unit: structure.reset_units(net, "2", [unit % sizes[2]]).apply(optimizer)))
        after = [timed(step, *next(batches)) for _ in range(20)]
        times["first step"].append(after[0])
        times["next 19"].append(statistics.median(after[1:]))
        for _ in range(100):
            step(*next(batches))
    later = statistics.median(timed(step, *next(batches)) for _ in range(200))
    figures = {name: round(statistics.median(values), 3) for name, values in times.items()}
    return {
        **figures,
        "a step before": round(usual, 4),
        "and after": round(later, 4),
        "recordings": step.recorded - recorded,
        "renewals": rounds,
    }


def streaming_times(agent_class: Any, rounds: int = 8) -> dict[str, float]:
    """Milliseconds of processor time of 300 learning steps, with a renewal before them and without."""
    agent = agent_class(agent_class.Config(), OBSERVATION, Discrete(3), num_envs=3, total_steps=20_000, seed=0)
    driver, own = Driver(agent), agent if agent_class is StreamAC else agent.values
    driver.run(300)
    recorded, times = own._learn._call.recorded, {"steps": [], "with a renewal": []}
    for unit in range(rounds):
        for name, some in times.items():
            start = time.process_time()
            for part in agent.parts().values() if name != "steps" else ():
                structure.reset_units(part.net, "0", [unit]).apply(part.optimizer, *part.followers)
            agent.edited()
            driver.run(100)
            some.append((time.process_time() - start) * 1e3)
    figures = {name: round(statistics.median(some), 1) for name, some in times.items()}
    return {**figures, "recordings": own._learn._call.recorded - recorded, "renewals": rounds}


def main() -> int:
    """Print the figures; 1 where an edit takes longer than it may, or a step that units were renewed under was recorded anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {"edits": {}}
    slow = False
    for sizes, most in EDITS.items():
        times = edit_times(sizes)
        slow |= times["edit"] > most
        result["edits"]["-".join(map(str, sizes))] = times
        print(f"{'-'.join(map(str, sizes)):18s}", *(f"{name} {ms:.2f} ms" for name, ms in times.items()), f"(at most {most})")
    for sizes in ((4, 64, 64, 2), (4, 256, 256, 2)):
        name = "-".join(map(str, sizes))
        result.setdefault("renewals", {})[name] = renewal_times(sizes)
        slow |= result["renewals"][name]["recordings"] > 0
        print(f"{name:18s} renewals:", *(f"{k} {v}" for k, v in result["renewals"][name].items()))
    for agent_class in (StreamQ, StreamSarsa, StreamAC):
        name = agent_class.__name__
        result.setdefault("streaming renewals", {})[name] = streaming_times(agent_class)
        slow |= result["streaming renewals"][name]["recordings"] > 0
        print(f"{name:18s} renewals:", *(f"{k} {v}" for k, v in result["streaming renewals"][name].items()))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
