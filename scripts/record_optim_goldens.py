"""Record what PyTorch's optimizers and schedules do, for `tests/tensor/test_optim_goldens.py`.

Run with a Python that has PyTorch: ``python scripts/record_optim_goldens.py``.
Writes ``tests/tensor/goldens/optim.json``.
Parameters and gradients follow from formulas that the test repeats; only the parameters after some steps are stored.
"""

import json
from pathlib import Path

import numpy as np
import torch

SHAPES = [(3, 4), (4,), (2, 3, 2), ()]
STEPS = 100
KEPT = (1, 2, 10, 50, 100)

CASES = {
    "sgd": ("SGD", {"lr": 0.05}),
    "sgd momentum": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "sgd dampening": ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    "sgd nesterov": ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "sgd maximize": ("SGD", {"lr": 0.01, "momentum": 0.5, "maximize": True}),
    "rmsprop": ("RMSprop", {"lr": 0.01}),
    "rmsprop momentum": ("RMSprop", {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.02}),
    "rmsprop centered": ("RMSprop", {"lr": 0.01, "alpha": 0.9, "centered": True, "momentum": 0.5}),
    "adam": ("Adam", {"lr": 0.01}),
    "adam decay": ("Adam", {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-5, "weight_decay": 0.02}),
    "adam amsgrad": ("Adam", {"lr": 0.01, "amsgrad": True}),
    "adam maximize": ("Adam", {"lr": 0.01, "maximize": True}),
    "adamw": ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    "adamw amsgrad": ("AdamW", {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True}),
}

SCHEDULES = {
    "step": ("StepLR", {"step_size": 3, "gamma": 0.5}),
    "linear": ("LinearLR", {"start_factor": 0.25, "end_factor": 0.75, "total_iters": 6}),
    "cosine": ("CosineAnnealingLR", {"T_max": 8, "eta_min": 0.01}),
}


def initial(k: int) -> np.ndarray:
    """The k-th parameter's first values."""
    n = int(np.prod(SHAPES[k]))
    return np.sin(np.arange(1, n + 1) * 1.7 + k).reshape(SHAPES[k]).astype(np.float32)


def gradient(k: int, step: int, p: np.ndarray) -> np.ndarray | None:
    """Part noise, part pull to zero; parameter 1 gets none at every third step."""
    if k == 1 and step % 3 == 2:
        return None
    noise = np.cos(np.arange(1, p.size + 1) * 0.9 + 0.37 * step + k).reshape(p.shape)
    return (0.5 * p + noise).astype(np.float32)


def trace(name: str, options: dict) -> dict[str, list]:
    params = [torch.nn.Parameter(torch.tensor(initial(k))) for k in range(len(SHAPES))]
    optimizer = getattr(torch.optim, name)(params, **options)
    kept = {}
    for step in range(1, STEPS + 1):
        for k, p in enumerate(params):
            g = gradient(k, step, p.detach().numpy())
            p.grad = None if g is None else torch.tensor(g)
        optimizer.step()
        if step in KEPT:
            kept[str(step)] = [p.detach().flatten().tolist() for p in params]
    return kept


def rates(name: str, options: dict) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **options)
    seen = []
    for _ in range(12):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


if __name__ == "__main__":
    record = {
        "torch": torch.__version__,
        "optimizers": {case: {"class": n, "options": o, "kept": trace(n, o)} for case, (n, o) in CASES.items()},
        "schedules": {case: {"class": n, "options": o, "rates": rates(n, o)} for case, (n, o) in SCHEDULES.items()},
    }
    target = Path(__file__).parent.parent / "tests/tensor/goldens/optim.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=None, separators=(",", ":"))
    target.write_text(text.replace('"kept"', '\n"kept"').replace("},", "},\n") + "\n")
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")
