#!/usr/bin/env python3
"""Whether networks go on learning: continual backprop and ReDo beside plain backprop, on tasks that keep changing.

    python benchmarks/plasticity.py [regression] [policy] [digits] [--seeds 30] [--examples 2000000] [--tasks 500] [--json FILE]

*Regression*: the slowly-changing regression of Dohare et al. (Nature 632, 2024): 20 bits, of which 5 are random and one of 15
flips every 10,000 examples; the target is a fixed network of 100 threshold units; learners are a linear one and one of 5 hidden
ReLUs, by SGD, an example at a time. Shown is the squared error before learning from an example. The networks of all seeds lie
side by side on the first axis of their arrays, and a learning step of all is one compiled call. Continual backprop tests units by
`structure.Tester`, which is what `structure.ContinualBackprop` does its own bookkeeping with; new weights are written into
the stacked arrays here. *Policy* is `structure.ContinualBackprop` itself on the same examples, one network at a time.

*Digits*: scikit-learn's digits, 8 x 8, their pixels in another order for each task; one pass over each task in batches of 8.
Shown are the share classified rightly before learning from it, and the share of hidden units that are dormant after the task.

``python benchmarks/plasticity.py --json benchmarks/results/plasticity.json`` records; about twenty minutes on two cores:
*regression* eight, *digits* three.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

import tensor as T  # noqa: E402
from tensor import nn, structure  # noqa: E402
from tensor.structure.activity import measure  # noqa: E402

BITS, FLIPPING, TARGET_UNITS, BETA, EVERY, HIDDEN = 20, 15, 100, 0.7, 10_000, 5
#: For 95 % confidence, with as many seeds as make the mean nearly normal.
SIGMAS = 1.96


def tasks(seed: int) -> Iterator[tuple[Any, Any]]:
    """Bits [10,000, 20] and targets [10,000] of one seed, task after task.

    Weights and biases of the target are 1 or -1. A unit is on where its sum exceeds ``beta (m + 1) - S``: S, the number of
    negative weights, is computed from weights and bias as the authors' program does it, which gives their errors (with the bias
    counted among the weights, as in the text, all errors are a third larger).
    """
    rng = np.random.default_rng(seed)
    weights, bias = rng.choice([-1.0, 1.0], (TARGET_UNITS, BITS)), rng.choice([-1.0, 1.0], TARGET_UNITS)
    out, shift = rng.choice([-1.0, 1.0], TARGET_UNITS), rng.choice([-1.0, 1.0])
    threshold = BETA * (BITS + 1) - (BITS - weights.sum(1) + bias) / 2
    bits = rng.integers(0, 2, FLIPPING)
    while True:
        x = np.concatenate([np.tile(bits, (EVERY, 1)), rng.integers(0, 2, (EVERY, BITS - FLIPPING))], axis=1).astype(np.float32)
        yield x, ((x @ weights.T + bias > threshold) @ out + shift).astype(np.float32)
        bits[rng.integers(FLIPPING)] ^= 1


class Learner(NamedTuple):
    """A way to learn: ``hidden`` units (none: linear), the step size, and the rate at which units start anew."""

    hidden: int
    lr: float
    rate: float = 0.0


LEARNERS = {
    "linear": Learner(0, 0.01),
    "backprop, step size 0.01": Learner(HIDDEN, 0.01),
    "backprop, step size 0.003": Learner(HIDDEN, 0.003),
    "continual backprop, rate 1e-5": Learner(HIDDEN, 0.01, 1e-5),
    "continual backprop, rate 1e-4": Learner(HIDDEN, 0.01, 1e-4),
    "continual backprop, rate 1e-3": Learner(HIDDEN, 0.01, 1e-3),
}
SHOWN = "continual backprop, rate 1e-4"


def start(seed: int, hidden: int) -> nn.Sequential:
    """The network that a seed starts with."""
    T.manual_seed(seed)
    return (
        nn.Sequential(nn.Linear(BITS, hidden), nn.ReLU(), nn.Linear(hidden, 1)) if hidden else nn.Sequential(nn.Linear(BITS, 1))
    )


class Stacked:
    """The networks of several seeds, side by side: weights in [seeds, hidden, bits], and going out [seeds, hidden]."""

    def __init__(self, learner: Learner, seeds: int) -> None:
        self.rng = np.random.default_rng(seeds)
        state, _ = T.func.stack_module_state([start(seed, learner.hidden) for seed in range(seeds)])
        self.params = [
            T.tensor(p.detach().numpy().squeeze(-2 if p.ndim > 2 and p.shape[-2] == 1 else ())) for p in state.values()
        ]
        self.params = [p.requires_grad_() for p in self.params]
        self.optimizer = T.optim.SGD(self.params, lr=learner.lr)
        shape = (seeds, max(learner.hidden, 1))
        self.tester = structure.Tester(shape, learner.rate) if learner.rate else None
        self.mean = np.zeros(shape)
        self.renewed = np.zeros(seeds, int)
        self.step = T.compile(self._step if learner.hidden else self._linear_step)

    def _linear_step(self, x: T.Tensor, y: T.Tensor) -> Any:
        self.optimizer.zero_grad()
        w, b = self.params
        errors = ((w * x).sum(1) + b[:, 0] - y).square()
        errors.sum().backward()
        self.optimizer.step()
        return errors, None

    def _step(self, x: T.Tensor, y: T.Tensor) -> Any:
        self.optimizer.zero_grad()
        w, b, out, shift = self.params
        h = ((w * x.unsqueeze(1)).sum(2) + b).relu()
        errors = ((h * out).sum(1) + shift[:, 0] - y).square()
        errors.sum().backward()
        self.optimizer.step()
        return errors, h

    def learn(self, x: Any, y: Any) -> Any:
        """The errors [seeds] of an example [seeds, bits] each, and a step of learning from it."""
        errors, h = self.step(T.tensor(x), T.tensor(y))
        if self.tester is not None:
            self._renew(h.detach().numpy(), self.tester)
        return errors.detach().numpy()

    def _renew(self, said: Any, tester: structure.Tester) -> None:
        w, b, out, shift = (p.data.numpy() for p in self.params)
        tester.blend(self.mean, said)
        due = tester.update(np.abs(said * out))
        if due is None:
            return
        shift[:, 0] += (due * self.mean / tester.correction * out).sum(1)
        bound = 1 / math.sqrt(BITS)
        w[due] = self.rng.uniform(-bound, bound, (due.sum(), BITS))
        b[due] = self.rng.uniform(-bound, bound, due.sum())
        out[due] = self.mean[due] = 0
        tester.renewed(due)
        self.renewed += due.sum(1)


def stacked_regression(learner: Learner, seeds: int, count: int) -> tuple[Any, Any]:
    """The mean error in each task, [tasks, seeds], and how many units started anew, [seeds]."""
    stacked, streams = Stacked(learner, seeds), [tasks(seed) for seed in range(seeds)]
    errors = np.zeros((count, seeds))
    for task in range(count):
        blocks = [next(stream) for stream in streams]
        xs, ys = np.stack([x for x, _ in blocks], 1), np.stack([y for _, y in blocks], 1)
        for x, y in zip(xs, ys, strict=True):
            errors[task] += stacked.learn(x, y)
    return errors / EVERY, stacked.renewed


def policy_regression(learner: Learner, seeds: int, count: int) -> tuple[Any, Any]:
    """The same with the policy as users have it, one network after the other."""
    errors, renewed = np.zeros((count, seeds)), np.zeros(seeds, int)
    for seed, stream in enumerate(map(tasks, range(seeds))):
        net = start(seed, learner.hidden)
        optimizer = T.optim.SGD(net.parameters(), lr=learner.lr)
        policy = structure.ContinualBackprop(net, optimizer, rate=learner.rate)

        @T.compile
        def step(x: T.Tensor, y: T.Tensor, net: Any = net, optimizer: Any = optimizer) -> T.Tensor:
            optimizer.zero_grad()
            error = (net(x) - y).square().mean()
            error.backward()
            optimizer.step()
            return error

        for task in range(count):
            for x, y in zip(*next(stream), strict=True):
                example = T.tensor(x[None])
                errors[task, seed] += step(example, T.tensor(y)).item()
                policy.step(example)
        renewed[seed] = len(policy.events)
    return errors / EVERY, renewed


def summary(curves: Any, units: Any) -> dict[str, Any]:
    """Of curves [tasks, seeds]: the mean, half the width of its 95 % confidence interval, and both ends."""
    few = max(len(curves) // 10, 1)
    first, last = curves[:few].mean(0), curves[-few:].mean(0)
    return {
        "first": round(float(first.mean()), 4),
        "last": round(float(last.mean()), 4),
        "rise": interval(last - first),
        "units": round(float(np.mean(units)), 1),
        "mean": np.round(curves.mean(1), 4).tolist(),
        "half width": np.round(SIGMAS * curves.std(1, ddof=1) / math.sqrt(curves.shape[1]), 4).tolist()
        if curves.shape[1] > 1
        else [],
    }


def interval(values: Any) -> list[float]:
    """The mean of some values, one a seed, and half the width of its 95 % confidence interval."""
    half = SIGMAS * float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return [round(float(np.mean(values)), 4), round(half, 4)]


Renew = Callable[[Any, Any], Any]
POLICIES: dict[str, Renew] = {
    "backprop": lambda net, optimizer: None,
    "continual backprop": lambda net, optimizer: structure.ContinualBackprop(net, optimizer, rate=1e-4, maturity=100),
    "ReDo": lambda net, optimizer: structure.ReDo(net, optimizer, threshold=0.025, period=1000),
}


def permuted_digits(policy: str, count: int, seed: int) -> tuple[list[float], list[float], int]:
    """The share classified rightly in each task, the share of dormant units after it, and how many units started anew."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels, classes = (digits.data / 16).astype(np.float32), digits.target
    rng = np.random.default_rng(seed)
    T.manual_seed(seed)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = T.optim.Adam(net.parameters(), lr=3e-3)
    renewal = POLICIES[policy](net, optimizer)

    @T.compile
    def step(x: T.Tensor, y: T.Tensor) -> T.Tensor:
        optimizer.zero_grad()
        scores = net(x)
        nn.functional.cross_entropy(scores, y).backward()
        optimizer.step()
        return scores

    right, dormant = [], []
    for _ in range(count):
        order, pixel_order = rng.permutation(len(pixels)), rng.permutation(64)
        total = 0
        for first in range(0, len(order) - 7, 8):
            rows = order[first : first + 8]
            x = T.tensor(pixels[rows][:, pixel_order])
            total += int((step(x, T.tensor(classes[rows])).detach().numpy().argmax(1) == classes[rows]).sum())
            if renewal is not None:
                renewal.step(x)
        right.append(total / (len(order) // 8 * 8))
        sizes = [a.size for a in measure("digits", net, ["0", "2"], T.tensor(pixels[:, pixel_order])).values()]
        dormant.append(float(np.mean([size <= 0.025 * size.mean() for size in sizes])))
    return right, dormant, 0 if renewal is None else sum(event["units"] for event in renewal.events)


def regression(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """All learners on the same examples; whether any misses what was published."""
    count = max(options.examples // EVERY, 2)
    result: dict[str, Any] = {"seeds": options.seeds, "examples": count * EVERY}
    curves = {}
    for name, learner in LEARNERS.items():
        began = time.perf_counter()
        curves[name], units = stacked_regression(learner, options.seeds, count)
        result[name] = shown = {**summary(curves[name], units), "seconds": round(time.perf_counter() - began)}
        print(f"{name:32s}", *(f"{k} {shown[k]}" for k in ("first", "last", "rise", "units", "seconds")), flush=True)
    few = max(count // 10, 1)
    below = interval((curves["linear"] - curves[SHOWN])[-few:].mean(0))
    above = interval((curves["backprop, step size 0.01"] - curves["linear"])[-few:].mean(0))
    result["last tenth"] = {"linear less continual backprop": below, "backprop less linear": above}
    print(f"last tenth: linear less continual backprop {below}, backprop less linear {above}")
    rise, flat = result["backprop, step size 0.01"]["rise"], result[SHOWN]["rise"]
    missed = rise[0] - rise[1] <= 0 or flat[0] - flat[1] > 0 or below[0] - below[1] <= 0
    return result, missed


def policy(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """The policy itself beside the stacked networks: they differ in the draws, and by what a unit says before or after a step."""
    count, seeds = max(options.policy_examples // EVERY, 2), options.policy_seeds
    result: dict[str, Any] = {"seeds": seeds, "examples": count * EVERY}
    curves = {}
    for name, run in {"policy": policy_regression, "stacked": stacked_regression}.items():
        began = time.perf_counter()
        curves[name], units = run(LEARNERS[SHOWN], seeds, count)
        result[name] = shown = {**summary(curves[name], units), "seconds": round(time.perf_counter() - began)}
        print(f"{name:32s}", *(f"{k} {shown[k]}" for k in ("first", "last", "rise", "units", "seconds")), flush=True)
    result["difference"] = interval((curves["policy"] - curves["stacked"]).mean(0))
    print(f"policy less stacked, all tasks: {result['difference']}")
    return result, False


def digits(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """All policies on the same tasks from the same weights; whether any misses its floor."""
    result: dict[str, Any] = {"seeds": options.digit_seeds, "tasks": options.tasks}
    few = max(options.tasks // 5, 1)
    changes = {}
    for policy in POLICIES:
        began = time.perf_counter()
        runs = [permuted_digits(policy, options.tasks, seed) for seed in range(options.digit_seeds)]
        right, dormant = (np.array([run[i] for run in runs]).T for i in (0, 1))
        changes[policy] = right[-few:].mean(0) - right[:few].mean(0)
        result[policy] = {
            "first": np.round(right[:few].mean(0), 4).tolist(),
            "last": np.round(right[-few:].mean(0), 4).tolist(),
            "units": [run[2] for run in runs],
            "right": summary(right, 0),
            "dormant": summary(dormant, 0),
        }
        print(f"{policy:20s} first {few} tasks {result[policy]['first']}, last {few} {result[policy]['last']},", end=" ")
        print(f"dormant at the end {dormant[-few:].mean():.3f}, {result[policy]['units']} units renewed,", end=" ")
        print(f"{time.perf_counter() - began:.0f} s", flush=True)
    return result, bool((changes["backprop"] >= 0).any() or changes["continual backprop"].mean() < 0)


SECTIONS = {"regression": regression, "policy": policy, "digits": digits}


def main() -> int:
    """Print the figures; 1 where a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", metavar="|".join(SECTIONS), help="which to run (default: all)")
    parser.add_argument("--examples", type=int, default=2_000_000)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--policy-examples", type=int, default=100_000)
    parser.add_argument("--policy-seeds", type=int, default=4)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--digit-seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file to write the figures to; what it has of other sections stays")
    options = parser.parse_args()
    if unknown := set(options.only) - set(SECTIONS):
        parser.error(f"expected {' or '.join(SECTIONS)}, got {', '.join(sorted(unknown))}")
    missed = False
    for name in options.only or SECTIONS:
        result, failed = SECTIONS[name](options)
        missed |= failed
        if options.json:
            kept = json.loads(options.json.read_text()) if options.json.exists() else {}
            options.json.write_text(json.dumps({**kept, name: result}) + "\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
