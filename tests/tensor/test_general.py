"""Ranks, histograms, derivatives of samples, scans, reductions of large arrays, memory, and questions about tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.special as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tensor as T

SMALL = hnp.arrays(np.int64, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6), elements=st.integers(-3, 3))
RNG = np.random.default_rng(3)


@given(SMALL, st.data())
def test_ranks_and_modes_by_counting(a: Any, data: Any) -> None:
    axis = data.draw(st.integers(0, a.ndim - 1))
    k = data.draw(st.integers(1, a.shape[axis]))
    x = T.tensor(a)
    ordered = np.sort(a, axis)
    for (values, index), expected in (
        (x.kthvalue(k, axis), np.take(ordered, k - 1, axis)),
        (x.median(axis), np.take(ordered, (a.shape[axis] - 1) // 2, axis)),
        (x.mode(axis), np.apply_along_axis(lambda r: min(set(r.tolist()), key=lambda v: (-(r == v).sum(), v)), axis, a)),
        (x.cummax(axis), np.maximum.accumulate(a, axis)),
    ):
        np.testing.assert_array_equal(values.numpy(), expected)
        where = index.numpy() if index.ndim == a.ndim else np.expand_dims(index.numpy(), axis)
        np.testing.assert_array_equal(np.take_along_axis(a, where, axis).reshape(expected.shape), expected)


def test_medians_and_nan() -> None:
    a = T.tensor([[3.0, np.nan, 1.0, 2.0], [np.nan, np.nan, np.nan, 5.0], [4.0, 1.0, 3.0, 2.0]])
    values, index = a.median(1)
    assert np.isnan(values[:2].numpy()).all()
    assert values[2].item() == 2
    assert index.tolist() == [1, 0, 3]
    assert a.nanmedian(1)[0].tolist() == [2.0, 5.0, 2.0]
    assert a.nanmedian().item() == 2
    assert np.isnan(a.median().item())


@pytest.mark.parametrize("largest", [True, False])
def test_a_few_of_many(largest: bool) -> None:
    a = RNG.integers(0, 50, (3, 1000)).astype(np.float32)
    a[1, 7] = np.nan
    values, index = T.topk(T.tensor(a), 9, largest=largest)
    ordered = np.sort(a, 1)
    np.testing.assert_array_equal(values.numpy(), ordered[:, ::-1][:, :9] if largest else ordered[:, :9])
    np.testing.assert_array_equal(np.take_along_axis(a, index.numpy(), 1), values.numpy())


@pytest.mark.parametrize("density", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_histograms_are_numpys(density: bool, weighted: bool) -> None:
    a, w = RNG.normal(size=200), RNG.uniform(size=200)
    weight = T.tensor(w) if weighted else None
    ours = T.histogram(T.tensor(a), 7, range=(-1.5, 2.0), weight=weight, density=density)
    theirs = np.histogram(a, 7, (-1.5, 2.0), density=density, weights=w if weighted else None)
    for got, want in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-12)
    points = RNG.normal(size=(200, 2))
    counts, edges = T.histogramdd(T.tensor(points), [3, 4], weight=weight, density=density)
    want, want_edges = np.histogramdd(points, (3, 4), weights=w if weighted else None, density=density)
    np.testing.assert_allclose(counts.numpy(), want, rtol=1e-12)
    for e, we in zip(edges, want_edges, strict=True):
        np.testing.assert_allclose(e.numpy(), we)


def test_histc_leaves_out_what_is_outside() -> None:
    assert T.histc(T.tensor([0.0, 1.0, 2.0, 9.0]), 4, 0, 4).tolist() == [1, 1, 1, 0]
    assert T.histc(T.tensor([5.0, 5.0]), 3).tolist() == [0, 2, 0]


@pytest.mark.parametrize("edge_order", [1, 2])
def test_gradient_is_numpys(edge_order: int) -> None:
    a, places = RNG.normal(size=(4, 5)), np.cumsum(RNG.uniform(0.5, 2, 5))
    ours = T.gradient(T.tensor(a), spacing=(0.5, T.tensor(places)), edge_order=edge_order)
    for got, want in zip(ours, np.gradient(a, 0.5, places, edge_order=edge_order), strict=True):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1000, 1013])
def test_large_reductions_and_scans(dtype: str, n: int) -> None:
    """Their faster ways give what the plain ones give."""
    a = RNG.normal(size=(80, n)).astype(dtype)
    x, wide = T.tensor(a), a.astype(np.float64)
    close = {"rtol": 1e-4, "atol": 2e-4} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-11}
    softmax = sp.softmax(wide, 1)
    for ours, want in (
        (x.sum(), wide.sum()), (x.sum(1), wide.sum(1)), (x.sum(-1, keepdim=True), wide.sum(1, keepdims=True)), (x.mean(), wide.mean()),
        (x.mean(0), wide.mean(0)), (x.var(), wide.var(ddof=1)), (x.std(1), wide.std(1, ddof=1)), (x.cumsum(1), wide.cumsum(1)),
        (x.cumsum(0), wide.cumsum(0)), (x.reshape(-1).cumsum(0), wide.cumsum()), (x.softmax(-1), softmax), (x.log_softmax(1), np.log(softmax)),
        (x.relu(), np.maximum(wide, 0)), (x.clamp(-1, 0.5), np.clip(wide, -1, 0.5)), (x.sigmoid(), sp.expit(wide)), (x.t().sum(1), wide.sum(0)),
    ):  # fmt: skip
        assert ours.dtype is x.dtype
        np.testing.assert_allclose(ours.numpy(), want, **close)


def test_infinities_and_nan_survive_the_fast_ways() -> None:
    a = np.zeros((80, 1000))
    a[0, 5], a[1, 7], a[2, 9] = np.inf, np.nan, -np.inf
    x = T.tensor(a)
    np.testing.assert_array_equal(x.cumsum(1).numpy(), np.cumsum(a, 1))
    np.testing.assert_array_equal(x.sum(1).numpy(), a.sum(1))
    np.testing.assert_array_equal(x.relu().numpy(), np.maximum(a, 0))


def test_short_powers() -> None:
    a = T.tensor([0.25, 2.0, -3.0])
    for b in (2, 3, 0.5, -1, -2, -0.5, 1.5):
        with np.errstate(invalid="ignore"):
            expected = np.power(a.numpy(), np.float32(b))
        np.testing.assert_allclose((a**b).numpy(), expected, rtol=1e-6)


def test_cumprod_has_the_gradient_of_a_long_product() -> None:
    x = T.tensor(RNG.uniform(0.9, 1.1, 500), requires_grad=True)
    (g,) = T.autograd.grad(x.cumprod(0)[-1], x)
    np.testing.assert_allclose(g.numpy(), x.detach().prod().item() / x.detach().numpy(), rtol=1e-9)


def test_diff_with_ends() -> None:
    a, b = T.tensor([[1, 4, 9]]), T.tensor([[0]])
    assert a.diff(prepend=b, append=b).tolist() == [[1, 3, 5, -9]]
    assert a.diff(n=0, prepend=b).tolist() == [[1, 4, 9]]


def test_frexp_block_diag_arange_and_integer_linspace() -> None:
    mantissa, exponent = T.frexp(T.tensor([8.0, -0.3, 0.0]))
    np.testing.assert_array_equal((mantissa * 2.0**exponent).numpy(), np.float32([8.0, -0.3, 0.0]))
    assert exponent.dtype is T.int32
    assert T.block_diag(T.tensor([[1, 2]]), T.tensor(3)).tolist() == [[1, 2, 0], [0, 0, 3]]
    assert T.arange(start=1, end=7, step=3).tolist() == [1, 4]
    assert T.linspace(0, 7, 50, dtype=T.int64)[[7, 21, 28, 42]].tolist() == [1, 3, 4, 6]


def test_memory_of_other_objects_and_strided_memory() -> None:
    memory = bytearray(8)
    x = T.frombuffer(memory, dtype=T.int32, offset=4)
    x[0] = 5
    assert memory[4] == 5
    y = T.empty_strided((2, 3), (1, 2))
    assert (y.shape, y.stride()) == ((2, 3), (1, 2))
    with pytest.raises(ValueError, match="frombuffer: buffer size must be a multiple"):
        T.frombuffer(bytearray(3), dtype=T.int16)
    with pytest.raises(RuntimeError, match="empty_strided: expected a stride"):
        T.empty_strided((2,), (1, 1))
    assert T.fill(T.zeros(2), 3).tolist() == [3, 3]


def test_meshgrid_of_columns_first() -> None:
    for ours, want in zip(T.meshgrid(T.arange(3), T.arange(2), indexing="xy"), np.meshgrid(range(3), range(2)), strict=True):
        np.testing.assert_array_equal(ours.numpy(), want)


def test_questions() -> None:
    x = T.ones(2, 3)
    assert T.is_tensor(x)
    assert not T.is_tensor(3)
    assert T.is_floating_point(x)
    assert not T.is_complex(x)
    assert (T.numel(x), T.get_device(x)) == (6, -1)
    assert T.is_same_size(x, T.zeros(2, 3))
    assert T.is_nonzero(T.tensor([2]))
    assert not T.is_signed(T.tensor(1, dtype=T.uint8))
    assert T.result_type(T.ones(2, dtype=T.int32), T.tensor(1.5)) is T.float32
    assert T.broadcast_shapes((2, 1), (3,), 1) == (2, 3)
    assert (T.finfo(T.float64).eps, T.finfo(T.complex64).bits) == (2.0**-52, 32)
    assert (T.iinfo(T.int8).min, T.iinfo(T.uint8).max) == (-128, 255)


def test_memory() -> None:
    x = T.arange(6.0)
    assert x.reshape(2, 3)[1].storage_offset() == 3
    assert x[1:].is_set_to(x[1:])
    assert not x[1:].is_set_to(x[:-1])
    y = x.clone().resize_(2, 2)
    assert y.tolist() == [[0, 1], [2, 3]]
    assert y.resize_as_(T.zeros(1, 3)).tolist() == [[0, 1, 2]]
    assert x.clone().as_strided_((2, 2), (1, 2)).tolist() == [[0, 2], [1, 3]]
    assert T.arange(3).apply_(lambda v: v * v).tolist() == [0, 1, 4]
    assert T.arange(3).map_(T.tensor(5), lambda a, b: a + b).tolist() == [5, 6, 7]
    with pytest.raises(RuntimeError, match="resize_: cannot change the memory of a tensor that is a view"):
        x[1:].resize_(2)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: T.kthvalue(T.ones(3), 4), "kthvalue: expected k from 1 to 3"),
        (lambda: T.mode(T.ones(0, 2), 0), "mode: expected a dimension of at least one element"),
        (lambda: T.histogram(T.arange(3), 2), "histogram: expected a floating-point tensor, got tensor.int64"),
        (lambda: T.histogramdd(T.ones(3), 2), r"histogramdd: expected points in the last of at least two dimensions, got shape \[3\]"),
        (lambda: T.histc(T.ones(3), 2, 4, 1), "histc: expected a range with max > min"),
        (lambda: T.bincount(T.tensor([-1])), "bincount: expected a vector of integers >= 0"),
        (lambda: T.gradient(T.ones(2), edge_order=2), "gradient: expected at least 3 elements along dimension 0"),
        (lambda: T.gradient(T.ones(3), spacing=[1, 2]), "gradient: expected a spacing for each of 1 dimensions, got 2"),
        (lambda: T.tensordot(T.ones(2), T.ones(3), 1), "tensordot: contracted dimensions need one length, got 2 and 3"),
        (lambda: T.block_diag(T.ones(1, 1, 1)), "block_diag: expected tensors of at most 2 dimensions"),
        (lambda: T.arange(1, 2, 0), "arange: expected end"), (lambda: T.linspace(0, 1, -1), "linspace: expected a number of steps"),
        (lambda: T.diff(T.tensor(1)), "diff: expected a tensor of at least one dimension"), (lambda: T.frexp(T.arange(2)), "frexp: expected a floating-point"),
        (lambda: T.quantile(T.ones(2), 0.5, interpolation="cubic"), "quantile: expected interpolation linear"),
        (lambda: T.is_nonzero(T.ones(2)), "is_nonzero: expected a tensor with one element"), (lambda: T.finfo(T.int8), "finfo: expected a floating-point"),
        (lambda: T.iinfo(T.float32), "iinfo: expected an integer dtype"), (lambda: T.broadcast_shapes((2,), (3,)), "broadcast_shapes: shapes"),
        (lambda: T.var(T.arange(3)), "var: expected a floating-point or complex tensor, got int64"),
    ],
)  # fmt: skip
def test_errors(call: Any, text: str) -> None:
    with pytest.raises((RuntimeError, IndexError, TypeError), match=text):
        call()


@pytest.mark.parametrize(
    "name, args",
    [
        ("max", (1,)),
        ("min", (1,)),
        ("median", (1,)),
        ("mode", (1,)),
        ("sort", (1,)),
        ("topk", (2, 1)),
        ("kthvalue", (2, 1)),
        ("cummax", (1,)),
        ("cummin", (1,)),
    ],
)
def test_values_and_indices_have_names(name: str, args: tuple[int, ...]) -> None:
    x = T.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    found = getattr(T, name)(x, *args)
    assert T.equal(found.values, found[0])
    assert T.equal(found.indices, found[1])
    at = found.indices.unsqueeze(1) if found.indices.ndim == 1 else found.indices
    assert T.equal(x.gather(1, at).reshape(found.values.shape), found.values)


def test_aminmax_has_names() -> None:
    low, high = found = T.aminmax(T.tensor([3.0, 1.0, 2.0]))
    assert (found.min.item(), found.max.item()) == (low.item(), high.item()) == (1.0, 3.0)


def test_bools_are_not_subtracted() -> None:
    with pytest.raises(RuntimeError, match=r"sub: numpy boolean subtract.*operands bool\[1\], bool\[1\]"):
        T.tensor([True]) - T.tensor([False])


def test_erf_of_many_float32_is_scipys() -> None:
    x = T.cat([T.linspace(-6, 6, 40_000), T.linspace(-1e-3, 1e-3, 1_000), T.tensor([np.nan, np.inf, -np.inf, 0.0])])
    exact = sp.erf(x.numpy().astype(np.float64))
    np.testing.assert_allclose(x.erf().numpy(), exact, rtol=1e-6)
    assert np.nanmax(np.abs(x.erf().numpy())) == 1
