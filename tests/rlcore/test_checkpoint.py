from __future__ import annotations

import math
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlcore import checkpoint
from rlcore.errors import CheckpointError, SaveError

keys = st.text(max_size=6) | st.sampled_from(["a.b", "a", "b", "$array", "$$x", "%2E", "__metadata__", ""])
arrays = hnp.arrays(
    st.one_of(
        hnp.boolean_dtypes(),
        hnp.integer_dtypes(),
        hnp.floating_dtypes(endianness="?"),
        hnp.complex_number_dtypes(endianness="="),
        hnp.unicode_string_dtypes(endianness="="),
    ),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
leaves = st.none() | st.booleans() | st.integers() | st.integers(-(10**60), 10**60) | st.floats() | st.text() | arrays
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=2).map(tuple) | st.dictionaries(keys, inner),
    max_leaves=12,
)


def same(one: object, two: object) -> bool:
    """Equal in value, type, dtype and shape, NaN equal to itself and -0.0 not to 0.0."""
    if type(one) is not type(two):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, float):
        return repr(one) == repr(two)
    return one == two


@given(trees)
def test_any_tree_survives(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    checkpoint.save(path, tree, {"x": 1})
    loaded, metadata = checkpoint.load(path)
    assert same(loaded, tree)
    assert metadata == {"x": 1}


@pytest.mark.parametrize(
    "tree",
    [
        {"": {"a": np.zeros(1)}, "a": np.ones(1)},
        {"": np.zeros(1), "%": np.ones(1)},
        {"a.b": np.zeros(1), "a": {"b": np.ones(1)}, "a%2Eb": np.full(1, 2.0)},
        {"__metadata__": np.zeros(1), "%__metadata__": np.ones(1)},
        np.zeros(1),
    ],
)
def test_no_two_paths_share_a_name(tmp_path, tree):
    checkpoint.save(tmp_path / "c", tree, {})
    assert same(checkpoint.load(tmp_path / "c")[0], tree)


def test_generators_continue_exactly(tmp_path):
    for kind in (np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64):
        rng = np.random.Generator(kind(3))
        rng.standard_normal(5)
        checkpoint.save(tmp_path / "c", rng.bit_generator.state, {})
        other = np.random.Generator(kind(4))
        other.bit_generator.state, _ = checkpoint.load(tmp_path / "c")
        assert np.array_equal(rng.standard_normal(9), other.standard_normal(9))


def test_numbers_that_json_has_not(tmp_path):
    state = {"huge": 10**6000, "nan": math.nan, "scalar": np.float32(1.5), "zero": -0.0, "surrogate": "\ud800"}
    checkpoint.save(tmp_path / "c", state, {"nan": math.inf})
    loaded, metadata = checkpoint.load(tmp_path / "c")
    assert same(loaded, state)
    assert metadata == {"nan": math.inf}


def test_the_file_is_plain_safetensors(tmp_path):
    path = tmp_path / "c.safetensors"
    state = {
        "net": {"w": np.arange(6, dtype=np.float32).reshape(2, 3).T, "on": np.array(True)},
        "n": [np.zeros((0, 2))],
    }
    checkpoint.save(path, state, {})
    tensors = safetensors.numpy.load_file(path)
    assert tensors.keys() == {"net.w", "net.on", "n.0"}
    assert np.array_equal(tensors["net.w"], state["net"]["w"])
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata()["format"] == "rlcore/1"


def test_loaded_arrays_are_writable_and_their_own(tmp_path):
    shared = np.arange(3)
    checkpoint.save(tmp_path / "c", [shared, shared], {})
    (one, two), _ = checkpoint.load(tmp_path / "c")
    one[0] = 9
    assert two[0] == 0


@pytest.mark.parametrize(
    "state, message",
    [
        ({"a": {"b": [1, {2}]}}, r"a\.b\.1: cannot save a builtins\.set"),
        ({"a": np.array([None])}, "a: cannot save a numpy.ndarray"),
        ({1.5: 2}, "state: a key must be a string or an int, got 1.5"),
        (b"x", "state: cannot save a builtins.bytes"),
    ],
)
def test_what_it_cannot_hold_is_named(tmp_path, state, message):
    with pytest.raises(TypeError, match=message):
        checkpoint.save(tmp_path / "c", state, {})
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"w": np.arange(5.0), "k": [1, None, "a"], "e": np.zeros(0)}, {"steps": 3})
    return path


def test_every_flipped_bit_is_noticed(small):
    data = small.read_bytes()
    for position in range(len(data)):
        for bit in range(8):
            if position % 7 == 0 or bit == position % 8:
                damaged = bytearray(data)
                damaged[position] ^= 1 << bit
                small.write_bytes(damaged)
                with pytest.raises(CheckpointError, match="not a whole checkpoint") as raised:
                    checkpoint.load(small)
                assert str(small) in str(raised.value)
                assert "\n" not in str(raised.value)


def test_every_truncation_and_any_addition_is_noticed(small):
    data = small.read_bytes()
    for length in range(len(data)):
        small.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match="not a whole checkpoint"):
            checkpoint.load(small)
    small.write_bytes(data + b"x")
    with pytest.raises(CheckpointError, match="checksum"):
        checkpoint.load(small)


@given(st.binary(max_size=80))
def test_any_other_file_is_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "other"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        checkpoint.load(path)


def test_a_foreign_safetensors_file_and_a_missing_one(tmp_path):
    safetensors.numpy.save_file({"w": np.zeros(3)}, tmp_path / "f.safetensors")
    with pytest.raises(CheckpointError, match="header"):
        checkpoint.load(tmp_path / "f.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint in "):
        checkpoint.load(tmp_path)
    with pytest.raises(CheckpointError, match=r"no checkpoint .*none$"):
        checkpoint.load(tmp_path / "none")


def test_another_version_is_named(small, monkeypatch):
    monkeypatch.setattr(checkpoint, "_FORMAT", "rlcore/2")
    with pytest.raises(CheckpointError, match="expected a checkpoint of format rlcore/2, got rlcore/1"):
        checkpoint.load(small)


def test_a_failed_save_leaves_the_previous_one_and_nothing_else(small, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SaveError, match="No space left on device; the previous checkpoint is whole"):
        checkpoint.save(small, {"w": np.zeros(99)}, {})
    assert [path.name for path in small.parent.iterdir()] == [small.name]
    assert checkpoint.load(small)[1] == {"steps": 3}


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_disk_that_fills_up_while_writing(small, environment):
    code = (
        "import resource, sys, numpy; from rlcore import checkpoint\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "checkpoint.save(sys.argv[1], {'w': numpy.zeros(10_000)}, {})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(small)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "SaveError" in done.stderr
    assert "the previous checkpoint is whole" in done.stderr
    assert [path.name for path in small.parent.iterdir()] == [small.name]
    assert checkpoint.load(small)[1] == {"steps": 3}


def test_a_save_that_was_killed_is_swept_by_the_next(small):
    stray = small.with_name(f".{small.name}.tmp")
    stray.write_bytes(b"half")
    checkpoint.save(small, {}, {})
    assert not stray.exists()


def test_saving_a_small_state_is_fast(tmp_path):
    state = {"net": [np.zeros((64, 64), np.float32) for _ in range(12)], "numbers": list(range(200))}
    times = []
    for _ in range(10):
        start = time.perf_counter()
        checkpoint.save(tmp_path / "c", state, {})
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05
