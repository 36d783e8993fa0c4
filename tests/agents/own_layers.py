"""Layers of a user's own, for the tests: nothing of ours knows of them."""

import tensor as T
from tensor import nn


class Scaled(nn.Module):
    """tanh of the input, each unit times a number that is learnt."""

    def __init__(self, units):
        super().__init__()
        self.weight = nn.Parameter(T.ones(units))

    def forward(self, x):
        return T.tanh(x) * self.weight


def scaled(place):
    """In the place of the first activation."""
    return Scaled(place.net[0].out_features)
