"""The module tree: registries, names, state, hooks, copies, errors."""

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensor as T
from tensor import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.layers = nn.ModuleList([nn.Linear(4, 4, bias=False), nn.Tanh()])
        self.scale = nn.Parameter(T.ones(2))
        self.register_buffer("seen", T.zeros(1))
        self.register_buffer("cache", T.zeros(1), persistent=False)

    def forward(self, x):
        return self.first(x)


def test_names_follow_registration_and_pytorch():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["scale", "first.weight", "first.bias", "layers.0.weight"]
    assert [id(p) for p in net.parameters()] == [id(p) for _, p in net.named_parameters()]
    assert [n for n, _ in net.named_buffers()] == ["seen", "cache"]
    assert [n for n, _ in net.named_modules()] == ["", "first", "layers", "layers.0", "layers.1"]
    assert list(net.modules()) == [m for _, m in net.named_modules()]
    assert [n for n, _ in net.named_children()] == ["first", "layers"]
    assert list(net.state_dict()) == ["scale", "seen", "first.weight", "first.bias", "layers.0.weight"]
    assert net.get_parameter("layers.0.weight") is net.layers[0].weight
    assert net.get_submodule("") is net
    assert net.get_buffer("seen") is net.seen


def test_attribute_and_registry_stay_in_step():
    layer = nn.Linear(2, 2)
    before = layer._structure
    layer.bias = None
    assert layer._parameters["bias"] is None
    assert layer.bias is None
    layer.weight = nn.Parameter(T.zeros(1, 2))
    assert layer._parameters["weight"] is layer.weight
    layer.weight = nn.Identity()  # the name now means a module
    assert "weight" not in layer._parameters
    assert list(layer.children()) == [layer.weight]
    del layer.weight
    assert not hasattr(layer, "weight")
    assert not layer._modules
    assert layer._structure > before


def test_a_shared_parameter_is_given_once_but_saved_twice():
    a, b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    b.weight = a.weight
    net = nn.Sequential(a, b, a)
    assert len(list(net.parameters())) == 1
    assert list(net.state_dict()) == ["0.weight", "1.weight", "2.weight"]
    assert len(list(net.modules())) == 3
    assert len(list(net.modules(remove_duplicate=False))) == 4


@pytest.mark.parametrize(
    "act, error, text",
    [
        (
            lambda m: setattr(m, "weight", T.ones(1)),
            TypeError,
            "Linear.weight: expected a Parameter or None, got Tensor",
        ),
        (lambda m: m.register_parameter("a.b", None), KeyError, "must not be empty or contain a dot"),
        (lambda m: m.register_parameter("forward", None), KeyError, "exists already"),
        (lambda m: m.register_parameter("p", T.ones(1)), TypeError, "expected a Parameter or None, got Tensor"),
        (lambda m: m.register_buffer("b", 3), TypeError, "expected a Tensor or None, got int"),
        (lambda m: m.add_module("m", 3), TypeError, "expected a Module or None, got int"),
        (lambda m: m.add_module(3, None), TypeError, "expected a string as the name, got int"),
        (lambda m: m.get_parameter("wieght"), AttributeError, "no parameter 'wieght'; did you mean 'weight'"),
        (lambda m: m.get_submodule("a.b"), AttributeError, "Linear has no module 'a'"),
        (lambda m: m.to(T.int64), TypeError, "expected a floating dtype, got tensor.int64"),
        (lambda m: m.load_state_dict({}), RuntimeError, "missing: 'weight', 'bias'"),
        (lambda m: m.load_state_dict({**m.state_dict(), "x": T.ones(1)}), RuntimeError, "unexpected: 'x'"),
        (
            lambda m: m.load_state_dict({"bias": T.ones(3)}, strict=False),
            RuntimeError,
            r"'bias' expected \[2\], got \[3\]",
        ),
        (lambda m: nn.Module()(1), NotImplementedError, "Module has no forward"),
    ],
)
def test_error_texts(act, error, text):
    layer = nn.Linear(2, 2)
    before = layer.weight.detach().clone()
    with pytest.raises(error, match=text):
        act(layer)
    assert (layer.weight == before).all()


def test_assigning_before_init_is_an_error():
    class Early(nn.Module):
        def __init__(self):
            self.w = nn.Parameter(T.ones(1))

    with pytest.raises(AttributeError, match=r"Early: call super\(\).__init__\(\) before assigning 'w'"):
        Early()


def test_overriding_call_is_an_error():
    with pytest.raises(TypeError, match="override forward, not __call__"):
        type("Odd", (nn.Module,), {"__call__": lambda self, x: x})


def test_hooks_see_and_replace_also_inside_sequential():
    net = nn.Sequential(nn.Identity(), nn.Identity())
    seen = []
    first = net[0].register_forward_pre_hook(lambda m, args: (args[0] + 1,))
    second = net[1].register_forward_hook(lambda m, args, y: seen.append((args[0], y)) or y * 10)
    third = net.register_forward_hook(lambda m, args, kwargs, y: y - 1, with_kwargs=True)
    assert net(2) == 29
    assert seen == [(3, 3)]
    for handle in (first, second, third):
        handle.remove()
    assert net(2) == 2
    with net.register_forward_pre_hook(lambda m, args, kwargs: ((args[0] * 2,), kwargs), with_kwargs=True):
        assert net(2) == 4
    assert net(2) == 2


def test_forward_hooks_run_in_order_and_even_when_it_fails():
    layer = nn.Identity()
    seen = []
    layer.register_forward_hook(lambda m, args, y: seen.append("second"))
    layer.register_forward_hook(lambda m, args, y: seen.append("first"), prepend=True)
    layer.register_forward_pre_hook(lambda m, args: seen.append("before"))
    layer(1)
    assert seen == ["before", "first", "second"]
    broken = nn.Module()
    broken.register_forward_hook(lambda m, args, y: seen.append(("never", y)))
    broken.register_forward_hook(lambda m, args, y: seen.append(("always", y)), always_call=True)
    with pytest.raises(NotImplementedError):
        broken()
    assert seen[3:] == [("always", None)]
    layer.register_forward_pre_hook(lambda m, args, kwargs: 3, with_kwargs=True)
    with pytest.raises(
        RuntimeError, match=r"Identity: expected a pair \(args, kwargs\) or None from a forward pre-hook, got int"
    ):
        layer(1)


def test_backward_hooks_see_and_replace_gradients():
    layer = nn.Bilinear(2, 3, 1, bias=False).double()
    a, b = T.randn(4, 2, dtype=T.float64, requires_grad=True), T.randn(4, 3, dtype=T.float64)
    layer(a, b).sum().backward()
    plain, weight = a.grad.clone(), layer.weight.grad.clone()
    a.grad = layer.weight.grad = None
    seen = []

    def before(module, grad_output):
        seen.append(("before", [g.tolist() for g in grad_output]))
        return (grad_output[0] * 2,)

    def after(module, grad_input, grad_output):
        seen.append(("after", [g is None for g in grad_input], grad_output[0].tolist()))
        return grad_input[0] * 10, None

    layer.register_full_backward_pre_hook(before)
    layer.register_full_backward_hook(after)
    layer(a, b).sum().backward()
    ones = [[1.0]] * 4
    assert seen == [("before", [ones]), ("after", [False, True], [[2.0]] * 4)]
    assert (layer.weight.grad == 2 * weight).all()
    assert (a.grad == 20 * plain).all()
    with T.no_grad():
        assert not layer(a, b).requires_grad


def test_backward_hooks_without_inputs_that_learn_and_with_several_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(T.ones(2))

        def forward(self, x):
            return self.w * x, 3, [self.w]

    seen = []
    two = Two()
    two.register_full_backward_hook(
        lambda m, grad_input, grad_output: seen.append((grad_input, len(grad_output), grad_output[0].tolist()))
    )
    y, number, rest = two(T.tensor([1.0, 2.0]))
    assert (number, len(rest)) == (3, 1)
    (y * y).sum().backward()
    assert seen == [((None,), 3, [2.0, 4.0])]
    assert two.w.grad.tolist() == [2, 8]
    twice = nn.Identity()
    twice.register_full_backward_hook(lambda m, grad_input, grad_output: seen.append((grad_input, grad_output)))
    _, second = twice((two.w * 1, two.w * 2))
    second.sum().backward()
    assert seen[1][1][0] is None  # no gradient arrived there
    assert seen[1][1][1].tolist() == [1, 1]
    two.register_full_backward_hook(lambda m, grad_input, grad_output: (1, 2))
    y, _, _ = two(T.ones(2, requires_grad=True))
    with pytest.raises(RuntimeError, match="Two: expected 1 gradients from a backward hook, got 2"):
        y.sum().backward()


def test_hooks_of_all_modules_reach_into_sequential():
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    seen = []
    registered = [
        nn.hooks.register_module_forward_pre_hook(lambda m, args: seen.append(("pre", type(m).__name__))),
        nn.hooks.register_module_forward_hook(lambda m, args, y: seen.append(("post", type(m).__name__))),
        nn.hooks.register_module_full_backward_pre_hook(lambda m, g: seen.append(("back", type(m).__name__))),
        nn.hooks.register_module_full_backward_hook(lambda m, gi, go: seen.append(("through", type(m).__name__))),
    ]
    try:
        net(T.ones(1, 1, requires_grad=True)).sum().backward()
    finally:
        for handle in registered:
            handle.remove()
    names = ["Sequential", "Linear", "Linear", "ReLU", "ReLU", "Sequential"]
    assert seen[:6] == list(zip(["pre", "pre", "post", "pre", "post", "post"], names, strict=True))
    backward = ["Sequential", "ReLU", "ReLU", "Linear", "Linear", "Sequential"]
    assert seen[6:] == list(zip(["back", "back", "through", "back", "through", "through"], backward, strict=True))
    with T.no_grad():
        net(T.ones(1, 1))
    assert len(seen) == 12


def test_deep_copy_and_pickle_are_independent_and_whole():
    net = Net().eval()
    T.optim.Adam(net.parameters())  # parameters are views of a flat buffer now
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin.first.weight is twin.first._parameters["weight"]
        assert not twin.training
        with T.no_grad():
            twin.first.weight.zero_()
        assert net.first.weight.abs().sum() > 0
        twin.load_state_dict(net.state_dict())
        assert all((a == b).all() for a, b in zip(net.parameters(), twin.parameters(), strict=True))
        assert isinstance(twin.scale, nn.Parameter)
        assert twin.scale.requires_grad


def test_dtype_changes_keep_identity_and_move_gradients():
    net = Net()
    ids = [id(p) for p in net.parameters()]
    net(T.ones(1, 3)).sum().backward()
    net.register_buffer("count", T.zeros(1, dtype=T.int64))
    net.double()
    assert [id(p) for p in net.parameters()] == ids
    assert net.first.weight.dtype is net.first.weight.grad.dtype is net.seen.dtype is T.float64
    assert net.count.dtype is T.int64
    net(T.ones(1, 3, dtype=T.float64)).sum().backward()
    assert net.half().scale.dtype is T.float16
    assert net.float().cpu().to("cpu", T.float32).scale.dtype is T.float32


def test_modes_freezing_and_zero_grad():
    net = Net()
    assert net.eval().layers[1].training is False
    assert net.train().layers[1].training is True
    net(T.ones(1, 3)).sum().backward()
    net.zero_grad(set_to_none=False)
    assert (net.first.weight.grad == 0).all()
    net.zero_grad()
    assert net.first.weight.grad is None
    net.requires_grad_(False)
    assert not net(T.ones(1, 3)).requires_grad
    visited = []
    net.apply(lambda m: visited.append(type(m).__name__))
    assert visited[-1] == "Net"
    assert len(visited) == 5


def test_loading_copies_and_a_stale_backward_raises():
    layer = nn.Linear(2, 2)
    x = T.ones(1, 2, requires_grad=True)
    y = layer(x)
    array = layer.weight._array
    result = layer.load_state_dict({"weight": np.ones((2, 2), np.float32)}, strict=False)
    assert result == (["bias"], [])
    assert layer.weight._array is array
    with pytest.raises(RuntimeError, match="changed by an in-place operation"):
        y.sum().backward()
    given = T.ones(2, 2, dtype=T.float64)
    layer.load_state_dict({"weight": given}, strict=False, assign=True)
    assert layer.weight._array is given._array


def test_everything_wrong_with_a_state_is_in_one_error():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = net.state_dict()
    state["0.wieght"] = state.pop("0.weight")
    state["1.bias"] = T.ones(2)
    state["1.weight"] = "text"
    before = net[0].bias.tolist()
    with pytest.raises(RuntimeError) as e:
        net.load_state_dict(state)
    assert str(e.value) == (
        "Sequential.load_state_dict: missing: '0.weight'; not a tensor: '1.weight' is str; "
        "shape mismatch: '1.bias' expected [1], got [2]; unexpected: '0.wieght' (did you mean '0.weight'?)"
    )
    assert net[0].bias.tolist() == before
    with pytest.raises(TypeError, match="expected a mapping from names to tensors, got list"):
        net.load_state_dict([])
    scalar = nn.Module()
    scalar.p = nn.Parameter(T.tensor(1.0))
    scalar.load_state_dict({"p": np.array([3.0])})  # as files from before 0-d tensors have it
    assert scalar.p.item() == 3


def test_state_hooks_and_extra_state():
    class Counting(nn.Linear):
        count = 0

        def get_extra_state(self):
            return {"count": self.count}

        def set_extra_state(self, state):
            self.count = state["count"]

    net = nn.Sequential(Counting(1, 1), nn.Tanh())
    net[0].count = 5
    seen = []
    net[0].register_state_dict_pre_hook(lambda m, prefix, keep_vars: seen.append((prefix, keep_vars)))
    net[0].register_state_dict_post_hook(lambda m, state, prefix, metadata: state.update({prefix + "note": T.ones(1)}))
    state = net.state_dict(prefix="a.", keep_vars=True, destination={"first": 1})
    assert list(state) == ["first", "a.0.weight", "a.0.bias", "a.0._extra_state", "a.0.note"]
    assert state["a.0.weight"] is net[0].weight
    assert seen == [("a.0.", True)]
    other = nn.Sequential(Counting(1, 1), nn.Tanh())
    with pytest.raises(RuntimeError, match=r"unexpected: '0.note'"):
        other.load_state_dict(net.state_dict())

    def forget_note(module, state, prefix, metadata, strict, missing, unexpected, errors):
        state.pop(prefix + "note")

    handle = other[0].register_load_state_dict_pre_hook(forget_note)
    other.register_load_state_dict_post_hook(lambda m, result: seen.append(result))
    given = net.state_dict()
    assert other.load_state_dict(given) == ([], [])
    assert "0.note" in given
    assert seen[-1] == ([], [])
    assert other[0].count == 5
    handle.remove()
    del given["0.note"], given["0._extra_state"]
    with pytest.raises(RuntimeError, match=r"missing: '0._extra_state'"):
        other.load_state_dict(given)
    with pytest.raises(NotImplementedError, match="Linear has no extra state"):
        nn.Linear(1, 1).get_extra_state()


def test_buffers_by_class_submodules_by_name_and_other_conversions():
    net = Net()
    net.mean = nn.Buffer(T.zeros(2))
    net.passing = nn.Buffer([1, 2], persistent=False)
    assert "mean" in net.state_dict()
    assert "passing" not in net.state_dict()
    assert dict(net.named_buffers())["passing"] is net.passing
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert (twin.mean.persistent, twin.passing.persistent) == (True, False)
        assert twin.passing.tolist() == [1, 2]
    net.set_submodule("layers.1", nn.ReLU())
    assert isinstance(net.layers[1], nn.ReLU)
    with pytest.raises(AttributeError, match="has no module '7'"):
        net.set_submodule("layers.7", nn.ReLU(), strict=True)
    with pytest.raises(AttributeError, match="has no module '7'"):
        net.set_submodule("layers.7.0", nn.ReLU())
    net.set_submodule("last", nn.ReLU())
    assert repr(net.last) == "ReLU()"
    p = net.first.weight
    assert net.type(T.float64).passing.dtype is T.float64
    assert net.first.weight is p
    assert net.to_empty(device="cpu").first.weight is p
    assert p.shape == (4, 3)
    with pytest.raises(TypeError, match="expected a dtype that NumPy has, got bfloat16"):
        net.bfloat16()


def test_parameter_shares_memory_and_checks_dtype():
    data = T.zeros(2)
    p = nn.Parameter(data)
    data += 1
    assert (p == 1).all()
    assert isinstance(p, T.Tensor)
    assert type(p * 2) is T.Tensor
    assert nn.Parameter(T.ones(1, dtype=T.int64), requires_grad=False).dtype is T.int64
    with pytest.raises(RuntimeError, match="floating"):
        nn.Parameter(T.ones(1, dtype=T.int64))


def test_repr_is_pytorchs():
    net = nn.Sequential(nn.Linear(2, 3), nn.ModuleDict({"a": nn.ReLU(inplace=True)}))
    assert repr(net) == (
        "Sequential(\n  (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (1): ModuleDict(\n    (a): ReLU(inplace=True)\n  )\n)"
    )
    assert repr(nn.ModuleList([nn.Tanh(), nn.Tanh()])) == "ModuleList(\n  (0-1): 2 x Tanh()\n)"


@given(sizes=st.lists(st.integers(1, 5), min_size=2, max_size=5), seed=st.integers(0, 1000))
def test_state_dict_round_trips(sizes, seed):
    def make():
        return nn.Sequential(*[nn.Linear(a, b) for a, b in pairwise(sizes)])

    T.manual_seed(seed)
    one, two = make(), make()
    two.load_state_dict(one.state_dict())
    x = T.randn(3, sizes[0])
    assert (one(x) == two(x)).all()
    assert all((a == b).all() for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_exported_names_exist_and_are_sorted_out():
    for module in (nn, nn.functional, nn.init, nn.utils, T.optim, T.optim.lr_scheduler):
        assert all(hasattr(module, name) for name in module.__all__)
        assert len(set(module.__all__)) == len(module.__all__)
