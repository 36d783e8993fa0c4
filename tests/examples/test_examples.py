"""Every example runs, from a clean process, and ends well."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(path: Path, cwd: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", str(path), *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def mean_return(output: str) -> float:
    found = re.search(r"mean return (-?[\d.]+)", output)
    assert found, output
    return float(found[1])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_is_short(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60


def test_fits_a_curve_and_its_slope(tmp_path: Path):
    output = run(ROOT / "examples" / "01_tensor_autograd.py", tmp_path)
    (error,) = re.findall(r"error of the slope +([\d.]+)", output)
    assert float(error) < 0.05


def test_trains_cartpole(tmp_path: Path):
    assert mean_return(run(ROOT / "examples" / "02_train_cartpole.py", tmp_path, "4000")) > 15  # it runs; 8 to 10 is the floor


def test_trains_on_its_own_environment(tmp_path: Path):
    run(ROOT / "examples" / "03_custom_env.py", tmp_path, "4000")


@pytest.mark.slow
def test_learns_on_its_own_environment(tmp_path: Path):
    assert mean_return(run(ROOT / "examples" / "03_custom_env.py", tmp_path)) > 50


def test_trains_its_own_agent(tmp_path: Path):
    assert mean_return(run(ROOT / "examples" / "04_custom_agent.py", tmp_path, "5000")) > 100


def test_reads_digits(tmp_path: Path):
    accuracies = re.findall(r"test accuracy ([\d.]+)%", run(ROOT / "examples" / "05_digits.py", tmp_path))
    assert len(accuracies) == 20
    assert float(accuracies[-1]) >= 97


def test_grows_in_flight(tmp_path: Path):
    output = run(ROOT / "examples" / "07_grow_in_flight.py", tmp_path, "8000")
    assert "grow actor.0 no better than" in output
    assert "units 4 -> 12" in output or "units 4 -> 20" in output


def test_grows_by_its_own_policy(tmp_path: Path):
    output = run(ROOT / "examples" / "08_own_policy.py", tmp_path, "4000")
    assert re.search(r"^2\d\d\d actor.0 4 scheduled at 2000, return \d", output, re.MULTILINE)


def test_grows_its_own_layer(tmp_path: Path):
    output = run(ROOT / "examples" / "09_own_layer.py", tmp_path)
    assert "'1.gate: [4] -> [12]'" in output
    losses = [float(value) for value in re.findall(r"loss ([\d.]+)", output)]
    assert losses[-1] < losses[0] / 2


def test_keeps_what_helps(tmp_path: Path):
    output = run(ROOT / "examples" / "10_keep_what_helps.py", tmp_path, "5000")
    assert re.search(r"^units 8 -> \d+$", output, re.MULTILINE), output


def test_leave_nothing_behind(tmp_path: Path):
    run(ROOT / "examples" / "04_custom_agent.py", tmp_path, "200")
    assert not list(tmp_path.iterdir())


def test_three_addresses_make_one_network(tmp_path: Path):
    output = run(ROOT / "examples" / "06_sensors.py", tmp_path)
    losses = re.findall(r"loss +(.+)", output)
    assert len(losses) == 3
    assert len(set(losses)) == 1
    assert float(losses[0].split()[-1]) < 0.1 * float(losses[0].split()[0])
    assert float(output.split()[-1]) < 1e-6


def compiled(name: str, folder: Path) -> Path:
    """A program of ours in C; skips the test where there is no compiler, or no libzmq to compile it with."""

    def compile_c(source: Path, program: Path) -> subprocess.CompletedProcess[str]:
        command = [shutil.which("cc") or "", "-Wall", "-Wextra", "-Werror", str(source), "-lzmq", "-lm", "-o", str(program)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    probe = folder / "probe.c"
    probe.write_text("#include <zmq.h>\nint main(void) { return !zmq_ctx_new(); }\n", encoding="utf-8")
    if shutil.which("cc") is None or compile_c(probe, folder / "probe").returncode:
        pytest.skip("needs a C compiler and libzmq")
    done = compile_c(ROOT / "examples" / f"{name}.c", folder / name)
    assert done.returncode == 0, done.stderr
    return folder / name


def test_a_publisher_in_c(tmp_path: Path):
    from envs.streams import open_stream

    program = compiled("publisher", tmp_path)
    address = f"zmq+ipc://{tmp_path}/imu"
    with (
        subprocess.Popen([program, address.removeprefix("zmq+"), "50"]),
        open_stream(address, topics=["imu"], timeout=2) as stream,
    ):
        samples = list(stream)
    assert [sample.sequence for sample in samples] == list(range(50))
    assert [sample.value.tolist() for sample in samples] == [[i, i / 2, pytest.approx(9.81)] for i in range(50)]
    assert stream.rejected == 0


def test_an_environment_in_c(tmp_path: Path):
    """It is an environment to Gymnasium and to us; killed and started anew it is as one of ours."""
    import gymnasium
    from gymnasium.utils.env_checker import check_env

    import envs
    from rlcore.errors import WorldError

    program = compiled("serve_env", tmp_path)

    def serve(at: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen([program, at], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    server, uri = serve("tcp://127.0.0.1:*")
    try:
        env = gymnasium.make("rlcore/Remote-v0", address=uri)
        assert env.action_space == gymnasium.spaces.Discrete(3)
        check_env(env.unwrapped)
        at, speed = first = env.reset(seed=4)[0].tolist()
        for action in (2, 0, 1):
            observation, reward, terminated, truncated, _ = env.step(action)
            speed = 0.98 * speed + 0.1 * (action - 1)
            at += 0.1 * speed
            assert observation.tolist() == pytest.approx([at, speed], abs=1e-5)
            assert reward == pytest.approx(1 - abs(at), abs=1e-5)
            assert not terminated
            assert not truncated
        with pytest.raises(WorldError, match="expected num_envs 1: this program serves each client one environment"):
            envs.make_world(uri, num_envs=2)
        server.kill()
        server.communicate()
        server, again = serve(uri.removeprefix("remote+"))
        assert again == uri
        last, reward, terminated, truncated, info = env.step(0)
        assert (last == observation).all()
        assert (reward, terminated, truncated, info) == (0.0, False, True, {"server_restarted": True})
        assert env.reset(seed=4)[0].tolist() == first
        env.close()
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize("name, lines", [("publisher.c", 60), ("serve_env.c", 160)])
def test_what_is_in_c_is_short(name: str, lines: int):
    assert len((ROOT / "examples" / name).read_text(encoding="utf-8").splitlines()) <= lines
