"""Weights that are computed: parametrizations, weight and spectral norms of both generations, and modules as functions."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensor as T
from tensor import nn
from tensor.nn.utils import parametrizations, parametrize
from tensor.nn.utils.stateless import functional_call


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).mT

    def right_inverse(self, x):
        return x.triu()


class Exponential(nn.Module):
    calls = 0

    def forward(self, x):
        Exponential.calls += 1
        return x.exp()

    def right_inverse(self, y):
        return y.log()


class Product(nn.Module):
    def forward(self, a, b):
        return a * b

    def right_inverse(self, y):
        return y.abs().sqrt(), y.sign() * y.abs().sqrt()


class Longer(nn.Module):
    def forward(self, x):
        return T.cat([x, x])


def values(t):
    return t.detach().numpy()


# --- parametrize ------------------------------------------------------------------------------------------------------


def test_the_attribute_is_computed_and_learns_through_its_original():
    layer = nn.Linear(3, 3)
    weight, before = layer.weight, values(layer.weight).copy()
    assert parametrize.register_parametrization(layer, "weight", Symmetric()) is layer
    assert parametrize.is_parametrized(layer)
    assert parametrize.is_parametrized(layer, "weight")
    assert not parametrize.is_parametrized(layer, "bias")
    assert layer.parametrizations.weight.original is weight  # an optimizer may hold it
    np.testing.assert_array_equal(values(layer.weight), np.triu(before) + np.triu(before, 1).T)
    assert [name for name, _ in layer.named_parameters()] == ["bias", "parametrizations.weight.original"]
    layer(T.ones(1, 3)).sum().backward()
    assert weight.grad is not None
    assert (weight.grad.tril(-1) == 0).all()
    assert type(layer).__name__ == "ParametrizedLinear"
    assert isinstance(layer, nn.Linear)
    assert parametrize.type_before_parametrizations(layer) is nn.Linear


def test_assignment_goes_through_the_inverse():
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Symmetric())
    given_weight = T.tensor([[1.0, 2.0], [2.0, 3.0]])
    layer.weight = nn.Parameter(given_weight)
    assert layer.parametrizations.weight.original.tolist() == [[1, 2], [0, 3]]
    assert (layer.weight == given_weight).all()
    with pytest.raises(RuntimeError, match=r"shape"):
        layer.weight = T.ones(3, 3)


@pytest.mark.parametrize("leave", [True, False])
def test_removal_gives_the_module_back(leave):
    layer = nn.Linear(3, 3)
    weight, before = layer.weight, values(layer.weight).copy()
    parametrize.register_parametrization(layer, "weight", Symmetric())
    computed = values(layer.weight)
    assert parametrize.remove_parametrizations(layer, "weight", leave) is layer
    assert type(layer) is nn.Linear
    assert layer.weight is weight
    np.testing.assert_array_equal(values(layer.weight), computed if leave else np.triu(before))
    assert not hasattr(layer, "parametrizations")
    assert list(layer.state_dict()) == ["bias", "weight"]
    layer(T.ones(1, 3)).sum().backward()
    assert weight.grad is not None


def test_several_names_several_sources_and_chains():
    layer = nn.Linear(3, 3)
    bias, weight = values(layer.bias).copy(), values(layer.weight).copy()
    parametrize.register_parametrization(layer, "bias", Product())
    np.testing.assert_allclose(values(layer.bias), bias, rtol=1e-6)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    parametrize.register_parametrization(layer, "weight", nn.Tanh())
    np.testing.assert_allclose(values(layer.weight), np.tanh(np.triu(weight) + np.triu(weight, 1).T), rtol=1e-5)
    assert list(layer.state_dict()) == [
        "parametrizations.bias.original0",
        "parametrizations.bias.original1",
        "parametrizations.weight.original",
    ]
    twin = nn.Linear(3, 3)
    parametrize.register_parametrization(twin, "bias", Product())
    assert parametrize.is_parametrized(twin, "bias")
    assert not parametrize.is_parametrized(twin, "weight")
    with pytest.raises(ValueError, match="computed from 2 tensors; only its value can be left"):
        parametrize.remove_parametrizations(layer, "bias", leave_parametrized=False)
    parametrize.remove_parametrizations(layer, "bias")
    assert isinstance(layer.bias, nn.Parameter)
    assert parametrize.is_parametrized(layer, "weight")
    np.testing.assert_allclose(values(layer.bias), bias, rtol=1e-6)


def test_a_buffer_can_be_computed_and_copies_are_independent():
    layer = nn.Module()
    layer.register_buffer("scale", T.tensor([1.0, 2.0]))
    parametrize.register_parametrization(layer, "scale", Exponential())
    np.testing.assert_allclose(values(layer.scale), [1, 2], rtol=1e-6)
    assert not layer.scale.requires_grad
    assert list(layer.state_dict()) == ["parametrizations.scale.original"]
    twin = pickle.loads(pickle.dumps(copy.deepcopy(layer)))
    twin.scale = T.tensor([3.0, 4.0])
    np.testing.assert_allclose(values(layer.scale), [1, 2], rtol=1e-6)
    parametrize.remove_parametrizations(twin, "scale")
    np.testing.assert_allclose(values(twin.scale), [3, 4], rtol=1e-6)
    assert parametrize.is_parametrized(layer, "scale")
    assert list(twin.state_dict()) == ["scale"]


def test_a_cached_block_computes_once():
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "bias", Exponential(), unsafe=True)
    Exponential.calls = 0
    with parametrize.cached():
        with parametrize.cached():
            layer(T.ones(2))
        layer(T.ones(2))
    assert Exponential.calls == 1
    layer(T.ones(2))
    assert Exponential.calls == 2


def test_an_unrecorded_sequential_uses_the_computed_weight():
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", nn.Tanh())
    x = T.ones(1, 2)
    with T.no_grad():
        y = nn.Sequential(layer)(x)
    np.testing.assert_allclose(values(y), values(x) @ values(layer.weight).T + values(layer.bias), rtol=1e-6)


@pytest.mark.parametrize(
    "act, text",
    [
        (lambda m: parametrize.register_parametrization(m, "wieght", nn.Tanh()), r"of Linear \('weight', 'bias'\), got 'wieght'"),
        (lambda m: parametrize.register_parametrization(m, "bias", Longer()), r"float32 of shape \[2\] from forward, got tensor.float32 of shape \[4\]"),
        (lambda m: parametrize.register_parametrization(parametrize.register_parametrization(m, "bias", nn.Tanh()), "bias", Longer()), "from forward, got"),
        (lambda m: parametrize.remove_parametrizations(m, "weight"), "Linear has no parametrized 'weight'"),
        (lambda m: parametrize.ParametrizationList([], m.weight), "at least one module, got none"),
        (lambda m: parametrizations.spectral_norm(m, "wieght"), "the name of a tensor of Linear, got 'wieght'"),
        (lambda m: parametrizations.spectral_norm(m, n_power_iterations=0), "at least one power iteration, got 0"),
        (lambda m: parametrizations.orthogonal(m, "bias"), r"the name of a matrix of Linear, got 'bias' of shape \[2\]"),
        (lambda m: parametrizations.orthogonal(m, orthogonal_map="qr"), "orthogonal_map to be one of 'matrix_exp', 'cayley', 'householder', got 'qr'"),
        (lambda m: nn.utils.weight_norm(m, "wieght"), "weight_norm: expected the name of a parameter of Linear, got 'wieght'"),
        (lambda m: nn.utils.remove_weight_norm(m), "remove_weight_norm: Linear has no weight_norm of 'weight'"),
        (lambda m: nn.utils.remove_spectral_norm(nn.utils.weight_norm(m)), "Linear has no spectral_norm of 'weight'"),
    ],
)  # fmt: skip
def test_refused(act, text):
    with pytest.raises(ValueError, match=text):
        act(nn.Linear(2, 2))


def test_unsafe_allows_another_shape():
    layer = nn.Linear(2, 2)
    parametrize.register_parametrization(layer, "bias", Longer(), unsafe=True)
    assert layer.bias.shape == (4,)


# --- norms ------------------------------------------------------------------------------------------------------------

GENERATIONS = {"parametrization": parametrizations.weight_norm, "hook": nn.utils.weight_norm}
SPECTRAL = {"parametrization": parametrizations.spectral_norm, "hook": nn.utils.spectral_norm}


@pytest.mark.parametrize("normalised", GENERATIONS.values(), ids=list(GENERATIONS))
@given(dim=st.sampled_from([None, 0, 1, 2, -1, -2]))
def test_weight_norm_keeps_the_weight_and_separates_its_length(normalised, dim):
    layer = nn.Conv1d(2, 3, 4)
    weight = values(layer.weight).copy()
    normalised(layer, dim=dim)
    x = T.randn(1, 2, 5)
    y = layer(x)
    np.testing.assert_allclose(values(layer.weight), weight, rtol=1e-5, atol=1e-6)
    g, _ = [p for name, p in layer.named_parameters() if "bias" not in name]
    with T.no_grad():
        g.mul_(2)
    layer(x)
    np.testing.assert_allclose(values(layer.weight), 2 * weight, rtol=1e-5, atol=1e-6)
    y.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_the_gradient_of_a_direction_is_orthogonal_to_it():
    layer = parametrizations.weight_norm(nn.Linear(4, 3).double())
    (layer(T.randn(5, 4, dtype=T.float64)) ** 2).sum().backward()
    v = layer.parametrizations.weight.original1
    np.testing.assert_allclose(values((v * v.grad).sum(1)), 0, atol=1e-12)


@pytest.mark.parametrize("normalised", SPECTRAL.values(), ids=list(SPECTRAL))
@pytest.mark.parametrize("layer", [lambda: nn.Linear(4, 3), lambda: nn.Conv1d(2, 3, 2)])
def test_spectral_norm_makes_the_largest_singular_value_one(normalised, layer):
    module = layer().double()
    weight = values(module.weight).copy()
    largest = np.linalg.svd(weight.reshape(3, -1), compute_uv=False)[0]
    normalised(module, n_power_iterations=30)
    x = T.randn(*{2: (1, 4), 3: (1, 2, 4)}[weight.ndim], dtype=T.float64)
    for _ in range(5):
        module(x)
    np.testing.assert_allclose(values(module.weight), weight / largest, rtol=1e-6)
    buffers = {name: values(b).copy() for name, b in module.named_buffers()}
    module.eval()
    module(x).sum().backward()
    assert all((values(b) == buffers[name]).all() for name, b in module.named_buffers())
    assert len(buffers) == 2


def test_a_spectral_norm_is_trained_through_as_a_constant_direction():
    layer = parametrizations.spectral_norm(nn.Linear(3, 2).double()).eval()
    rule = layer.parametrizations.weight
    assert T.autograd.gradcheck(lambda w: rule[0](w), [rule.original.detach().clone().requires_grad_()])
    flat = nn.Module()
    flat.w = nn.Parameter(T.tensor([3.0, 4.0]))
    parametrizations.spectral_norm(flat, "w")
    np.testing.assert_allclose(values(flat.w), [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (3, 5), (2, 4, 3)])
@pytest.mark.parametrize("chosen", [None, "matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("trivialised", [True, False])
def test_orthogonal_weights_stay_orthogonal_and_learn(shape, chosen, trivialised):
    module = nn.Module()
    module.weight = nn.Parameter(T.randn(*shape, dtype=T.float64))
    parametrizations.orthogonal(module, orthogonal_map=chosen, use_trivialization=trivialised)
    start = values(module.weight).copy()
    target = T.randn(*shape, dtype=T.float64)
    for _ in range(2):
        w = module.weight
        gram = w.mT @ w if shape[-2] >= shape[-1] else w @ w.mT
        np.testing.assert_allclose(values(gram), np.broadcast_to(np.eye(gram.shape[-1]), gram.shape), atol=1e-12)
        ((w - target) ** 2).sum().backward()
        with T.no_grad():
            for p in module.parameters():
                p.sub_(0.1 * p.grad)
    assert not np.allclose(values(module.weight), start)
    given_weight = T.tensor(np.ascontiguousarray(np.linalg.qr(np.swapaxes(start, -1, -2) + 0.1)[0])).mT
    if shape[-2] >= shape[-1]:
        given_weight = T.tensor(np.linalg.qr(start + 0.1)[0])
    if trivialised or chosen == "householder" or (chosen is None and shape[-2] != shape[-1]):
        module.weight = given_weight
        np.testing.assert_allclose(values(module.weight), values(given_weight), atol=1e-12)
    else:
        with pytest.raises(NotImplementedError, match="cannot be assigned with use_trivialization=False"):
            module.weight = given_weight


def test_an_orthogonal_weight_starts_where_the_weight_was_if_that_was_orthogonal():
    layer = nn.Linear(3, 3)
    nn.init.orthogonal_(layer.weight)
    before = values(layer.weight).copy()
    parametrizations.orthogonal(layer, orthogonal_map="cayley")
    np.testing.assert_allclose(values(layer.weight), before, atol=1e-6)
    assert list(layer.state_dict()) == ["bias", "parametrizations.weight.original", "parametrizations.weight.0.base"]


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
def test_the_old_norms_can_be_removed_and_go_deep(kind):
    layer = nn.Linear(3, 2)
    getattr(nn.utils, kind)(layer)
    net = nn.Sequential(layer, nn.Tanh()).eval()
    x = T.randn(4, 3)
    y = net(x)
    computed = values(layer.weight).copy()
    getattr(nn.utils, f"remove_{kind}")(layer)
    assert list(layer.state_dict()) == ["bias", "weight"]
    np.testing.assert_allclose(values(layer.weight), computed, rtol=1e-6)
    np.testing.assert_allclose(values(net(x)), values(y), rtol=1e-6)
    assert not layer._hooks


def test_a_norm_of_a_recurrent_weight_acts_in_its_steps():
    layer = parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")
    plain = nn.LSTM(3, 4)
    plain.load_state_dict({name: getattr(layer, name).detach() for name, _ in plain.named_parameters()})
    x = T.randn(5, 2, 3)
    np.testing.assert_allclose(values(layer(x)[0]), values(plain(x)[0]), rtol=1e-5, atol=1e-6)
    layer(x)[0].sum().backward()
    assert layer.parametrizations.weight_hh_l0.original0.grad.abs().sum() > 0


# --- modules as functions ---------------------------------------------------------------------------------------------


def test_a_call_with_other_tensors_leaves_the_module_alone():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = {name: t.clone() for name, t in net.state_dict().items()}
    weight = T.eye(2).requires_grad_()
    mean = T.zeros(2)
    x = T.tensor([[1.0, 2.0], [3.0, 5.0]])
    y = functional_call(net, ({"0.weight": weight}, {"1.running_mean": mean}), x)
    (y * y * x).sum().backward()
    assert weight.grad is not None
    assert mean.abs().sum() > 0  # what forward writes goes into the tensor given
    assert net[0].weight.grad is None
    after = {name: t for name, t in net.state_dict().items() if "num_batches" not in name and "running_var" not in name}
    assert all((t == before[name]).all() for name, t in after.items())
    assert isinstance(net[0].weight, nn.Parameter)
    assert net[0]._parameters["weight"] is net[0].weight


def test_tied_weights_are_replaced_together_and_errors_restore():
    a, b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    b.weight = a.weight
    net = nn.Sequential(a, b)
    twice = T.eye(2) * 2
    assert functional_call(net, {"0.weight": twice}, T.ones(2)).tolist() == [4, 4]
    own = values(a.weight)
    untied = functional_call(net, {"0.weight": twice}, T.ones(2), tie_weights=False)
    np.testing.assert_allclose(values(untied), own @ np.array([2, 2], np.float32), rtol=1e-5)
    with pytest.raises(RuntimeError):
        functional_call(net, {"0.weight": T.ones(3, 3)}, T.ones(2))
    assert a.weight is b.weight
    functional_call(net, {"nothing": twice}, T.ones(2))
    with pytest.raises(RuntimeError, match=r"functional_call: missing: '1.weight'; unexpected: 'nothing'"):
        functional_call(net, {"0.weight": twice, "nothing": twice}, T.ones(2), strict=True)


def test_a_function_of_the_parameters_has_second_gradients():
    layer = nn.Linear(2, 1).double()
    x = T.randn(3, 2, dtype=T.float64)
    leaves = [T.randn(1, 2, dtype=T.float64).requires_grad_(), T.randn(1, dtype=T.float64).requires_grad_()]

    def run(weight, bias):
        return functional_call(layer, {"weight": weight, "bias": bias}, args=(), kwargs={"input": x}).tanh()

    assert T.autograd.gradgradcheck(run, leaves)
