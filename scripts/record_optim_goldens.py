"""Record what PyTorch's optimizers and schedules do, for `tests/tensor/test_optim_goldens.py`.

Run with a Python that has PyTorch: ``python scripts/record_optim_goldens.py``.
Writes ``tests/tensor/goldens/optim.json`` and ``optim_schedules.json``.
Parameters and gradients follow from formulas that the test repeats; only the parameters after some steps are stored. All is
computed in float64. PyTorch's Muon rounds to bfloat16 inside of an update, which a library without that dtype cannot repeat:
it is recorded with this rounding switched off, and once as it is.
"""

import itertools
import json
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch.optim import swa_utils
from torch.optim.lbfgs import _strong_wolfe

GOLDENS = Path(__file__).parent.parent / "tests/tensor/goldens"
SHAPES = [(3, 4), (4,), (2, 3, 2), ()]
MATRICES = [(3, 4), (5, 2), (3, 3)]
STEPS = 100
KEPT = (1, 2, 10, 100)

OPTIMIZERS = {
    "SGD": [
        {"lr": 0.05},
        {"lr": 0.05, "momentum": 0.9},
        {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01},
        {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        {"lr": 0.01, "momentum": 0.5, "maximize": True},
    ],
    "ASGD": [
        {"lr": 0.05},
        {"lr": 0.05, "lambd": 0.02, "alpha": 0.6, "t0": 20, "weight_decay": 0.01},
        {"lr": 0.01, "maximize": True},
    ],
    "Adagrad": [
        {"lr": 0.05},
        {"lr": 0.05, "lr_decay": 0.01, "weight_decay": 0.02, "initial_accumulator_value": 0.1, "eps": 1e-6},
        {"lr": 0.01, "maximize": True},
    ],
    "Adadelta": [{}, {"lr": 0.5, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.02}, {"maximize": True}],
    "RMSprop": [
        {"lr": 0.01},
        {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.02},
        {"lr": 0.01, "alpha": 0.9, "centered": True, "momentum": 0.5},
        {"lr": 0.01, "centered": True, "maximize": True},
    ],
    "Rprop": [{"lr": 0.01}, {"lr": 0.02, "etas": (0.4, 1.3), "step_sizes": (1e-4, 0.05)}, {"lr": 0.001, "maximize": True}],
    "Adam": [
        {"lr": 0.01},
        {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-5, "weight_decay": 0.02},
        {"lr": 0.01, "amsgrad": True},
        {"lr": 0.01, "maximize": True},
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
    "AdamW": [{"lr": 0.01}, {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True}],
    "NAdam": [
        {"lr": 0.01},
        {"lr": 0.01, "betas": (0.8, 0.99), "momentum_decay": 0.01, "weight_decay": 0.02},
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True},
        {"lr": 0.01, "maximize": True},
    ],
    "RAdam": [
        {"lr": 0.01},
        {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.02},
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True},
        {"lr": 0.01, "maximize": True},
    ],
    "Adamax": [{"lr": 0.01}, {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.02}, {"lr": 0.01, "maximize": True}],
    "Adafactor": [
        {},
        {"lr": 0.1, "beta2_decay": -0.5, "eps": (1e-4, 0.1), "d": 1.5, "weight_decay": 0.05},
        {"maximize": True},
    ],
    "Muon": [
        {"lr": 0.02},
        {"lr": 0.02, "nesterov": False, "weight_decay": 0.0, "momentum": 0.8},
        {"lr": 0.02, "adjust_lr_fn": "match_rms_adamw", "ns_steps": 3},
    ],
    "LBFGS": [
        {"lr": 0.2, "max_iter": 1},
        {"lr": 0.5, "max_iter": 4, "history_size": 3},
        {"max_iter": 2, "max_eval": 40, "line_search_fn": "strong_wolfe"},
        {"max_iter": 6, "line_search_fn": "strong_wolfe"},
        {"lr": 1.5, "max_iter": 3, "history_size": 2, "line_search_fn": "strong_wolfe"},
    ],
}

#: Class, options, and the step at which a resumed run begins.
SCHEDULES = {
    "LambdaLR": [({"lr_lambda": "shrink"}, 0), ({"lr_lambda": ["shrink", "wave"]}, 7)],
    "MultiplicativeLR": [({"lr_lambda": "wave"}, 0), ({"lr_lambda": ["shrink", "wave"]}, 7)],
    "StepLR": [({"step_size": 3, "gamma": 0.5}, 0), ({"step_size": 4}, 7)],
    "MultiStepLR": [({"milestones": [4, 9, 9, 30], "gamma": 0.5}, 0), ({"milestones": [8, 20]}, 7)],
    "ConstantLR": [({"factor": 0.25, "total_iters": 10}, 0), ({"total_iters": 8}, 7)],
    "LinearLR": [
        ({"start_factor": 0.25, "end_factor": 0.75, "total_iters": 20}, 0),
        ({"start_factor": 1.0, "end_factor": 0.0, "total_iters": 40}, 0),
        ({"total_iters": 30}, 7),
    ],
    "ExponentialLR": [({"gamma": 0.9}, 0), ({"gamma": 0.9}, 7)],
    "PolynomialLR": [({"total_iters": 40, "power": 2.0}, 0), ({"total_iters": 50, "power": 0.5}, 7)],
    "CosineAnnealingLR": [({"T_max": 8, "eta_min": 0.01}, 0), ({"T_max": 25}, 7)],
    "CosineAnnealingWarmRestarts": [({"T_0": 7}, 0), ({"T_0": 5, "T_mult": 2, "eta_min": 0.01}, 0)],
    "CyclicLR": [
        ({"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 7}, 0),
        ({"base_lr": [0.01, 0.1], "max_lr": [0.1, 0.2], "step_size_up": 5, "step_size_down": 9, "mode": "triangular2"}, 0),
        ({"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 6, "mode": "exp_range", "gamma": 0.97, "cycle_momentum": False}, 0),
        ({"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 6, "scale_fn": "wave", "scale_mode": "iterations"}, 0),
    ],
    "OneCycleLR": [
        ({"max_lr": 0.5, "total_steps": 60}, 0),
        ({"max_lr": [0.5, 0.2], "epochs": 6, "steps_per_epoch": 10, "three_phase": True, "div_factor": 10.0}, 0),
        ({"max_lr": 0.5, "total_steps": 80, "pct_start": 0.25, "anneal_strategy": "linear", "final_div_factor": 100.0}, 0),
    ],
    "ReduceLROnPlateau": [
        ({"factor": 0.5, "patience": 2}, 0),
        ({"mode": "max", "factor": 0.7, "patience": 1, "threshold": 0.05, "threshold_mode": "abs", "cooldown": 3}, 0),
        ({"factor": 0.3, "patience": 0, "threshold": 0.1, "min_lr": [0.001, 0.05]}, 0),
    ],
    "SWALR": [({"swa_lr": 0.02}, 0), ({"swa_lr": [0.02, 1.0], "anneal_epochs": 20, "anneal_strategy": "linear"}, 0)],
    "SequentialLR": [
        (
            {
                "schedulers": [
                    ["ConstantLR", {"factor": 0.1, "total_iters": 5}],
                    ["CosineAnnealingLR", {"T_max": 10}],
                    ["ExponentialLR", {"gamma": 0.9}],
                ],
                "milestones": [5, 20],
            },
            0,
        ),
        (
            {
                "schedulers": [
                    ["LinearLR", {"total_iters": 8}],
                    ["CosineAnnealingWarmRestarts", {"T_0": 6}],
                    ["MultiplicativeLR", {"lr_lambda": "shrink"}],
                ],
                "milestones": [8, 40],
            },
            0,
        ),
    ],
    "ChainedScheduler": [
        (
            {
                "schedulers": [
                    ["ConstantLR", {"factor": 0.1, "total_iters": 5}],
                    ["ExponentialLR", {"gamma": 0.95}],
                    ["CosineAnnealingLR", {"T_max": 9, "eta_min": 0.001}],
                ]
            },
            0,
        ),
        ({"schedulers": [["StepLR", {"step_size": 7, "gamma": 0.5}], ["LinearLR", {"total_iters": 20}]]}, 0),
    ],
}

FUNCTIONS = {"shrink": lambda step: 0.97**step, "wave": lambda step: 1 + 0.3 * np.sin(0.7 * step).item()}


def initial(k: int, shape: tuple[int, ...]) -> np.ndarray:
    """The k-th parameter's first values."""
    return np.sin(np.arange(1, int(np.prod(shape)) + 1) * 1.7 + k).reshape(shape)


def gradient(k: int, step: int, p: np.ndarray) -> np.ndarray | None:
    """Part noise, part pull to zero; parameter 1 gets none at every third step."""
    if k == 1 and step % 3 == 2:
        return None
    return 0.5 * p + np.cos(np.arange(1, p.size + 1) * 0.9 + 0.37 * step + k).reshape(p.shape)


def valley(p, q):
    """A curved valley, for optimizers that look for a minimum."""
    return ((1 - p[:-1]) ** 2).sum() + 5 * ((p[1:] - p[:-1] ** 2) ** 2).sum() + (q - p[0]) ** 2


def trace(name: str, options: dict) -> dict:
    """The parameters after some steps, and the names in the first one's state."""
    if name == "LBFGS":
        return trace_valley(options)
    params = [torch.nn.Parameter(torch.tensor(initial(k, s))) for k, s in enumerate(MATRICES if name == "Muon" else SHAPES)]
    optimizer = getattr(torch.optim, name)(params, **options)
    kept = {}
    for step in range(1, STEPS + 1):
        for k, p in enumerate(params):
            g = gradient(k, step, p.detach().numpy())
            p.grad = None if g is None else torch.tensor(g)
        optimizer.step()
        if step in KEPT:
            kept[str(step)] = [p.detach().flatten().tolist() for p in params]
    state = optimizer.state_dict()["state"]
    return {"kept": kept, "state": sorted(state[0]) if state else []}


def trace_valley(options: dict) -> dict:
    """The same for LBFGS, with the first losses; "al" in its state is only memory to compute in."""
    params = [torch.nn.Parameter(torch.tensor(initial(k, s))) for k, s in enumerate([(6,), ()])]
    optimizer = torch.optim.LBFGS(params, **options)

    def closure():
        optimizer.zero_grad()
        loss = valley(*params)
        loss.backward()
        return loss

    kept, losses = {}, []
    for step in range(1, STEPS + 1):
        losses.append(float(optimizer.step(closure)))
        if step in KEPT:
            kept[str(step)] = [p.detach().flatten().tolist() for p in params]
    return {"kept": kept, "losses": losses[:10], "state": sorted(set(optimizer.state_dict()["state"][0]) - {"al"})}


def searches() -> list[dict]:
    """The steps that PyTorch's line search tries on waves over parabolas: long searches, and some that are cut off."""
    found: list[dict] = []
    rng = np.random.default_rng(6)
    while len(found) < 24:
        a, b, c, d = rng.uniform((0.01, -1, -9, 0.1), (3, 1, 9, 8)).tolist()
        first, most = 10 ** rng.uniform(-4, 3), (2, 25)[len(found) % 6 > 0]

        def value(t: float, a=a, b=b, c=c, d=d) -> float:
            return a * (t - b) ** 2 + c * np.sin(d * t).item()

        def slope(t: float, a=a, b=b, c=c, d=d) -> float:
            return 2 * a * (t - b) + c * d * np.cos(d * t).item()

        way = -1.0 if slope(0.0) > 0 else 1.0
        tried = []

        def at(_, t, __, way=way, tried=tried, value=value, slope=slope):
            tried.append(float(t))
            return value(way * t), torch.tensor([slope(way * t)])

        start, line = torch.tensor([slope(0.0)]), torch.tensor([way])
        best = _strong_wolfe(at, None, first, line, value(0.0), start, start.dot(line), max_ls=most)
        if len(tried) > min(most, 6):
            found.append({"wave": [a, b, c, d], "first": first, "most": most, "tried": tried, "best": float(best[2])})
    return found


def defaults(name: str) -> dict:
    """The options of a new optimizer, without those that choose an implementation."""
    made = getattr(torch.optim, name)([torch.nn.Parameter(torch.ones(2, 2))])
    return {k: v for k, v in made.defaults.items() if k not in ("foreach", "fused", "capturable", "differentiable")}


def build(optimizer, name: str, options: dict, **more):
    """A schedule from its description, with functions and schedules by name."""
    options = dict(options)
    for key in ("lr_lambda", "scale_fn"):
        if key in options:
            given = options[key]
            options[key] = [FUNCTIONS[f] for f in given] if isinstance(given, list) else FUNCTIONS[given]
    first = () if name == "ChainedScheduler" else (optimizer,)
    if "schedulers" in options:
        options["schedulers"] = [build(optimizer, *part) for part in options["schedulers"]]
    return getattr(swa_utils if name == "SWALR" else torch.optim.lr_scheduler, name)(*first, **options, **more)


def rates(name: str, options: dict, resumed: int) -> list:
    """Rate and momentum of both groups over 60 steps."""
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.1, 0.5)]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    if resumed:
        for group in optimizer.param_groups:
            group["initial_lr"] = 2 * group["lr"]
    scheduler = build(optimizer, name, options, **({"last_epoch": resumed} if resumed else {}))
    seen = []
    for step in range(60):
        seen.append([value for group in optimizer.param_groups for value in (group["lr"], group["momentum"])])
        optimizer.step()
        if name == "OneCycleLR" and step == 59:
            break
        scheduler.step(*([abs(np.sin(0.2 * step).item()) / (1 + step)] if name == "ReduceLROnPlateau" else []))
    columns = list(zip(*seen, strict=True))
    return [column if len(set(column)) > 1 else column[:1] for column in columns]


def write(name: str, record: dict) -> None:
    lines = (f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in record.items())
    target = GOLDENS / name
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    warnings.simplefilter("ignore")
    with mock.patch.object(torch.Tensor, "bfloat16", lambda t: t.clone()):
        cases = {
            f"{name} {i}": {"class": name, "options": options, **trace(name, options)}
            for name, several in OPTIMIZERS.items()
            for i, options in enumerate(several)
        }
    rounded = {"class": "Muon", "options": OPTIMIZERS["Muon"][0], **trace("Muon", OPTIMIZERS["Muon"][0])}
    extra = {"defaults": {n: defaults(n) for n in OPTIMIZERS}, "line searches": searches(), "Muon in bfloat16": rounded}
    write("optim.json", {"torch": torch.__version__, **extra, **cases})
    schedules = itertools.chain.from_iterable(((n, i, *case) for i, case in enumerate(s)) for n, s in SCHEDULES.items())
    write(
        "optim_schedules.json",
        {f"{n} {i}": {"class": n, "options": o, "resumed": r, "rates": rates(n, o, r)} for n, i, o, r in schedules},
    )
