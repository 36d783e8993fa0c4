"""DataLoader with real workers: transport, order, seeds, errors, deaths. No process and no shared memory outlives it."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import data_cases as cases
import numpy as np
import pytest

import tensor as T
from tensor.data import DataLoader, TensorDataset, pool
from tensor.data.memory import Arena, Block, Lender

#: Processes that were below this one when the test began: other tests' leftovers, not ours.
EARLIER: set[int] = set()


def children() -> set[int]:
    """Processes below this one that the test started, but for Python's own helper, which it keeps for as long as it lives."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z" and b"resource_tracker" not in (path / "cmdline").read_bytes():
                found.add(int(path.name))
    return found - EARLIER


def files(directory: str) -> set[str]:
    return {path.name for path in Path(directory).iterdir()}


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    EARLIER.clear()
    EARLIER.update(children())
    shared, descriptors = files("/dev/shm"), files("/proc/self/fd")
    yield
    gc.collect()
    assert children() == set()
    assert files("/dev/shm") <= shared
    # Python's own helper may have been started, with one descriptor; every block would be one more.
    assert len(files("/proc/self/fd")) <= len(descriptors) + 1


def values(batches: Any) -> list[Any]:
    return [[x.tolist() if isinstance(x, T.Tensor) else x for x in batch] for batch in batches]


def test_batches_are_those_of_one_process_in_order() -> None:
    serial = DataLoader(cases.Numbers(23), batch_size=4)
    for workers, persistent in ((2, False), (3, True)):
        loader = DataLoader(
            cases.Numbers(23), batch_size=4, num_workers=workers, persistent_workers=persistent, prefetch_factor=3
        )
        first = list(loader)
        assert [type(x) for x in first[0]] == [T.Tensor, T.Tensor]
        assert [x.dtype for x in first[0]] == [T.float32, T.int64]
        assert values(first) == values(serial)
        assert values(loader) == values(serial)
        assert len(loader) == len(first) == 6
    del loader


def test_a_persistent_pool_is_kept_and_an_abandoned_epoch_is_over() -> None:
    loader = DataLoader(cases.Told(), num_workers=2, persistent_workers=True)
    first = list(loader)
    abandoned = iter(loader)
    next(abandoned)
    again = values(loader)
    pids = {batch[-1][0] for batch in again}
    assert pids == {batch[-1].item() for batch in first} == children()
    with pytest.raises(RuntimeError, match="DataLoader: this iterator is over, a newer one has taken its persistent workers"):
        next(abandoned)
    assert [batch[:5] for batch in again] == [[[i], [i % 2], [2], [True], ("1",)] for i in range(4)]
    seeds = [batch[5][0] for batch in values(first)]
    assert seeds[0] + 1 == seeds[1] == seeds[3]
    del loader, abandoned
    assert (
        len(list(iter(DataLoader(cases.Numbers(4), num_workers=1, persistent_workers=True)))) == 4
    )  # the loader is gone, not they


def test_leaving_a_loop_early_ends_the_workers() -> None:
    for x, _ in DataLoader(cases.Numbers(1000), num_workers=2):
        assert x.shape == (1, 2)
        break
    assert children() == set()


def test_all_kinds_of_values_arrive() -> None:
    loader = DataLoader(cases.Everything(), batch_size=3, num_workers=1, persistent_workers=True)
    (batch,) = loader
    (expected,) = DataLoader(cases.Everything(), batch_size=3)
    assert repr(batch) == repr(expected)
    assert batch["name"] == ["sample 0", "sample 1", "sample 2"]
    assert batch["none"].shape == (3, 0, 3)
    del loader
    (odd,) = DataLoader(cases.Everything(), batch_size=3, num_workers=1, collate_fn=cases.odd_batch)
    expected = cases.odd_batch([0, 1, 2])
    for name, value in expected.items():
        assert repr(odd[name]) == repr(value), name
    assert odd["gradient"].requires_grad


def test_large_batches_are_lent_and_never_overwritten() -> None:
    held, addresses = [], set()
    loader = DataLoader(cases.Wide(), batch_size=2, num_workers=2, persistent_workers=True)
    for batch in loader:
        held += [batch[1, 5]]  # a view alone keeps its batch's memory
    assert [int(v[0].item()) for v in held] == list(range(1, 24, 2))
    for _ in range(2):
        for i, batch in enumerate(loader):
            batch += 1  # it is the holder's own
            assert batch.numpy().min() == batch.numpy().max() or i * 2 + 1 == batch[0, 0, 0].item()
            addresses.add(batch.data_ptr())
            del batch
    assert len(addresses) < 24  # the same blocks again and again
    assert [int(v[0].item()) for v in held] == list(range(1, 24, 2))
    del loader
    gc.collect()
    assert [int(v[255].item()) for v in held] == list(range(1, 24, 2))  # also after the workers are gone


def test_a_block_is_free_when_the_last_view_is_gone() -> None:
    arena, blocks = Arena(), [Block(), Block(), Block()]
    lender = Lender(blocks, spare=1)

    def batch(fill: int) -> Any:
        number = lender.take()
        arena.begin(Block(os.dup(blocks[number].descriptor)))
        packed = arena.pack(T.full((1 << 16,), fill))
        size, used = arena._block.size, arena.used
        arena._block.close()
        return lender.open(number, packed, size, used), number

    (first, a), (second, _) = batch(1), batch(2)
    assert first.numpy().base is not None  # lent
    assert second.numpy().base is None  # one is lent already: a copy
    view = first[10:20]
    del first
    assert {batch(3)[1], batch(4)[1], batch(5)[1]} == {0, 1, 2} - {a}
    assert view.tolist() == [1] * 10
    del view
    assert a in {batch(6)[1] for _ in range(3)} | {batch(7)[1]}
    assert second.numpy().max() == 2
    for block in blocks:
        block.close()


def test_a_tensor_dataset_is_shared_with_the_workers() -> None:
    x = np.arange(200_000, dtype=np.float32).reshape(-1, 4)
    dataset = TensorDataset(x, np.arange(len(x)))
    loader = DataLoader(dataset, batch_size=1000, shuffle=True, num_workers=2)
    rows = [(batch[0].numpy(), batch[1].numpy()) for batch in loader]
    assert sorted(np.concatenate([y for _, y in rows]).tolist()) == list(range(len(x)))
    assert all((a == x[y]).all() for a, y in rows)


def test_seeds_make_epochs_that_do_not_depend_on_the_workers() -> None:
    def epochs(workers: int, **options: Any) -> Any:
        generator = T.Generator().manual_seed(7)
        loader = DataLoader(cases.Draws(), 2, True, num_workers=workers, generator=generator, **options)
        return [values(loader), values(loader)]

    two = epochs(2, persistent_workers=True)
    assert two == epochs(1, persistent_workers=True)
    assert two[0] != two[1]
    drawn = [tuple(row) for epoch in two for batch in epoch for row in zip(*batch[1:3], strict=True)]
    assert len(set(drawn)) == 24
    seeded = epochs(1, worker_init_fn=cases.seed_numpy, persistent_workers=True)
    rng = np.random.RandomState(0)
    assert [v for epoch in seeded for batch in epoch for v in batch[2]] == [rng.random() for _ in range(24)]
    assert [batch[:2] for batch in seeded[0]] == [batch[:2] for batch in two[0]]


def test_resume_in_the_middle_goes_on_exactly() -> None:
    def make(count: int = 2) -> DataLoader[Any]:
        generator = T.Generator().manual_seed(3)
        return DataLoader(cases.Draws(), 2, True, num_workers=count, generator=generator, persistent_workers=True)

    loader = make()
    list(loader)
    batches = iter(loader)
    next(batches), next(batches), next(batches)
    state = pickle.loads(pickle.dumps(loader.state_dict()))
    rest = [values(batches), values(loader)]
    assert [len(epoch) for epoch in rest] == [3, 6]
    del batches, loader
    for workers in (2, 1):  # by other workers too
        again = make(workers)
        again.load_state_dict(state)
        assert [values(again), values(again)] == rest


def test_resume_of_a_stream() -> None:
    def make(dataset: Any) -> DataLoader[Any]:
        generator = T.Generator().manual_seed(3)
        return DataLoader(dataset, 2, num_workers=2, generator=generator, persistent_workers=True)

    def state_after(loader: DataLoader[Any], batches: int) -> tuple[Any, Any]:
        iterator = iter(loader)
        first = values(itertools.islice(iterator, batches))
        state = pickle.loads(pickle.dumps(loader.state_dict()))
        return state, first + values(iterator)

    # Worker 0 has more: the other's turns are over by batch 7. What is drawn is the same too.
    for taken in (3, 8):
        state, whole = state_after(make(cases.Noisy(11, more=7)), taken)
        again = make(cases.Noisy(11, more=7))
        again.load_state_dict(state)
        assert values(again) == whole[taken:]

    state, whole = state_after(make(cases.Resumable(9)), 3)
    again = make(cases.Resumable(9))
    again.load_state_dict(state)
    resumed = values(again)
    assert [b[0] for b in resumed] == [b[0] for b in whole[3:]]
    assert resumed[0][1] == [1, 2]  # it did not count from the start again
    assert [b[0] for b in values(again)] == [b[0] for b in whole]


def test_streams_share_out_their_samples() -> None:
    loader = DataLoader(cases.Part(10, more=4), batch_size=2, num_workers=2)
    assert [b.tolist() for b in loader] == [[0, 2], [1, 3], [4, 6], [5, 7], [8, 100], [9], [101, 102], [103]]
    loader = DataLoader(cases.Part(5), batch_size=None, num_workers=2)
    assert list(loader) == [0, 1, 2, 3, 4]
    assert [b.tolist() for b in DataLoader(cases.Part(5), 2, drop_last=True, num_workers=1)] == [[0, 1], [2, 3]]


def test_errors_come_with_their_type_and_traceback() -> None:
    batches = iter(DataLoader(cases.Troubled("refuse"), batch_size=4, num_workers=2))
    next(batches)
    with pytest.raises(LookupError, match=r"^sample 5 is bad\n") as caught:
        next(batches)
    (note,) = caught.value.__notes__
    assert note.startswith("Raised in DataLoader worker 1 (pid ")
    assert "in refuse\n" in note
    assert values(batches)[0][1] == [8, 9, 10, 11]  # it goes on, as in one process
    with pytest.raises(RuntimeError, match=r"^Unpicklable: odd\n") as odd:
        list(DataLoader(cases.Troubled("refuse_oddly"), num_workers=1))
    assert "in refuse_oddly\n" in odd.value.__notes__[0]
    with pytest.raises(OSError, match="worker 0 finds no disk"):
        list(DataLoader(cases.Numbers(4), num_workers=1, worker_init_fn=cases.refuse_to_start))


def test_what_cannot_be_pickled_says_so() -> None:
    with pytest.raises(pickle.PicklingError, match=r"DataLoader: what goes to a worker .* must be picklable, but: .*lambda"):
        iter(DataLoader(cases.Numbers(4), num_workers=2, collate_fn=lambda x: x))


@pytest.mark.parametrize(
    "trouble, text",
    [("die", r"worker 1 \(pid \d+\) was killed by signal SIGKILL"), ("leave", r"worker 1 \(pid \d+\) exited with code 3")],
)
def test_a_dead_worker_is_noticed(trouble: str, text: str) -> None:
    loader = DataLoader(cases.Troubled(trouble), batch_size=4, num_workers=2, persistent_workers=True)
    batches = iter(loader)
    next(batches)
    with pytest.raises(RuntimeError, match=f"DataLoader: {text}"):
        next(batches)
    assert children() == set()
    with pytest.raises(RuntimeError, match="DataLoader: the workers have ended, after an error"):
        next(batches)
    loader.dataset.trouble = "__len__"
    assert len(values(loader)) == 3  # a new pool


def test_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_GRACE", 0.2)
    batches = iter(DataLoader(cases.Troubled("sleep"), batch_size=4, num_workers=2, timeout=2))
    next(batches)
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match=r"DataLoader: timed out, no batch from worker 1 \(pid \d+\) in 2 s"):
        next(batches)
    assert time.monotonic() - begun < 15


SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs inherit as ignored
sys.path[:0] = {path!r}
import data_cases
from multiprocessing import active_children
from tensor.data import DataLoader

if __name__ == "__main__":
    loader = DataLoader(data_cases.{dataset}, batch_size=2, num_workers=2)
    for i, batch in enumerate(loader):
        if i == 0:
            print(*(p.pid for p in active_children()), flush=True)
        {then}
"""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize(
    "kill, group, dataset, then",
    [
        (signal.SIGINT, True, "Numbers(10**9)", "pass"),
        (signal.SIGINT, False, "Numbers(10**9)", "time.sleep(60)"),
        (signal.SIGKILL, False, "Wide()", "time.sleep(60)"),
        (signal.SIGKILL, False, "Troubled('sleep')", "pass"),
    ],
    ids=["ctrl-c while waiting", "ctrl-c elsewhere", "killed", "killed while a worker is busy"],
)
def test_nothing_outlives_the_program(tmp_path: Path, kill: int, group: bool, dataset: str, then: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(path=[p for p in sys.path if p], dataset=dataset, then=then))
    program = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with program:
        assert program.stdout is not None
        assert program.stderr is not None
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert len(pids) == 2
        time.sleep(0.2)
        (os.killpg if group else os.kill)(program.pid, kill)
        killed = time.monotonic()
        errors = program.stderr.read()  # its end comes when the workers have closed it too
        program.wait(15)
    if kill == signal.SIGINT:
        assert errors.count("Traceback") == errors.count("KeyboardInterrupt\n") == 1, errors
        assert all(map(gone, pids))
    else:
        assert errors == ""
    while not all(map(gone, pids)) and time.monotonic() < killed + 10:
        time.sleep(0.02)
    assert all(map(gone, pids))
    assert time.monotonic() < killed + 10  # a worker that is busy for 30 s does not wait until it is done
