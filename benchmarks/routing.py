#!/usr/bin/env python3
"""Networks whose path depends on the input: what they learn, and what a batch of trees costs.

    python benchmarks/routing.py [--only copy,parity,trees] [--seeds 0,1,2] [--json FILE]

*Copy*: a Neural Turing machine repeats sequences of 1 to 20 vectors of 8 bits (Graves et al. 2014); shown is the mean number of
wrong bits in a sequence, over 200 sequences that it never saw, at length 20 (of 160) and at length 60 (of 480).

*Parity*: of up to 16 bits, all seen at once (the task of Graves 2016, smaller); a recurrent cell with adaptive computation time
beside the same cell that takes one step, both trained alike. Shown is the share of wrong answers on 10,000 vectors.

*Trees*: a learning step on random binary trees of 15 leaves, for each tree: 32 at a time by `DynamicBatch`, and relative to
PyTorch, which takes one at a time (if it is installed). One thread; the variants take turns. The floor is what NumPy takes for
the arrays alone, of a batch whose grouping is known before.

Results are added to those in the file.
"""

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

import tensor as T  # noqa: E402
from agents.networks import ACT, DynamicBatch, NTMCell  # noqa: E402
from tensor import nn  # noqa: E402

bce = nn.functional.binary_cross_entropy_with_logits


# --- copy ---------------------------------------------------------------------------------------------------------------

BITS = 8


def copy_task(rng: np.random.Generator, length: int, batch: int) -> tuple[Any, Any]:
    """Inputs [steps, batch, bits + 2] with a mark before and after the sequence, and the sequence [length, batch, bits]."""
    x = np.zeros((2 * length + 2, batch, BITS + 2), np.float32)
    bits = rng.integers(0, 2, (length, batch, BITS)).astype(np.float32)
    x[0, :, BITS] = x[length + 1, :, BITS + 1] = 1
    x[1 : length + 1, :, :BITS] = bits
    return T.tensor(x), T.tensor(bits)


def answers(cell: NTMCell, x: Any, length: int, step: Any = None) -> Any:
    """The logits that come after the sequence was seen; by ``step``, the cell compiled, if given."""
    state, outputs, step = cell.initial_state(x.shape[1]), [], cell if step is None else step
    for row in x.unbind(0):
        y, state = step(row, state)
        outputs.append(y)
    return T.stack(outputs[-length:])


def wrong_bits(cell: NTMCell, length: int, sequences: int = 200) -> float:
    """In a sequence, on average."""
    x, bits = copy_task(np.random.default_rng(12345), length, sequences)
    with T.no_grad():
        wrong = (answers(cell, x, length) > 0) != (bits > 0.5)
    return float(wrong.sum().item() / sequences)


def copy(seed: int, sequences: int, batch: int = 8, lr: float = 2e-3) -> dict[str, float]:
    """Train on so many sequences and test."""
    T.manual_seed(seed)
    rng = np.random.default_rng(seed)
    cell = NTMCell(BITS + 2, BITS)
    step = T.compile(cell)
    optimizer = T.optim.Adam(cell.parameters(), lr=lr)
    start = time.process_time()
    for seen in range(0, sequences, batch):
        length = int(rng.integers(1, 21))
        x, bits = copy_task(rng, length, batch)
        loss = bce(answers(cell, x, length, step), bits)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(cell.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = lr * (1 - seen / sequences)
        optimizer.step()
        if seen % 800 == 0:
            print(f"  {seen} sequences: loss {loss.item():.4f}, {wrong_bits(cell, 20, 50):.2f} wrong bits of 160", flush=True)
    cpu = time.process_time() - start
    return {
        "sequences": sequences,
        "wrong bits at 20": wrong_bits(cell, 20),
        "wrong bits at 60": wrong_bits(cell, 60),
        "cpu s": round(cpu, 1),
    }


# --- parity -------------------------------------------------------------------------------------------------------------

PARITY = 16


def parity_task(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
    """Vectors of up to 16 numbers, -1 or 1 and then zeros, and whether the ones are odd in number."""
    signs, count = rng.choice([-1.0, 1.0], (n, PARITY)), rng.integers(1, PARITY + 1, n)
    x = (signs * (np.arange(PARITY) < count[:, None])).astype(np.float32)
    return T.tensor(x), T.tensor(((x == 1).sum(1) % 2).astype(np.float32))


class Thinker(nn.Module):
    """A recurrent cell that takes up to ``most`` steps on a vector, and answers."""

    def __init__(self, most: int, hidden: int = 32) -> None:
        super().__init__()
        self.think = ACT(nn.GRUCell(PARITY + 1, hidden), hidden, most=most, halt_bias=-1.0)
        self.answer = nn.Linear(hidden, 1)

    def forward(self, x: Any) -> tuple[Any, Any]:
        h, _, ponder = self.think(x)
        return self.answer(h).squeeze(-1), ponder


def parity(seed: int, most: int, steps: int, lr: float = 3e-3, cost: float = 1e-3) -> dict[str, float]:
    """Train on batches of 64 and test."""
    T.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Thinker(most)
    optimizer = T.optim.Adam(net.parameters(), lr=lr)
    start = time.process_time()
    for step in range(steps):
        x, y = parity_task(rng, 64)
        logits, ponder = net(x)
        optimizer.zero_grad()
        (bce(logits, y) + cost * ponder.mean()).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        optimizer.step()
    cpu = time.process_time() - start
    x, y = parity_task(np.random.default_rng(12345), 10_000)
    with T.no_grad():
        logits, ponder = net(x)
    error = float(((logits > 0) != (y > 0.5)).float().mean().item())
    return {
        "steps": steps,
        "error": round(error, 5),
        "mean ponder": round(float(ponder.mean().item()), 2),
        "cpu s": round(cpu, 1),
    }


# --- trees --------------------------------------------------------------------------------------------------------------


def random_tree(rng: random.Random, leaves: int) -> Any:
    """Nested pairs of numbers of words."""
    if leaves == 1:
        return rng.randrange(64)
    left = rng.randrange(1, leaves)
    return random_tree(rng, left), random_tree(rng, leaves - left)


def parts(L: Any, hidden: int = 32) -> tuple[Any, ...]:
    """The same layers, optimizer and words in either library."""
    L.manual_seed(0)
    cell, leaf, head = L.nn.Linear(2 * hidden, hidden), L.nn.Linear(8, hidden), L.nn.Linear(hidden, 1)
    optimizer = L.optim.SGD([*cell.parameters(), *leaf.parameters(), *head.parameters()], lr=1e-3)
    words = L.tensor(np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32))
    return cell, leaf, head, optimizer, words


def one_at_a_time(L: Any) -> Callable[[Any], None]:
    """A step on each tree of a batch."""
    cell, leaf, head, optimizer, words = parts(L)
    rows = [words[i : i + 1] for i in range(64)]

    def build(tree: Any) -> Any:
        if isinstance(tree, tuple):
            return L.tanh(cell(L.cat([build(tree[0]), build(tree[1])], 1)))
        return L.tanh(leaf(rows[tree]))

    def steps(trees: Any) -> None:
        for tree in trees:
            optimizer.zero_grad()
            (head(build(tree)) ** 2).mean().backward()
            optimizer.step()

    return steps


def batched() -> Callable[[Any], None]:
    """A step on a batch of trees."""
    cell, leaf, head, optimizer, words = parts(T)
    rows = words.unbind(0)

    def combine(left: Any, right: Any) -> Any:
        return T.tanh(cell(T.cat([left, right], 1)))

    def first(word: Any) -> Any:
        return T.tanh(leaf(word))

    def step(trees: Any) -> None:
        batch = DynamicBatch()

        def build(tree: Any) -> Any:
            return batch(combine, build(tree[0]), build(tree[1])) if isinstance(tree, tuple) else batch(first, rows[tree])

        optimizer.zero_grad()
        (head(batch.run([build(tree) for tree in trees])) ** 2).mean().backward()
        optimizer.step()

    return step


def grouping(trees: Any) -> tuple[Any, list[Any], Any, list[int]]:
    """Of a batch: its words, the places of each level's inputs among all values, those of the roots, and where levels start."""
    words: list[int] = []
    levels: dict[int, list[Any]] = {}

    def note(tree: Any) -> tuple[int, int]:
        if not isinstance(tree, tuple):
            words.append(tree)
            return 0, len(words) - 1
        inputs = note(tree[0]), note(tree[1])
        level = levels.setdefault(max(inputs)[0] + 1, [])
        level.append(inputs)
        return max(inputs)[0] + 1, len(level) - 1

    roots = [note(tree) for tree in trees]
    starts = np.cumsum([0, len(words), *(len(levels[i]) for i in sorted(levels))]).tolist()
    where = [np.array([[starts[a] + i, starts[b] + j] for (a, i), (b, j) in levels[k]]).T.copy() for k in sorted(levels)]
    return np.array(words), where, np.array([starts[k] + i for k, i in roots]), starts


def floor() -> Callable[[Any], None]:
    """A step on a batch that was grouped, in NumPy alone."""
    cell, leaf, head, _, words = parts(T)
    (w, b), (v, c), (u, d) = ([p.detach().numpy() for p in layer.parameters()] for layer in (cell, leaf, head))
    rows = words.numpy()

    def step(grouped: Any) -> None:
        numbers, where, roots, starts = grouped
        x = rows.take(numbers, 0)
        values = np.empty((starts[-1], len(b)), np.float32)
        np.tanh(x.dot(v.T) + c, values[: len(x)])
        pairs = []
        for (left, right), start, end in zip(where, starts[1:], starts[2:], strict=False):
            pairs.append(np.concatenate([values.take(left, 0), values.take(right, 0)], 1))
            np.tanh(pairs[-1].dot(w.T) + b, values[start:end])
        top = values.take(roots, 0)
        g_out = (top.dot(u.T) + d) * (2 / len(roots))
        g_values = np.zeros_like(values)
        g_values[roots] = g_out * u
        slopes = []
        for (left, right), start, end in reversed(list(zip(where, starts[1:], starts[2:], strict=False))):
            slopes.append(g_values[start:end] * (1 - values[start:end] ** 2))
            g_pairs = slopes[-1].dot(w)
            g_values[left] += g_pairs[:, : len(b)]
            g_values[right] += g_pairs[:, len(b) :]
        slope, g_leaf = np.concatenate(slopes), g_values[: len(x)] * (1 - values[: len(x)] ** 2)
        grads = [
            slope.T.dot(np.concatenate(pairs[::-1])),
            slope.sum(0),
            g_leaf.T.dot(x),
            g_leaf.sum(0),
            g_out.T.dot(top),
            g_out.sum(0),
        ]
        for p, g in zip((w, b, v, c, u, d), grads, strict=True):
            p -= 1e-3 * g

    return step


def trees(rounds: int) -> dict[str, float]:
    """Microseconds for a tree, and the median over rounds of ratios within a round."""
    rng = random.Random(0)
    batches = [[random_tree(rng, 15) for _ in range(32)] for _ in range(5)]
    variants = {"one at a time": one_at_a_time(T), "batches of 32": batched(), "NumPy alone, batches of 32": floor()}
    grouped = [grouping(batch) for batch in batches]
    try:
        import torch

        torch.set_num_threads(1)
        variants["PyTorch, one at a time"] = one_at_a_time(torch)
    except ImportError:
        pass
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            start = time.process_time()
            for batch in grouped if name.startswith("NumPy") else batches:
                run(batch)
            times[name].append((time.process_time() - start) / 160 * 1e6)
    result = {f"{name} us": round(statistics.median(t), 1) for name, t in times.items()}
    peer = times.get("PyTorch, one at a time")
    if peer:
        for name in ("one at a time", "batches of 32"):
            result[f"{name}, of PyTorch"] = round(statistics.median(a / b for a, b in zip(times[name], peer, strict=True)), 4)
    return result


def main() -> int:
    """Print the figures; 1 where one is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="copy,parity,trees")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--sequences", type=int, default=30_000)
    parser.add_argument("--steps", type=int, default=16_000, help="of the parity task")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    only, seeds = options.only.split(","), [int(seed) for seed in options.seeds.split(",")]
    result: dict[str, Any] = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    missed = []
    if "copy" in only:
        for seed in seeds:
            run = result.setdefault("copy", {})[f"seed {seed}"] = copy(seed, options.sequences)
            print(run, flush=True)
            missed += ["copy"] * (run["wrong bits at 20"] >= 0.01 or run["wrong bits at 60"] >= 0.6)
    if "parity" in only:
        for seed in seeds:
            pair = {"one step": parity(seed, 1, options.steps), "ACT": parity(seed, 10, options.steps)}
            result.setdefault("parity", {})[f"seed {seed}"] = pair
            print(pair, flush=True)
            missed += ["parity"] * (pair["ACT"]["error"] > pair["one step"]["error"] / 4)
    if "trees" in only:
        result["trees"] = trees(options.rounds)
        print(result["trees"])
        missed += ["trees"] * (result["trees"].get("batches of 32, of PyTorch", 0) > 0.1)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if missed:
        print("missed:", *missed)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
