"""Optimizers and schedules against what PyTorch did; `scripts/record_optim_goldens.py` made the record."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import tensor as T
from tensor.optim import lr_scheduler, swa_utils
from tensor.optim.line_search import Point, strong_wolfe

HERE = Path(__file__).parent
RECORD = json.loads((HERE / "goldens/optim.json").read_text())
SCHEDULES = json.loads((HERE / "goldens/optim_schedules.json").read_text())
DEFAULTS = RECORD.pop("defaults")
SEARCHES = RECORD.pop("line searches")
ROUNDED = RECORD.pop("Muon in bfloat16")
TORCH = RECORD.pop("torch")
SHAPES = [(3, 4), (4,), (2, 3, 2), ()]
MATRICES = [(3, 4), (5, 2), (3, 3)]
FUNCTIONS = {"shrink": lambda step: 0.97**step, "wave": lambda step: 1 + 0.3 * math.sin(0.7 * step)}


def initial(k, shape):
    return np.sin(np.arange(1, int(np.prod(shape)) + 1) * 1.7 + k).reshape(shape)


def gradient(k, step, p):
    if k == 1 and step % 3 == 2:
        return None
    return 0.5 * p + np.cos(np.arange(1, p.size + 1) * 0.9 + 0.37 * step + k).reshape(p.shape)


def replay(golden, device="cpu", **tolerance):
    shapes = MATRICES if golden["class"] == "Muon" else SHAPES
    params = [T.nn.Parameter(T.tensor(initial(k, s), device=device)) for k, s in enumerate(shapes)]
    optimizer = getattr(T.optim, golden["class"])(params, **golden["options"])
    for step in range(1, 101):
        for k, p in enumerate(params):
            g = gradient(k, step, p.detach().cpu().numpy())
            p.grad = None if g is None else T.tensor(g, device=device)
        optimizer.step()
        for p, expected in zip(params, golden["kept"].get(str(step), []), strict=False):
            np.testing.assert_allclose(p.detach().cpu().numpy().ravel(), expected, **tolerance)
    return optimizer


@pytest.mark.parametrize("case", [c for c in RECORD if RECORD[c]["class"] != "LBFGS"])
def test_100_steps_equal_pytorch(case, device):
    optimizer = replay(RECORD[case], device, rtol=1e-10, atol=1e-10)
    state = optimizer.state_dict()["state"]
    names = set(state[0]) if state else set()
    assert names - {"step"} == set(RECORD[case]["state"]) - {"step"}  # ours count the steps of SGD and Muon, too


def test_muon_stays_close_to_pytorchs_bfloat16():
    """bfloat16 has 8 bits: each of 100 steps of 0.02 may differ by some 2**-8 of it, an element of the orthogonal matrix."""
    replay(ROUNDED, rtol=0, atol=100 * 0.02 * 2**-8)


@pytest.mark.parametrize("case", [c for c in RECORD if RECORD[c]["class"] == "LBFGS"])
def test_lbfgs_goes_pytorchs_way(case):
    golden = RECORD[case]
    p, q = (T.nn.Parameter(T.tensor(initial(k, s))) for k, s in enumerate([(6,), ()]))
    optimizer = T.optim.LBFGS([p, q], **golden["options"])

    def closure():
        optimizer.zero_grad()
        loss = ((1 - p[:-1]) ** 2).sum() + 5 * ((p[1:] - p[:-1] ** 2) ** 2).sum() + (q - p[0]) ** 2
        loss.backward()
        return loss

    for step in range(1, 101):
        loss = optimizer.step(closure).item()
        if step <= 10:
            assert loss == pytest.approx(golden["losses"][step - 1], rel=1e-8, abs=1e-12)
        for ours, expected in zip((p, q), golden["kept"].get(str(step), []), strict=False):
            np.testing.assert_allclose(ours.detach().numpy().ravel(), expected, rtol=1e-6, atol=1e-6)
    assert set(optimizer.state_dict()["state"][0]) == set(golden["state"])


@pytest.mark.parametrize("golden", SEARCHES)
def test_line_searches_try_the_same_steps(golden):
    a, b, c, d = golden["wave"]
    tried = []

    def slope_at(t):
        return 2 * a * (t - b) + c * d * math.cos(d * t)

    way = -1.0 if slope_at(0.0) > 0 else 1.0

    def at(t):
        x = way * t
        return Point(t, a * (x - b) ** 2 + c * math.sin(d * x), np.array([slope_at(x)]), way * slope_at(x))

    def counted(t):
        tried.append(t)
        return at(t)

    start = at(0.0)
    best, count = strong_wolfe(counted, start, golden["first"], 1.0, most=golden["most"])
    assert tried == pytest.approx(golden["tried"], rel=1e-6)
    assert best.step == pytest.approx(golden["best"], rel=1e-6)
    assert count == len(tried)
    if len(tried) <= golden["most"]:  # not cut off: the strong Wolfe conditions hold
        assert best.value <= start.value + 1e-4 * best.step * start.slope
        assert abs(best.slope) <= 0.9 * abs(start.slope)


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_options_are_pytorchs(name):
    ours = getattr(T.optim, name)([T.nn.Parameter(T.ones(2, 2))]).defaults
    expected = {key: tuple(value) if isinstance(value, list) else value for key, value in DEFAULTS[name].items()}
    assert {key: ours.get(key, "missing") for key in expected} == expected
    assert set(ours) - set(expected) <= {"maximize"}  # PyTorch's Muon has none


def build(optimizer, name, options, **more):
    options = dict(options)
    for key in ("lr_lambda", "scale_fn"):
        if key in options:
            given = options[key]
            options[key] = [FUNCTIONS[f] for f in given] if isinstance(given, list) else FUNCTIONS[given]
    first = () if name == "ChainedScheduler" else (optimizer,)
    if "schedulers" in options:
        options["schedulers"] = [build(optimizer, *part) for part in options["schedulers"]]
    return getattr(swa_utils if name == "SWALR" else lr_scheduler, name)(*first, **options, **more)


def make(golden):
    """An optimizer of two groups and its schedule, as they were recorded."""
    optimizer = T.optim.SGD([{"params": T.ones(1, requires_grad=True), "lr": lr} for lr in (0.1, 0.5)], momentum=0.9)
    resumed = golden["resumed"]
    for group in optimizer.param_groups if resumed else ():
        group["initial_lr"] = 2 * group["lr"]
    more = {"last_epoch": resumed} if resumed else {}
    return optimizer, build(optimizer, golden["class"], golden["options"], **more)


def advance(golden, scheduler, step):
    scheduler.step(*([abs(math.sin(0.2 * step)) / (1 + step)] if golden["class"] == "ReduceLROnPlateau" else []))


@pytest.mark.parametrize("case", SCHEDULES)
def test_schedules_equal_pytorch(case):
    golden = SCHEDULES[case]
    optimizer, scheduler = make(golden)
    for step in range(60):
        seen = [value for group in optimizer.param_groups for value in (group["lr"], group["momentum"])]
        expected = [column[step if len(column) > 1 else 0] for column in golden["rates"]]
        assert seen == pytest.approx(expected, rel=1e-12, abs=1e-14)
        assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
        if step < 59:
            advance(golden, scheduler, step)


@pytest.mark.parametrize("case", SCHEDULES)
@pytest.mark.parametrize("at", [1, 23])
def test_schedules_continue_from_their_state(case, at):
    """Through JSON, as a checkpoint may: with the optimizer's state, the rest is the same to the last bit."""
    golden = SCHEDULES[case]
    optimizer, scheduler = make(golden)
    for step in range(at):
        advance(golden, scheduler, step)
    saved = json.loads(json.dumps([optimizer.state_dict(), scheduler.state_dict()]))
    twin, other = make(golden)
    twin.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    for step in range(at, 40):
        advance(golden, scheduler, step)
        advance(golden, other, step)
        assert other.get_last_lr() == scheduler.get_last_lr() == [group["lr"] for group in twin.param_groups]
        assert [g["momentum"] for g in twin.param_groups] == [g["momentum"] for g in optimizer.param_groups]
