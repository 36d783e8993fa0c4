"""Optimizers: what may happen to parameters between steps, state, errors, memory."""

import copy
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensor as T
from tensor import nn, optim

MAKERS = {
    "sgd": lambda ps: optim.SGD(ps, lr=0.1),
    "momentum": lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9, dampening=0.1),
    "rmsprop": lambda ps: optim.RMSprop(ps, lr=0.01, momentum=0.5, centered=True),
    "adam": lambda ps: optim.Adam(ps, lr=0.01),
    "amsgrad": lambda ps: optim.AdamW(ps, lr=0.01, amsgrad=True),
    "nadam": lambda ps: optim.NAdam(ps, lr=0.01),
    "radam": lambda ps: optim.RAdam(ps, lr=0.01, betas=(0.8, 0.9)),
    "adamax": lambda ps: optim.Adamax(ps, lr=0.01),
    "adagrad": lambda ps: optim.Adagrad(ps, lr=0.1, lr_decay=0.1, initial_accumulator_value=0.1),
    "adadelta": lambda ps: optim.Adadelta(ps),
    "rprop": lambda ps: optim.Rprop(ps, lr=0.01),
    "asgd": lambda ps: optim.ASGD(ps, lr=0.1, lambd=0.1, t0=2),
}
every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def parameters(*shapes, dtype=T.float32):
    return [nn.Parameter(T.tensor(np.sin(np.arange(np.prod(s)) + 1 + i).reshape(s)).to(dtype)) for i, s in enumerate(shapes)]


def set_gradients(params, step, leave_out=()):
    for i, p in enumerate(params):
        g = np.cos(np.arange(p.numel()) * (i + 1) + step).reshape(tuple(p.shape))
        p.grad = None if i in leave_out else T.tensor(g).to(p.dtype)


def values(params):
    return [p.detach().clone().numpy() for p in params]


def equal(a, b):
    return all((x == y).all() for x, y in zip(a, b, strict=True))


def alone(make, i, shapes, active_steps):
    """Parameter i learnt by an optimizer of its own, at the steps at which it has a gradient."""
    params = parameters(*shapes)
    optimizer = make([params[i]])
    for step in active_steps:
        set_gradients(params, step)
        optimizer.step()
    return params[i].detach().numpy()


SHAPES = [(2, 3), (3,), (), (4, 1)]


@every
@settings(max_examples=15, deadline=None)
@given(absent=st.lists(st.sets(st.integers(0, 3)), min_size=1, max_size=6))
def test_parameters_without_a_gradient_are_untouched(make, absent):
    """Whatever is left out at each step, each parameter ends as if it were alone: with its own moments and step count."""
    params = parameters(*SHAPES)
    optimizer = make(params)
    for step, left_out in enumerate(absent):
        set_gradients(params, step, left_out)
        optimizer.step()
    for i, p in enumerate(params):
        active = [step for step, left_out in enumerate(absent) if i not in left_out]
        np.testing.assert_array_equal(p.detach().numpy(), alone(make, i, SHAPES, active))


def test_parameters_keep_identity_and_share_one_buffer():
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    before = list(net.parameters()), values(net.parameters())
    optim.Adam(net.parameters())
    assert all(p is q for p, q in zip(net.parameters(), before[0], strict=True))
    assert equal(values(net.parameters()), before[1])
    assert len({id(p._array.base) for p in net.parameters()}) == 1


@every
def test_arrays_replaced_from_outside_are_followed(make):
    one, two = parameters(*SHAPES), parameters(*SHAPES)
    a, b = make(one), make(two)
    for step in range(4):
        set_gradients(one, step)
        set_gradients(two, step)
        if step == 2:  # the same values in other memory
            two[1].data = two[1].detach().clone()
            two[2].data = T.tensor(two[2].item())
        a.step()
        b.step()
    assert equal(values(one), values(two))
    replaced = T.ones(3)
    two[1].data = replaced
    two[1].grad = T.zeros(3)
    b.step()
    assert replaced.tolist() == [1, 1, 1]  # not ours to write


@every
def test_dtype_may_change_on_the_way(make):
    params = parameters(*SHAPES)
    optimizer = make(params)
    for step in range(2):
        set_gradients(params, step)
        optimizer.step()
    kept = {i: {k: v.clone() for k, v in s.items()} for i, s in optimizer.state_dict()["state"].items()}
    for p in params[:2]:
        p.data = p.data.double()
    after = optimizer.state_dict()["state"]
    for i, s in kept.items():
        for name, value in s.items():
            assert (after[i][name].float() == value.float()).all()
    set_gradients(params, 2)
    optimizer.step()
    assert [str(p.dtype) for p in params] == ["tensor.float64"] * 2 + ["tensor.float32"] * 2
    assert not any(p.isnan().any() for p in params)


def test_a_changed_shape_is_an_error():
    (p,) = parameters((2, 2))
    optimizer = optim.Adam([p])
    p.data = T.ones(3)
    p.grad = T.ones(3)
    with pytest.raises(RuntimeError, match=r"shape of a parameter was changed from \[2, 2\] to \[3\]"):
        optimizer.step()


def test_two_optimizers_may_share_a_parameter():
    shared, own = parameters((2,), (3,))
    a, b = optim.SGD([shared, own], lr=1.0), optim.SGD([shared], lr=10.0)
    start = shared.detach().clone()
    for _ in range(3):
        shared.grad, own.grad = T.ones(2), T.ones(3)
        a.step()
        b.step()
    np.testing.assert_allclose(shared.detach().numpy(), (start - 33).numpy(), rtol=1e-6)


def test_requires_grad_may_be_toggled():
    params = parameters((2,), (2,))
    optimizer = optim.Adam(params, lr=0.1)
    set_gradients(params, 0)
    optimizer.step()
    params[0].requires_grad_(False)
    params[0].grad = None
    before = values(params)
    params[1].grad = T.ones(2)
    optimizer.step()
    assert (params[0].detach().numpy() == before[0]).all()
    assert (params[1].detach().numpy() != before[1]).all()
    params[0].requires_grad_()
    (params[0] * 2).sum().backward()
    optimizer.step()
    assert optimizer.state[params[0]]["step"].item() == 2
    assert optimizer.state[params[1]]["step"].item() == 3


def test_gradients_handed_out_are_never_overwritten():
    (p,) = parameters((3,))
    optimizer = optim.Adam([p], weight_decay=0.1, maximize=True)
    g = p.grad = T.ones(3)
    optimizer.step()
    assert g.tolist() == [1, 1, 1]
    assert p.grad is g


@every
def test_a_backward_through_old_values_raises(make):
    (p,) = parameters((2,))
    optimizer = make([p])
    y = (p * p).sum()
    p.grad = T.ones(2)
    optimizer.step()
    with pytest.raises(RuntimeError, match="changed by an in-place operation"):
        y.backward()


@every
@pytest.mark.parametrize("through", ["tensors", "lists", "pickle"])
def test_training_continues_bit_for_bit_after_loading(make, through):
    params = parameters(*SHAPES)
    optimizer = make(params)
    for step in range(70):  # beyond the first flush of small moments
        set_gradients(params, step, {1} if step % 3 else ())
        optimizer.step()
    state = optimizer.state_dict()
    twin = [nn.Parameter(p.detach().clone()) for p in params]
    other = make(twin)
    if through == "lists":  # as a checkpoint without tensors and tuples has it
        group = {k: list(v) if isinstance(v, tuple) else v for k, v in state["param_groups"][0].items()}
        state = {
            "state": {i: {k: t.numpy() for k, t in s.items()} for i, s in state["state"].items()},
            "param_groups": [group],
        }
    elif through == "pickle":
        state = pickle.loads(pickle.dumps(state))
    other.load_state_dict(state)
    for step in range(70, 140):
        for ps, o in ((params, optimizer), (twin, other)):
            set_gradients(ps, step, {0} if step % 5 == 0 else ())
            o.step()
    assert equal(values(params), values(twin))
    a, b = optimizer.state_dict()["state"], other.state_dict()["state"]
    assert a.keys() == b.keys()
    assert all((a[i][k] == b[i][k]).all() for i in a for k in a[i])


@every
def test_copies_learn_on_their_own(make):
    net = nn.Linear(3, 2)
    optimizer = make(net.parameters())
    (net(T.ones(1, 3)) ** 2).sum().backward()
    optimizer.step()
    for twin, other in (copy.deepcopy((net, optimizer)), pickle.loads(pickle.dumps((net, optimizer)))):
        before = values(net.parameters())
        (twin(T.ones(1, 3)) ** 2).sum().backward()
        other.step()
        assert equal(values(net.parameters()), before)
        assert not equal(values(twin.parameters()), before)
        assert other.param_groups[0]["params"][0] is twin.weight


def test_groups_have_options_of_their_own():
    a, b, c = parameters((1,), (1,), (1,))
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1)
    optimizer.add_param_group({"params": [c], "lr": 1.0})
    start = [p.item() for p in (a, b, c)]
    for p in (a, b, c):
        p.grad = T.ones(1)
    optimizer.step()
    assert [s - p.item() for s, p in zip(start, (a, b, c), strict=True)] == pytest.approx([0.1, 0.5, 1.0])
    optimizer.param_groups[0]["lr"] = 2.0
    optimizer.param_groups[1]["momentum"] = 0.9  # the moments appear when they are asked for
    optimizer.step()
    assert start[0] - a.item() == pytest.approx(2.1)
    assert list(optimizer.state_dict()["state"]) == [1]
    assert optimizer.state_dict()["param_groups"][1]["params"] == [1]


def test_named_parameters_and_closure_and_zero_grad():
    net = nn.Linear(2, 1)
    optimizer = optim.Adam(net.named_parameters(), lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]

    def closure():
        optimizer.zero_grad()
        loss = (net(T.ones(1, 2)) ** 2).sum()
        loss.backward()
        return loss

    with T.no_grad():
        assert optimizer.step(closure).item() > optimizer.step(closure).item()
    held = net.weight.grad
    optimizer.zero_grad(set_to_none=False)
    assert (net.weight.grad == 0).all()
    assert (held != 0).any()
    optimizer.zero_grad()
    assert net.weight.grad is None
    assert "lr: 0.1" in repr(optimizer)


def test_small_moments_are_flushed_without_touching_parameters():
    (p,) = parameters((100,))
    optimizer = optim.Adam([p], lr=1e-3)
    p.grad = T.ones(100) * 1e-3
    optimizer.step()
    p.grad = T.zeros(100)
    for _ in range(1500):
        optimizer.step()
    assert (optimizer.state[p]["exp_avg"] == 0).all()
    assert (optimizer.state[p]["exp_avg_sq"] > 0).all()


@pytest.mark.parametrize(
    "act, error, text",
    [
        (lambda p: optim.Adam([]), ValueError, "Adam: got an empty list of parameters"),
        (lambda p: optim.Adam(p), TypeError, r"expected an iterable of parameters, got one tensor of shape \[2\]"),
        (lambda p: optim.Adam({p}), TypeError, "Adam: expected parameters in an order .*, got a set"),
        (lambda p: optim.Adam([p, 3]), TypeError, "expected tensors, got int as parameter 1"),
        (lambda p: optim.Adam([p, p]), ValueError, r"parameter 1 of shape \[2\] is given twice"),
        (lambda p: optim.Adam([p * 2]), ValueError, "is no leaf"),
        (lambda p: optim.Adam([T.ones(1, dtype=T.int64)]), TypeError, "has dtype tensor.int64"),
        (lambda p: optim.Adam([p, nn.Parameter(p.data)]), ValueError, "parameters 0 and 1 share memory"),
        (lambda p: optim.Adam([{"params": []}]), ValueError, "a group without parameters"),
        (
            lambda p: optim.Adam([{"params": [p], "momentum": 1}]),
            ValueError,
            "unknown options 'momentum'; expected 'lr', 'betas'",
        ),
        (lambda p: optim.Adam([p], lr=-1), ValueError, "Adam: expected lr >= 0, got -1"),
        (lambda p: optim.Adam([p], lr=float("nan")), ValueError, "Adam: expected lr >= 0, got nan"),
        (lambda p: optim.AdamW([p], betas=(0.9, 1.0)), ValueError, r"AdamW: expected 0 <= betas\[1\] < 1, got 1.0"),
        (lambda p: optim.SGD([p], nesterov=True), ValueError, "nesterov needs momentum and no dampening"),
        (lambda p: optim.RMSprop([p], alpha=-0.1), ValueError, "RMSprop: expected alpha >= 0"),
        (lambda p: optim.Adadelta([p], rho=1.5), ValueError, "Adadelta: expected 0 <= rho <= 1, got 1.5"),
        (lambda p: optim.Rprop([p], etas=(0.5, 0.9)), ValueError, r"Rprop: expected 0 < etas\[0\] < 1 < etas\[1\], got"),
        (lambda p: optim.Adam([p], rate=1), TypeError, "Adam: got an unexpected keyword argument 'rate'; expected .*lr=0.001, "),
        (lambda p: optim.Adam([p], differentiable=True), NotImplementedError, "Adam: differentiable=True is not supported"),
        (lambda p: optim.Adam(), TypeError, "Adam: missing a required argument: 'params'"),
        (lambda p: optim.Adafactor([p], d=0.5), ValueError, "Adafactor: expected d >= 1, got 0.5"),
        (lambda p: optim.Adafactor([p], eps=(-1, 1)), ValueError, "Adafactor: expected eps of .None or a number >= 0"),
        (lambda p: optim.Adafactor([p], beta2_decay=1), ValueError, "Adafactor: expected beta2_decay <= 0, got 1"),
        (lambda p: optim.Adafactor([T.ones(1) * 1j]), TypeError, "Adafactor: parameter 0 has dtype tensor.complex64"),
        (lambda p: load(optim.Adafactor([p]), {"variance": T.ones(3)}), ValueError, "parameter 0 of shape .2.: expected"),
        (lambda p: optim.Muon([p]), ValueError, r"Muon: expected real matrices, got parameter 0 of shape \[2\]"),
        (lambda p: optim.Muon([T.eye(2)], adjust_lr_fn="x"), ValueError, "Muon: expected adjust_lr_fn to be one of None, 'ori"),
        (lambda p: optim.Muon([T.eye(2)], ns_steps=100), ValueError, "Muon: expected ns_steps < 100, got 100"),
        (lambda p: optim.Muon([T.eye(2)], ns_coefficients=(1,)), ValueError, "Muon: expected 3 ns_coefficients, got 1"),
        (lambda p: optim.LBFGS([p], line_search_fn="x"), ValueError, "LBFGS: expected line_search_fn to be None or 'strong_w"),
        (lambda p: optim.LBFGS([p]).step(), TypeError, "LBFGS.step: expected a closure"),
        (lambda p: optim.LBFGS([{"params": [p]}, {"params": [T.ones(1)]}]), ValueError, "LBFGS: expected one group"),
    ],
)
def test_error_texts(act, error, text):
    with pytest.raises(error, match=text):
        act(nn.Parameter(T.ones(2)))


def load(optimizer, state):
    optimizer.load_state_dict({"state": {0: state}, "param_groups": optimizer.state_dict()["param_groups"]})


def test_loading_what_does_not_fit_changes_nothing():
    params = parameters((2,), (3,))
    optimizer = optim.Adam(params)
    set_gradients(params, 0)
    optimizer.step()
    good = optimizer.state_dict()
    fewer = optim.Adam(params[:1]).state_dict()
    with pytest.raises(ValueError, match=r"expected groups of \[2\] parameters, got \[1\]"):
        optimizer.load_state_dict(fewer)
    with pytest.raises(ValueError, match="expected 'exp_avg', 'exp_avg_sq' for parameter 0, got 'square_avg'"):
        optimizer.load_state_dict({**good, "state": {0: {"step": 1, "square_avg": T.ones(2)}}})
    wrong = {0: {**good["state"][0], "exp_avg": T.ones(5)}}
    with pytest.raises(ValueError, match=r"exp_avg of parameter 0 of shape \[2\], got \[5\]"):
        optimizer.load_state_dict({**good, "state": wrong})
    bad = [{**good["param_groups"][0], "lr": -1}]
    with pytest.raises(ValueError, match="expected lr >= 0"):
        optimizer.load_state_dict({**good, "param_groups": bad})
    now = optimizer.state_dict()["state"]
    assert all((now[i][k] == good["state"][i][k]).all() for i in now for k in now[i])


def test_10_000_steps_do_not_grow_memory():
    net = nn.Linear(4, 4)
    optimizer = optim.Adam(net.parameters())
    for p in net.parameters():
        p.grad = T.ones(p.shape)

    def steps(n):
        for i in range(n):
            net.weight.grad = None if i % 7 == 0 else T.ones(4, 4)
            optimizer.step()

    tracemalloc.start()
    try:
        steps(3000)  # until the free lists of Python and NumPy are full
        before = tracemalloc.get_traced_memory()[0]
        steps(10_000)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 10_000
