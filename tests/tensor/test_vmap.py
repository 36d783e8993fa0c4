"""`vmap`: every operator with a test case, on a batch of three, against a loop over the samples; and what only `vmap` has."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_cases import COMPOSITES, RULED

import tensor as T
from tensor.autograd.batched import Batched, NotBatchable
from tensor.func import functional_call, grad, jacfwd, jacrev, stack_module_state, vmap
from tensor.func.trees import leaves_of

#: The samples are the case's inputs times these: near enough to stay where the operator is smooth.
FACTORS = (1, 0.97, 0.94)
vmap_module = importlib.import_module("tensor.func.vmap")


def case_of(name: str) -> tuple[Callable[..., Any], list[Any]]:
    """The operator as a function that returns a tuple of tensors, and its inputs as batches."""
    if name in RULED:
        function, leaves = RULED[name].call(name)
        arrays = [leaf.numpy() for leaf in leaves]
    else:
        function, arrays = COMPOSITES[name][:2]
    outputs = lambda *xs: tuple(y for y in leaves_of(function(*xs)) if isinstance(y, T.Tensor))  # noqa: E731
    return outputs, [T.tensor(np.stack([np.asarray(a) * k for k in FACTORS])) for a in arrays]


def weighted(outputs: Callable[..., Any]) -> Callable[..., Any]:
    def loss(*xs: Any) -> Any:
        total = T.zeros((), dtype=T.float64)
        for y in outputs(*xs):
            if y.is_floating_point():
                total = total + (y * T.arange(1.0, y.numel() + 1, dtype=T.float64).reshape(y.shape)).sum()
        return total

    return loss


def close(a: Any, b: Any) -> None:
    assert a.dtype is b.dtype
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", [*RULED, *COMPOSITES])
def test_every_operator_equals_the_loop(name: str) -> None:
    outputs, batches = case_of(name)
    if not batches:
        pytest.skip("no tensor to map over")
    for k, column in enumerate(vmap(outputs, randomness="same")(*batches)):
        for i in range(len(FACTORS)):
            close(column[i], outputs(*(x[i] for x in batches))[k])


@pytest.mark.parametrize("name", [*RULED, *COMPOSITES])
def test_every_gradient_equals_the_loop(name: str) -> None:
    """Gradients of each sample, also by an input that all share; and gradients through a `vmap` that has ended."""
    outputs, batches = case_of(name)
    loss = weighted(outputs)
    wanted = tuple(range(len(batches)))
    if not batches or not loss(*(x[0].requires_grad_() for x in batches)).requires_grad:
        pytest.skip("no gradient")
    for shared in {False, len(batches) > 1}:
        dims = (None if shared else 0, *[0] * (len(batches) - 1))
        first = batches[0][0] if shared else batches[0]
        found = vmap(grad(loss, wanted), in_dims=dims, randomness="same")(first, *batches[1:])
        for i in range(len(FACTORS)):
            one = grad(loss, wanted)(first if shared else first[i], *(x[i] for x in batches[1:]))
            for a, b in zip(found, one, strict=True):
                close(a[i], b)
    leaves = [x.detach().requires_grad_() for x in batches]
    whole = T.autograd.grad(vmap(loss, randomness="same")(*leaves).sum(), leaves, materialize_grads=True)
    by_loop = sum(loss(*(x[i] for x in leaves)) for i in range(len(FACTORS)))
    for a, b in zip(whole, T.autograd.grad(by_loop, leaves, materialize_grads=True), strict=True):
        close(a, b)


# --- per-sample gradients of networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mlp", "convnet"])
def test_gradients_of_each_sample(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "mlp":
        net: Any = T.nn.Sequential(T.nn.Linear(4, 8), T.nn.Tanh(), T.nn.LayerNorm(8), T.nn.Linear(8, 3))
        x = T.randn(5, 4)
    else:
        net = T.nn.Sequential(T.nn.Conv2d(1, 3, 3), T.nn.ReLU(), T.nn.MaxPool2d(2), T.nn.Flatten(), T.nn.Linear(27, 3))
        x = T.randn(5, 1, 8, 8)
    monkeypatch.setattr(vmap_module, "_run_each", None)  # all samples at once: the last resort is not needed
    parameters = {k: p.detach() for k, p in net.named_parameters()}
    target = T.tensor([0, 1, 2, 0, 1])

    def loss(parameters: Any, x: Any, target: Any) -> Any:
        return T.nn.functional.cross_entropy(functional_call(net, parameters, (x[None],)), target[None])

    found = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, target)
    for i in range(5):
        net.zero_grad()
        T.nn.functional.cross_entropy(net(x[i : i + 1]), target[i : i + 1]).backward()
        for name, p in net.named_parameters():
            np.testing.assert_allclose(found[name][i].numpy(), p.grad.numpy(), atol=1e-5)


def test_an_ensemble_of_modules() -> None:
    nets = [T.nn.Linear(2, 3) for _ in range(4)]
    parameters, buffers = stack_module_state(nets)
    x = T.randn(5, 2)
    y = vmap(lambda p, b: functional_call(nets[0], (p, b), (x,)))(parameters, buffers)
    np.testing.assert_allclose(y.detach().numpy(), np.stack([net(x).detach().numpy() for net in nets]), atol=1e-6)
    y.sum().backward()
    assert parameters["weight"].grad.shape == (4, 3, 2)


# --- dimensions, trees, nesting ------------------------------------------------------------------------------------------


@given(st.integers(0, 2), st.integers(0, 2), st.integers(-3, 2), st.integers(1, 4))
def test_where_the_batch_comes_from_and_goes(a: int, b: int, out: int, chunk: int) -> None:
    rng = np.random.default_rng(a * 9 + b)
    x, y = np.moveaxis(rng.normal(size=(3, 2, 4)), 0, a), np.moveaxis(rng.normal(size=(3, 2, 4)), 0, b)
    found = vmap(lambda p, q: p * q.sin(), in_dims=(a, b), out_dims=out, chunk_size=chunk)(T.tensor(x), T.tensor(y))
    np.testing.assert_allclose(found.numpy(), np.moveaxis(np.moveaxis(x, a, 0) * np.sin(np.moveaxis(y, b, 0)), 0, out))


def test_trees_in_and_out() -> None:
    x, y = T.arange(6.0).reshape(3, 2), T.ones(2)
    found = vmap(
        lambda d, n: {"sum": d["x"] + d["y"][0], "parts": (d["x"] * n, d["x"].sum())}, in_dims=({"x": 0, "y": None}, None)
    )({"x": x, "y": [y]}, 2)
    assert found["sum"].tolist() == (x + 1).tolist()
    assert found["parts"][0].tolist() == (x * 2).tolist()
    assert found["parts"][1].tolist() == [1, 5, 9]


def test_nested() -> None:
    a, b = T.randn(3, 4), T.randn(2, 4)
    table = vmap(lambda x: vmap(lambda y: (x * y).sum())(b))(a)
    np.testing.assert_allclose(table.numpy(), (a @ b.T).numpy(), atol=1e-6)
    slopes = vmap(lambda x: vmap(grad(lambda y: (x * y).sum() ** 2))(b))(a)
    np.testing.assert_allclose(slopes.numpy(), (2 * table[..., None] * a[:, None]).numpy(), atol=1e-5)
    hessians = vmap(jacfwd(jacrev(lambda x: (x**3).sum())))(a)
    np.testing.assert_allclose(hessians.numpy(), 6 * np.stack([np.diag(r) for r in a.numpy()]), atol=1e-5)


def test_a_tensor_from_outside_gets_the_sum_over_the_samples() -> None:
    w = T.tensor([1.0, 2.0], requires_grad=True)
    x = T.arange(6.0).reshape(3, 2)
    g = vmap(grad(lambda x: (w * x).sum() ** 3))(x)
    (g**2).sum().backward()
    again = T.tensor([1.0, 2.0], requires_grad=True)
    (3 * (x @ again)[:, None] ** 2 * again).square().sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), again.grad.numpy(), rtol=1e-5)


def test_writes_and_views_inside() -> None:
    def step(x: Any) -> Any:
        y = x * 1
        y[0] = 5.0
        y[1:].mul_(2)
        y.masked_fill_(y > 9, 0.0)
        return y

    x = T.arange(6.0).reshape(2, 3)
    assert vmap(step)(x).tolist() == [step(r).tolist() for r in x]
    assert vmap(grad(lambda r: (step(r) ** 2).sum()))(x).tolist() == [grad(lambda r: (step(r) ** 2).sum())(r).tolist() for r in x]


def test_a_function_that_looks_at_values_is_run_once_a_sample() -> None:
    def branch(x: Any) -> Any:
        return x * 2 if x.sum() > 3 else x - 1

    x = T.arange(6.0).reshape(3, 2)
    assert vmap(branch)(x).tolist() == [branch(r).tolist() for r in x]
    assert vmap(lambda r: T.tensor(float(r.sum().item())))(x).tolist() == [1, 5, 9]
    assert vmap(lambda r: T.tensor(np.sort(-r.numpy())))(x).tolist() == [[-1, 0], [-3, -2], [-5, -4]]


def test_a_gradient_for_each_sample_has_no_place_in_dot_grad() -> None:
    w = T.ones(2, requires_grad=True)

    def step(x: Any) -> Any:
        loss = (w * x).sum()
        loss.backward()
        return loss

    with pytest.raises(
        RuntimeError, match=r"backward: each sample of a vmap has a gradient of its own, which \.grad cannot hold"
    ):
        vmap(step)(T.ones(3, 2))
    assert w.grad is None


def test_randomness() -> None:
    x = T.zeros(3, 4)
    noisy = lambda r: r + T.randn(4)  # noqa: E731
    with pytest.raises(RuntimeError, match="vmap: a random operation is called for all samples at once"):
        vmap(noisy)(x)
    same = vmap(noisy, randomness="same")(x)
    assert (same == same[0]).all()
    different = vmap(noisy, randomness="different")(x)
    assert len(set(different.reshape(-1).tolist())) == 12
    dropped = vmap(lambda r: T.nn.functional.dropout(r, 0.5), randomness="different")(T.ones(3, 64))
    assert len({tuple(r) for r in dropped.tolist()}) == 3


@pytest.mark.parametrize(
    "call, error, text",
    [
        (
            lambda x: vmap(T.sin, randomness="some")(x),
            ValueError,
            "expected randomness 'error', 'different' or 'same', got 'some'",
        ),
        (lambda x: vmap(T.add)(x, T.zeros(4)), ValueError, r"expected inputs with one batch size, got sizes \[3, 4\]"),
        (lambda x: vmap(T.sin, in_dims=None)(x), ValueError, "no input to map over"),
        (lambda x: vmap(T.sin, in_dims=2)(x), ValueError, r"dimension 2 for a tensor of shape \(3, 2\)"),
        (lambda x: vmap(T.add, in_dims=(0, 0))(x, 1.0), ValueError, "no tensor but float"),
        (lambda x: vmap(T.add, in_dims=(0, (0, 0)))(x, x), ValueError, "in_dims: expected the structure of"),
        (lambda x: vmap(lambda r: 3)(x), ValueError, "expected the function to return tensors, got int"),
        (lambda x: vmap(T.sin, chunk_size=0)(x), ValueError, "expected chunk_size to be None or positive, got 0"),
        (lambda x: vmap(lambda r: r @ T.zeros(5))(x), RuntimeError, "matmul"),
    ],
)
def test_errors(call: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        call(T.zeros(3, 2))


# --- the raw array ---------------------------------------------------------------------------------------------------------

INDICES = [
    1,
    slice(1, None),
    (slice(None), 0),
    (None, 1),
    ...,
    ([0, 2, 2],),
    (slice(None), [1, 0]),
    ([0, 1], slice(None), [1, 0]),
    ([2, 0], [1, 0]),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_indexing_is_numpys(index: Any) -> None:
    full = np.random.default_rng(0).normal(size=(2, 3, 4, 2))
    level = vmap_module.Level(2, 0, "error")
    index = tuple(np.asarray(i) if isinstance(i, list) else i for i in index) if isinstance(index, tuple) else index
    x = Batched(full.copy(), level)
    np.testing.assert_array_equal(x[index].value, np.stack([s[index] for s in full]))
    assert x[index].shape == Batched(np.stack([s[index] for s in full]), level).shape
    x[index] = 7.0
    expected = full.copy()
    for s in expected:
        s[index] = 7.0
    np.testing.assert_array_equal(x.value, expected)


def test_samples_never_end_in_an_array_that_all_share() -> None:
    level = vmap_module.Level(2, 0, "error")
    x, shared = Batched(np.ones((2, 3)), level), np.zeros(3)
    for write in (
        lambda: np.add(shared, x, out=shared), lambda: np.copyto(shared, x), lambda: np.add.at(shared, np.array([0]), x[0]),
        lambda: shared.__setitem__(0, x[0]), lambda: np.put(shared, [0], x[0]), lambda: shared.__iadd__(x),
    ):  # fmt: skip
        with pytest.raises((NotBatchable, ValueError)):
            write()
    assert not shared.any()
    with pytest.raises(NotBatchable, match="another one for each sample"):
        bool(x.any())
