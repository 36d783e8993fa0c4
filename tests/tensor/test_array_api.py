"""`tensor.array_api`: the names and signatures of the standard (2025.12), its array object, promotion, and what goes beyond it: gradients."""

from __future__ import annotations

import inspect
import operator
import os
import subprocess
import sys
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.array_api import make_strategies_namespace

import tensor as T
from tensor import array_api as xp
from tensor.autograd import gradcheck

strategies = make_strategies_namespace(xp)  # hypothesis' own check of a namespace

#: Every function of the standard by its signature.
SIGNATURES = {
    "(x, /)": "abs acos acosh asin asinh atan atanh bitwise_invert ceil conj cos cosh exp expm1 floor imag isfinite isinf isnan log log10 log1p log2"
    " logical_not negative positive real reciprocal round sign signbit sin sinh sqrt square tan tanh trunc nonzero unique_all unique_counts"
    " unique_inverse unique_values matrix_transpose linalg.det linalg.eig linalg.eigh linalg.eigvals linalg.eigvalsh linalg.inv linalg.slogdet"
    " linalg.svdvals linalg.matrix_transpose",
    "(x1, x2, /)": "add atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor copysign divide equal floor_divide greater"
    " greater_equal hypot less less_equal logaddexp logical_and logical_or logical_xor maximum minimum multiply nextafter not_equal pow remainder"
    " subtract matmul linalg.matmul linalg.outer linalg.solve",
    "(x, /, *, axis=None, keepdims=False)": "all any argmax argmin count_nonzero max mean min",
    "(x, /, *, axis=None, dtype=None, keepdims=False)": "prod sum",
    "(x, /, *, axis=None, correction=0.0, keepdims=False)": "std var",
    "(x, /, *, axis=None, dtype=None, include_initial=False)": "cumulative_prod cumulative_sum",
    "(x, /, *, axis=-1, descending=False, stable=True)": "argsort sort",
    "(x, /, *, axis=-1, n=1, prepend=None, append=None)": "diff",
    "(x1, x2, /, *, axis=-1)": "vecdot linalg.vecdot linalg.cross",
    "(x1, x2, /, *, axes=2)": "tensordot linalg.tensordot",
    "(x1, x2, /, *, invert=False)": "isin",
    "(x1, x2, /, *, side='left', sorter=None)": "searchsorted",
    "(condition, x1, x2, /)": "where",
    "(x, /, min=None, max=None)": "clip",
    "(x, indices, /, *, axis=None)": "take",
    "(x, indices, /, *, axis=-1)": "take_along_axis",
    "(*shapes)": "broadcast_shapes",
    "(*arrays)": "broadcast_arrays",
    "(*arrays_and_dtypes)": "result_type",
    "(*arrays, indexing='xy')": "meshgrid",
    "(x, /, shape)": "broadcast_to",
    "(arrays, /, *, axis=0)": "concat stack",
    "(x, /, *, axis=0)": "unstack",
    "(x, /, axis)": "expand_dims squeeze",
    "(x, /, *, axis=None)": "flip",
    "(x, source, destination, /)": "moveaxis",
    "(x, /, axes)": "permute_dims",
    "(x, repeats, /, *, axis=None)": "repeat",
    "(x, /, shape, *, copy=None)": "reshape",
    "(x, /, shift, *, axis=None)": "roll",
    "(x, repetitions, /)": "tile",
    "(start, /, stop=None, step=1, *, dtype=None, device=None)": "arange",
    "(obj, /, *, dtype=None, device=None, copy=None)": "asarray",
    "(shape, *, dtype=None, device=None)": "empty ones zeros",
    "(x, /, *, dtype=None, device=None)": "empty_like ones_like zeros_like",
    "(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None)": "eye",
    "(x, /, *, device=None, copy=None)": "from_dlpack",
    "(shape, fill_value, *, dtype=None, device=None)": "full",
    "(x, /, fill_value, *, dtype=None, device=None)": "full_like",
    "(start, stop, /, num, *, dtype=None, device=None, endpoint=True)": "linspace",
    "(x, /, *, k=0)": "tril triu",
    "(x, dtype, /, *, copy=True, device=None)": "astype",
    "(from_, to, /)": "can_cast",
    "(type, /)": "finfo iinfo",
    "(dtype, kind)": "isdtype",
    "()": "__array_namespace_info__",
    "(x, /, *, upper=False)": "linalg.cholesky",
    "(x, /, *, offset=0)": "linalg.diagonal",
    "(x, /, *, offset=0, dtype=None)": "linalg.trace",
    "(x, /, *, keepdims=False, ord='fro')": "linalg.matrix_norm",
    "(x, n, /)": "linalg.matrix_power",
    "(x, /, *, rtol=None)": "linalg.matrix_rank linalg.pinv",
    "(x, /, *, mode='reduced')": "linalg.qr",
    "(x, /, *, full_matrices=True)": "linalg.svd",
    "(x, /, *, axis=None, keepdims=False, ord=2)": "linalg.vector_norm",
    "(x, /, *, n=None, axis=-1, norm='backward')": "fft.fft fft.ifft fft.rfft fft.irfft fft.hfft fft.ihfft",
    "(x, /, *, s=None, axes=None, norm='backward')": "fft.fftn fft.ifftn fft.rfftn fft.irfftn",
    "(n, /, *, d=1.0, dtype=None, device=None)": "fft.fftfreq fft.rfftfreq",
    "(x, /, *, axes=None)": "fft.fftshift fft.ifftshift",
}

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64", "complex64", "complex128")
#: Pairs whose promotion the standard defines; NumPy's is the same there.
PAIRS = [
    *((a, b) for a in INTEGERS for b in INTEGERS if {a, b} != {"uint64", a, b} or a[0] == b[0]),
    *((a, b) for a in FLOATS for b in FLOATS),
    ("bool", "bool"),
]
PAIRS = [(a, b) for a, b in PAIRS if np.result_type(a, b).kind != "f" or a[0] == "f"]

OPERATORS = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.truediv, "floor_divide": operator.floordiv,
    "remainder": operator.mod, "pow": operator.pow, "bitwise_and": operator.and_, "bitwise_or": operator.or_, "bitwise_xor": operator.xor,
    "bitwise_left_shift": operator.lshift, "bitwise_right_shift": operator.rshift, "equal": operator.eq, "not_equal": operator.ne,
    "less": operator.lt, "less_equal": operator.le, "greater": operator.gt, "greater_equal": operator.ge,
}  # fmt: skip
IN_PLACE = {
    "add": operator.iadd, "subtract": operator.isub, "multiply": operator.imul, "divide": operator.itruediv, "floor_divide": operator.ifloordiv,
    "remainder": operator.imod, "pow": operator.ipow, "bitwise_and": operator.iand, "bitwise_or": operator.ior, "bitwise_xor": operator.ixor,
    "bitwise_left_shift": operator.ilshift, "bitwise_right_shift": operator.irshift,
}  # fmt: skip
KINDS = {
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor"), "biu"), **dict.fromkeys(("bitwise_left_shift", "bitwise_right_shift"), "iu"),
    **dict.fromkeys(("add", "subtract", "multiply", "pow"), "iufc"), "divide": "fc", **dict.fromkeys(("floor_divide", "remainder"), "iuf"),
    **dict.fromkeys(("equal", "not_equal"), "biufc"), **dict.fromkeys(("less", "less_equal", "greater", "greater_equal"), "iuf"),
}  # fmt: skip


def parameters(f: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]


def lookup(name: str) -> Any:
    return operator.attrgetter(name)(xp)


@pytest.mark.parametrize("signature, name", [(s, name) for s, names in SIGNATURES.items() for name in names.split()])
def test_signature(signature: str, name: str):
    scope: dict[str, Any] = {}
    exec(f"def wanted{signature}: ...", scope)
    assert parameters(lookup(name)) == parameters(scope["wanted"])
    assert lookup(name).__doc__


def test_there_is_nothing_beside_the_standard():
    functions = {name for names in SIGNATURES.values() for name in names.split()}
    constants = {"e", "inf", "nan", "newaxis", "pi", "__array_api_version__"}
    others = {"Array", "bool", *INTEGERS, *FLOATS, *constants, "fft", "linalg"}
    assert set(xp.__all__) == {name for name in functions if "." not in name} | others
    assert {f"linalg.{name}" for name in xp.linalg.__all__} | {f"fft.{name}" for name in xp.fft.__all__} == {
        f for f in functions if "." in f
    }


def test_tensors_know_their_namespace():
    for t in (T.ones(2), xp.ones(2)):
        assert t.__array_namespace__() is t.__array_namespace__(api_version="2022.12") is xp
    assert xp.__array_api_version__ == "2025.12"
    with pytest.raises(ValueError, match=r"__array_namespace__: expected a revision among '2021.12', .*, got '2019.12'"):
        xp.ones(2).__array_namespace__(api_version="2019.12")


def test_what_the_namespace_says_of_itself():
    info = xp.__array_namespace_info__()
    assert info.capabilities() == {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}
    assert isinstance(info.devices(), tuple)
    assert info.default_device() in info.devices()
    assert xp.ones(1).device == info.default_device()
    defaults = info.default_dtypes(device=info.default_device())
    assert defaults == {"real floating": xp.float32, "complex floating": xp.complex64, "integral": xp.int64, "indexing": xp.int64}
    T.set_default_dtype(T.float64)
    assert info.default_dtypes()["real floating"] == xp.zeros(1).dtype == xp.float64
    assert set(info.dtypes()) == {"bool", *INTEGERS, *FLOATS}
    assert info.dtypes(kind=("bool", "complex floating")) == {d.name: d for d in (xp.bool, xp.complex64, xp.complex128)}
    for name, d in info.dtypes().items():
        assert xp.empty(1, dtype=d).dtype is d is getattr(xp, name)
    with pytest.raises(ValueError, match=r"dtypes: expected a kind among 'bool', .*, got 'float'"):
        info.dtypes(kind="float")


# --- promotion -------------------------------------------------------------------------------------------------------

SHAPES = hnp.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=3, max_dims=2).map(lambda s: s.input_shapes)


@st.composite
def two_arrays(draw: Any, kinds: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Small whole numbers, so that every operator is exact, of dtypes and shapes that go together, 0-d arrays among them."""
    dtypes = draw(st.sampled_from([p for p in PAIRS if np.result_type(*p).kind in kinds]))
    shapes = draw(SHAPES)
    return tuple(draw(hnp.arrays(np.int64, s, elements=st.integers(1, 5))).astype(d) for d, s in zip(dtypes, shapes, strict=True))


@pytest.mark.parametrize("name", OPERATORS)
def test_promotion_looks_at_dtypes_alone(name: str):
    """Functions, operators and in-place operators against NumPy, which promotes 0-d arrays like any other."""
    numpy = {"pow": np.power}.get(name) or OPERATORS[name]

    @settings(max_examples=30)
    @given(two_arrays(KINDS[name]))
    def check(pair: Any) -> None:
        a, b = pair
        want = np.asarray(numpy(a, b))
        x, y = xp.asarray(a, copy=True), xp.asarray(b)
        results = [getattr(xp, name)(x, y), OPERATORS[name](x, y), OPERATORS[name](a, y), OPERATORS[name](x, T.tensor(b))]
        if name in IN_PLACE and want.dtype == a.dtype and want.shape == a.shape:
            results.append(IN_PLACE[name](x, y))
            assert results[-1] is x
        for r in results:
            assert type(r) is xp.Array
            np.testing.assert_allclose(r.numpy(), want, rtol=1e-6)
            assert r.numpy().dtype == want.dtype

    check()


@given(st.sampled_from(PAIRS), SHAPES)
def test_result_type_and_can_cast_agree_with_numpy(pair: tuple[str, str], shapes: Any):
    a, b = pair
    want = np.result_type(a, b)
    x = xp.zeros(shapes[0], dtype=getattr(xp, a))
    assert xp.result_type(x, getattr(xp, b)) == xp.result_type(getattr(xp, b), x) == T.as_dtype(want)
    assert xp.can_cast(x, getattr(xp, b)) == xp.can_cast(getattr(xp, a), getattr(xp, b)) == (want == np.dtype(b))


def test_numbers_are_weak():
    for d in INTEGERS:
        x = xp.asarray([1, 2], dtype=getattr(xp, d))
        assert (x + 1).dtype == (2 * x).dtype == xp.result_type(x, 1) == getattr(xp, d)
        assert xp.result_type(x, 1.0) == (x * 1.0).dtype == xp.float32
    for d in FLOATS:
        x = xp.asarray(1.0, dtype=getattr(xp, d))
        assert (x + 1).dtype == (1.5 / x).dtype == xp.result_type(1.5, x) == getattr(xp, d)
    assert xp.result_type(xp.float64, 1j) == (xp.ones(1, dtype=xp.float64) * 1j).dtype == xp.complex128
    with pytest.raises(ValueError, match="result_type: expected at least one array or dtype"):
        xp.result_type(1.0)


def test_tensors_keep_their_own_promotion():
    """A plain Tensor is PyTorch's: only what the namespace returns follows the standard."""
    t, zero_d = T.ones(2, dtype=T.int8), T.ones((), dtype=T.int64)
    assert (t + zero_d).dtype is T.int8
    assert xp.add(t, zero_d).dtype is (xp.asarray(t) + zero_d).dtype is (zero_d + xp.asarray(t)).dtype is T.int64
    assert type(t) is T.Tensor
    assert type(xp.asarray(t)) is xp.Array
    assert np.shares_memory(xp.asarray(t).numpy(), t.numpy())


# --- the array object ------------------------------------------------------------------------------------------------


def test_size_is_a_number_and_a_method():
    for t in (T.zeros(2, 3), xp.zeros((2, 3))):
        assert t.size == 6
        assert isinstance(t.size, int)
        assert t.size() == (2, 3)
        assert t.size(0) == t.size(dim=-2) == 2
    assert T.zeros(()).size == 1
    assert T.zeros(3, 0).size == 0


@given(st.data())
def test_indexing_like_numpy(data: st.DataObject):
    a = np.arange(60).reshape(data.draw(st.sampled_from([(60,), (6, 10), (3, 4, 5)])))
    key = data.draw(hnp.basic_indices(a.shape, allow_newaxis=True, allow_ellipsis=True))
    x = xp.asarray(a)
    assert type(x[key]) is xp.Array
    np.testing.assert_array_equal(x[key].numpy(), a[key])
    value = data.draw(st.sampled_from([-1, np.arange(np.size(a[key])).reshape(np.shape(a[key]))]))
    written, copy = xp.asarray(x, copy=True), a.copy()
    written[key] = value if isinstance(value, int) else xp.asarray(value)
    copy[key] = value
    np.testing.assert_array_equal(written.numpy(), copy)
    assert a.sum() == np.arange(60).sum()


def test_index_arrays_and_masks():
    a = np.arange(12.0).reshape(3, 4)
    x = xp.asarray(a)
    rows, mask = xp.asarray([2, 0, -1]), x > 5.0
    np.testing.assert_array_equal(x[rows].numpy(), a[[2, 0, -1]])
    np.testing.assert_array_equal(x[rows, xp.asarray([0, 1, 1])].numpy(), a[[2, 0, -1], [0, 1, 1]])
    np.testing.assert_array_equal(x[mask].numpy(), a[a > 5])
    with pytest.raises(IndexError, match="getitem: slices that count down cannot be mixed with index arrays"):
        x[::-1, rows]


def test_reading_backwards_is_differentiable():
    x = T.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    assert gradcheck(
        lambda t: xp.asarray(t)[:, ::-2] * xp.asarray([[1.0, 10.0]], dtype=xp.float64), (x.double().detach().requires_grad_(),)
    )


def test_transposes():
    x = xp.reshape(xp.arange(6), (2, 3))
    assert x.T.tolist() == x.mT.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert type(x.mT) is xp.Array
    assert (x.mT @ x).dtype == xp.int64
    for attribute, shape, message in [
        ("T", (2, 3, 4), "T: expected a matrix, got 3"),
        ("mT", (3,), "mT: expected at least two dim"),
    ]:
        with pytest.raises(ValueError, match=message):
            getattr(xp.zeros(shape), attribute)


def test_out_into_python():
    assert (int(xp.asarray(3)), float(xp.asarray(2.5)), complex(xp.asarray(1j)), bool(xp.asarray(0))) == (3, 2.5, 1j, False)
    assert range(9)[xp.asarray(4, dtype=xp.uint8)] == 4
    assert {xp.ones(1): 1}
    assert [int(row[0]) for row in xp.asarray([[1], [2]])] == [1, 2]
    with pytest.raises(TypeError, match="only integer tensors of one element can be an index"):
        operator.index(xp.asarray(1.0))
    with pytest.raises(RuntimeError, match="ambiguous"):
        bool(xp.ones(2))


def test_operators_leave_what_they_do_not_know_to_the_other_side():
    class Other:
        def __radd__(self, x: Any) -> str:
            return "mine"

    assert xp.ones(1) + Other() == "mine"
    with pytest.raises(TypeError, match="unsupported operand"):
        xp.ones(1) - "text"
    assert (xp.ones(1) == "text") is False
    assert (xp.ones(1) != None) is True  # noqa: E711 (the operator is what is tested)


# --- gradients -------------------------------------------------------------------------------------------------------

M = np.array([[4.0, 1.0, 0.5], [1.2, 3.0, 0.25], [0.6, 0.3, 2.0]])  # no two elements alike
DIFFERENTIABLE: dict[str, Any] = {
    "operators": lambda x: (x + 1) * x / (2 + x) - x**2 + (-x) @ x,
    "of a chain": lambda x: xp.sum(xp.exp(xp.sin(x)) * xp.sqrt(x), axis=(0, 1), keepdims=True),
    "var": lambda x: xp.var(x, axis=(0,), correction=1.0),
    "prod": lambda x: xp.prod(x, axis=(0, 1)),
    "max": lambda x: xp.max(x, axis=None),
    "clip": lambda x: xp.clip(x, 0.4, 2.5),
    "where": lambda x: xp.where(x > xp.asarray(1.1, dtype=xp.float64), x, 2 * x),
    "cumulative_sum": lambda x: xp.cumulative_sum(x, axis=1, include_initial=True) ** 2,
    "concat": lambda x: xp.concat([x, x.T], axis=None) ** 2,
    "roll": lambda x: xp.roll(xp.flip(x, axis=0), (1, -1), axis=(0, 1)) ** 2,
    "repeat": lambda x: xp.repeat(x, 2, axis=0) ** 2,
    "take": lambda x: xp.take(x, xp.asarray([2, 0]), axis=1) ** 2,
    "sort": lambda x: xp.sort(x, axis=0) ** 2,
    "unique_values": lambda x: xp.unique_values(x) ** 2,
    "tensordot": lambda x: xp.tensordot(x, x, axes=((0,), (1,))),
    "vecdot": lambda x: xp.vecdot(x, x + 1, axis=-1),
    "solve": lambda x: xp.linalg.solve(x, xp.asarray([1.0, 2.0, 3.0], dtype=xp.float64)),
    "eigvalsh": lambda x: xp.linalg.eigvalsh((x + x.mT) / 2),
    "rfft": lambda x: xp.abs(xp.fft.rfft(x, axis=0)),
    "astype": lambda x: xp.astype(x, xp.float64, copy=False) ** 2,
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_flow(name: str):
    leaf = T.tensor(M, requires_grad=True)
    assert gradcheck(lambda x: DIFFERENTIABLE[name](xp.asarray(x)), (leaf,))


def test_arrays_are_leaves_too():
    x = xp.asarray([1.0, 2.0]).requires_grad_()
    (x * xp.asarray(3.0)).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3.0, 3.0]
    y = xp.asarray(x, copy=True)
    y += x
    y[::-1] = y * 2
    assert T.autograd.grad(xp.sum(y[0]), x)[0].tolist() == [0.0, 4.0]
    with pytest.raises(RuntimeError, match="mul_: a leaf tensor that requires grad"):
        x *= 2


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call, error, message", [
    (lambda: xp.sin(xp.asarray([1])), TypeError, "sin: expected an array of a dtype that is real floating or complex floating, got tensor.int64"),
    (lambda: xp.bitwise_and(xp.ones(1), 1), TypeError, "bitwise_and: expected an array of a dtype that is bool or integral, got tensor.float32"),
    (lambda: xp.less(xp.asarray(1j), 1), TypeError, "less: expected an array of a dtype that is integral or real floating, got tensor.complex64"),
    (lambda: xp.abs(3), TypeError, "abs: expected an array, got int"),
    (lambda: xp.add(1, 2), TypeError, "add: expected arrays, or arrays and Python numbers, got int, int"),
    (lambda: xp.astype(xp.asarray(1j), xp.float32), TypeError, "astype: tensor.complex64 cannot become tensor.float32; take real"),
    (lambda: xp.isdtype(xp.int8, "integer"), ValueError, "isdtype: expected a kind among 'bool', .*, got 'integer'"),
    (lambda: xp.finfo(xp.int8), TypeError, "finfo: expected a dtype that is real floating or complex floating, got tensor.int8"),
    (lambda: xp.iinfo(xp.ones(1)), TypeError, "iinfo: expected a dtype that is integral, got tensor.float32"),
    (lambda: xp.asarray([1], copy=False), ValueError, "asarray: Python's numbers and sequences are always copied, got list and copy=False"),
    (lambda: xp.asarray(xp.ones(1), dtype=xp.int8, copy=False), ValueError, "asarray: tensor.float32 cannot become tensor.int8 without a copy"),
    (lambda: xp.reshape(xp.ones((2, 3)).T, (6,), copy=False), ValueError, r"reshape: shape \(3, 2\) with strides \(1, 3\) cannot become \(6,\)"),
    (lambda: xp.expand_dims(xp.ones(2), 2), IndexError, "expand_dims: axis 2 is out of range for 2 dimensions"),
    (lambda: xp.expand_dims(xp.ones(2), (0, -3)), ValueError, r"expand_dims: expected each axis once, got \(0, -3\)"),
    (lambda: xp.squeeze(xp.ones((1, 2)), 1), ValueError, r"squeeze: expected axes of length 1, got axis 1 of shape \(1, 2\)"),
    (lambda: xp.permute_dims(xp.ones((1, 2)), (0,)), ValueError, r"permute_dims: expected 2 axes, got \(0,\)"),
    (lambda: xp.broadcast_to(xp.ones(3), (2,)), ValueError, r"broadcast_shapes: shapes \(3,\), \(2,\) do not broadcast"),
    (lambda: xp.broadcast_to(xp.ones((2, 1)), (1,)), ValueError, r"broadcast_to: shape \(2, 1\) does not broadcast to \(1,\)"),
    (lambda: xp.roll(xp.ones((2, 2)), (1, 2, 3), axis=(0, 1)), ValueError, "roll: expected a shift for each axis, got 3 shifts and 2 axes"),
    (lambda: xp.sum(xp.ones(()), axis=0), IndexError, "sum: axis 0 is out of range for 0 dimensions"),
    (lambda: xp.cumulative_sum(xp.ones((2, 2))), ValueError, "cumulative_sum: expected an axis for 2 dimensions"),
    (lambda: xp.diff(xp.ones(2), n=-1), ValueError, "diff: expected n >= 0, got -1"),
    (lambda: xp.nonzero(xp.ones(())), ValueError, "nonzero: expected at least one dimension"),
    (lambda: xp.take(xp.ones((2, 2)), xp.asarray([0])), ValueError, "take: expected a vector of indices, and an axis for 2 dimensions"),
    (lambda: xp.searchsorted(xp.ones(2), xp.ones(1), side="middle"), ValueError, "side 'left' or 'right', got 1 dimensions and 'middle'"),
    (lambda: xp.meshgrid(xp.ones(2), indexing="yx"), ValueError, "meshgrid: expected indexing 'xy' or 'ij', got 'yx'"),
    (lambda: xp.tensordot(xp.ones((2, 3)), xp.ones((2, 3)), axes=1), ValueError, r"tensordot: shapes \(2, 3\) and \(2, 3\) do not match"),
    (lambda: xp.vecdot(xp.ones(2), xp.ones(1)), ValueError, "vecdot: expected vectors of one length along axis -1"),
    (lambda: xp.linalg.cross(xp.ones(2), xp.ones(2)), ValueError, "cross: expected length 3 along axis -1"),
    (lambda: xp.linalg.qr(xp.eye(2), mode="raw"), ValueError, "qr: expected mode 'reduced' or 'complete', got 'raw'"),
    (lambda: xp.linalg.diagonal(xp.ones(2)), ValueError, "diagonal: expected at least two dimensions, got 1"),
])  # fmt: skip
def test_errors_say_what_was_expected(call: Any, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        call()


def test_results_stay_on_the_device(device: str):
    x = xp.asarray([3.0, 1.0, 2.0, 1.0], device=device)
    results = {
        "operators": (x // 2 + 1) @ x[::-1],
        "where": xp.where(x > 1.5, x, 0.0),
        "clip": xp.clip(x, 1.5, 2),
        "sum": xp.sum(x, axis=()),
        "sort": xp.sort(x, descending=True),
        "unique": xp.unique_values(x),
        "searchsorted": xp.searchsorted(xp.sort(x), 2.0),
        "solve": xp.linalg.solve(xp.eye(4, device=device), x),
        "fft": xp.fft.fft(x),
        "arange": xp.arange(4, device=device),
        "like": xp.full_like(x, 2),
    }
    for name, r in results.items():
        assert r.device == x.device, name
    assert results["unique"].to_device("cpu").tolist() == [1.0, 2.0, 3.0]
    assert results["operators"].tolist() == 2.0 * 1 + 1.0 * 2 + 2.0 * 1 + 1.0 * 3


def test_scipy_computes_on_our_arrays():
    """SciPy asks an array for its namespace when this variable is set before it is imported."""
    code = """
import numpy as np, scipy.cluster.vq, scipy.stats
from tensor import array_api as xp
a = np.random.default_rng(0).random((20, 3))
for f in (scipy.stats.skew, scipy.stats.kurtosis, scipy.cluster.vq.whiten):
    y = f(xp.asarray(a))
    assert type(y) is xp.Array, type(y)
    np.testing.assert_allclose(y.numpy(), f(a), rtol=1e-10)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "SCIPY_ARRAY_API": "1"})


def test_a_tensor_knows_its_namespace_before_anybody_has_asked_for_the_module() -> None:
    code = "import tensor as T; x = T.ones(2); print(x.__array_namespace__().__name__, T.array_api.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["tensor.array_api"] * 2, "")
