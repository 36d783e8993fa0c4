"""Layers that take their number of features from their first input, or from weights."""

import copy

import pytest

import tensor as T
from tensor import nn
from tensor.nn import conv, normalization

LAYERS = [
    (nn.LazyLinear, nn.Linear, (2,), {}, (4, 3), 3),
    (nn.LazyLinear, nn.Linear, (2,), {"bias": False, "dtype": T.float64}, (3,), 3),
    (nn.LazyConv1d, conv.Conv1d, (2, 3), {}, (1, 3, 5), 3),
    (nn.LazyConv1d, conv.Conv1d, (2, 3), {}, (3, 5), 3),
    (nn.LazyConv2d, conv.Conv2d, (4, 3), {"groups": 2}, (1, 6, 5, 5), 6),
    (nn.LazyConv3d, conv.Conv3d, (2, 1), {}, (1, 3, 2, 2, 2), 3),
    (nn.LazyConvTranspose1d, conv.ConvTranspose1d, (2, 3), {}, (1, 3, 5), 3),
    (nn.LazyConvTranspose2d, conv.ConvTranspose2d, (2, 3), {"bias": False}, (1, 3, 5, 5), 3),
    (nn.LazyConvTranspose3d, conv.ConvTranspose3d, (2, 1), {}, (1, 3, 2, 2, 2), 3),
    (nn.LazyBatchNorm1d, nn.BatchNorm1d, (), {}, (4, 3), 3),
    (nn.LazyBatchNorm2d, nn.BatchNorm2d, (), {"affine": False}, (4, 3, 2, 2), 3),
    (nn.LazyBatchNorm3d, normalization.BatchNorm3d, (1e-3,), {}, (4, 3, 2, 2, 2), 3),
    (nn.LazyInstanceNorm1d, normalization.InstanceNorm1d, (), {"affine": True}, (3, 4), 3),
    (nn.LazyInstanceNorm2d, normalization.InstanceNorm2d, (), {"track_running_stats": True}, (2, 3, 2, 2), 3),
    (nn.LazyInstanceNorm3d, normalization.InstanceNorm3d, (1e-3,), {"affine": True}, (2, 3, 2, 2, 2), 3),
]


@pytest.mark.parametrize("lazy, real, args, kwargs, shape, n", LAYERS)
def test_the_first_input_makes_it_an_ordinary_layer(lazy, real, args, kwargs, shape, n):
    layer = lazy(*args, **kwargs)
    assert layer.has_uninitialized_params()
    parameters = list(layer.parameters())
    x = T.randn(*shape, dtype=kwargs.get("dtype"))
    T.manual_seed(1)
    y = layer(x)
    T.manual_seed(1)
    expected = real(n, *args, **kwargs)
    assert type(layer) is real
    assert repr(layer) == repr(expected)
    assert (y == expected(x)).all()
    assert [id(p) for p in layer.parameters()] == [id(p) for p in parameters]
    assert all(type(p) is nn.Parameter for p in parameters)
    assert {name: (t.shape, t.dtype) for name, t in layer.state_dict().items()} == {
        name: (t.shape, t.dtype) for name, t in expected.state_dict().items()
    }
    assert not layer._hooks
    assert not layer._state_hooks
    assert vars(layer).keys() == vars(expected).keys()


@pytest.mark.parametrize("lazy, real, args, kwargs, shape, n", LAYERS)
def test_loaded_weights_make_it_an_ordinary_layer(lazy, real, args, kwargs, shape, n):
    source = real(n, *args, **kwargs)
    net = copy.deepcopy(nn.Sequential(lazy(*args, **kwargs)).double())
    net.load_state_dict({f"0.{name}": t for name, t in source.state_dict().items()})
    state = T.get_rng_state()
    y = net(T.ones(*shape, dtype=T.float64))
    assert T.get_rng_state() == state
    assert type(net[0]) is real
    assert all(t.dtype is T.float64 for t in net.parameters())
    assert y.allclose(source.double()(T.ones(*shape, dtype=T.float64)))


def test_before_that_its_parameters_have_no_shape():
    layer = nn.LazyLinear(2)
    assert repr(layer) == "LazyLinear(in_features=0, out_features=2, bias=True)"
    assert nn.lazy.is_lazy(layer.weight)
    assert not nn.lazy.is_lazy(nn.Linear(1, 1).weight)
    with pytest.raises(RuntimeError, match="has none before its lazy module was called or loaded"):
        _ = layer.weight.shape
    assert repr(layer.weight) == "<UninitializedParameter>"
    b = nn.UninitializedBuffer(dtype=T.float64)
    b.materialize((2, 3), dtype=T.float32)
    assert (type(b), b.shape, b.dtype) == (T.Tensor, (2, 3), T.float32)
