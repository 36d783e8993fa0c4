#!/usr/bin/env python3
"""Networks whose path depends on the input: what they learn, and what a batch of trees costs.

    python benchmarks/routing.py [--only copy,parity,logic,trees] [--seeds 0,1,2] [--json FILE]

*Copy*: a Neural Turing machine repeats sequences of 1 to 20 vectors of 8 bits (Graves et al. 2014); shown is the mean number of
wrong bits in a sequence, over 200 sequences that it never saw, at lengths 20 (of 160 bits), 60 (of 480) and 120 (of 960; its
memory has 128 slots), and where its heads look in one of 60.

*Parity* and *logic*: two tasks of Graves 2016, smaller: the parity of up to 16 bits, all seen at once; and sequences of up to
3 vectors, each of which holds bits and a chain of up to 6 binary gates, and whose first bit is the answer to the vector before. A
recurrent cell with adaptive computation time beside the same cell that takes one step, both trained alike. Shown is the share of
10,000 new sequences with any answer wrong, and how long it thinks by the number of bits or gates.

*Trees*: a learning step on random binary trees of 15 leaves, for each tree: 32 at a time by `DynamicBatch`, and relative to
PyTorch, which takes one at a time (if it is installed). One thread; the variants take turns. The floor is what NumPy takes for
the arrays alone, of a batch whose grouping is known before.

``python benchmarks/routing.py --seeds 0,1,2,3,4,5,6,7,8,9 --json benchmarks/results/routing.json`` records, and adds to what is
there; about half an hour on two cores, and ten minutes with the three seeds it has by itself.
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
from typing import Any, NamedTuple

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


def attention(cell: NTMCell, length: int) -> dict[str, Any]:
    """Where both heads look in each step of a sequence: "slot:weight slot:weight", for weights of at least a twentieth."""
    x, _ = copy_task(np.random.default_rng(12345), length, 1)
    state, seen = cell.initial_state(1), []
    with T.no_grad():
        for row in x.unbind(0):
            _, state = cell(row, state)
            seen.append(state.weights[0].numpy())
    heads = {
        name: [" ".join(f"{slot}:{w[slot]:.2f}" for slot in np.flatnonzero(w >= 0.05)) for w in weights]
        for name, weights in zip(("read", "write"), zip(*seen, strict=True), strict=True)
    }
    return {"length": length, "slots": cell.slots, **heads}


def copy(seed: int, sequences: int, batch: int = 8, lr: float = 4e-3) -> tuple[dict[str, float], dict[str, Any]]:
    """Train on so many sequences and test; the figures, and where the heads of the trained machine look.

    Gradients grow a hundredfold within a step now and then, and are as small as 1e-3 once the task is learnt. Clipped at 0.05,
    and with an epsilon that is more than nothing beside them, the optimizer neither jumps nor wanders then.
    """
    T.manual_seed(seed)
    rng = np.random.default_rng(seed)
    cell = NTMCell(BITS + 2, BITS)
    step = T.compile(cell)
    optimizer = T.optim.Adam(cell.parameters(), lr=lr, eps=3e-5)
    start = time.process_time()
    for seen in range(0, sequences, batch):
        length = int(rng.integers(1, 21))
        x, bits = copy_task(rng, length, batch)
        loss = bce(answers(cell, x, length, step), bits)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(cell.parameters(), 0.05)
        optimizer.param_groups[0]["lr"] = lr * (1 - seen / sequences)
        optimizer.step()
        if seen % 800 == 0:
            print(f"  {seen} sequences: loss {loss.item():.4f}, {wrong_bits(cell, 20, 50):.2f} wrong bits of 160", flush=True)
    cpu = time.process_time() - start
    figures = {
        "sequences": sequences,
        **{f"wrong bits at {length}": wrong_bits(cell, length) for length in (20, 60, 120)},
        "cpu s": round(cpu, 1),
    }
    return figures, attention(cell, 60)


# --- thinking -----------------------------------------------------------------------------------------------------------


class Thinker(nn.Module):
    """A recurrent cell that takes up to ``most`` steps on each vector of a sequence, and answers each."""

    def __init__(self, cell: nn.Module, hidden: int, most: int) -> None:
        super().__init__()
        self.think = ACT(cell, hidden, most=most, halt_bias=-1.0, skip=False)
        self.answer = nn.Linear(hidden, 1)

    def forward(self, x: Any) -> tuple[Any, Any]:
        """Logits and the time taken, [vectors, n], of [vectors, n, features]."""
        state, logits, ponders = None, [], []
        for vectors in x.unbind(0):
            h, state, ponder = self.think(vectors, state)
            logits.append(self.answer(h).squeeze(-1))
            ponders.append(ponder)
        return T.stack(logits), T.stack(ponders)


class Examples(NamedTuple):
    """Of a task: what is seen, the answers, which vectors count, and how hard each is."""

    x: Any  #: [vectors, n, features]
    y: Any  #: [vectors, n]
    counts: Any  #: [vectors, n], 1 or 0
    difficulty: Any  #: [vectors, n]


class Task(NamedTuple):
    """What is to be thought about, and how both nets are trained."""

    draw: Callable[[np.random.Generator, int], Examples]
    cell: Callable[[], nn.Module]
    hidden: int
    most: int
    steps: int
    lr: float
    cost: float


PARITY = 16


def parity_examples(rng: np.random.Generator, n: int) -> Examples:
    """Vectors of up to 16 numbers, -1 or 1 and then zeros, and whether the ones are odd in number."""
    signs, count = rng.choice([-1.0, 1.0], (n, PARITY)), rng.integers(1, PARITY + 1, n)
    x = (signs * (np.arange(PARITY) < count[:, None])).astype(np.float32)
    return Examples(x[None], ((x == 1).sum(1) % 2).astype(np.float32)[None], np.ones((1, n), np.float32), count[None])


VECTORS, GATES = 3, 6
#: What the ten gates of the paper give for the inputs (0, 0), (0, 1), (1, 0), (1, 1).
TABLES = np.array([
    [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 1, 0], [1, 1, 1, 0],
    [0, 0, 0, 1], [1, 0, 0, 1], [1, 1, 0, 1], [1, 0, 1, 1], [0, 1, 1, 1],
])  # fmt: skip


def logic_examples(rng: np.random.Generator, n: int) -> Examples:
    """Sequences of up to 3 vectors: two bits and a chain of up to 6 gates, each of which gets the last two results.

    A vector's first bit is the answer to the one before, which is not shown again.
    """
    x, y = np.zeros((VECTORS, n, 2 + GATES * len(TABLES)), np.float32), np.zeros((VECTORS, n), int)
    used, rows = rng.integers(1, GATES + 1, (VECTORS, n)), np.arange(n)
    for i in range(VECTORS):
        before, now = (y[i - 1] if i else rng.integers(0, 2, n)), rng.integers(0, 2, n)
        x[i, :, 0], x[i, :, 1] = before * (i == 0), now
        for gate, chosen in enumerate(rng.integers(0, len(TABLES), (GATES, n))):
            on = gate < used[i]
            x[i, rows[on], 2 + gate * len(TABLES) + chosen[on]] = 1
            after = np.where(on, TABLES[chosen, 2 * now + before], now)
            before, now = np.where(on, now, before), after
        y[i] = now
    counts = np.arange(VECTORS)[:, None] < rng.integers(1, VECTORS + 1, n)
    return Examples(x, y.astype(np.float32), counts.astype(np.float32), used)


TASKS = {
    "parity": Task(parity_examples, lambda: nn.GRUCell(PARITY + 1, 32), 32, 10, 16_000, 3e-3, 1e-3),
    "logic": Task(logic_examples, lambda: nn.LSTMCell(2 + GATES * len(TABLES) + 1, 48), 48, 6, 16_000, 4e-3, 3e-3),
}


def think(task: Task, seed: int, most: int, steps: int) -> dict[str, Any]:
    """Train on batches of 64 sequences and test; the error is the share of sequences with any answer wrong."""
    T.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Thinker(task.cell(), task.hidden, most)
    optimizer = T.optim.Adam(net.parameters(), lr=task.lr)

    @T.compile
    def learn(x: Any, y: Any, counts: Any) -> None:
        logits, ponder = net(x)
        optimizer.zero_grad()
        (((bce(logits, y, reduction="none") + task.cost * ponder) * counts).sum() / counts.sum()).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    start = time.process_time()
    for step in range(steps):
        examples = task.draw(rng, 64)
        optimizer.param_groups[0]["lr"] = task.lr * (1 - step / steps)
        learn(*map(T.tensor, examples[:3]))
    cpu = time.process_time() - start
    test = task.draw(np.random.default_rng(12345), 10_000)
    with T.no_grad():
        logits, ponder = (values.numpy() for values in net(T.tensor(test.x)))
    counted = test.counts > 0
    wrong = ((logits > 0) != (test.y > 0.5)) & counted
    levels = [counted & (test.difficulty == level) for level in range(1, int(test.difficulty.max()) + 1)]
    return {
        "steps": steps,
        "error": round(float(wrong.any(0).mean()), 5),
        "mean ponder": round(float(ponder[counted].mean()), 2),
        "ponder by difficulty": [round(float(ponder[level].mean()), 2) for level in levels],
        "error by difficulty": [round(float(wrong[level].mean()), 4) for level in levels],
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
    parser.add_argument("--only", default="copy,parity,logic,trees")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--sequences", type=int, default=30_000)
    parser.add_argument("--steps", type=int, help="of parity and logic")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    only, seeds = options.only.split(","), [int(seed) for seed in options.seeds.split(",")]
    result: dict[str, Any] = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    missed = []
    for seed in seeds if "copy" in only else ():
        run, seen = copy(seed, options.sequences)
        result.setdefault("copy", {})[f"seed {seed}"] = run
        if seed == seeds[0]:
            result["attention"] = {"seed": seed, **seen}
        print("copy", run, flush=True)
        missed += ["copy"] * (run["wrong bits at 20"] >= 0.01 or run["wrong bits at 60"] >= 0.6)
    for name, task in TASKS.items():
        for seed in seeds if name in only else ():
            runs = {"one step": 1, "ACT": task.most}
            pair = {run: think(task, seed, most, options.steps or task.steps) for run, most in runs.items()}
            result.setdefault(name, {})[f"seed {seed}"] = pair
            print(name, pair, flush=True)
            missed += [name] * (pair["ACT"]["error"] > pair["one step"]["error"] / 4)
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
