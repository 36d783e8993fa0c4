"""A layer of your own that can grow, put into a network and grown with it: `python examples/09_own_layer.py`.

Nothing has to be registered. What a forward does with its parameters is followed through the recorded graph, so that an edit
finds each slice that goes with a unit. In a file: `edit = { name = "replace", make = "my_package.layers:gated" }`.
"""

import tensor as T
from tensor import nn, structure


class Gated(nn.Module):
    """tanh of each unit, times a gate that the unit learns."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(T.zeros(units))

    def forward(self, x: T.Tensor) -> T.Tensor:
        return T.tanh(x) * self.gate.sigmoid()


def main() -> None:
    T.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 4), Gated(4), nn.Linear(4, 1))
    optimizer = T.optim.Adam(net.parameters(), lr=1e-2)
    x = T.randn(64, 2)
    y = (x[:, :1] * x[:, 1:]).sin()

    for units in (0, 8, 16):
        if units:
            edit = structure.grow(net, "0", units, x=x)  # an input to follow the network with
            print(edit.plan(), "output moves by", edit.check(x).absolute)
            edit.apply(optimizer)  # the gate grows too, with Adam's moments
        for _ in range(300):
            loss = nn.functional.mse_loss(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"{net[0].out_features} units: loss {loss.item():.4f}")
        del loss

    # In a module of yours that other processes can import, it also comes back from a checkpoint, whose structure says
    # "my_package.layers:Gated": structure.build(structure.describe(net)).


if __name__ == "__main__":
    main()
