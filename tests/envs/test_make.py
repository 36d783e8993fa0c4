from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.envs.registration import register
from gymnasium.vector import AutoresetMode

import envs
from envs.vector import AsyncVector, SyncVector
from rlcore.errors import UnknownNameError, UsageError, WorldError
from rlcore.registry import ENVS


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test registers is forgotten after it."""
    before = dict(gymnasium.registry)
    monkeypatch.setattr(ENVS, "_entries", dict(ENVS._entries))
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def vector_of(world: Any) -> Any:
    return getattr(world, "_world", world)._venv


@pytest.mark.parametrize(
    "options, kind",
    [
        ({}, SyncVector),
        ({"num_envs": 3}, CartPoleVectorEnv),
        ({"num_envs": 3, "vectorization": "sync"}, SyncVector),
        ({"num_envs": 1, "vectorization": "native"}, CartPoleVectorEnv),
        ({"num_envs": 2, "render_mode": "rgb_array"}, SyncVector),
    ],
)
def test_vectorization(options: dict[str, Any], kind: type) -> None:
    world = envs.make_world("CartPole-v1", **options)
    assert isinstance(vector_of(world), kind)
    assert world.reset(seed=0).shape == (world.num_envs, 4)
    world.close()
    world.close()


def test_normalisation_wraps_only_where_asked() -> None:
    assert isinstance(envs.make_world("CartPole-v1"), envs.VectorWorld)
    assert isinstance(envs.make_world("CartPole-v1", normalize_reward=True), envs.NormalizedWorld)


def test_the_newest_version_is_meant() -> None:
    assert envs.make_world("CartPole").observation_space.shape == (4,)


def test_seeds_are_gymnasiums() -> None:
    expected = [gymnasium.make("CartPole-v1").reset(seed=seed)[0].tolist() for seed in (7, 8)]
    assert envs.make_world("CartPole-v1", num_envs=2, vectorization="sync").reset(seed=7).tolist() == expected


def test_arguments_reach_the_environment() -> None:
    world = envs.make_world("Pendulum-v1", env_kwargs={"g": 0.0, "max_episode_steps": 2})
    world.reset(seed=0)
    world.step(np.zeros((1, 1)))
    step = world.step(np.zeros((1, 1)))
    assert step.truncated.all()
    assert not step.terminated.any()


@pytest.mark.parametrize(
    "env_id, text",
    [
        ("CartPoel-v1", "unknown environment 'CartPoel-v1'; did you mean 'CartPole-v1'"),
        ("CartPole-v7", "unknown environment 'CartPole-v7'; did you mean 'CartPole-v1'"),
        ("no such thing!", "unknown environment 'no such thing!'"),
    ],
)
def test_unknown_ids_give_the_nearest(env_id: str, text: str) -> None:
    with pytest.raises(UnknownNameError, match=text):
        envs.make_world(env_id)


def test_a_missing_module_is_told_and_one_that_it_imports_names_its_pip_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UsageError, match=r"^absent_mazes.v2:Maze-v0: no module 'absent_mazes' is installed or in this directory$"
    ):
        envs.make_world("absent_mazes.v2:Maze-v0")
    (tmp_path / "mazes_of_absent.py").write_text("import absent_mazes")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"^mazes_of_absent:Maze needs the module 'absent_mazes': pip install absent_mazes$"):
        envs.make_world("mazes_of_absent:Maze")


def test_ids_of_packages_that_nobody_imported_say_how_to() -> None:
    with pytest.raises(
        UsageError, match=r"unknown environment 'ALE/Pong-v5'; nothing imported registers ALE/...: .*'package:ALE/Pong-v5'"
    ):
        envs.make_world("ALE/Pong-v5")


def test_an_address_of_another_kind_is_no_module() -> None:
    with pytest.raises(
        UsageError, match=r"^zmq\+tcp://127.0.0.1:5700: expected the id of an environment, or remote\+tcp://host:port"
    ):
        envs.make_world("zmq+tcp://127.0.0.1:5700")


def test_an_unknown_vectorization_is_named() -> None:
    with pytest.raises(UsageError, match="unknown vectorization 'asink'; did you mean 'async'"):
        envs.make_world("CartPole-v1", vectorization="asink")  # type: ignore[arg-type]


def test_a_module_registers_what_it_has(registry: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "present_mazes.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "gymnasium.register('Mazes/Maze-v3', CartPoleEnv)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert envs.make_world("present_mazes:Mazes/Maze-v3").observation_space.shape == (4,)
    assert envs.make_world("Mazes/Maze").observation_space.shape == (4,)
    sys.modules.pop("present_mazes")


def test_entry_points_make_environments(registry: None) -> None:
    ENVS.register("Third/Party-v0", CartPoleEnv)
    ENVS.register("party", lambda render_mode=None: CartPoleEnv(render_mode=render_mode))
    assert {"Third/Party-v0", "party", "CartPole-v1"} <= set(envs.list_environments())
    assert envs.list_environments() == sorted(envs.list_environments())
    for env_id in ("Third/Party-v0", "party"):
        world = envs.make_world(env_id, num_envs=2, render_mode="rgb_array")
        world.reset(seed=0)
        assert world.step(np.array([0, 1])).valid.all()
        world.close()


def test_constructors_that_fail(registry: None) -> None:
    def locked() -> Any:
        message = "the door\nis locked"
        raise PermissionError(message)

    register("Locked-v0", locked)
    register("NotAnEnv-v0", lambda: 3)
    with pytest.raises(WorldError, match=r"^Locked-v0: could not be made: PermissionError: the door is locked$"):
        envs.make_world("Locked-v0")
    with pytest.raises(WorldError, match=r"^NotAnEnv-v0: could not be made: TypeError: "):
        envs.make_world("NotAnEnv-v0")
    with pytest.raises(UsageError, match=r"^CartPole-v1: expected other arguments\? got \{'wheels': 3\}"):
        envs.make_world("CartPole-v1", env_kwargs={"wheels": 3})


@pytest.mark.parametrize(
    "options, text",
    [
        ({"num_envs": 0}, "num_envs: expected at least 1, got 0"),
        ({"vectorization": "asink"}, "unknown vectorization 'asink'; did you mean 'async'"),
        ({"vectorization": "native"}, "Acrobot-v1 has no vector class of its own"),
        ({"render_mode": "hologram"}, "expected a render_mode of 'human', 'rgb_array', got 'hologram'"),
    ],
)
def test_wrong_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        envs.make_world("Acrobot-v1", **options)


@pytest.mark.parametrize("options", [{}, {"num_envs": 2}, {"normalize_observation": True}])
def test_pictures_are_of_the_first_environment(options: dict[str, Any]) -> None:
    world = envs.make_world("CartPole-v1", render_mode="rgb_array", **options)
    world.reset(seed=0)
    before = world.render()
    for _ in range(5):
        world.step(np.zeros(world.num_envs, int))
    after = world.render()
    assert before is not None
    assert after is not None
    assert before.shape == (400, 600, 3)
    assert before.dtype == np.uint8
    assert (before != after).any()
    world.close()


def test_native_worlds_draw_too() -> None:
    world = envs.make_world("CartPole-v1", num_envs=2, vectorization="native", render_mode="rgb_array")
    world.reset(seed=0)
    picture = world.render()
    assert picture is not None
    assert picture.shape == (400, 600, 3)
    world.close()


def test_no_pictures_unless_asked_for() -> None:
    for options in ({}, {"normalize_observation": True}, {"num_envs": 2}):
        world = envs.make_world("CartPole-v1", **options)
        world.reset(seed=0)
        assert world.render() is None


def test_processes_give_what_a_loop_gives_and_keep_their_state() -> None:
    def make(vectorization: Any) -> envs.VectorWorld | envs.NormalizedWorld:
        return envs.make_world("Pendulum-v1", num_envs=2, vectorization=vectorization, env_kwargs={"max_episode_steps": 7})

    actions = np.random.default_rng(0).uniform(-2, 2, (40, 2, 1))
    loop, processes = make("sync"), make("async")
    venv = vector_of(processes)
    assert isinstance(venv, AsyncVector)
    assert venv.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    try:
        assert processes.reset(seed=5).tobytes() == loop.reset(seed=5).tobytes()
        kept, later = None, []
        for number, action in enumerate(actions):
            step = processes.step(action)
            for mine, theirs in zip(step, loop.step(action), strict=True):
                assert repr(mine) == repr(theirs)
            if kept is not None:
                later.append(step)
            elif number == 9:
                kept = processes.state_dict()
        observation = processes.load_state_dict(kept)
        assert observation is not None
        again = [processes.step(action) for action in actions[10:]]
        assert repr(again) == repr(later)
    finally:
        processes.close()
        loop.close()


def test_an_error_in_a_process_names_the_environment() -> None:
    world = envs.make_world("Pendulum-v1", num_envs=2, vectorization="async", env_kwargs={"g": "heavy"})
    try:
        world.reset(seed=0)
        with pytest.raises(WorldError, match=r"^Pendulum-v1: step 1: environment 0: step raised ") as caught:
            world.step(np.zeros((2, 1)))
        assert isinstance(caught.value.__cause__, Exception)
    finally:
        world.close()


def test_exported_names() -> None:
    for name in envs.__all__:
        home = getattr(getattr(envs, name), "__module__", "envs.")
        assert home.startswith(("envs.", "typing"))
    assert sorted(envs.__all__, key=str.lower) == sorted(set(envs.__all__), key=str.lower)
