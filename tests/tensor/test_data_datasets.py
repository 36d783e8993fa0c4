"""Datasets, samplers, collation, and DataLoader without workers."""

from __future__ import annotations

import collections
import gc
import itertools
import pickle
import random
from collections.abc import Iterator
from typing import Any

import data_cases as cases
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensor as T
from tensor import data as D

Point = collections.namedtuple("Point", "x y")


class Letters(D.Dataset[Any]):
    """A dataset with ``__getitems__``, which counts how it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __len__(self) -> int:
        return 5

    def __getitem__(self, i: int) -> str:
        self.asked.append(i)
        return "abcde"[i]

    def __getitems__(self, indices: Any) -> list[str]:
        self.asked.append(list(indices))
        return ["abcde"[i] for i in indices]


# --- datasets --------------------------------------------------------------------------------------------------------


def test_tensor_dataset_gathers_what_it_would_give_one_by_one() -> None:
    dataset = D.TensorDataset(T.arange(12).reshape(6, 2), np.linspace(0, 1, 6))
    assert len(dataset) == 6
    assert [x.tolist() for x in dataset[-1]] == [[10, 11], 1.0]
    rows = dataset.__getitems__([4, -2, 0])
    assert [[x.tolist() for x in sample] for sample in rows] == [[[8, 9], 0.8], [[8, 9], 0.8], [[0, 1], 0.0]]
    assert len(rows[1:]) == 2
    assert repr(D.default_collate(rows)) == repr(D.default_collate([dataset[i] for i in (4, -2, 0)]))
    for bad in (6, -7):
        with pytest.raises(IndexError, match=f"TensorDataset: index {bad} is out of range for 6 samples"):
            D.default_collate(dataset.__getitems__([0, bad]))
    history = D.TensorDataset(T.ones(3, requires_grad=True))
    assert D.default_collate(history.__getitems__([0, 1]))[0].requires_grad
    with pytest.raises(ValueError, match=r"TensorDataset: expected tensors of one length, got shapes \[\[2\], \[3\]\]"):
        D.TensorDataset(T.ones(2), T.ones(3))
    with pytest.raises(ValueError, match=r"got shapes \[\[\]\]"):
        D.TensorDataset(T.tensor(1.0))


def test_datasets_of_datasets() -> None:
    letters = Letters()
    both = letters + D.Subset(letters, [4, 0])
    assert [both[i] for i in (0, 4, 5, 6, -1, -7)] == ["a", "e", "e", "a", "a", "a"]
    assert len(both) == 7
    for bad in (7, -8):
        with pytest.raises(IndexError, match=f"ConcatDataset: index {bad} is out of range for 7 samples"):
            both[bad]
    letters.asked.clear()
    subset = D.Subset(D.Subset(letters, [4, 3, 2, 1]), [0, 2])
    assert subset.__getitems__([1, 0]) == ["c", "e"]
    assert letters.asked == [[2, 4]]
    pairs = D.StackDataset(letters, D.Subset(range(10), [5, 6, 7, 8, 9]))
    assert pairs[1] == ("b", 6)
    assert pairs.__getitems__([1, 4]) == [("b", 6), ("e", 9)]
    assert D.StackDataset(a=letters, b=range(5)).__getitems__([2]) == [{"a": "c", "b": 2}]
    assert list(cases.Part(2) + cases.Part(1)) == [0, 1, 0]
    assert len(cases.Part(2) + cases.Part(1)) == 3


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: D.ConcatDataset([]), ValueError, "ConcatDataset: expected at least one dataset, got none"),
        (lambda: D.ConcatDataset([iter([])]), TypeError, "ConcatDataset: expected datasets with a length, got list_iterator"),
        (lambda: D.StackDataset([1], [1, 2]), ValueError, r"StackDataset: expected datasets of one length, got \[1, 2\]"),
        (lambda: D.StackDataset(), ValueError, "either by position or by name, got 0 and 0"),
        (lambda: D.random_split(range(5), [2, 2]), ValueError, r"random_split: expected lengths that add up to 5, .* got \[2, 2\]"),
        (lambda: D.random_split(range(5), [6, -1]), ValueError, "random_split: expected lengths that add up to 5"),
        (lambda: D.Dataset()[0], NotImplementedError, "Dataset: a Dataset's subclass must write __getitem__"),
        (lambda: iter(D.IterableDataset()), NotImplementedError, "subclass must write __iter__"),
        (lambda: D.BatchSampler([1], 0, False), ValueError, "BatchSampler: expected batch_size to be a positive integer, got 0"),
        (lambda: D.BatchSampler([1], 1, 1), ValueError, "BatchSampler: expected drop_last to be True or False, got 1"),
        (lambda: D.RandomSampler([1], num_samples=0), ValueError, "RandomSampler: expected num_samples to be a positive integer, got 0"),
        (lambda: D.WeightedRandomSampler([1, -1], 2), ValueError, "WeightedRandomSampler: expected a vector of finite weights >= 0"),
        (lambda: D.WeightedRandomSampler([0, 1], 2, False), ValueError, "cannot draw 2 different indices, 1 have a weight"),
        (lambda: D.DistributedSampler([1], 2, 2), ValueError, "DistributedSampler: expected a rank from 0 to 1, got 2"),
        (lambda: D.DataLoader([1], batch_size=0), ValueError, "DataLoader: expected batch_size to be a positive integer or None, got 0"),
        (lambda: D.DataLoader([1], num_workers=-1), ValueError, "DataLoader: expected num_workers and timeout >= 0, got -1 and 0"),
        (lambda: D.DataLoader([1], persistent_workers=True, timeout=1), ValueError, "timeout and persistent_workers without effect"),
        (lambda: D.DataLoader([1], num_workers=1, prefetch_factor=0), ValueError, "expected prefetch_factor >= 1, got 0"),
        (lambda: D.DataLoader([1], shuffle=True, sampler=[0]), ValueError, "expected a sampler or shuffle, got both"),
        (lambda: D.DataLoader([1], 2, batch_sampler=[[0]]), ValueError, "batch_sampler takes the place of batch_size"),
        (lambda: D.DataLoader([1], None, drop_last=True), ValueError, "drop_last needs a batch_size"),
        (lambda: D.DataLoader(cases.Part(3), shuffle=True), ValueError, "an IterableDataset decides its own order"),
        (lambda: D.DataLoader([1], num_workers=1, multiprocessing_context="fork"), ValueError, "started by 'spawn' alone .* got 'fork'"),
        (lambda: D.DataLoader([1]).load_state_dict({"epoch": 1}), ValueError, "expected the state of a DataLoader, got one without start"),
    ],
)  # fmt: skip
def test_what_is_wrong_says_so(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


@given(st.integers(0, 40), st.lists(st.floats(0.01, 1), min_size=1, max_size=5), st.integers(0, 9))
def test_random_split_is_a_partition(total: int, weights: list[float], seed: int) -> None:
    fractions = [w / sum(weights) for w in weights]
    parts = D.random_split(range(total), fractions, T.Generator().manual_seed(seed))
    assert sorted(itertools.chain.from_iterable(parts)) == list(range(total))
    again = D.random_split(range(total), [len(p) for p in parts], T.Generator().manual_seed(seed))
    assert [p.indices for p in parts] == [p.indices for p in again]
    assert all(abs(len(p) - f * total) <= 1 for p, f in zip(parts, fractions, strict=True))


# --- samplers --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 20), st.integers(1, 7), st.booleans())
def test_batches_of_a_sampler(total: int, size: int, drop_last: bool) -> None:
    batches = D.BatchSampler(range(total), size, drop_last)
    found = list(batches)
    assert len(found) == len(batches)
    flat = list(itertools.chain.from_iterable(found))
    assert flat == list(range(total - total % size if drop_last else total))
    assert all(len(b) == size for b in found[: len(found) if drop_last else -1])


def test_random_orders() -> None:
    order = list(D.RandomSampler(range(100), generator=T.Generator().manual_seed(1)))
    assert sorted(order) == list(range(100)) != order
    longer = list(D.RandomSampler(range(4), num_samples=10))
    assert collections.Counter(longer[:8]) == dict.fromkeys(range(4), 2)
    assert len(longer) == 10
    drawn = collections.Counter(D.RandomSampler(range(3), replacement=True, num_samples=3000))
    assert all(abs(drawn[i] - 1000) < 150 for i in range(3))  # 5.8 standard deviations
    weighted = collections.Counter(D.WeightedRandomSampler(T.tensor([1.0, 0.0, 3.0]), 4000))
    assert abs(weighted[2] - 3000) < 160
    assert 1 not in weighted
    assert sorted(D.WeightedRandomSampler([1, 2, 3], 3, replacement=False)) == [0, 1, 2]
    assert sorted(D.SubsetRandomSampler([5, 2])) == [2, 5]
    assert list(D.RandomSampler([])) == []


def test_manual_seed_decides_the_epochs_and_other_draws_do_not() -> None:
    def epochs(between: int) -> Any:
        T.manual_seed(5)
        loader = D.DataLoader(range(50), batch_size=50, shuffle=True)
        first = next(iter(loader)).tolist()
        T.rand(between)
        return first, next(iter(loader)).tolist()

    assert epochs(0) == epochs(7)
    one, two = epochs(0)
    assert one != two
    sampler = D.RandomSampler(range(50))
    T.manual_seed(5)
    first = list(sampler)
    T.manual_seed(5)
    assert list(sampler) == first


def test_distributed_samplers_share_an_order() -> None:
    def orders(epoch: int, drop_last: bool) -> list[list[int]]:
        samplers = [D.DistributedSampler(range(10), 4, rank, seed=3, drop_last=drop_last) for rank in range(4)]
        for sampler in samplers:
            sampler.set_epoch(epoch)
        assert all(len(list(s)) == len(s) for s in samplers)
        return [list(s) for s in samplers]

    assert set(itertools.chain.from_iterable(orders(0, False))) == set(range(10))
    flat = list(itertools.chain.from_iterable(orders(0, True)))
    assert len(flat) == len(set(flat)) == 8
    assert orders(0, False) != orders(1, False)


# --- collation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "samples, expected",
    [
        ([1, 2], T.tensor([1, 2])), ([1.5, 2], T.tensor([1.5, 2.0], dtype=T.float64)), ([True, False], T.tensor([True, False])),
        ([1, 2.5], T.tensor([1.0, 2.5])), ([1j], T.tensor([1j], dtype=T.complex128)), (["a", "b"], ["a", "b"]), ([b"a"], [b"a"]),
        ([np.int16(3), np.int16(4)], T.tensor([3, 4], dtype=T.int16)), ([np.float32(1)], T.tensor([1.0])),
        ([np.ones(2, "f4"), np.zeros(2, "f4")], T.tensor([[1.0, 1.0], [0.0, 0.0]])), ([np.ones(1, ">i4")], T.ones(1, 1, dtype=T.int32)),
        ([np.array(1.0), np.array(2.0)], T.tensor([1.0, 2.0], dtype=T.float64)), ([T.ones(2, 0)], T.ones(1, 2, 0)),
        ([T.tensor([1]), T.tensor([1.5])], T.tensor([[1.0], [1.5]])), ([T.tensor(1), T.tensor(2)], T.tensor([1, 2])),
        ([(1, "x"), (2, "y")], [T.tensor([1, 2]), ("x", "y")]), ([[1, 2], [3, 4]], [T.tensor([1, 3]), T.tensor([2, 4])]), ([(), ()], []),
        ([{"a": 1}, {"a": 2, "b": 3}], {"a": T.tensor([1, 2])}), ([Point(1, 2), Point(3, 4)], Point(T.tensor([1, 3]), T.tensor([2, 4]))),
        ([collections.OrderedDict(a=1)], collections.OrderedDict(a=T.tensor([1]))),
    ],
)  # fmt: skip
def test_default_collate(samples: Any, expected: Any) -> None:
    assert repr(D.default_collate(samples)) == repr(expected)


@pytest.mark.parametrize(
    "samples, error, text",
    [
        ([T.ones(2), T.ones(2), T.ones(3)], RuntimeError, r"default_collate: expected samples of one shape, got \[2\] first and \[3\] at 2"),
        ([np.ones(2), np.ones((1, 2))], RuntimeError, r"got \[2\] first and \[1, 2\] at 1"), ([(1,), (1, 2)], RuntimeError, r"of one length, got \[1, 2\]"),
        ([{"a": 1}, {"b": 2}], RuntimeError, "expected every sample to have the first one's keys, 'a' is missing in some"),
        ([None, None], TypeError, "expected tensors, arrays, numbers, strings, dicts or sequences, got NoneType"), ([1, "a"], TypeError, "samples of one kind.* got int, str"),
        ([T.ones(1), np.ones(1)], TypeError, "got Tensor, ndarray"), ([np.ones(1), T.ones(1)], TypeError, "got Tensor, ndarray"), ([(1,), 2], TypeError, "got int, tuple"),
        ([np.array(["a"])], TypeError, "default_collate: expected arrays of numbers, got one of <U1"), ([2**70, 1], TypeError, "numbers that fit a dtype, got int"),
        ([1.0, "a"], TypeError, "got float, str"), ([1, [2]], TypeError, "got int, list"),
    ],
)  # fmt: skip
def test_default_collate_refuses(samples: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        D.default_collate(samples)


def test_default_collate_keeps_gradients_and_devices(device: str) -> None:
    x = T.ones(2, device=device)
    batch = D.default_collate([x, x])
    assert batch.device == x.device
    assert batch.tolist() == [[1, 1], [1, 1]]
    x.requires_grad_()
    (D.default_collate([x, x.detach()]) * 3).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3, 3]


def test_default_convert() -> None:
    array = np.arange(2)
    converted = D.default_convert({"a": array, "p": Point("x", (array, 1.5)), "t": np.float32(2), "o": np.array(["s"])})
    assert converted["a"].numpy() is array
    assert converted["p"].x == "x"
    assert repr(converted["p"].y) == "[tensor([0, 1]), 1.5]"
    assert repr(converted["t"]) == "tensor(2.)"
    assert isinstance(converted["o"], np.ndarray)


# --- the loader, in one process --------------------------------------------------------------------------------------


def test_a_loader_asks_for_a_batch_at_once() -> None:
    letters = Letters()
    loader = D.DataLoader(letters, batch_size=2)
    assert list(loader) == [["a", "b"], ["c", "d"], ["e"]]
    assert letters.asked == [[0, 1], [2, 3], [4]]
    assert len(loader) == 3
    assert len(D.DataLoader(letters, batch_size=2, drop_last=True)) == len(list(D.DataLoader(letters, 2, drop_last=True))) == 2
    letters.asked.clear()
    assert list(D.DataLoader(letters, batch_size=None)) == list("abcde")
    assert letters.asked == [0, 1, 2, 3, 4]
    assert list(D.DataLoader(letters, batch_sampler=[[4], [0, 1]])) == [["e"], ["a", "b"]]
    assert list(D.DataLoader(letters, sampler=[3, 1])) == [["d"], ["b"]]
    assert list(D.DataLoader(letters, 3, collate_fn="".join)) == ["abc", "de"]


def test_a_loader_of_a_stream() -> None:
    assert [b.tolist() for b in D.DataLoader(cases.Part(5), 2)] == [[0, 1], [2, 3], [4]]
    assert [b.tolist() for b in D.DataLoader(cases.Part(5), 2, drop_last=True)] == [[0, 1], [2, 3]]
    assert list(D.DataLoader(cases.Part(3), None)) == [0, 1, 2]
    lengths = [len(D.DataLoader(cases.Part(5), size, drop_last=drop)) for size, drop in ((2, False), (2, True), (None, False))]
    assert lengths == [3, 2, 5]


def test_an_error_ends_no_epoch() -> None:
    batches = iter(D.DataLoader(cases.Troubled("refuse"), batch_size=4))
    next(batches)
    with pytest.raises(LookupError, match="sample 5 is bad"):
        next(batches)
    assert next(batches)[1].tolist() == [8, 9, 10, 11]
    with pytest.raises(StopIteration):
        next(batches)
    with pytest.raises(StopIteration):
        next(batches)


class Shuffled(D.Sampler[int]):
    """A user's sampler: a generator of its own under the usual name, and no `state_dict`."""

    def __init__(self) -> None:
        self.generator = T.Generator().manual_seed(2)

    def __iter__(self) -> Iterator[int]:
        return iter(T.randperm(20, generator=self.generator).tolist())

    def __len__(self) -> int:
        return 20


RESUMED = {
    "in order": lambda: D.DataLoader(range(20), 3),
    "shuffled": lambda: D.DataLoader(range(20), 3, shuffle=True),
    "shuffled by a generator": lambda: D.DataLoader(range(20), 3, shuffle=True, generator=T.Generator().manual_seed(9)),
    "with replacement": lambda: D.DataLoader(range(20), 3, sampler=D.RandomSampler(range(20), True, 50)),
    "weighted": lambda: D.DataLoader(range(20), 3, sampler=D.WeightedRandomSampler(range(20), 20, generator=T.Generator().manual_seed(1))),
    "distributed": lambda: D.DataLoader(range(20), 1, sampler=D.DistributedSampler(range(20), 2, 1)),
    "a user's sampler": lambda: D.DataLoader(range(20), 3, sampler=Shuffled()),
    "samples": lambda: D.DataLoader(range(20), None, shuffle=True),
    "a stream": lambda: D.DataLoader(cases.Part(20), 3),
    "a chain of streams": lambda: D.DataLoader(D.ChainDataset([range(20)]), 3),
}  # fmt: skip


@pytest.mark.parametrize("kind", RESUMED)
@pytest.mark.parametrize("taken", [0, 1, 3, 7])
def test_resume(kind: str, taken: int) -> None:
    def epochs(loader: Any, count: int) -> Any:
        return [[b.tolist() if isinstance(b, T.Tensor) else b for b in loader] for _ in range(count)]

    loader = RESUMED[kind]()
    epochs(loader, 1)
    batches = iter(loader)
    for _ in range(taken):
        next(batches)
    state = pickle.loads(pickle.dumps(loader.state_dict()))
    del batches  # the position is the loader's, not the iterator's
    gc.collect()
    assert repr(loader.state_dict()) == repr(state)
    T.manual_seed(1234)  # another program
    other = RESUMED[kind]()
    other.load_state_dict(state)
    assert repr(other.state_dict()) == repr(state)
    resumed = epochs(other, 3)

    T.manual_seed(0)  # as the fixture did
    whole = epochs(RESUMED[kind](), 4)
    assert resumed == [whole[1][taken:], *whole[2:]]


def test_resume_of_a_stream_with_a_state() -> None:
    def make() -> Any:
        return D.DataLoader(cases.Resumable(7), 2)

    loader = make()
    batches = iter(loader)
    next(batches), next(batches)
    other = make()
    other.load_state_dict(loader.state_dict())
    assert [[x.tolist() for x in batch] for batch in other] == [[[5, 6], [1, 2]], [[7], [3]]]  # not by counting again
    next(batches), next(batches)  # the short one: the stream is known to be through, whatever its state says
    other.load_state_dict(loader.state_dict())
    assert list(other) == []
    assert len(list(other)) == 4
    with pytest.raises(ValueError, match="load_state_dict: the stream was read by 1 workers, this loader has 2"):
        D.DataLoader(cases.Resumable(7), 2, num_workers=2).load_state_dict(loader.state_dict())


def test_the_main_process_draws_from_its_own_generators() -> None:
    random.seed(1)
    expected = [random.random() for _ in range(3)]
    random.seed(1)
    assert [batch[1].item() for batch in itertools.islice(D.DataLoader(cases.Draws()), 3)] == expected


def test_pin_memory() -> None:
    if T.cuda.is_available():
        (batch,) = D.DataLoader(cases.Numbers(3), 3, pin_memory=True)
        assert [x.tolist() for x in batch] == [[[0, 0.5], [1, 1.5], [2, 2.5]], [0, 1, 2]]
        pointer = T.cuda.cupy().cuda.runtime.pointerGetAttributes(batch[0].data_ptr())
        assert pointer.type == 1  # cudaMemoryTypeHost
    else:
        with pytest.warns(UserWarning, match="DataLoader: pin_memory has no effect, there is no CUDA device"):
            assert len(list(D.DataLoader(range(3), pin_memory=True))) == 3
