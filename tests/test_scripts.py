"""The scripts and benchmarks run."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def load(name: str) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / name), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


COMMANDS = (
    "scripts/evaluate.py", "scripts/plot_runs.py", "benchmarks/gpu.py", "benchmarks/learning.py", "benchmarks/startup.py",
)  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_has_help(name: str):
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    sizes = load("scripts/check_sizes.py")
    monkeypatch.setattr(sizes, "ROOT", tmp_path)
    monkeypatch.setattr(sizes, "ALLOWED", {})
    (tmp_path / "tensor").mkdir()
    (tmp_path / "tensor" / "long.py").write_text("\n" * 501)
    assert sizes.main() == 1
    assert "tensor/long.py: 501 lines, expected at most 500" in capsys.readouterr().err
    monkeypatch.setattr(sizes, "ALLOWED", {"tensor/long.py": "a table"})
    assert sizes.main() == 0
    (tmp_path / "tensor" / "long.py").write_text("\n")
    assert sizes.main() == 1
    assert "take it off the list" in capsys.readouterr().err


def test_learning_benchmark_judges_by_its_floors():
    tasks = load("benchmarks/learning.py").TASKS
    assert tasks["ppo-cartpole"].reached([500, 500, 500, 480, 440])
    assert not tasks["ppo-cartpole"].reached([500, 500, 500, 470, 470])  # only three at 475
    assert not tasks["ppo-cartpole"].reached([476, 476, 476, 476, 476])  # the mean is below 480
    assert tasks["ppo-pendulum"].reached([-200, -250, -300])


def test_plots_runs(tmp_path: Path):
    pytest.importorskip("matplotlib")
    for seed in range(2):
        (tmp_path / f"run-{seed}").mkdir()
        entries = [{"step": step, "mean_return": step * (seed + 1) if step else None} for step in range(0, 100, 10)]
        (tmp_path / f"run-{seed}" / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    done = run("scripts/plot_runs.py", tmp_path / "curve.svg", f"PPO={tmp_path}/run-*", "--limit", 100)
    assert done.returncode == 0, done.stderr
    assert "</svg>" in (tmp_path / "curve.svg").read_text()
    assert run("scripts/plot_runs.py", tmp_path / "no.svg", f"PPO={tmp_path}/none-*").returncode == 2


def test_the_picture_of_steps_shows_every_kept_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawing = load("scripts/draw_steps.py")
    first = {"step, batch 1": {"compiled": 6.0, "torch": 430.0, "c": 4.0}, "grow": {"compiled": 2e5}}
    kept = [{"commit": c, "date": "2026-01-01", "us": first} for c in ("abc", "def")]
    (tmp_path / "steps.json").write_text(json.dumps(kept))
    monkeypatch.setattr(drawing, "RESULTS", tmp_path / "steps.json")
    monkeypatch.setattr(sys, "argv", ["draw_steps.py", str(tmp_path / "steps.svg")])
    drawing.main()
    picture = (tmp_path / "steps.svg").read_text()
    for word in ("6 us", "430 us", "4 us", "200 ms", "at commit def", "abc"):
        assert word in picture
    assert picture.count("<polyline") == 1, "only the step has both figures of a ratio"


def test_each_benchmark_says_how_long_it_takes_and_how_it_is_recorded():
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        text = path.read_text()
        if "__main__" not in text:
            continue
        said = " ".join((ast.get_docstring(ast.parse(text)) or "").split())
        assert re.search(r"about [a-z0-9 ]*(second|minute|hour)[^.]* on (two cores|an H200)", said, re.IGNORECASE), path.name
        record = f"benchmarks/results/{path.stem}.json"
        assert not (ROOT / record).exists() or record in said, path.name


def test_plasticity_benchmark():
    plasticity, drawing = load("benchmarks/plasticity.py"), load("scripts/draw_plasticity.py")
    stream = plasticity.tasks(0)
    (first, targets), (second, _) = next(stream), next(stream)
    assert first.shape == (10_000, 20)
    assert targets.std() > 0
    assert (first[0, :15] == first[:, :15]).all()
    assert (first[0, :15] != second[0, :15]).sum() == 1
    stacked = plasticity.Stacked(plasticity.Learner(5, 0.01, 0.1), 3)
    errors = [stacked.learn(first[i : i + 3], targets[i : i + 3]).sum() for i in range(400)]
    assert (stacked.renewed == 15).all()  # each of the five when it is a hundred steps old
    assert sum(errors[-100:]) < sum(errors[:100])
    found = plasticity.summary(plasticity.np.outer([1.0, 2.0, 4.0], [1.0, 3.0]), [1, 2])
    assert (found["first"], found["last"], found["rise"][0], found["mean"]) == (2.0, 8.0, 6.0, [2.0, 4.0, 8.0])
    regression = {"seeds": 2, "examples": 30_000, **dict.fromkeys(drawing.REGRESSION, found)}
    digits = {"seeds": 2, "tasks": 3, **{name: {"right": found, "dormant": found} for name in drawing.POLICIES}}
    assert drawing.draw({"regression": regression, "digits": digits}).count("<polyline") == 10
