"""A grown network comes back from JSON and its weights, without the code that grew it."""

import json

import numpy as np
import pytest

import tensor as T
from tensor import nn, structure


class Tied(nn.Module):
    """A user's own layer, with a parameter in two places."""

    def __init__(self, size):
        super().__init__()
        self.first, self.second, self.scales = nn.Linear(3, size), nn.Linear(3, size), (1.0, 2.0)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.first(x) * self.scales[0] + self.second(x) * self.scales[1]


def test_a_grown_network_comes_back(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3), Tied(2))
    x = T.randn(4, 1, 3, 3)
    structure.grow(net, "0", 3, x=x).apply()
    net(x)
    net.eval()
    T.save(net.state_dict(), tmp_path / "net.safetensors")
    built = structure.build(json.loads(json.dumps(structure.describe(net))))
    built.load_state_dict(T.load(tmp_path / "net.safetensors"))
    assert np.array_equal(built(x).detach().numpy(), net(x).detach().numpy())
    assert built[5].second.weight is built[5].first.weight
    assert repr(built) == repr(net)
    assert structure.describe(built) == structure.describe(net)


def test_what_cannot_be_told_is_refused():
    net = nn.Linear(2, 2)
    net.helper = object()
    with pytest.raises(TypeError, match=r"describe: expected numbers, .* in Linear.helper, got object"):
        structure.describe(net)
    with pytest.raises(TypeError, match="build: expected a Module, got os:getcwd"):
        structure.build({"type": "os:getcwd"})
