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
        (lambda m: m.get_parameter("wieght"), AttributeError, "no parameter 'wieght'; it has weight, bias"),
        (lambda m: m.get_submodule("a.b"), AttributeError, "Linear has no module 'a'"),
        (lambda m: m.to(T.int64), TypeError, "expected a floating dtype, got tensor.int64"),
        (lambda m: m.load_state_dict({}), RuntimeError, "missing: weight, bias"),
        (lambda m: m.load_state_dict({**m.state_dict(), "x": T.ones(1)}), RuntimeError, "unexpected: x"),
        (
            lambda m: m.load_state_dict({"bias": T.ones(3)}, strict=False),
            RuntimeError,
            r"bias expected \[2\], got \[3\]",
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


def test_sequential_and_lists_behave_like_lists():
    a, b, c = nn.Linear(1, 1), nn.ReLU(), nn.Tanh()
    net = nn.Sequential(a, b)
    net.append(c).insert(0, nn.Identity())
    assert [type(m).__name__ for m in net] == ["Identity", "Linear", "ReLU", "Tanh"]
    assert list(net._modules) == ["0", "1", "2", "3"]
    assert net[1:3]._modules == {"1": a, "2": b}
    del net[0]
    assert net.pop() is c
    net[1] = c
    assert list(net) == [a, c]
    assert net[-1] is c
    with pytest.raises(IndexError, match="index 5 is out of range for 2 entries"):
        net[5]
    assert list(nn.Sequential({"x": a})._modules) == ["x"]
    rows = nn.ModuleList([a]).extend([b, c])
    assert list(rows[1:]) == [b, c]
    with pytest.raises(TypeError, match="expected a Module or None, got str"):
        nn.Sequential("x")


def test_dicts_and_parameter_lists():
    d = nn.ModuleDict({"a": nn.ReLU()})
    d.update([("b", nn.Tanh())])
    assert (list(d), "a" in d, len(d)) == (["a", "b"], True, 2)
    assert repr(d.pop("a")) == "ReLU()"
    with pytest.raises(KeyError, match="no module 'a'; it has b"):
        d["a"]
    with pytest.raises(KeyError, match="exists already"):
        d["forward"] = nn.ReLU()
    d.clear()
    assert not len(d)
    row = nn.ParameterList([T.ones(1)]).append(T.zeros(2))
    row[0] = T.zeros(3)
    assert [tuple(p.shape) for p in row.parameters()] == [(3,), (2,)]
    table = nn.ParameterDict({"w": T.ones(1)})
    del table["w"]
    assert not len(table)


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
