"""Fit a curve with the project's own autograd, then differentiate what was learnt: `python examples/01_tensor_autograd.py`."""

import tensor as T
from tensor import nn, optim


def main() -> None:
    T.manual_seed(0)
    x = T.linspace(-3, 3, 128).unsqueeze(1)
    y = T.sin(x)

    net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = optim.Adam(net.parameters(), lr=1e-2)
    for step in range(1_001):
        loss = nn.functional.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 250 == 0:
            print(f"step {step:>5}   loss {loss.item():.6f}")

    # The slope of the curve is a gradient too, and comes with a graph of its own where one is asked for.
    x.requires_grad_()
    (slope,) = T.autograd.grad(net(x).sum(), x, create_graph=True)
    (bend,) = T.autograd.grad(slope.sum(), x)
    print(f"mean error of the slope         {(slope - T.cos(x)).abs().mean().item():.3f}   (it should be cos x)")
    print(f"mean error of the second slope  {(bend + T.sin(x)).abs().mean().item():.3f}   (it should be -sin x)")


if __name__ == "__main__":
    main()
