"""Optimizers and schedules against what PyTorch did; `scripts/record_optim_goldens.py` made the record."""

import json
from pathlib import Path

import numpy as np
import pytest

import tensor as T

HERE = Path(__file__).parent
RECORD = json.loads((HERE / "goldens/optim.json").read_text())
SHAPES = [(3, 4), (4,), (2, 3, 2), ()]


def initial(k):
    n = int(np.prod(SHAPES[k]))
    return np.sin(np.arange(1, n + 1) * 1.7 + k).reshape(SHAPES[k]).astype(np.float32)


def gradient(k, step, p):
    if k == 1 and step % 3 == 2:
        return None
    noise = np.cos(np.arange(1, p.size + 1) * 0.9 + 0.37 * step + k).reshape(p.shape)
    return (0.5 * p + noise).astype(np.float32)


@pytest.mark.parametrize("case", RECORD["optimizers"])
def test_100_steps_equal_pytorch(case):
    golden = RECORD["optimizers"][case]
    params = [T.nn.Parameter(T.tensor(initial(k))) for k in range(len(SHAPES))]
    optimizer = getattr(T.optim, golden["class"])(params, **golden["options"])
    for step in range(1, 101):
        for k, p in enumerate(params):
            g = gradient(k, step, p.detach().numpy())
            p.grad = None if g is None else T.tensor(g)
        optimizer.step()
        for p, expected in zip(params, golden["kept"].get(str(step), []), strict=False):
            np.testing.assert_allclose(p.detach().numpy().ravel(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", RECORD["schedules"])
def test_schedules_equal_pytorch(case):
    golden = RECORD["schedules"][case]
    optimizer = T.optim.SGD([T.nn.Parameter(T.ones(1))], lr=0.1)
    scheduler = getattr(T.optim.lr_scheduler, golden["class"])(optimizer, **golden["options"])
    for expected in golden["rates"]:
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-9)
        scheduler.step()
