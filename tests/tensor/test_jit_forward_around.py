"""What lies around a compiled function whose results are differentiated later: hooks, what was before its arguments, checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
from forward_cases import both, close, mlp, nn
from jit_worlds import agree, compiled_by_tier, tier, values  # noqa: F401

import tensor as T
from tensor.jit import compiled as engine


def test_a_detached_result_shares_the_counter_of_the_one_that_it_is_of() -> None:
    w = T.ones(3, requires_grad=True)

    def f(x: Any) -> Any:
        y = w + x
        return y, y.detach()

    g = compiled_by_tier(f)
    for _ in range(3):
        y, bare = g(T.ones(3))
        z = (y * y).sum()
        bare.mul_(2)
        with pytest.raises(RuntimeError, match="was changed by an in-place operation"):
            z.backward()
        engine._queue.join()
    assert g.hits == 2


def test_hooks_of_leaves_stay_while_the_function_is_replayed() -> None:
    net = mlp()
    counted: list[int] = []
    net[0].weight.register_hook(lambda g: g * 2)
    net[0].bias.register_post_accumulate_grad_hook(lambda p: counted.append(1))
    f = compiled_by_tier(net)
    for n in range(4):
        x = T.randn(5, 3)
        net.zero_grad()
        net(x).sum().backward()
        expected = values([p.grad for p in net.parameters()])
        net.zero_grad()
        f(x).sum().backward()
        engine._queue.join()
        assert agree(expected, values([p.grad for p in net.parameters()]))
        assert len(counted) == 2 * n + 2
    assert f.hits == 3


def test_a_function_with_a_backward_inside_runs_as_it_is_where_hooks_are() -> None:
    w = T.ones(2, requires_grad=True)

    def f(x: Any) -> Any:
        (g,) = T.autograd.grad((w * x).sum(), w)
        return g * w

    g = compiled_by_tier(f)
    for _ in range(3):
        assert g(T.ones(2)).tolist() == [1.0, 1.0]
        engine._queue.join()
    assert g.hits == 2
    w.register_hook(lambda g: g * 3)
    for _ in range(3):
        assert g(T.ones(2)).tolist() == [3.0, 3.0]
    assert g.hits == 2


def test_a_history_before_the_argument_is_no_part_of_the_function() -> None:
    layer = nn.Linear(3, 3)
    f = compiled_by_tier(layer)
    for _ in range(4):
        h = layer(T.ones(2, 3)).tanh()  # through the same weights
        want = T.autograd.grad(layer(h).sum(), layer.weight, retain_graph=True)
        got = T.autograd.grad(f(h).sum(), layer.weight, retain_graph=True)
        assert T.allclose(want[0], got[0], atol=1e-6)
        h.sum().backward()  # which frees it
        with pytest.raises(RuntimeError, match="second time"):
            f(h).sum().backward()
        engine._queue.join()
    assert f.hits == 7


def test_a_checkpoint_runs_it_as_it_is() -> None:
    def work(f: Any, net: Any, n: int) -> Any:
        x = T.randn(5, 3, requires_grad=True)
        T.utils.checkpoint.checkpoint(f, x * 2, use_reentrant=False).sum().backward()
        f(x).sum().backward()
        return [x.grad]

    both(work, mlp(), calls=4, hits=3, like=close)
