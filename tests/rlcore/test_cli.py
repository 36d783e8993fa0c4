"""The command line in processes of its own: what it prints, how it exits, and what no mistake can destroy."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlcore import checkpoint
from rlcore.cli import main
from rlcore.cli.parsing import peek

SHORT = ("--env", "Walk-v0", "--agent", "fake", "--steps", "300")
ROOT = Path(__file__).parents[2]


def last_json(text: str) -> dict[str, object]:
    return json.loads(text.strip().splitlines()[-1])


@pytest.fixture
def trained(run_agent, tmp_path):
    assert run_agent("train", *SHORT, "--dir", "run", "--quiet").returncode == 0
    return tmp_path / "run"


def test_train_eval_and_info_as_json(run_agent, tmp_path):
    done = run_agent("train", *SHORT, "--dir", "run", "--json")
    assert done.returncode == 0, done.stderr
    result = last_json(done.stdout)
    assert result["steps"] == 300
    assert result["steps_per_s"] > 0
    assert result["episodes"] > 5
    assert isinstance(result["mean_return"], float)
    assert (tmp_path / result["checkpoint"]).is_file()
    assert "step 0 of 300" in done.stderr

    first, second = (run_agent("eval", path, "--episodes", "7", "--seed", "1", "--json") for path in ("run", "run"))
    assert last_json(first.stdout) == last_json(second.stdout)
    scores = last_json(first.stdout)
    assert scores["episodes"] == len(scores["returns"]) == 7
    assert {"mean_return", "std_return", "median", "iqm", "mean_interval", "iqm_interval"} <= scores.keys()
    stochastic = run_agent("eval", result["checkpoint"], "--episodes", "7", "--seed", "1", "--json", "--stochastic")
    assert last_json(stochastic.stdout)["returns"] != scores["returns"]

    info = last_json(run_agent("info", "run", "--json").stdout)
    assert info["steps"] == 300
    assert info["parameters"] == 6
    assert info["config"]["run"]["env"] == "Walk-v0"


def test_the_output_for_people(run_agent, trained):
    evaluated = run_agent("eval", "run", "--episodes", "3").stdout
    assert evaluated.startswith("fake on Walk-v0 after 300 steps: mean return ")
    assert "6 parameters" in run_agent("info", "run").stdout
    assert {"dqn", "fake", "ppo"} <= set(run_agent("list", "agents").stdout.split())
    assert "ppo" in last_json(run_agent("list", "agents", "--json").stdout)["agents"]
    again = run_agent("train", *SHORT, "--dir", "again")
    assert "mean return" in again.stdout
    assert "run-agent eval again --episodes 20" in again.stdout


def test_the_script_evaluates_as_the_command_does(trained, run_agent, environment, tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "evaluate.py"), "run", "4", "--seed", "2"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True)
    by_command = last_json(run_agent("eval", "run", "--episodes", "4", "--seed", "2", "--json").stdout)
    assert json.loads(done.stdout).items() <= by_command.items()
    assert len((ROOT / "scripts" / "evaluate.py").read_text().splitlines()) < 30


def test_flags_come_over_the_file_which_comes_over_defaults(run_agent, tmp_path):
    (tmp_path / "c.toml").write_text(
        '[run]\nenv = "Walk-v0"\nagent = "fake"\nsteps = 50\nseed = 3\n[agent]\nbatch_size = 4\ndouble = false\n'
    )
    done = run_agent("train", "--config", "c.toml", "--seed=5", "--hidden-sizes", "7", "8", "--target_kl", "0.5", "--quiet")
    assert done.returncode == 0, done.stderr
    directory = tmp_path / "runs" / "Walk-v0-fake-5"
    config = checkpoint.load(directory)[1]["settings"]
    assert config["run"]["steps"] == 50
    assert config["run"]["seed"] == 5
    assert config["agent"]["batch_size"] == 4
    assert config["agent"]["hidden_sizes"] == [7, 8]
    assert config["agent"]["target_kl"] == 0.5
    assert config["agent"]["double"] is False
    copied = run_agent("train", "--config", directory / "config.toml", "--dir", "copy", "--quiet")
    assert copied.returncode == 0, copied.stderr
    assert checkpoint.load(tmp_path / "copy")[1]["settings"] == config


def test_the_help_of_train_shows_the_agents_flags_with_the_defaults_that_hold(run_agent, tmp_path):
    (tmp_path / "c.toml").write_text("[agent]\nbatch_size = 77\n")
    done = run_agent("train", "--agent", "fake", "--config", "c.toml", "--help")
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    assert "--batch-size INT Rows per update. (default: 77)" in text
    assert "--no-double" in text
    assert "--num-envs" in text


BAD = [
    (("train", "--env", "Walk-v0", "--agent", "fakee"), "unknown agent 'fakee'; did you mean 'fake'"),
    (("train", "--agent", "fake"), "train needs --env"),
    (("train", "--env", "Walk-v0", "--agent", "picky"), "picky needs a Box action space, got Discrete(2)"),
    (("train", *SHORT, "--learning-rat", "1"), "unknown flag --learning-rat; did you mean --learning-rate"),
    (("train", *SHORT, "--zzzz"), "unknown flag --zzzz; --help lists them"),
    (("train", *SHORT, "--vectorization", "nativ"), "--vectorization: unknown choice 'nativ'; did you mean 'native'?"),
    (
        ("train", *SHORT, "--vectorization", "x"),
        "--vectorization: unknown choice 'x'; expected one of 'async', 'auto', 'native', 'sync'",
    ),
    (("train", *SHORT, "word"), "unexpected argument 'word'; --help shows what goes where: settings are flags, such as --env"),
    (("train", *SHORT, "--lr", "1"), "unknown flag --lr; did you mean --learning-rate?"),
    (("train", *SHORT, "--total-timesteps", "1"), "unknown flag --total-timesteps; did you mean --steps?"),
    (("train", *SHORT, "--steps", "1e5"), "error: --steps: expected an integer, got '1e5'"),
    (("train", *SHORT, "--learning-rate", "x"), "error: --learning-rate: expected a number, got 'x'"),
    (("train", *SHORT, "--seed"), "error: --seed: expected a value"),
    (("train", *SHORT, "--normalize-reward", "true"), "unexpected argument 'true'; a switch takes no value"),
    (("train", *SHORT, "--agent", "ppo", "--hidden-sizes", "64,64"), "--hidden-sizes: expected values with spaces between them"),
    (("train", *SHORT, "--activation", "sine"), "--activation"),
    (("train", *SHORT, "--steps", "0"), "--steps: expected at least 1, got 0"),
    (("train", *SHORT, "--steps", "-5"), "--steps: expected at least 1, got -5"),
    (("train", *SHORT, "--learning-rate", "-1"), "--learning-rate: expected a positive number, got -1.0"),
    (("train", *SHORT, "--config", "none.toml"), "none.toml: cannot be read"),
    (("train", "--resume", "nowhere"), "no checkpoint nowhere"),
    (("eval",), "eval needs the directory of a run"),
    (("eval", "nowhere"), "no checkpoint nowhere"),
    (("eval", "x", "--episodes", "0"), "--episodes: expected at least 1, got 0"),
    (("eval", "x", "--render", "--video", "y.mp4"), "give one of them"),
    (("eval", "x", "--video", "y.gif"), "--video: expected a file that ends with .mp4, .mov, .mkv or .avi, got y.gif"),
    (("info",), "info needs the directory of a run"),
    (("list",), "list needs one of: agents, envs"),
    (("list", "cars"), "cars"),
    (("trian",), "unknown command 'trian'; did you mean 'train'"),
    (("--verson",), "unknown option '--verson'; did you mean '--version'?; a command comes first, such as train"),
    ((), "expected a command: train, live, eval, list, info"),
]


@pytest.mark.parametrize("arguments, message", BAD)
def test_a_wrong_command_is_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("run-agent: error: ")]
    assert len(errors) == 1, captured.err
    assert message in errors[0]
    assert captured.err.splitlines()[-1] == errors[0]
    assert "Traceback" not in captured.err
    assert not captured.out
    assert not list(tmp_path.iterdir()), "nothing was started"


def test_a_wrong_configuration_file_names_file_and_key(run_agent, tmp_path):
    (tmp_path / "c.toml").write_text("[agent]\nbatchsize = 4\n")
    done = run_agent("train", *SHORT, "--config", "c.toml")
    assert done.returncode == 2
    assert done.stderr == "run-agent: error: c.toml [agent]: unknown key 'batchsize'; did you mean 'batch_size'?\n"


def test_debug_shows_the_traceback(run_agent):
    done = run_agent("train", "--env", "Raises-v0", "--agent", "fake", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "motor" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("run-agent: error: Raises-v0 at step ")


@pytest.mark.parametrize("env", ["Raises-v0", "Nan-v0", "Shape-v0"])
def test_a_world_that_fails_is_one_line_and_exit_code_1(run_agent, tmp_path, env):
    done = run_agent("train", "--env", env, "--agent", "fake", "--dir", "run", "--quiet", "--checkpoint-every", "20")
    assert done.returncode == 1
    assert done.stderr.startswith(f"run-agent: error: {env} at step 29: ")
    assert len(done.stderr.splitlines()) == 1
    assert checkpoint.load(tmp_path / "run")[1]["steps"] == 20


def test_a_run_is_neither_overwritten_nor_lost(run_agent, trained):
    data = (trained / checkpoint.FILE_NAME).read_bytes()
    done = run_agent("train", *SHORT, "--dir", "run")
    assert done.returncode == 2
    assert "run-agent: error: run already holds a run; continue it with --resume run" in done.stderr
    assert (trained / checkpoint.FILE_NAME).read_bytes() == data
    assert run_agent("train", *SHORT, "--seed", "1", "--dir", "run", "--overwrite", "--quiet").returncode == 0
    assert (trained / checkpoint.FILE_NAME).read_bytes() != data


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--agent", "broken"), "is of the agent fake, not broken"),
        (("--env", "Nan-v0"), "is of the env Walk-v0, not Nan-v0"),
        (("--batch-size", "3"), "batch_size: cannot change when a run is resumed"),
        (("--dir", "elsewhere"), "a resumed run stays where it is"),
        (("--overwrite",), "give one of them"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(run_agent, trained, arguments, message):
    done = run_agent("train", "--resume", "run", *arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("command", [("train", "--resume"), ("eval",), ("info",)])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_checkpoint_is_refused(run_agent, trained, command, damage):
    path = trained / checkpoint.FILE_NAME
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[-100:]
    else:
        data[-100] ^= 4
    path.write_bytes(data)
    done = run_agent(*command, "run")
    assert done.returncode == 2
    assert done.stderr.startswith(f"run-agent: error: run/{path.name}: not a whole checkpoint")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_disk_that_fills_up_is_one_line_and_the_checkpoint_stays(run_agent, tmp_path):
    # The replay memory grows with every step: the limit lets the first checkpoints through and not a later one.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))"
    run = ("train", *SHORT, "--dir", "run", "--checkpoint-every", "50", "--log-every", "10000")
    done = run_agent(*run, "--quiet", code=limit)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "cannot save the checkpoint: File too large; the previous checkpoint is whole" in done.stderr
    assert 50 <= checkpoint.load(tmp_path / "run")[1]["steps"] < 300
    assert run_agent("train", "--resume", "run", "--quiet").returncode == 0
    assert checkpoint.load(tmp_path / "run")[1]["steps"] == 300


SLOW = ("--env", "Walk-v0", "--agent", "fake", "--steps", "1500", "--sleep", "0.001", "--checkpoint-every", "60")


def start(environment, tmp_path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rlcore.cli", "train", *arguments]
    return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_killed_at_any_moment_and_resumed_is_the_same_run_bit_for_bit(run_agent, environment, tmp_path):
    assert run_agent("train", *SLOW, "--dir", "whole", "--quiet").returncode == 0
    draw = random.Random(0)
    process = start(environment, tmp_path, *SLOW, "--dir", "killed")
    kills = 0
    while True:
        wait_for(tmp_path / "killed" / checkpoint.FILE_NAME)
        if kills < 4:
            time.sleep(draw.uniform(0.05, 0.9))
            process.kill()
            kills += process.wait(30) == -signal.SIGKILL
        _, errors = process.communicate(timeout=60)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
        process = start(environment, tmp_path, "--resume", "killed")
    assert kills >= 1
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert (whole / checkpoint.FILE_NAME).read_bytes() == (killed / checkpoint.FILE_NAME).read_bytes()
    logs = [
        [(line["step"], line["returns"], line["loss"]) for line in map(json.loads, file.read_text().splitlines())]
        for file in (whole / "metrics.jsonl", killed / "metrics.jsonl")
    ]
    assert logs[0] == logs[1]


def test_ctrl_c_saves_and_says_how_to_resume(run_agent, environment, tmp_path):
    process = start(environment, tmp_path, *SLOW, "--steps", "100000", "--dir", "a run", "--json")
    wait_for(tmp_path / "a run" / "metrics.jsonl")
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == "continue with: run-agent train --resume 'a run'"
    assert "Traceback" not in errors
    saved = checkpoint.load(tmp_path / "a run")[1]["steps"]
    assert 0 < saved < 100_000
    resumed = run_agent("train", "--resume", "a run", "--steps", str(saved + 50), "--quiet", "--json")
    assert last_json(resumed.stdout)["steps"] == saved + 50


def test_peek_takes_the_last_of_several():
    assert peek(["--env", "A", "--env=B"], "--env") == "B"
    assert peek(["--env"], "--env") is None
    assert peek(["--environment", "A"], "--env") is None


def test_threads_are_settled_before_numpy(run_agent):
    code = "import os; os.environ.pop('OMP_NUM_THREADS', 0); import atexit; "
    code += "atexit.register(lambda: print(os.environ['OMP_NUM_THREADS']))"
    assert run_agent("list", "agents", code=code).stdout.splitlines()[-1] == "1"


def test_a_reader_that_leaves_early_is_no_error(environment):
    command = f"{sys.executable} -m rlcore.cli train --agent fake --help | head -c 10"
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "usage: run"
    assert "Traceback" not in done.stderr


def test_the_help_is_quick(environment):
    times = []
    for _ in range(3):
        start_time = time.perf_counter()
        command = [sys.executable, "-m", "rlcore.cli", "--help"]
        subprocess.run(command, env=environment, capture_output=True, timeout=60, check=True)
        times.append(time.perf_counter() - start_time)
    assert min(times) < 0.7


def test_a_video_without_its_package_names_the_command(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["eval", "run", "--video", "a.mp4"]) == 2
    assert "pip install 'rlcore[video]'" in capsys.readouterr().err


def test_a_video_is_recorded(run_agent, trained, tmp_path):
    pytest.importorskip("moviepy")
    done = run_agent("eval", "run", "--episodes", "2", "--video", "a.mp4")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.mp4").stat().st_size > 500
