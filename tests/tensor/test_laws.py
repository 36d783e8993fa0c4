"""Laws that hold for all shapes and numbers, tried on random ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tensor as T

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
NUMBERS = st.floats(-8, 8, width=32).map(lambda v: round(v, 3))
ARRAYS = hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4), elements=NUMBERS)
ORDERED = hnp.arrays(np.int64, hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5), elements=st.integers(-3, 3))
BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.true_divide, "maximum": np.maximum, "minimum": np.minimum,
    "atan2": np.arctan2, "hypot": np.hypot, "remainder": np.remainder, "floor_divide": np.floor_divide, "eq": np.equal, "lt": np.less,
    "logaddexp": np.logaddexp, "copysign": np.copysign,
}  # fmt: skip


def same(t: Any, expected: Any) -> None:
    np.testing.assert_array_equal(t.detach().numpy(), expected)
    assert t.shape == np.shape(expected)


@given(
    hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0, max_side=3), st.sampled_from(list(BINARY)), st.data()
)
def test_broadcasting_is_numpys(shapes: Any, name: str, data: st.DataObject) -> None:
    a, b = (data.draw(hnp.arrays(np.float64, s, elements=NUMBERS)) for s in shapes.input_shapes)
    with np.errstate(all="ignore"):
        expected = BINARY[name](a, b)
    same(getattr(T, name)(T.tensor(a), T.tensor(b)), expected)


@given(SHAPES, SHAPES)
def test_shapes_that_do_not_broadcast_are_an_error_with_both(s: Any, t: Any) -> None:
    try:
        np.broadcast_shapes(s, t)
    except ValueError:
        with pytest.raises(RuntimeError, match=r"^add: .*float32\[.*float32\["):
            T.zeros(s) + T.zeros(t)


@given(hnp.mutually_broadcastable_shapes(num_shapes=1, base_shape=(2, 3, 2), max_dims=3, min_side=1), st.data())
def test_sum_to_size_is_the_adjoint_of_expand(shapes: Any, data: st.DataObject) -> None:
    """<expand(a), b> = <a, sum_to_size(b)>."""
    (small,) = shapes.input_shapes
    a = data.draw(hnp.arrays(np.float64, small, elements=NUMBERS))
    b = data.draw(hnp.arrays(np.float64, shapes.result_shape, elements=NUMBERS))
    wide = T.tensor(a).expand(shapes.result_shape)
    narrow = T.tensor(b).sum_to_size(small)
    assert narrow.shape == small
    np.testing.assert_allclose((wide.numpy() * b).sum(), (a * narrow.numpy()).sum(), atol=1e-9)


@given(ARRAYS, st.data())
def test_broadcast_gradients_have_the_shape_of_their_operand(a: Any, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, a.ndim - 1))
    b = a.take([0], axis)
    x, y = T.tensor(a, requires_grad=True), T.tensor(b, requires_grad=True)
    (x * y).sum().backward()
    same(x.grad, np.broadcast_to(b, a.shape))
    np.testing.assert_allclose(y.grad.numpy(), a.sum(axis, keepdims=True), atol=1e-9)


@given(ARRAYS, st.data())
def test_cat_undoes_split(a: Any, data: st.DataObject) -> None:
    dim = data.draw(st.integers(-a.ndim, a.ndim - 1))
    size = data.draw(st.integers(1, 5))
    x = T.tensor(a, requires_grad=True)
    for parts in (x.split(size, dim), x.chunk(size, dim), T.tensor_split(x, size, dim)):
        whole = T.cat(parts, dim)
        same(whole, a)
        (g,) = T.autograd.grad(whole, x, T.tensor(a))
        same(g, a)


@given(ARRAYS, st.data())
def test_stack_undoes_unbind(a: Any, data: st.DataObject) -> None:
    dim = data.draw(st.integers(-a.ndim, a.ndim - 1))
    same(T.stack(T.tensor(a).unbind(dim), dim), a)


@given(ORDERED, st.data(), st.booleans())
def test_sort_is_numpys_and_stable(a: Any, data: st.DataObject, descending: bool) -> None:
    dim = data.draw(st.integers(-a.ndim, a.ndim - 1))
    values, index = T.sort(T.tensor(a), dim, descending=descending, stable=True)
    order = np.argsort(-a if descending else a, axis=dim, kind="stable")
    same(index, order)
    same(values, np.take_along_axis(a, order, dim))


@given(ORDERED, st.data(), st.booleans())
def test_topk_is_the_start_of_the_sorted(a: Any, data: st.DataObject, largest: bool) -> None:
    dim = data.draw(st.integers(0, a.ndim - 1))
    k = data.draw(st.integers(0, a.shape[dim]))
    values, index = T.topk(T.tensor(a), k, dim, largest)
    ordered = np.sort(a, dim)
    ordered = np.flip(ordered, dim) if largest else ordered
    same(values, ordered.take(range(k), dim))
    same(T.tensor(a).gather(dim, index), values.numpy())


@given(ORDERED, st.data())
def test_reductions_are_numpys(a: Any, data: st.DataObject) -> None:
    dims = data.draw(st.sets(st.integers(0, a.ndim - 1), min_size=1).map(sorted).map(tuple))
    keep = data.draw(st.booleans())
    t = T.tensor(a)
    same(t.sum(dims, keepdim=keep), a.sum(dims, keepdims=keep))
    same(t.amax(dims, keepdim=keep), a.max(dims, keepdims=keep))
    same(t.any(dims, keepdim=keep), a.any(dims, keepdims=keep))
    np.testing.assert_allclose(t.double().mean(dims, keep).numpy(), a.mean(dims, keepdims=keep))
    np.testing.assert_allclose(t.double().var(dims, False, keep).numpy(), a.var(dims, keepdims=keep), atol=1e-12)
    same(t.argmax(dims[0]), a.argmax(dims[0]))
    same(t.cumsum(dims[0]), a.cumsum(dims[0]))


@given(ARRAYS, st.data())
def test_permutations_compose(a: Any, data: st.DataObject) -> None:
    p = data.draw(st.permutations(range(a.ndim)))
    t = T.tensor(a).permute(*p)
    same(t, a.transpose(p))
    same(t.permute(*np.argsort(p).tolist()), a)
    assert t.numpy().base is not None


@given(st.integers(1, 3), st.integers(0, 3), st.integers(1, 3), st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_matmul_is_numpys(n: int, k: int, m: int, vector: bool, batch: bool, random: Any) -> None:
    rng = np.random.default_rng(random.randrange(1000))
    a, b = rng.normal(size=(2, n, k) if batch else (n, k)), rng.normal(size=k if vector else (k, m))
    x, y = T.tensor(a, requires_grad=True), T.tensor(b, requires_grad=True)
    z = x @ y
    np.testing.assert_allclose(z.detach().numpy(), a @ b)
    assert T.autograd.gradcheck(T.matmul, (x, y))


@given(ARRAYS)
def test_softmax_is_a_distribution_that_shifts_leave_alone(a: Any) -> None:
    t = T.tensor(a)
    y = t.softmax(-1)
    np.testing.assert_allclose(y.sum(-1).numpy(), 1)
    np.testing.assert_allclose(y.numpy(), (t + 500).softmax(-1).numpy(), atol=1e-9)
    np.testing.assert_allclose(y.log().numpy(), t.log_softmax(-1).numpy(), atol=1e-9)


@given(st.sampled_from(["ij,jk->ik", "bij,bjk->bik", "ii->i", "ij->ji", "i,j->ij", "ij,ij->", "...i,ij->...j", "bij,kj->bik"]))
def test_einsum_is_numpys(equation: str) -> None:
    sizes = dict(zip("bijk", (2, 3, 3, 2), strict=True))
    rng = np.random.default_rng(0)
    shapes = [[n for c in t.replace("...", "b") for n in [sizes[c]]] for t in equation.split("->")[0].split(",")]
    arrays = [rng.normal(size=s) for s in shapes]
    np.testing.assert_allclose(T.einsum(equation, *map(T.tensor, arrays)).numpy(), np.einsum(equation, *arrays), atol=1e-12)
