"""Random programs: straight lines of operators, views and in-place writes, against NumPy and against finite differences.

A program is a list of steps, each a number for the operation and some for its choices. It is first *planned* on NumPy arrays,
where every choice becomes definite (which variables, which axis, which slice); the plan then runs on NumPy and on tensors. All
variables must agree at the end, and the gradient of a weighted sum of all of them must be what central differences of the NumPy
run give. Views share memory in both, so a write through one must show in all, and in the gradient.
"""

from __future__ import annotations

import itertools
import operator
from typing import Any

import numpy as np
import scipy.special as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import tensor as T

#: A definite step: operation, the variables it reads (or writes, the first), and its options.
Planned = tuple[str, tuple[int, ...], tuple[Any, ...]]
LARGEST, SMALLEST_GAP, STEP = 50.0, 1e-3, 1e-5


def gap(*xs: Any) -> None:
    """Not a program for finite differences: a kink is too near."""
    if any(np.size(x) and np.min(np.abs(x)) < SMALLEST_GAP for x in xs):
        raise Skipped


class Skipped(Exception):
    """This step cannot be done here; the program goes on without it."""


# --- the operations: how each is done with NumPy, and how with tensors ---------------------------------------------------

UNARY: dict[str, tuple[Any, Any]] = {
    "sin": (np.sin, T.sin), "tanh": (np.tanh, T.tanh), "sigmoid": (sp.expit, T.sigmoid), "neg": (np.negative, operator.neg),
    "square": (np.square, T.square), "exp": (lambda a: np.exp(np.sin(a)), lambda a: a.sin().exp()), "atan": (np.arctan, T.atan),
    "sqrt": (lambda a: np.sqrt(a * a + 1), lambda a: (a * a + 1).sqrt()), "erf": (sp.erf, T.erf), "pow": (lambda a: a**3, lambda a: a**3),
    "log1p": (lambda a: np.log1p(a * a), lambda a: (a * a).log1p()), "reciprocal": (lambda a: 1 / (2 + np.cos(a)), lambda a: 1 / (2 + a.cos())),
    "softplus": (lambda a: np.logaddexp(a, 0), T.nn.functional.softplus), "clone": (np.copy, lambda a: a.clone()),
    "float32 and back": (lambda a: np.float32(np.rint(a)).astype(np.float64), lambda a: a.round().float().double()),
}  # fmt: skip
BINARY: dict[str, tuple[Any, Any]] = {
    "add": (np.add, operator.add), "sub": (np.subtract, operator.sub), "mul": (np.multiply, operator.mul),
    "div": (lambda a, b: a / (b * b + 1), lambda a, b: a / (b * b + 1)), "atan2": (lambda a, b: np.arctan2(a, b * b + 1), lambda a, b: T.atan2(a, b * b + 1)),
    "hypot": (lambda a, b: np.hypot(a, b * b + 1), lambda a, b: T.hypot(a, b * b + 1)), "logaddexp": (np.logaddexp, T.logaddexp),
    "power": (lambda a, b: (2 + np.sin(a)) ** np.tanh(b), lambda a, b: (2 + a.sin()) ** b.tanh()), "scale by int": (lambda a, b: a * np.ceil(b).astype(np.int64), lambda a, b: a * b.ceil().long()),
}  # fmt: skip
#: Two operands with a kink where they meet.
MEETING: dict[str, tuple[Any, Any]] = {
    "maximum": (np.maximum, T.maximum), "minimum": (np.minimum, T.minimum), "gate": (lambda a, b: a * (a > b), lambda a, b: a * (a > b)),
    "where": (lambda a, b: np.where(a > b, a * 2, b), lambda a, b: T.where(a > b, a * 2, b)),
}  # fmt: skip
REDUCE: dict[str, tuple[Any, Any]] = {
    "sum": (lambda a, d, k: np.sum(a, d, keepdims=k), lambda a, d, k: a.sum(d, keepdim=k)), "mean": (lambda a, d, k: np.mean(a, d, keepdims=k), lambda a, d, k: a.mean(d, keepdim=k)),
    "prod": (lambda a, d, k: np.prod(np.sin(a), d, keepdims=k), lambda a, d, k: a.sin().prod(d, keepdim=k)), "var": (lambda a, d, k: np.var(a, d, keepdims=k), lambda a, d, k: a.var(d, correction=0, keepdim=k)),
    "logsumexp": (lambda a, d, k: sp.logsumexp(a, d, keepdims=k), lambda a, d, k: a.logsumexp(d, keepdim=k)), "cumsum": (lambda a, d, k: np.cumsum(a, d), lambda a, d, k: a.cumsum(d)),
    "softmax": (lambda a, d, k: sp.softmax(a, d), lambda a, d, k: a.softmax(d)), "flip": (lambda a, d, k: np.flip(a, d).copy(), lambda a, d, k: a.flip(d)),
    "roll": (lambda a, d, k: np.roll(a, 1, d), lambda a, d, k: a.roll(1, d)), "sort": (lambda a, d, k: np.sort(a, d), lambda a, d, k: a.sort(d)[0]),
    "norm": (lambda a, d, k: np.sqrt((a * a).sum(d, keepdims=k) + 1), lambda a, d, k: ((a * a).sum(d, keepdim=k) + 1).sqrt()),
}  # fmt: skip
VIEW: dict[str, tuple[Any, Any]] = {
    "slice": (lambda a, where: a[(*where, ...)], lambda a, where: a[where]), "swap": (lambda a, d, e: np.swapaxes(a, d, e), lambda a, d, e: a.transpose(d, e)),
    "permute": (lambda a, p: np.transpose(a, p), lambda a, p: a.permute(*p)), "unsqueeze": (lambda a, d: np.expand_dims(a, d), lambda a, d: a.unsqueeze(d)),
    "select": (lambda a, d, i: a[(slice(None),) * d + (i, ...)], lambda a, d, i: a.select(d, i)),
    "narrow": (lambda a, d, s, n: a[(slice(None),) * d + (slice(s, s + n),)], lambda a, d, s, n: a.narrow(d, s, n)),
    "unbind": (lambda a, i: a[i, ...], lambda a, i: a.unbind(0)[i]), "chunk": (lambda a, i: a[: (len(a) + 1) // 2] if i == 0 else a[(len(a) + 1) // 2 :], lambda a, i: a.chunk(2)[i]),
    "expand": (lambda a, n: np.broadcast_to(a, (n, *a.shape)), lambda a, n: a.expand(n, *a.shape)), "T": (lambda a: a.T, lambda a: a.permute(*range(a.ndim)[::-1])),
    "view": (lambda a, shape: a.reshape(shape), lambda a, shape: a.view(*shape)),
}  # fmt: skip
INDEX: dict[str, tuple[Any, Any]] = {
    "take": (lambda a, d, i: np.take(a, i, d), lambda a, d, i: a.index_select(d, T.tensor(i))), "advanced": (lambda a, d, i: a[(slice(None),) * d + (i,)], lambda a, d, i: a[(slice(None),) * d + (T.tensor(i),)]),
    "mask": (lambda a, m: a[m], lambda a, m: a[T.tensor(m)]), "gather": (lambda a, d, i: np.take_along_axis(a, i, d), lambda a, d, i: a.gather(d, T.tensor(i))),
}  # fmt: skip


def _np_iadd(a: Any, b: Any) -> None:
    a += b


WRITE: dict[str, tuple[Any, Any]] = {
    "add_": (_np_iadd, lambda a, b: a.add_(b)), "mul_": (lambda a, b: np.multiply(a, b, out=a), lambda a, b: a.mul_(b)), "sub_": (lambda a, b: np.subtract(a, b, out=a), lambda a, b: a.sub_(b)),
    "div_": (lambda a, b: np.divide(a, b * b + 1, out=a), lambda a, b: a.div_(b * b + 1)), "copy_": (lambda a, b: np.copyto(a, b), lambda a, b: a.copy_(b)),
    "set all": (lambda a, b: operator.setitem(a, ..., b), lambda a, b: operator.setitem(a, ..., b)),
}  # fmt: skip
WRITE_ALONE: dict[str, tuple[Any, Any]] = {
    "sin_": (lambda a: np.sin(a, out=a), lambda a: a.sin_()), "tanh_": (lambda a: np.tanh(a, out=a), lambda a: a.tanh_()), "neg_": (lambda a: np.negative(a, out=a), lambda a: a.neg_()),
    "zero_": (lambda a: a.fill(0), lambda a: a.zero_()), "mul2": (lambda a: np.multiply(a, 2, out=a), lambda a: a.mul_(2)), "sigmoid_": (lambda a: sp.expit(a, out=a), lambda a: a.sigmoid_()),
    "pow_": (lambda a: np.multiply(a, a, out=a), lambda a: a.pow_(2)), "square_ by *=": (lambda a: np.multiply(a, a.copy(), out=a), lambda a: a.mul_(a)),
}  # fmt: skip
WRITE_AT: dict[str, tuple[Any, Any]] = {
    "set number": (lambda a, w: operator.setitem(a, w, 0.5), lambda a, w: operator.setitem(a, tensor_index(w), 0.5)),
    "fill": (lambda a, w: operator.setitem(a, w, -1.0), lambda a, w: a.masked_fill_(T.tensor(w), -1.0) if isinstance(w, np.ndarray) and w.dtype == bool else operator.setitem(a, tensor_index(w), -1.0)),
}  # fmt: skip
SET_AT: dict[str, tuple[Any, Any]] = {
    "set value": (lambda a, b, w: operator.setitem(a, w, b.copy()), lambda a, b, w: operator.setitem(a, tensor_index(w), b)),
    "add at": (lambda a, b, w: operator.setitem(a, w, a[w] + b), lambda a, b, w: operator.setitem(a, tensor_index(w), a[tensor_index(w)] + b)),
}  # fmt: skip
JOIN: dict[str, tuple[Any, Any]] = {
    "cat": (lambda a, b, d: np.concatenate([a, b], d), lambda a, b, d: T.cat([a, b], d)), "stack": (lambda a, b, d: np.stack([a, b], d), lambda a, b, d: T.stack([a, b], d)),
}  # fmt: skip
PRODUCT: dict[str, tuple[Any, Any]] = {
    "a @ b.T": (lambda a, b: np.matmul(a, np.swapaxes(b, -1, -2) if b.ndim > 1 else b), lambda a, b: a @ (b.transpose(-1, -2) if b.ndim > 1 else b)),
    "einsum": (lambda a, b: np.einsum("...i,...i->...", a, b), lambda a, b: T.einsum("...i,...i->...", a, b)),
}  # fmt: skip
FAMILIES = [UNARY, BINARY, MEETING, REDUCE, VIEW, VIEW, INDEX, WRITE, WRITE, WRITE_ALONE, WRITE_AT, SET_AT, JOIN, PRODUCT]
assert len({name for family in FAMILIES for name in family}) == sum(
    len(family) for family in {id(f): f for f in FAMILIES}.values()
)
DONE = {name: how for family in FAMILIES for name, how in family.items()}
CHANGING = {*WRITE, *WRITE_ALONE, *WRITE_AT, *SET_AT}


def tensor_index(where: Any) -> Any:
    return T.tensor(where) if isinstance(where, np.ndarray) else where


# --- from a drawn step to a definite one -------------------------------------------------------------------------------


def broadcasts(shape: Any, into: Any) -> bool:
    try:
        return np.broadcast_shapes(shape, into) == tuple(into)
    except ValueError:
        return False


def pick(candidates: list[Any], number: int) -> Any:
    if not candidates:
        raise Skipped
    return candidates[number % len(candidates)]


def slices(shape: Any, p: int, q: int) -> tuple[Any, ...]:
    """A part of each dimension that is not empty, sometimes with a step, sometimes an index."""
    parts: list[Any] = []
    for i, n in enumerate(shape):
        kind, start = (p >> i) % 4, (q >> i) % n
        parts.append([slice(None), slice(start, None), slice(None, None, 2), start][kind])
    return tuple(parts)


def mask_of(shape: Any, p: int) -> Any:
    flat = np.arange(int(np.prod(shape)))
    return ((flat * 7 + p) % 3 == 0).reshape(shape)


def options(family: Any, name: str, xs: list[Any], i: int, p: int, q: int) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """The variables and options of a step; variable ``i`` is the first."""
    a = xs[i]
    if family in (BINARY, MEETING):
        j = pick(
            [
                k
                for k, b in enumerate(xs)
                if broadcasts(
                    b.shape,
                    np.broadcast_shapes(a.shape, b.shape) if broadcasts(b.shape, a.shape) or broadcasts(a.shape, b.shape) else (),
                )
            ],
            p,
        )
        if family is MEETING:
            gap(a - xs[j]) if i != j else gap(0)
        elif name == "scale by int":
            gap(xs[j] - np.rint(xs[j]))
        return (i, j), ()
    if family in (WRITE,):
        return (i, pick([k for k, b in enumerate(xs) if broadcasts(b.shape, a.shape)], p)), ()
    if name == "float32 and back":
        gap(a - np.floor(a) - 0.5)
    if family in (UNARY, WRITE_ALONE):
        return (i,), ()
    if family is REDUCE:
        if not a.ndim:
            raise Skipped
        d = p % a.ndim
        if name == "sort":
            gap(np.diff(np.sort(a, d), axis=d))
        return (i,), (d, bool(q % 2))
    if family is JOIN:
        same = [k for k, b in enumerate(xs) if b.shape == a.shape and (b.ndim or name == "stack")]
        return (i, pick(same, p)), (q % max(a.ndim, 1),)
    if family is PRODUCT:
        if not a.ndim:
            raise Skipped
        fits = [
            k for k, b in enumerate(xs) if b.ndim in (1, 2) and b.shape[-1] == a.shape[-1] and (name != "einsum" or b.ndim == 1)
        ]
        return (i, pick(fits, p)), ()
    if family is VIEW:
        return (i,), view_options(name, a, p, q)
    if name == "mask":
        return (i,), (mask_of(a.shape, p),)
    if family is INDEX:
        if not a.ndim:
            raise Skipped
        d = p % a.ndim
        index = np.array([q % a.shape[d], (q + 1) % a.shape[d], q % a.shape[d]])
        return (i,), (
            d,
            np.broadcast_to(
                index.reshape([-1 if k == d else 1 for k in range(a.ndim)]), [3 if k == d else n for k, n in enumerate(a.shape)]
            ).copy()
            if name == "gather"
            else index,
        )
    where = (
        mask_of(a.shape, p)
        if q % 3 == 0
        else slices(a.shape, p, q)
        if q % 3 == 1 or not a.ndim
        else np.unique([p % a.shape[0], q % a.shape[0]])
    )
    if family is WRITE_AT:
        return (i,), (where,)
    region = a[where].shape
    return (i, pick([k for k, b in enumerate(xs) if broadcasts(b.shape, region)], p)), (where,)


def view_options(name: str, a: Any, p: int, q: int) -> tuple[Any, ...]:
    if name == "unsqueeze":
        return (p % (a.ndim + 1),)
    if name == "T":
        return ()
    if name == "expand":
        return (1 + p % 2,)
    if name == "view":
        if not a.flags.c_contiguous:
            raise Skipped
        return (pick([(-1,), (1, a.size), (a.size, 1), (*a.shape, 1)], p),)
    if not a.ndim:
        raise Skipped
    if name == "permute":
        return (pick(list(itertools.permutations(range(a.ndim))), p),)
    if name == "swap":
        return p % a.ndim, q % a.ndim
    if name == "select":
        return p % a.ndim, q % a.shape[p % a.ndim]
    if name == "narrow":
        d = p % a.ndim
        start = q % a.shape[d]
        return d, start, 1 + q % (a.shape[d] - start)
    if name == "unbind":
        return (p % len(a),)
    if name == "chunk":
        return (p % 2 if len(a) > 1 else 0,)
    return (slices(a.shape, p, q),)


def plan(steps: list[tuple[int, int, int, int, int]], inputs: list[Any]) -> list[Planned]:
    """Make every choice, on NumPy arrays."""
    xs = [x.copy() for x in inputs]
    planned: list[Planned] = []
    for f, n, i, p, q in steps:
        family = FAMILIES[f % len(FAMILIES)]
        name = list(family)[n % len(family)]
        writable = [k for k, x in enumerate(xs) if x.flags.writeable]
        try:
            first = pick(writable, i) if name in CHANGING else i % len(xs)
            read, chosen = options(family, name, xs, first, p, q)
        except Skipped:
            continue
        before = [x.copy() for x in xs]
        result = DONE[name][0](*(xs[k] for k in read), *chosen)
        if name in CHANGING:
            if max(np.abs(x).max(initial=0) for x in xs) > LARGEST:  # undone: the views keep their memory
                for x, old in zip(xs, before, strict=True):
                    if x.flags.writeable:
                        x[...] = old
                continue
        elif not result.size or result.size > 64 or np.abs(result).max() > LARGEST:
            continue
        else:
            xs.append(result if isinstance(result, np.ndarray) else np.asarray(result))
        planned.append((name, read, chosen))
    return planned


# --- running a plan -------------------------------------------------------------------------------------------------------


def run_numpy(planned: list[Planned], inputs: list[Any]) -> list[Any]:
    xs = [x.copy() for x in inputs]
    for name, read, chosen in planned:
        result = DONE[name][0](*(xs[k] for k in read), *chosen)
        if name not in CHANGING:
            xs.append(np.asarray(result))
    return xs


def run_tensors(planned: list[Planned], inputs: list[Any], copied: bool) -> list[Any]:
    """``copied``: operators get copies of what they read, and give copies, so that writes cannot reach what they keep for
    backward; ``+ 0`` copies, and keeps the layout of memory, which decides what can be viewed."""
    xs = [x.clone() for x in inputs]
    for name, read, chosen in planned:
        given = [
            xs[k] + 0 if copied and name not in VIEW and not (name in CHANGING and n == 0) else xs[k] for n, k in enumerate(read)
        ]
        result = DONE[name][1](*given, *chosen)
        if name not in CHANGING:
            xs.append(result + 0 if copied and name not in VIEW else result)
    return xs


def weights(xs: list[Any]) -> list[Any]:
    return [np.cos(np.arange(x.size) + k).reshape(x.shape) for k, x in enumerate(xs)]


def differences(planned: list[Planned], inputs: list[Any]) -> list[Any]:
    """The gradient of the weighted sum by central differences."""

    def value() -> float:
        xs = run_numpy(planned, inputs)
        return float(sum((w * x).sum() for w, x in zip(weights(xs), xs, strict=True)))

    gradients = []
    for x in inputs:
        g = np.zeros_like(x)
        for at in np.ndindex(*x.shape):
            old = x[at]
            x[at] = old + STEP
            above = value()
            x[at] = old - STEP
            g[at] = (above - value()) / (2 * STEP)
            x[at] = old
        gradients.append(g)
    return gradients


def gradients_of(xs: list[Any], leaves: list[Any]) -> list[Any]:
    loss = sum((x * T.tensor(w)).sum() for x, w in zip(xs, weights([x.detach().numpy() for x in xs]), strict=True))
    return [g.numpy() for g in T.autograd.grad(loss, leaves, materialize_grads=True)]


SHAPES = [(), (3,), (1,), (2, 3), (3, 2), (2, 1), (2, 2, 2)]
STEPS = st.lists(st.tuples(*[st.integers(0, 63)] * 5), min_size=4, max_size=12)


@settings(max_examples=500)
@given(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3), STEPS, st.integers(0, 999))
def test_programs_agree_with_numpy_and_with_finite_differences(shapes: list[Any], steps: list[Any], seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = [rng.uniform(-2, 2, s) for s in shapes]
    planned = plan(steps, inputs)
    expected = run_numpy(planned, inputs)
    leaves = [T.tensor(x, requires_grad=True) for x in inputs]
    xs = run_tensors(planned, leaves, copied=False)
    for x, e in zip(xs, expected, strict=True):
        assert x.shape == e.shape
        assert x.dtype is T.float64
        np.testing.assert_allclose(x.detach().numpy(), e, rtol=1e-10, atol=1e-10)
    try:
        found = gradients_of(xs, leaves)
    except RuntimeError as e:  # a value that backward needs was written over: the error says whose, and copies help
        assert "changed by an in-place operation" in str(e)  # noqa: PT017
        found = gradients_of(run_tensors(planned, leaves, copied=True), leaves)
    for g, d in zip(found, differences(planned, inputs), strict=True):
        np.testing.assert_allclose(g, d, rtol=1e-4, atol=1e-5 * (1 + np.abs(d).max(initial=0)))


# --- dtypes ---------------------------------------------------------------------------------------------------------------

#: Kinds in order: of operands of unlike kinds the higher decides. Within a kind the wider one does.
KINDS = ["bool", "int", "float", "complex"]
DTYPES = {
    "bool": ("bool", 1), "uint8": ("int", 8), "int8": ("int", 8), "int16": ("int", 16), "int32": ("int", 32), "int64": ("int", 64),
    "float16": ("float", 16), "float32": ("float", 32), "float64": ("float", 64), "complex64": ("complex", 64), "complex128": ("complex", 128),
}  # fmt: skip
ARITHMETIC: dict[str, Any] = {"add": np.add, "mul": np.multiply, "maximum": np.maximum, "div": np.true_divide, "eq": np.equal}


def wider(a: str, b: str) -> str:
    """The dtype of a table with both, as PyTorch's documentation of type promotion has it."""
    (ka, na), (kb, nb) = DTYPES[a], DTYPES[b]
    if {a, b} in ({"uint8", "int8"},):
        return "int16"
    if {ka, kb} == {"float", "complex"}:
        width = max(2 * na if ka == "float" else na, 2 * nb if kb == "float" else nb)
        return "complex64" if width <= 64 else "complex128"
    if ka != kb:
        return a if KINDS.index(ka) > KINDS.index(kb) else b
    return a if na >= nb else b


def promoted(operands: list[tuple[str, str]]) -> str:
    """The dtype of an operation on operands given as (dtype, standing): tensors with dimensions, 0-d tensors, and numbers.

    The first decide; a lower standing counts only when its kind is higher, and then with the default dtype of that kind if it is
    a number.
    """
    result = None
    for standing in ("dims", "0-d", "number"):
        group = [d for d, s in operands if s == standing]
        if not group:
            continue
        best = group[0]
        for d in group[1:]:
            best = wider(best, d)
        if result is None or KINDS.index(DTYPES[best][0]) > KINDS.index(DTYPES[result][0]):
            if result is not None and DTYPES[result][0] == "float":  # made complex in its own precision
                best = "complex128" if result == "float64" else "complex64"
            result = best
    assert result is not None
    return result


NUMBER = {"bool": (True, "bool"), "int": (3, "int64"), "float": (0.5, "float32"), "complex": (1 + 2j, "complex64")}
OPERAND = st.tuples(st.sampled_from([*DTYPES]), st.sampled_from(["dims", "dims", "0-d"])) | st.sampled_from([*NUMBER]).map(
    lambda k: (k, "number")
)


@settings(max_examples=300)
@given(OPERAND, st.lists(st.tuples(st.sampled_from([*ARITHMETIC]), OPERAND, st.booleans()), min_size=1, max_size=5))
def test_programs_of_many_dtypes_follow_the_table(first: tuple[str, str], steps: list[Any]) -> None:
    def made(operand: tuple[str, str]) -> tuple[Any, tuple[str, str]]:
        name, standing = operand
        if standing == "number":
            return NUMBER[name][0], (NUMBER[name][1], "number")
        values = np.array([0, 1, 2] if standing == "dims" else 1).astype(getattr(np, name if name != "bool" else "bool_"))
        return T.tensor(values), operand

    x, known = made(first if first[1] != "number" else ("float32", "dims"))
    for name, operand, swapped in steps:
        y, other = made(operand)
        table = promoted([known, other])
        a, b = (y, x) if swapped and isinstance(y, T.Tensor) else (x, y)
        if name == "maximum" and (DTYPES[table][0] == "complex" or not isinstance(y, T.Tensor)):
            continue
        if name == "div" and DTYPES[table][0] in ("bool", "int"):
            table = "float32"
        with np.errstate(all="ignore"):
            dtype = np.dtype(table)
            arrays = [np.asarray(t.numpy() if isinstance(t, T.Tensor) else t).astype(dtype) for t in (a, b)]
            expected = ARITHMETIC[name](*arrays)
        x = getattr(T, name)(a, b)
        table = "bool" if name == "eq" else table
        assert x.dtype is getattr(T, table), (name, known, other)
        np.testing.assert_array_equal(x.numpy(), expected.astype(np.dtype(table)))
        known = (table, "dims" if x.ndim else "0-d")
