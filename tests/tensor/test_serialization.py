"""`T.save` and `T.load`: round trips, other people's files, and files that mean harm."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as npst
from safetensors.numpy import load_file, save_file

import tensor as T
from tensor import nn, optim

SerializationError = T.serialization.SerializationError

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.complex_numbers()
arrays = npst.arrays(
    st.sampled_from(["f2", "f4", "f8", "c8", "c16", "i1", "i4", "i8", "u1", "u4", "?"]), npst.array_shapes(min_dims=0, max_side=3)
)
keys = st.text(max_size=4) | st.integers(-3, 3)
trees = st.recursive(
    scalars | arrays | arrays.map(T.tensor),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


def assert_same(a: Any, b: Any) -> None:
    """The same kinds, and the same bits in arrays."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for k in a:
            assert_same(a[k], b[k])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, (T.Tensor, np.ndarray)):
        x, y = np.asarray(a), np.asarray(b)
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert x.tobytes() == y.tobytes()
    else:
        assert repr(a) == repr(b)  # nan is not equal to itself


@given(trees)
def test_any_tree_comes_back(tree: Any) -> None:
    file = io.BytesIO()
    T.save(tree, file)
    file.seek(0)
    loaded = T.load(file)
    flat = (
        isinstance(tree, dict)
        and all(isinstance(k, str) for k in tree)
        and all(isinstance(v, (T.Tensor, np.ndarray)) for v in tree.values())
    )
    if flat:  # plain safetensors: whatever wrote the arrays, tensors come back, in the order of the file
        plain = all(np.asarray(v).dtype != np.complex128 for v in tree.values())
        tree = {k: T.tensor(v) if plain else v for k, v in sorted(tree.items())}
        loaded = dict(sorted(loaded.items()))
    assert_same(loaded, tree)


def test_a_module_and_its_optimizer_come_back(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = optim.Adam(net.parameters())
    net(T.randn(5, 3)).square().sum().backward()
    optimizer.step()
    T.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "all")
    again = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    other = optim.Adam(again.parameters())
    state = T.load(tmp_path / "all")
    again.load_state_dict(state["net"])
    other.load_state_dict(state["optimizer"])
    x = T.randn(2, 3)
    net.eval(), again.eval()
    assert T.equal(net(x), again(x))
    assert other.state_dict()["state"][0]["step"] == optimizer.state_dict()["state"][0]["step"]


def test_flat_dicts_are_plain_safetensors_both_ways(tmp_path: Path) -> None:
    weights = {"0.weight": T.randn(2, 3), "steps": T.tensor([7])}
    T.save(weights, tmp_path / "w.safetensors")
    theirs = load_file(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(theirs["0.weight"], weights["0.weight"].numpy())
    save_file({"a": np.arange(3.0)}, tmp_path / "theirs.safetensors", {"format": "pt"})
    assert T.equal(T.load(tmp_path / "theirs.safetensors")["a"], T.arange(3, dtype=T.float64))


def test_npz_both_ways(tmp_path: Path) -> None:
    T.save({"a": T.arange(3), "b": np.eye(2)}, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as theirs:
        np.testing.assert_array_equal(theirs["b"], np.eye(2))
    loaded = T.load(tmp_path / "x.npz")
    assert T.equal(loaded["a"], T.arange(3))
    with pytest.raises(TypeError, match=r"save: expected a flat dict of tensors or arrays for y\.npz, got list"):
        T.save([1], tmp_path / "y.npz")


def test_bfloat16_is_read_as_float32(tmp_path: Path) -> None:
    bits = np.array([1.5, -2.0, 3.25], np.float32).view(np.uint32) >> 16
    header = json.dumps({"w": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}).encode()
    (tmp_path / "b").write_bytes(len(header).to_bytes(8, "little") + header + bits.astype("<u2").tobytes())
    assert T.load(tmp_path / "b")["w"].tolist() == [1.5, -2.0, 3.25]


def test_views_and_gradients_are_left_behind(tmp_path: Path) -> None:
    x = T.randn(4, 4, requires_grad=True)
    T.save({"x": x.t()[1:]}, tmp_path / "x")
    loaded = T.load(tmp_path / "x")["x"]
    assert not loaded.requires_grad
    assert T.equal(loaded, x.detach().t()[1:])
    loaded.zero_()  # writable, memory of its own


def test_map_location(tmp_path: Path, device: str) -> None:
    T.save([T.ones(2), {"a": (T.zeros(1),)}], tmp_path / "x")
    loaded = T.load(tmp_path / "x", map_location=device)
    assert loaded[0].device.type == loaded[1]["a"][0].device.type == device


class Bomb:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('ran')",))


def test_a_pickle_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    for protocol in (2, 5):
        (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb(), protocol))
        with pytest.raises(SerializationError, match=r"bomb\.pt: expected safetensors or \.npz, got a pickle.*never loaded"):
            T.load(tmp_path / "bomb.pt")
    with zipfile.ZipFile(tmp_path / "torch.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    with pytest.raises(SerializationError, match=r"got a pickle"):
        T.load(tmp_path / "torch.pt")
    np.savez(tmp_path / "objects.npz", a=np.array([Bomb()], dtype=object))
    with pytest.raises(SerializationError, match=r"objects\.npz: not a whole \.npz file of plain arrays"):
        T.load(tmp_path / "objects.npz")
    with pytest.raises(ValueError, match="never unpickled"):
        T.load(tmp_path / "torch.pt", weights_only=False)


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz", "tree"])
@given(data=st.data())
def test_damage_is_an_error_or_does_no_harm(name: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Cut anywhere, or any byte changed: SerializationError, or tensors; nothing else."""
    path = tmp_path_factory.mktemp("damage") / name
    T.save({"w": T.arange(6.0).reshape(2, 3)} if "." in name else [T.arange(6.0), {"lr": 0.1, "betas": (0.9, 0.99)}], path)
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        damaged = whole
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    said = ""
    try:
        T.load(path)
    except SerializationError as error:
        said = str(error)
    assert not said or (str(path) in said and "\n" not in said)


def test_what_cannot_be_saved_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "x"
    T.save({"a": T.ones(1)}, path)
    with pytest.raises(TypeError, match=r"b\.1: cannot save a builtins\.object; expected tensors, arrays"):
        T.save({"b": [1, object()]}, path)
    assert T.load(path)["a"].tolist() == [1.0]
    with pytest.raises(FileNotFoundError):
        T.load(tmp_path / "none")
    with pytest.raises(OSError, match="No such file or directory"):
        T.save({"a": T.ones(1)}, tmp_path / "no" / "x")
