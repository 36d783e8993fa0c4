"""The functions of `tensor.array_api` as laws: on drawn arrays they agree with NumPy's in values, shapes and dtypes."""

from __future__ import annotations

import math
from typing import Any

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume

import tensor as T
from tensor import array_api as xp

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
REAL = ("float32", "float64")
COMPLEX = ("complex64", "complex128")
NUMERIC = (*INTEGERS, *REAL, *COMPLEX)
ALL = ("bool", *NUMERIC)


def given(*args: Any, **kwargs: Any) -> Any:
    """Hypothesis' own, with fewer examples: there are many laws here."""
    return lambda law: hypothesis.settings(max_examples=25)(hypothesis.given(*args, **kwargs)(law))


SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
FULL_SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)


def array(dtypes: tuple[str, ...] = ALL, shapes: Any = SHAPES, low: int = 0, high: int = 9) -> st.SearchStrategy[Any]:
    """Arrays of small whole numbers: sums and products are exact in any order."""
    numbers = hnp.arrays(np.int64, shapes, elements=st.integers(low, high))
    return st.tuples(st.sampled_from(dtypes), numbers).map(lambda pair: pair[1].astype(pair[0]))


def axes_of(a: Any) -> st.SearchStrategy[Any]:
    """None, one axis, or a tuple of them, which may be empty."""
    return st.none() | (
        hnp.valid_tuple_axes(a.ndim) if not a.ndim else st.integers(-a.ndim, a.ndim - 1) | hnp.valid_tuple_axes(a.ndim)
    )


def axis_of(a: Any) -> st.SearchStrategy[int]:
    return st.integers(-a.ndim, a.ndim - 1)


def same(ours: Any, numpys: Any, tolerance: float = 1e-5) -> None:
    """Equal shapes, dtypes and values, of one array or of several."""
    if isinstance(numpys, (tuple, list)):
        assert isinstance(ours, tuple)
        assert len(ours) == len(numpys)
        for x, a in zip(ours, numpys, strict=True):
            same(x, a, tolerance)
        return
    want = np.asarray(numpys)
    assert type(ours) is xp.Array
    got = ours.numpy()
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


# --- reductions ------------------------------------------------------------------------------------------------------

REDUCTIONS = {
    "sum": (np.sum, NUMERIC), "prod": (np.prod, NUMERIC), "max": (np.max, INTEGERS + REAL), "min": (np.min, INTEGERS + REAL),
    "mean": (np.mean, REAL + COMPLEX), "var": (np.var, REAL), "std": (np.std, REAL), "all": (np.all, ALL), "any": (np.any, ALL),
    "count_nonzero": (lambda a, **kw: np.sum(a != 0, **kw), ALL),
}  # fmt: skip


@pytest.mark.parametrize("name", REDUCTIONS)
@given(data=st.data())
def test_reductions(name: str, data: st.DataObject):
    f, dtypes = REDUCTIONS[name]
    a = data.draw(array(dtypes, FULL_SHAPES, high=3))
    kw = {"axis": data.draw(axes_of(a)), "keepdims": data.draw(st.booleans())}
    if name in ("sum", "prod") and data.draw(st.booleans()):
        kw["dtype"] = "float64" if a.dtype.kind != "c" else "complex128"
    want = f(a, **kw)
    if "dtype" in kw:
        kw["dtype"] = getattr(xp, kw["dtype"])
    same(getattr(xp, name)(xp.asarray(a), **kw), want)


@given(array(("float64",), FULL_SHAPES), st.sampled_from([0, 1, 0.5]))
def test_var_divides_by_the_count_minus_the_correction(a: Any, correction: float):
    assume(a.size > correction)
    same(xp.var(xp.asarray(a), correction=correction), a.var() * a.size / (a.size - correction))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_small_integers_add_up_in_64_bits(dtype: str):
    x = xp.asarray([100, 100, 100], dtype=getattr(xp, dtype))
    wide = xp.uint64 if dtype.startswith("u") else xp.int64
    assert xp.sum(x).dtype == xp.cumulative_sum(x).dtype == xp.linalg.trace(xp.reshape(x, (1, 3))).dtype == wide
    assert int(xp.sum(x)) == 300
    assert int(xp.prod(x)) == 1_000_000
    assert xp.sum(x, dtype=x.dtype).dtype == xp.prod(x, dtype=x.dtype).dtype == x.dtype
    assert xp.mean(x).dtype == xp.float32


@pytest.mark.parametrize("name, f", [("cumulative_sum", np.cumsum), ("cumulative_prod", np.cumprod)])
@given(data=st.data())
def test_scans(name: str, f: Any, data: st.DataObject):
    a = data.draw(array(NUMERIC, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3), high=3))
    axis, initial = data.draw(axis_of(a)), data.draw(st.booleans())
    want = f(a, axis=axis)
    if initial:
        first = np.full_like(
            want, 0 if f is np.cumsum else 1, shape=[1 if i == axis % a.ndim else n for i, n in enumerate(a.shape)]
        )
        want = np.concatenate([first, want], axis)
    same(getattr(xp, name)(xp.asarray(a), axis=axis, include_initial=initial), want)


@given(st.data())
def test_diff(data: st.DataObject):
    a = data.draw(array(INTEGERS + REAL, FULL_SHAPES))
    axis, n = data.draw(axis_of(a)), data.draw(st.integers(0, 3))
    same(xp.diff(xp.asarray(a), axis=axis, n=n), np.diff(a, n, axis))
    same(xp.diff(xp.asarray(a), axis=axis, prepend=xp.asarray(a), append=xp.asarray(a)), np.diff(a, 1, axis, a, a))


# --- shapes ----------------------------------------------------------------------------------------------------------

#: On an array with at least one dimension: our function, NumPy's, and how their further argument is drawn.
WITH_AN_ARGUMENT: dict[str, Any] = {
    "flip": (lambda x, v: xp.flip(x, axis=v), lambda a, v: np.flip(a, v), axes_of),
    "roll": (lambda x, v: xp.roll(x, v), np.roll, lambda a: st.integers(-999, 999)),
    "roll along": (lambda x, v: xp.roll(x, (v, 1), axis=(0, -1)), lambda a, v: np.roll(a, (v, 1), (0, -1)), lambda a: st.integers(-9, 9)),
    "repeat": (lambda x, v: xp.repeat(x, v), np.repeat, lambda a: st.integers(0, 3)),
    "repeat along": (lambda x, v: xp.repeat(x, 2, axis=v), lambda a, v: np.repeat(a, 2, v), axis_of),
    "repeat each": (
        lambda x, v: xp.repeat(x, xp.asarray(v), axis=0),
        lambda a, v: np.repeat(a, v, 0),
        lambda a: hnp.arrays(np.int64, a.shape[0], elements=st.integers(0, 3)),
    ),
    "tile": (xp.tile, np.tile, lambda a: st.lists(st.integers(0, 2), max_size=4).map(tuple)),
    "permute_dims": (xp.permute_dims, np.transpose, lambda a: st.permutations([i - a.ndim * (i % 2) for i in range(a.ndim)])),
    "moveaxis": (lambda x, v: xp.moveaxis(x, v, 0), lambda a, v: np.moveaxis(a, v, 0), axis_of),
    "unstack": (lambda x, v: xp.unstack(x, axis=v), lambda a, v: tuple(np.moveaxis(a, v, 0)), axis_of),
    "expand_dims": (xp.expand_dims, np.expand_dims, lambda a: axis_of(a) | st.sampled_from([(0, -1), (1, 0), ()])),
    "broadcast_to": (xp.broadcast_to, np.broadcast_to, lambda a: hnp.broadcastable_shapes(a.shape, min_dims=a.ndim).filter(lambda s: np.broadcast_shapes(s, a.shape) == s)),
    "tril": (lambda x, v: xp.tril(x[None, ...], k=v), lambda a, v: np.tril(a[None], v), lambda a: st.integers(-4, 4)),
    "triu": (lambda x, v: xp.triu(x[None, ...], k=v), lambda a, v: np.triu(a[None], v), lambda a: st.integers(-4, 4)),
    "take": (
        lambda x, v: xp.take(x, xp.asarray(v), axis=0),
        lambda a, v: np.take(a, v, 0),
        lambda a: hnp.arrays(np.int32, st.integers(0, 4), elements=st.integers(-a.shape[0], a.shape[0] - 1)),
    ),
    "take_along_axis": (
        lambda x, v: xp.take_along_axis(x, xp.asarray(v), axis=0),
        lambda a, v: np.take_along_axis(a, v, 0),
        lambda a: hnp.arrays(np.int64, (2, *a.shape[1:]), elements=st.integers(-a.shape[0], a.shape[0] - 1)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WITH_AN_ARGUMENT)
@given(data=st.data())
def test_manipulation(name: str, data: st.DataObject):
    ours, numpys, argument = WITH_AN_ARGUMENT[name]
    a = data.draw(array(ALL, FULL_SHAPES))
    value = data.draw(argument(a))
    same(ours(xp.asarray(a), value), numpys(a, value))


@given(st.data())
def test_joining(data: st.DataObject):
    shape = data.draw(FULL_SHAPES)
    dtypes = data.draw(
        st.sampled_from(
            [("int8", "int64"), ("uint8", "int16"), ("float32", "float64"), ("bool", "bool"), ("complex64", "float64")]
        )
    )
    arrays = [data.draw(array((d,), shape)) for d in dtypes]
    xs, axis = [xp.asarray(a) for a in arrays], data.draw(axis_of(arrays[0]))
    same(xp.concat(xs, axis=axis), np.concatenate(arrays, axis))
    same(xp.concat(xs, axis=None), np.concatenate(arrays, None))
    same(xp.stack(xs, axis=axis), np.stack(arrays, axis))
    same(xp.broadcast_arrays(xs[0], xs[1][..., :1]), np.broadcast_arrays(arrays[0], arrays[1][..., :1]))
    vectors = [a.reshape(-1)[:3] for a in arrays]
    for indexing in ("xy", "ij"):
        same(
            xp.meshgrid(*map(xp.asarray, vectors), xp.arange(2), indexing=indexing),
            np.meshgrid(*vectors, np.arange(2), indexing=indexing),
        )


@given(array(), SHAPES)
def test_reshape(a: Any, shape: tuple[int, ...]):
    assume(math.prod(shape) == a.size)
    x = xp.asarray(a)
    same(xp.reshape(x, shape), a.reshape(shape))
    same(xp.reshape(x, (-1,), copy=True), a.reshape(-1))
    if a.size:
        assert np.shares_memory(xp.reshape(x, shape, copy=False).numpy(), a)
        assert not np.shares_memory(xp.reshape(x, shape, copy=True).numpy(), a)


# --- searching, sorting, sets ----------------------------------------------------------------------------------------


@given(st.data())
def test_sorting(data: st.DataObject):
    a = data.draw(array(INTEGERS + REAL, FULL_SHAPES, high=4))
    x, axis = xp.asarray(a), data.draw(axis_of(a))
    same(xp.sort(x, axis=axis), np.sort(a, axis))
    same(xp.argsort(x, axis=axis), np.argsort(a, axis, stable=True))
    # Downwards, and stable: equal elements stay in their order.
    down = np.argsort(-a.astype(np.int64), axis, stable=True)
    same(xp.argsort(x, axis=axis, descending=True), down)
    same(xp.sort(x, axis=axis, descending=True), np.take_along_axis(a, down, axis))


@given(st.data())
def test_searching(data: st.DataObject):
    a = data.draw(array(INTEGERS + REAL, FULL_SHAPES))
    x, axis, keepdims = xp.asarray(a), data.draw(st.none() | axis_of(a)), data.draw(st.booleans())
    for name in ("argmax", "argmin"):
        same(getattr(xp, name)(x, axis=axis, keepdims=keepdims), getattr(np, name)(a, axis=axis, keepdims=keepdims))
    same(xp.nonzero(x), np.nonzero(a))
    edges, values = np.sort(a.reshape(-1)), a[..., :1]
    for side in ("left", "right"):
        same(xp.searchsorted(xp.asarray(edges), xp.asarray(values), side=side), np.searchsorted(edges, values, side))
        same(xp.searchsorted(xp.asarray(edges), 4, side=side), np.searchsorted(edges, 4, side))
        order = np.argsort(a.reshape(-1))
        same(
            xp.searchsorted(xp.reshape(x, (-1,)), xp.asarray(values), side=side, sorter=xp.asarray(order)),
            np.searchsorted(edges, values, side),
        )
    same(xp.isin(x, xp.asarray([1, 3], dtype=x.dtype)), np.isin(a, [1, 3]))
    same(xp.isin(3, x, invert=True), np.isin(3, a, invert=True))
    same(xp.where(x > 4, x, 1), np.where(a > 4, a, np.asarray(1, a.dtype)))


@given(hnp.arrays(st.sampled_from(["float32", "complex64", "int8", "bool"]), SHAPES))
def test_sets(a: Any):
    x = xp.asarray(a)
    found = xp.unique_all(x)
    want = np.unique(a, return_index=True, return_inverse=True, return_counts=True, equal_nan=False)
    for ours, numpys in zip(found, want, strict=True):
        assert ours.numpy().dtype == numpys.dtype
    assert found.inverse_indices.shape == x.shape
    np.testing.assert_array_equal(found.values.numpy()[found.inverse_indices.numpy()], a)
    np.testing.assert_array_equal(found.values.numpy(), a.reshape(-1)[found.indices.numpy()])
    assert int(xp.sum(found.counts)) == a.size
    assert np.all(found.counts.numpy()[np.isnan(found.values.numpy())] == 1), "every nan is distinct"
    np.testing.assert_array_equal(xp.unique_values(x).numpy(), found.values.numpy())
    np.testing.assert_array_equal(xp.unique_counts(x).counts.numpy(), found.counts.numpy())
    np.testing.assert_array_equal(xp.unique_inverse(x).inverse_indices.numpy(), found.inverse_indices.numpy())


# --- elementwise -----------------------------------------------------------------------------------------------------


@given(st.data())
def test_clip_keeps_the_dtype(data: st.DataObject):
    a = data.draw(array(INTEGERS + REAL))
    low, high = data.draw(st.none() | st.integers(0, 4)), data.draw(st.none() | st.integers(5, 9) | st.just(10**6))
    same(
        xp.clip(xp.asarray(a), low, high), np.clip(a, low, None if high == 10**6 else high) if (low, high) != (None, None) else a
    )
    bounds = data.draw(hnp.arrays(np.float64, a.shape, elements=st.integers(0, 4)))
    wide = xp.asarray(bounds)
    if a.dtype.kind == "f":
        same(xp.clip(xp.asarray(a), wide, xp.asarray(8.0)), np.clip(a, bounds, 8.0).astype(a.dtype))


@given(array(ALL, low=-9), st.sampled_from(ALL), st.booleans())
def test_astype(a: Any, dtype: str, copy: bool):
    x = xp.asarray(a)
    assume(a.dtype.kind != "c" or dtype in COMPLEX)
    r = xp.astype(x, getattr(xp, dtype), copy=copy)
    same(r, a.astype(dtype))
    assert (r is x) == (not copy and a.dtype == dtype)


@given(hnp.arrays(st.sampled_from(COMPLEX), SHAPES, elements={"allow_nan": False, "allow_infinity": False, "max_magnitude": 9}))
def test_parts_of_complex_numbers(a: Any):
    x = xp.asarray(a)
    for name in ("real", "imag", "conj", "round", "abs"):
        same(getattr(xp, name)(x), getattr(np, name)(a))


# --- creation --------------------------------------------------------------------------------------------------------


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-9, 9).filter(bool), st.sampled_from([*INTEGERS, *REAL, None]))
def test_arange(start: int, stop: int, step: int, dtype: str | None):
    assume(not (dtype or "").startswith("u") or (start >= 0 and stop >= 0))
    same(xp.arange(start, stop, step, dtype=dtype and getattr(xp, dtype)), np.arange(start, stop, step).astype(dtype or "int64"))
    same(xp.arange(start / 8, stop / 8, step / 8), np.arange(start / 8, stop / 8, step / 8, dtype="float32"))


def test_arange_reaches_the_ends_of_its_dtype():
    top = 2**64
    assert xp.arange(top - 2, top, dtype=xp.uint64).tolist() == [top - 2, top - 1]
    assert xp.arange(top - 1, top - 4, -2, dtype=xp.uint64).tolist() == [top - 1, top - 3]
    assert xp.arange(-128, 128, 85, dtype=xp.int8).tolist() == [-128, -43, 42, 127]
    assert xp.arange(3, dtype=xp.float64).tolist() == [0.0, 1.0, 2.0]


@given(st.floats(-9, 9, width=32), st.floats(-9, 9, width=32), st.integers(0, 9), st.booleans(), st.sampled_from([*REAL, None]))
def test_linspace(start: float, stop: float, num: int, endpoint: bool, dtype: str | None):
    x = xp.linspace(start, stop, num, endpoint=endpoint, dtype=dtype and getattr(xp, dtype))
    same(x, np.linspace(start, stop, num, endpoint).astype(dtype or "float32"))
    if num:
        assert float(x[0]) == start
    if num > 1 and endpoint:
        assert float(x[-1]) == stop


@given(st.integers(0, 5), st.none() | st.integers(0, 5), st.integers() | st.integers(-5, 5), st.sampled_from([*ALL, None]))
def test_eye(rows: int, columns: int | None, k: int, dtype: str | None):
    want = np.eye(rows, columns, min(max(k, -9), 9), dtype=dtype or "float32")
    same(xp.eye(rows, columns, k=k, dtype=dtype and getattr(xp, dtype)), want)


@given(SHAPES | st.integers(0, 3), st.sampled_from([*ALL, None]))
def test_filled_arrays(shape: Any, dtype: str | None):
    d = dtype and getattr(xp, dtype)
    for name, value in (("zeros", 0), ("ones", 1)):
        same(getattr(xp, name)(shape, dtype=d), np.full(shape, value, dtype or "float32"))
        like = xp.empty(shape, dtype=xp.int16)
        same(getattr(xp, name + "_like")(like, dtype=d), np.full(shape, value, dtype or "int16"))
    same(xp.full(shape, 3, dtype=d), np.full(shape, 3, dtype or "int64"))
    same(xp.full_like(xp.empty(shape), 3, dtype=d), np.full(shape, 3, dtype or "float32"))
    assert (xp.empty(shape, dtype=d).shape, xp.empty_like(xp.zeros(shape)).shape) == (np.empty(shape).shape,) * 2


def test_defaults_follow_the_kind_of_the_value():
    for value, dtype in ((True, xp.bool), (1, xp.int64), (1.0, xp.float32), (1j, xp.complex64)):
        assert xp.asarray(value).dtype == xp.asarray([[value]]).dtype == xp.full(2, value).dtype == dtype
    T.set_default_dtype(T.float64)
    assert xp.asarray(1.0).dtype == xp.linspace(0, 1, 2).dtype == xp.float64
    assert xp.asarray(1j).dtype == xp.complex128


# --- linear algebra and Fourier transforms ---------------------------------------------------------------------------

STACKS = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=2)


@st.composite
def products(draw: Any) -> tuple[Any, Any]:
    """Two stacks of matrices that can be multiplied, of dtypes that promote to each other."""
    stacks = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=2, max_dims=2)).input_shapes
    rows, inner, columns = (draw(st.integers(0, 3)) for _ in range(3))
    dtypes = draw(
        st.sampled_from(
            [("int8", "int16"), ("uint8", "int8"), ("float32", "float32"), ("float64", "float32"), ("complex64", "float32")]
        )
    )
    return draw(array((dtypes[0],), (*stacks[0], rows, inner), high=3)), draw(
        array((dtypes[1],), (*stacks[1], inner, columns), high=3)
    )


@given(products())
def test_products(pair: Any):
    a, b = pair
    x, y = xp.asarray(a), xp.asarray(b)
    for r in (xp.matmul(x, y), x @ y, xp.linalg.matmul(x, y)):
        same(r, a @ b)
    same(xp.tensordot(x, y, axes=((-1,), (-2,))), np.tensordot(a, b, ((-1,), (-2,))))
    same(xp.tensordot(x, y, axes=0), np.tensordot(a, b, 0))
    right = np.sum(b, -1, dtype=b.dtype)[..., None, :]
    same(xp.vecdot(x, xp.asarray(right)), np.vecdot(a, right))
    same(xp.linalg.outer(xp.reshape(x, (-1,)), xp.reshape(y, (-1,))), np.outer(a, b))
    same(xp.linalg.diagonal(x, offset=1), np.linalg.diagonal(a, offset=1))
    if a.dtype.kind != "c":
        same(xp.linalg.trace(x, offset=10**20), np.linalg.trace(a, offset=99, dtype=np.sum(a).dtype))


@given(st.data())
def test_cross(data: st.DataObject):
    a, b = (data.draw(array(("int16", "int64"), (*data.draw(STACKS), 3))) for _ in range(2))
    assume(a.ndim == b.ndim and all(m == n for m, n in zip(a.shape, b.shape, strict=True)))
    same(xp.linalg.cross(xp.asarray(a), xp.asarray(b)), np.linalg.cross(a, b))
    turned = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    same(xp.linalg.cross(*map(xp.asarray, turned), axis=-a.ndim), np.linalg.cross(*turned, axis=-a.ndim))


@given(st.data())
def test_matrices(data: st.DataObject):
    """Stacks of well-conditioned matrices: what is taken apart goes together again."""
    stack, n = data.draw(STACKS), data.draw(st.integers(0, 4))
    dtype = data.draw(st.sampled_from([*REAL, *COMPLEX]))
    noise = data.draw(hnp.arrays(np.int64, (2, *stack, n, n), elements=st.integers(-3, 3))) / 32
    a = (noise[0] + (1j * noise[1] if dtype in COMPLEX else 0) + np.diag(np.arange(1.0, n + 1))).astype(dtype)
    x, la, close = xp.asarray(a), xp.linalg, 1e-3 if dtype in ("float32", "complex64") else 1e-8
    same(la.det(x), np.linalg.det(a), close)
    same(la.slogdet(x), tuple(np.linalg.slogdet(a)), close)
    same(la.inv(x), np.linalg.inv(a), close)
    for power in (0, 3, -2):
        same(la.matrix_power(x, power), np.linalg.matrix_power(a, power), close)
    hermitian = a @ np.conj(np.swapaxes(a, -1, -2))
    h = xp.asarray(hermitian)
    factor = la.cholesky(h)
    same(factor, np.linalg.cholesky(hermitian), close)
    same(la.cholesky(h, upper=True), np.conj(np.swapaxes(factor.numpy(), -1, -2)), close)
    same(la.eigvalsh(h), np.linalg.eigvalsh(hermitian), close * 10)
    values, vectors = la.eigh(h)
    same(vectors * xp.expand_dims(xp.astype(values, x.dtype), -2) @ xp.conj(vectors.mT), hermitian, close * 10)
    values, vectors = la.eig(x)
    assert values.dtype == vectors.dtype == xp.result_type(x, xp.complex64)
    same(xp.astype(x, values.dtype) @ vectors, (vectors * xp.expand_dims(values, -2)).numpy(), close * 10)
    same(xp.sum(la.eigvals(x), axis=-1), np.trace(a, axis1=-2, axis2=-1).astype(values.numpy().dtype), close * 10)
    if n:
        same(la.pinv(x), np.linalg.inv(a), close * 10)
        same(la.matrix_rank(x, rtol=0.01), np.full(stack, n))


@given(st.data())
def test_rectangles(data: st.DataObject):
    shape = (*data.draw(STACKS), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)))
    dtype = data.draw(st.sampled_from([*REAL, *COMPLEX]))
    a = (data.draw(hnp.arrays(np.int64, shape, elements=st.integers(-4, 4)))).astype(dtype)
    x, la, close = xp.asarray(a), xp.linalg, 1e-3 if dtype in ("float32", "complex64") else 1e-8
    k = min(shape[-2:])
    for mode in ("reduced", "complete"):
        q, r = la.qr(x, mode=mode)
        assert q.shape[-1] == (k if mode == "reduced" else shape[-2])
        same(q @ r, a, close * 10)
    for full in (True, False):
        u, s, vh = la.svd(x, full_matrices=full)
        assert (u.shape[-1], vh.shape[-2]) == (shape[-2:] if full else (k, k))
        same(u[..., :k] * xp.expand_dims(xp.astype(s, x.dtype), -2) @ vh[..., :k, :], a, close * 10)
    same(la.svdvals(x), np.linalg.svdvals(a), close * 10)
    same(xp.matrix_transpose(x), np.swapaxes(a, -1, -2))
    for order in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf):
        for keepdims in (True, False):
            same(
                la.matrix_norm(x, ord=order, keepdims=keepdims),
                np.linalg.matrix_norm(a, ord=order, keepdims=keepdims),
                close * 10,
            )


@given(st.data())
def test_vector_norm(data: st.DataObject):
    a = data.draw(array(REAL + COMPLEX, FULL_SHAPES, low=1))
    kw = {"axis": data.draw(axes_of(a)), "keepdims": data.draw(st.booleans())}
    order = data.draw(st.sampled_from([2, 1, 0, -1, 3, 2.5, math.inf, -math.inf]))
    want = np.abs(a) ** (order != 0) if kw["axis"] == () else np.linalg.vector_norm(a, ord=order, **kw)
    same(xp.linalg.vector_norm(xp.asarray(a), ord=order, **kw), want, 1e-4)


@given(st.data())
def test_solve_takes_a_stack_of_matrices_never_one_of_vectors(data: st.DataObject):
    stacks = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=3, max_dims=2)).input_shapes
    n, columns = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
    a = np.broadcast_to(np.eye(n) * 2, (*stacks[0], n, n))
    b = data.draw(array(("float32",), (*stacks[1], n, columns)))
    same(
        xp.linalg.solve(xp.asarray(a), xp.asarray(b)),
        np.broadcast_to(b, (*np.broadcast_shapes(*stacks), n, columns)).astype("float64") / 2,
    )
    vector = data.draw(array(("float64",), (n,)))
    same(xp.linalg.solve(xp.asarray(a), xp.asarray(vector)), np.broadcast_to(vector / 2, (*stacks[0], n)))


@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft", "fftn", "ifftn", "rfftn", "irfftn"])
@given(data=st.data())
def test_fourier(name: str, data: st.DataObject):
    shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=2, max_side=4)
    a = data.draw(array(REAL if name in ("rfft", "ihfft", "rfftn") else COMPLEX, shapes))
    kw: dict[str, Any] = {"norm": data.draw(st.sampled_from(["backward", "ortho", "forward"]))}
    if name.endswith("n"):
        kw["axes"] = data.draw(hnp.valid_tuple_axes(a.ndim, min_size=1))
        kw["s"] = data.draw(st.none() | st.tuples(*[st.integers(2, 5) for _ in kw["axes"]]))
    else:
        kw["axis"], kw["n"] = data.draw(axis_of(a)), data.draw(st.none() | st.integers(1, 6))
    same(getattr(xp.fft, name)(xp.asarray(a), **kw), getattr(np.fft, name)(a, **kw), 1e-4)


@given(array(REAL + COMPLEX, FULL_SHAPES), st.integers(1, 9), st.floats(0.1, 5))
def test_frequencies(a: Any, n: int, d: float):
    for name in ("fftshift", "ifftshift"):
        same(getattr(xp.fft, name)(xp.asarray(a)), getattr(np.fft, name)(a))
        same(getattr(xp.fft, name)(xp.asarray(a), axes=(0,)), getattr(np.fft, name)(a, (0,)))
    for name in ("fftfreq", "rfftfreq"):
        same(getattr(xp.fft, name)(n, d=d, dtype=xp.float64), getattr(np.fft, name)(n, d))
        assert getattr(xp.fft, name)(n).dtype == xp.float32
