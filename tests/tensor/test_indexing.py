"""Reading and writing by index: NumPy's results, our gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tensor as T

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)


@st.composite
def basic(draw: Any) -> tuple[Any, Any]:
    """A shape and an index of ints, slices with positive steps, None and ... ."""
    shape = draw(SHAPES)
    index = draw(hnp.basic_indices(shape, allow_newaxis=True))
    parts = index if isinstance(index, tuple) else (index,)
    forward = tuple(slice(i.start, i.stop, 1) if isinstance(i, slice) and (i.step or 1) < 0 else i for i in parts)
    return shape, forward


@st.composite
def advanced(draw: Any) -> tuple[Any, Any]:
    """A shape and an index with at least one array of integers or bools, and slices beside it."""
    shape = draw(SHAPES)
    kind = draw(st.sampled_from(["mask", "integers", "mixed", "leading-mask"]))
    if kind == "mask":
        return shape, draw(hnp.arrays(np.bool_, shape))
    if kind == "leading-mask":
        return shape, (draw(hnp.arrays(np.bool_, shape[:1])), ...)
    if kind == "integers":
        return shape, draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3)))

    def part(n: int) -> Any:
        places = st.integers(-n, n - 1)
        return st.one_of(st.just(slice(None)), places, st.just(slice(0, n, 2)), hnp.arrays(np.int64, 2, elements=places))

    return shape, tuple(draw(part(n)) for n in shape)


def as_ours(index: Any, wrap: bool) -> Any:
    """The same index with tensors (or lists) in place of arrays."""
    if isinstance(index, tuple):
        return tuple(as_ours(i, wrap) for i in index)
    if isinstance(index, np.ndarray) and index.ndim:
        return T.tensor(index) if wrap else index.tolist()
    return index


def selected(a: Any, index: Any) -> tuple[Any, Any]:
    """The view and the index into it that PyTorch means: whole numbers are taken first, and do not move the arrays' dimension."""
    if not isinstance(index, tuple) or not any(isinstance(i, np.ndarray) and i.ndim for i in index):
        return a, index
    whole = [isinstance(i, (int, np.integer)) for i in index]
    first = tuple(i if n else ... if i is ... else slice(None) for i, n in zip(index, whole, strict=True))
    rest = tuple(i for i, n in zip(index, whole, strict=True) if not n)
    return (a[first], rest) if any(whole) else (a, index)


def read(a: Any, index: Any) -> Any:
    view, rest = selected(a, index)
    return view[rest]


def add_at(a: Any, index: Any, value: Any) -> None:
    view, rest = selected(a, index)
    np.add.at(view, rest, value)


def numbers(shape: Any, start: float = 1) -> Any:
    return np.arange(start, start + np.prod(shape), dtype=np.float64).reshape(shape)


def check_read(shape: Any, index: Any, ours: Any) -> None:
    a = numbers(shape)
    x = T.tensor(a, requires_grad=True)
    y = x[ours]
    expected = read(a, index)
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    assert y.shape == expected.shape
    seed = numbers(expected.shape)
    (g,) = T.autograd.grad(y, x, T.tensor(seed), create_graph=True)
    by_hand = np.zeros(shape)
    add_at(by_hand, index, seed)
    np.testing.assert_array_equal(g.detach().numpy(), by_hand)


@given(basic())
def test_basic_reads(case: Any) -> None:
    shape, index = case
    check_read(shape, index, index)
    t = T.tensor(numbers(shape))
    if 0 not in t[index].shape:
        assert np.shares_memory(t[index].numpy(), t.numpy())


@given(advanced(), st.booleans())
def test_advanced_reads(case: Any, wrap: bool) -> None:
    shape, index = case
    if not wrap and isinstance(index, tuple) and all(isinstance(i, np.ndarray) and not i.ndim for i in index):
        return
    check_read(shape, index, as_ours(index, wrap))


@given(st.one_of(basic(), advanced()), st.sampled_from(["number", "full", "row"]))
def test_writes(case: Any, what: str) -> None:
    """Values and both gradients: what is overwritten loses its gradient, what is written gets it."""
    shape, index = case
    a = numbers(shape)
    target = read(a, index).shape
    hits = np.zeros(shape)
    add_at(hits, index, 1)
    if hits.max(initial=0) > 1:  # which of several writes to one place is last is not defined
        return
    value = np.array(-1.0) if what == "number" or not target else numbers(target[-1:] if what == "row" else target, -50)
    x, v = T.tensor(a, requires_grad=True), T.tensor(value, requires_grad=True)
    y = x.clone()
    y[as_ours(index, True)] = v
    expected = a.copy()
    view, rest = selected(expected, index)
    view[rest] = value
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    seed = numbers(shape)
    (y * T.tensor(seed)).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), seed * (hits == 0))
    np.testing.assert_array_equal(
        v.grad.numpy(), T.tensor(read(seed, index)).sum_to_size(value.shape).numpy() if target else read(seed, index).sum()
    )


@given(advanced())
def test_index_put_accumulates(case: Any) -> None:
    shape, index = case
    a = numbers(shape)
    parts = index if isinstance(index, tuple) else (index,)
    expected = a.copy()
    add_at(expected, parts, 1.0)
    value = T.ones(read(a, parts).shape, dtype=T.float64)
    np.testing.assert_array_equal(T.index_put(T.tensor(a), as_ours(parts, True), value, True).numpy(), expected)


@settings(max_examples=20)
@given(advanced())
def test_second_order_through_reads_and_writes(case: Any) -> None:
    shape, index = case
    x = T.tensor(np.cos(numbers(shape)), requires_grad=True)
    ours = as_ours(index, True)
    assert T.autograd.gradgradcheck(lambda x: x[ours].sin(), (x,), atol=1e-4)


@pytest.mark.parametrize(
    "index, error, text",
    [
        (5, IndexError, "__getitem__: index 5 is out of bounds"), ((0, 0, 0), IndexError, "too many indices"),
        (slice(None, None, -1), ValueError, "step must be greater than zero, got -1"), ([0, 7], IndexError, "out of bounds"),
        (T.tensor([True, False]), IndexError, "boolean index did not match"), (1.5, IndexError, "only integers"), ("a", IndexError, "only integers"),
    ],
)  # fmt: skip
def test_errors_name_the_operation(index: Any, error: type[Exception], text: str) -> None:
    with pytest.raises((error, RuntimeError), match=text):
        T.zeros(3, 2)[index]


def test_writing_errors() -> None:
    t = T.zeros(3, 2)
    with pytest.raises((RuntimeError, ValueError), match=r"expand|shape"):
        t[0] = T.ones(3)
    with pytest.raises(IndexError):
        t[5] = 1.0


def test_integer_0d_tensors_are_ints_and_bools_are_masks() -> None:
    t = T.arange(6).reshape(2, 3)
    assert t[T.tensor(1)].tolist() == [3, 4, 5]
    assert t[T.tensor(1), T.tensor(2)].item() == 5
    assert t[True].shape == (1, 2, 3)
    assert t[T.tensor(False)].shape == (0, 2, 3)
    assert t[T.tensor([1, 0], dtype=T.uint8)].tolist() == [[0, 1, 2]]


def test_iteration_and_containment() -> None:
    x = T.arange(6.0).reshape(2, 3).requires_grad_()
    rows = list(x)
    assert [r.tolist() for r in rows] == [[0, 1, 2], [3, 4, 5]]
    assert rows[0].requires_grad
    assert len(x) == 2
    assert 4.0 in x
    assert 9 not in x
    with pytest.raises(TypeError, match="iter: a 0-d tensor cannot be iterated over"):
        iter(T.tensor(1))
    with pytest.raises(TypeError, match="len: a 0-d tensor has no length"):
        len(T.tensor(1))


@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
def test_scatter_reduce_is_a_loop(reduce: str, include_self: bool) -> None:
    rng = np.random.default_rng(0)
    a, source, index = rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), rng.integers(0, 3, (5, 4))
    how = {"sum": np.sum, "prod": np.prod, "mean": np.mean, "amax": np.max, "amin": np.min}[reduce]
    expected = a.copy()
    for i, j in np.ndindex(3, 4):
        found = source[:, j][index[:, j] == i]
        if len(found):
            expected[i, j] = how([a[i, j], *found] if include_self else found)
    x, s = T.tensor(a, requires_grad=True), T.tensor(source, requires_grad=True)
    at = T.tensor(index)
    np.testing.assert_allclose(x.scatter_reduce(0, at, s, reduce, include_self=include_self).detach().numpy(), expected)
    assert T.autograd.gradcheck(lambda x, s: x.scatter_reduce(0, at, s, reduce, include_self=include_self), (x, s))


def test_whole_numbers_are_taken_before_arrays() -> None:
    """As in PyTorch; to NumPy the number is an array too, and the dimension of the arrays comes first."""
    a = numbers((2, 3, 4))
    for zero in (0, T.tensor(0)):
        y = T.tensor(a)[zero, :, [1, 2]]
        np.testing.assert_array_equal(y.numpy(), a[0][:, [1, 2]])
    x = T.tensor(a)
    x[1, :, T.tensor([0, 3])] = T.zeros(3, 2, dtype=T.float64)
    a[1][:, [0, 3]] = 0
    np.testing.assert_array_equal(x.numpy(), a)


def test_a_value_with_leading_ones_fits_a_mask() -> None:
    x = T.zeros(2, 2)
    x[T.tensor([[True, False], [True, True]])] = T.tensor([[1.0, 2.0, 3.0]])
    assert x.tolist() == [[1, 0], [2, 3]]


@pytest.mark.parametrize("bad", [3, -1])
def test_gather_names_the_index_out_of_range(bad: int) -> None:
    with pytest.raises(RuntimeError, match=f"gather: index {bad} is out of bounds for dimension 1 with size 3"):
        T.zeros(2, 3).gather(1, T.tensor([[0], [bad]]))


def test_gather_along_the_last_dimension_of_a_large_tensor() -> None:
    rng = np.random.default_rng(0)
    a, index = rng.normal(size=(3, 5, 40)), rng.integers(0, 40, (3, 5, 30))
    np.testing.assert_array_equal(T.tensor(a).gather(-1, T.tensor(index)).numpy(), np.take_along_axis(a, index, -1))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32"])
def test_where_of_large_tensors_chooses_the_very_bits(dtype: str) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(80, 70)) * 1e6).astype(dtype), (rng.normal(size=(80, 70)) * 1e6).astype(dtype)
    mask = rng.random((80, 70)) < 0.5
    if a.dtype.kind == "f":
        a[0], b[1] = np.nan, -np.inf
    np.testing.assert_array_equal(T.where(T.tensor(mask), T.tensor(a), T.tensor(b)).numpy(), np.where(mask, a, b))


@pytest.mark.parametrize("shape", [(2, 3), (4,), ()])
def test_unravel_index(shape: Any) -> None:
    n = int(np.prod(shape))
    ours = T.unravel_index(T.arange(n), shape)
    for got, want in zip(ours, np.unravel_index(np.arange(n), shape), strict=True) if shape else ():
        np.testing.assert_array_equal(got.numpy(), want)
    with pytest.raises(ValueError, match="unravel_index: index out of range"):
        T.unravel_index(T.tensor([n]), shape)


def test_nonzero_static() -> None:
    assert T.nonzero_static(T.tensor([0, 1, 2]), size=3).tolist() == [[1], [2], [-1]]
    assert T.nonzero_static(T.tensor([0, 1, 2]), size=1).tolist() == [[1]]
