"""Optimizers: what holds for all of them, however a run is cut, grouped, or hooked into."""

import copy
import inspect
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensor as T
from tensor import nn, optim

#: Class and option sets; LBFGS apart, which needs a closure.
CHOICES = {
    optim.SGD: [{}, {"momentum": 0.9}, {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1}],
    optim.ASGD: [{}, {"t0": 3, "lambd": 0.1}],
    optim.Adagrad: [{}, {"lr_decay": 0.1, "initial_accumulator_value": 0.5}],
    optim.Adadelta: [{}],
    optim.Adafactor: [{}, {"weight_decay": 0.1}],
    optim.RMSprop: [{}, {"centered": True, "momentum": 0.5}],
    optim.Rprop: [{}],
    optim.Adam: [{}, {"amsgrad": True, "maximize": True}],
    optim.AdamW: [{}],
    optim.NAdam: [{}, {"decoupled_weight_decay": True, "weight_decay": 0.1}],
    optim.RAdam: [{}],
    optim.Adamax: [{}],
    optim.Muon: [{}, {"nesterov": False}],
}
choices = st.sampled_from([(cls, options) for cls, several in CHOICES.items() for options in several])
SHAPES = [(2, 3), (3, 2), (1, 1), (4, 1)]  # matrices, so that Muon can be among them


def parameters(dtype=T.float32):
    return [nn.Parameter(T.tensor(np.sin(np.arange(np.prod(s)) + 1 + i).reshape(s)).to(dtype)) for i, s in enumerate(SHAPES)]


def learn(params, optimizer, steps, absent=frozenset()):
    """Steps with gradients that depend on the step alone; ``absent`` pairs (step, parameter) have none."""
    for step in steps:
        for i, p in enumerate(params):
            g = np.cos(np.arange(p.numel()) * (i + 1) + step).reshape(tuple(p.shape))
            p.grad = None if (step, i) in absent else T.tensor(g).to(p.dtype)
        optimizer.step()


def values(params):
    return [p.detach().clone().numpy() for p in params]


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


absences = st.frozensets(st.tuples(st.integers(0, 11), st.integers(0, 3)), max_size=12)


@given(choice=choices, cut=st.integers(0, 11), absent=absences, dtype=st.sampled_from([T.float32, T.float64]))
def test_a_run_cut_anywhere_continues_exactly(choice, cut, absent, dtype):
    cls, options = choice
    whole = parameters(dtype)
    learn(whole, cls(whole, **options), range(12), absent)

    first = parameters(dtype)
    before = cls(first, **options)
    learn(first, before, range(cut), absent)
    second = [nn.Parameter(p.detach().clone()) for p in first]
    after = cls(second, lr=123.0)  # all options come with the state
    after.load_state_dict(pickle.loads(pickle.dumps(before.state_dict())))
    learn(second, after, range(cut, 12), absent)
    assert_same(values(whole), values(second))


@given(choice=choices, where=st.integers(1, 3), absent=absences)
def test_groups_of_equal_options_change_nothing(choice, where, absent):
    cls, options = choice
    one, two = parameters(), parameters()
    learn(one, cls(one, **options), range(12), absent)
    split = cls([{"params": two[:where]}], **options)
    split.add_param_group({"params": two[where:]})
    learn(two, split, range(12), absent)
    assert_same(values(one), values(two))


@given(choice=choices, set_to_none=st.booleans())
def test_zero_grad(choice, set_to_none):
    cls, options = choice
    params = parameters()
    optimizer = cls(params, **options)
    learn(params, optimizer, range(2))
    held = [p.grad for p in params]
    kept = [g.clone() for g in held]
    optimizer.zero_grad(set_to_none)
    assert all((h == k).all() for h, k in zip(held, kept, strict=True))
    before = values(params)
    if set_to_none:
        assert all(p.grad is None for p in params)
        optimizer.step()
        assert_same(before, values(params))  # nothing moves, not even by momentum or weight decay
    else:
        assert all((p.grad == 0).all() for p in params)


@given(choice=choices)
@settings(max_examples=30)
def test_complex_parameters_learn_as_their_parts(choice):
    cls, options = choice
    if cls in (optim.Muon, optim.Adafactor):
        return  # for real parameters only
    z = T.tensor(np.array([1 + 2j, -0.5j]))
    parts = nn.Parameter(T.tensor(np.array([[1.0, 2.0], [0.0, -0.5]])))
    one, two = cls([z], **options), cls([parts], **options)
    for step in range(5):
        g = np.cos(np.arange(4.0) + step)
        z.grad, parts.grad = T.tensor(g.view(np.complex128)), T.tensor(g.reshape(2, 2))
        one.step()
        two.step()
    np.testing.assert_allclose(z.detach().numpy().view(np.float64).reshape(2, 2), parts.detach().numpy(), rtol=1e-14)


def test_complex_lbfgs_finds_the_minimum():
    z = T.tensor(np.array([1 + 2j, -0.5j]))
    optimizer = optim.LBFGS([z], line_search_fn="strong_wolfe")

    def closure():  # the gradient written down, in PyTorch's convention
        z.grad = 2 * (z - (3 - 1j))
        return (z - (3 - 1j)).abs().square().sum()

    optimizer.step(closure)
    np.testing.assert_allclose(z.numpy(), [3 - 1j, 3 - 1j], atol=1e-6)


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
@pytest.mark.parametrize("cut", [1, 4])
def test_lbfgs_continues_exactly(line_search, cut):
    def run(p, optimizer, steps):
        def closure():
            optimizer.zero_grad()
            loss = ((1 - p[0]) ** 2 + 10 * (p[1] - p[0] ** 2) ** 2).sum()
            loss.backward()
            return loss

        return [optimizer.step(closure).item() for _ in range(steps)]

    def make(start):
        p = nn.Parameter(T.tensor(np.array(start)))
        return p, optim.LBFGS([p], lr=0.3, max_iter=2, history_size=3, line_search_fn=line_search)

    whole, optimizer = make([0.0, 0.5])
    losses = run(whole, optimizer, 8)
    first, before = make([0.0, 0.5])
    run(first, before, cut)
    saved = pickle.loads(pickle.dumps(before.state_dict()))
    second, after = make(first.detach().tolist())
    after.load_state_dict(saved)
    assert run(second, after, 8 - cut) == losses[cut:]
    assert losses[-1] < losses[0] / 2
    twin, copied = copy.deepcopy((first, before))
    assert run(twin, copied, 8 - cut) == losses[cut:]


def test_hooks_run_around_steps_and_leave_with_their_handles():
    seen = []
    (p, *_) = parameters()
    optimizer = optim.SGD([p], lr=0.1)

    def scaled(optimizer, args, kwargs):
        seen.append("before")
        return (lambda: 2.0,), kwargs

    one = optimizer.register_step_pre_hook(scaled)
    two = optimizer.register_step_post_hook(lambda optimizer, args, kwargs: seen.append(args[0]()))
    assert optimizer.step() == 2.0  # the closure came from the hook
    assert seen == ["before", 2.0]
    assert copy.deepcopy(optimizer).step() is None  # copies have no hooks
    assert len(seen) == 2
    one.remove()
    two.remove()
    assert optimizer.step() is None
    assert len(seen) == 2
    with optimizer.register_step_pre_hook(lambda *args: "args"), pytest.raises(RuntimeError, match=r"expected None or \(args"):
        optimizer.step()


def test_an_optimizer_of_ones_own_has_state_groups_and_hooks():
    class Heavy(optim.Optimizer):
        def __init__(self, params, lr=0.1):
            super().__init__(params, {"lr": lr})

        def step(self, closure=None):
            with T.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        state = self.state[p]
                        state["sum"] = state.get("sum", 0) + p.grad
                        state["count"] = state.get("count", 0) + 1
                        p -= group["lr"] * state["sum"]

    whole = parameters()
    learn(whole, Heavy(whole), range(6))
    first = parameters()
    before = Heavy(first)
    learn(first, before, range(3))
    saved = pickle.loads(pickle.dumps(before.state_dict()))
    assert saved["state"][0]["count"] == 3
    learn(first, before, range(3, 4))  # a saved state is a copy
    second = parameters()
    after = Heavy([{"params": second}])
    learn(second, after, range(3))
    after.load_state_dict(saved)
    learn(second, after, range(3, 6))
    assert_same(values(whole), values(second))
    with pytest.raises(NotImplementedError):
        optim.Optimizer(second, {}).step()


def test_the_state_can_be_read_written_and_cleared():
    params = parameters()
    optimizer = optim.Adam(params, lr=0.01)
    assert optimizer.state == {}
    learn(params, optimizer, range(2))
    optimizer.state[params[0]]["exp_avg"].zero_()
    assert (optimizer.state_dict()["state"][0]["exp_avg"] == 0).all()
    optimizer.state = {}
    assert optimizer.state_dict()["state"] == {}
    fresh = [nn.Parameter(p.detach().clone()) for p in params]
    learn(params, optimizer, range(3))
    learn(fresh, optim.Adam(fresh, lr=0.01), range(3))
    assert_same(values(params), values(fresh))


def test_state_of_pytorchs_making_is_understood():
    """PyTorch's SGD counts no steps, its groups name implementations, its ASGD keeps 0-d tensors."""
    (p, *_) = parameters()
    sgd = optim.SGD([p], lr=0.1, momentum=0.9)
    group = {**sgd.state_dict()["param_groups"][0], "foreach": None, "fused": None, "differentiable": False}
    sgd.load_state_dict({"state": {0: {"momentum_buffer": T.ones(2, 3)}}, "param_groups": [group]})
    start = values([p])[0]
    p.grad = T.zeros(2, 3)
    sgd.step()
    np.testing.assert_allclose(p.detach().numpy(), start - 0.09, rtol=1e-6)
    asgd = optim.ASGD([p])
    state = {"step": T.tensor(3.0), "eta": T.tensor(0.5), "mu": T.tensor(1.0), "ax": T.ones(2, 3)}
    asgd.load_state_dict({"state": {0: state}, "param_groups": asgd.state_dict()["param_groups"]})
    start = values([p])[0]
    p.grad = T.ones(2, 3)
    asgd.step()
    np.testing.assert_allclose(p.detach().numpy(), start * (1 - 1e-4 * 0.5) - 0.5, rtol=1e-5)
    with pytest.raises(ValueError, match="expected 'ax', 'eta', 'mu' for parameter 0, got 'ax'"):
        asgd.load_state_dict({"state": {0: {"ax": T.ones(2, 3)}}, "param_groups": asgd.state_dict()["param_groups"]})


def test_options_may_be_tensors_and_implementations_are_accepted():
    (p, *_) = parameters()
    optimizer = optim.AdamW([{"params": [p], "eps": T.tensor(0.5)}], T.tensor(0.25), fused=True, foreach=False, capturable=True)
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert optimizer.param_groups[0]["eps"] == 0.5
    assert not {"fused", "foreach", "capturable"} & optimizer.defaults.keys()
    assert json.loads(json.dumps(optimizer.state_dict()))["param_groups"][0]["lr"] == 0.25
    assert not hasattr(optimizer, "lr")  # what counts is in the groups


def test_signatures_name_the_options_in_pytorchs_order():
    names = list(inspect.signature(optim.AdamW).parameters)
    assert names[:6] == ["params", "lr", "betas", "eps", "weight_decay", "amsgrad"]
    assert inspect.signature(optim.AdamW).parameters["weight_decay"].default == 1e-2
    assert inspect.signature(optim.Adam).parameters["weight_decay"].default == 0.0


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_muon_steps_are_nearly_orthogonal(shape, device):
    """A step without momentum or decay has the gradient's singular vectors, and singular values around lr."""
    w = nn.Parameter(T.zeros(*shape, dtype=T.float64, device=device))
    gradient = np.random.default_rng(0).normal(size=shape)
    optimizer = optim.Muon([w], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False, adjust_lr_fn="match_rms_adamw")
    w.grad = T.tensor(gradient, device=device)
    optimizer.step()
    step = -w.detach().cpu().numpy() / (0.2 * max(shape) ** 0.5)
    u, _, vt = np.linalg.svd(gradient, full_matrices=False)
    inside = u.T @ step @ vt.T
    np.testing.assert_allclose(inside, np.diag(np.diag(inside)), atol=1e-12)
    assert (np.diag(inside) > 0.6).all()
    assert (np.diag(inside) < 1.3).all()


def test_complex_gradients_are_clipped_by_the_norm_of_their_parts():
    z, g = T.tensor(np.array([1j])), T.tensor(np.array([3 + 4j]))
    z.grad = g
    norm = nn.utils.clip_grad_norm_([z], 1.0)
    assert norm.item() == pytest.approx(5)
    assert norm.dtype is T.float64
    np.testing.assert_allclose(z.grad.numpy(), [0.6 + 0.8j], rtol=1e-5)
    assert nn.utils.get_total_norm([g * 5, g], norm_type=-float("inf")).item() == pytest.approx(1.0)
