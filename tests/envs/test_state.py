"""A run that was interrupted is the same run, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import envs
from envs.state import decode, encode
from rlcore import checkpoint
from rlcore.types import State, Step

BEFORE, AFTER = 137, 300


def through_a_file(state: State, path: Path) -> State:
    file = path / "state.safetensors"
    checkpoint.save(file, {"world": state}, {})
    return checkpoint.load(file)[0]["world"]


def play(world: Any, steps: int) -> list[Step]:
    """Random actions from the world's own space, whose generator is part of the state."""
    return [world.step(np.stack([world.action_space.sample() for _ in range(world.num_envs)])) for _ in range(steps)]


def assert_same(first: list[Step], second: list[Step]) -> None:
    for one, other in zip(first, second, strict=True):
        assert one.episodes == other.episodes
        for left, right in zip(one[:6], other[:6], strict=True):
            assert left.dtype == right.dtype
            assert left.tobytes() == right.tobytes()


def check_resume(make_world: Any, path: Path) -> list[Step]:
    world = make_world()
    world.reset(seed=3)
    world.action_space.seed(4)
    last = play(world, BEFORE)[-1]
    state = through_a_file(world.state_dict(), path)
    expected = play(world, AFTER)
    resumed = make_world()
    observation = resumed.load_state_dict(state)
    assert observation is not None
    assert observation.tobytes() == last.observation.tobytes()
    assert_same(play(resumed, AFTER), expected)
    assert world.state_dict().keys() == resumed.state_dict().keys()
    world.close()
    resumed.close()
    return expected


@pytest.mark.parametrize("normalize", [False, True], ids=["raw", "normalised"])
@pytest.mark.parametrize(
    "env_id, num_envs, vectorization",
    [
        ("CartPole-v1", 3, "native"),
        ("CartPole-v1", 1, "auto"),
        ("CartPole-v1", 3, "sync"),
        ("Pendulum-v1", 2, "sync"),
        ("Acrobot-v1", 2, "sync"),
        ("MountainCar-v0", 2, "sync"),
        ("MountainCarContinuous-v0", 2, "sync"),
        ("FrozenLake-v1", 2, "sync"),
        ("Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3", 2, "sync"),
        ("Blackjack-v1", 2, "sync"),
        ("CliffWalking-v1", 2, "sync"),
    ],
)
def test_gymnasiums_own_environments(env_id: str, num_envs: int, vectorization: Any, normalize: bool, tmp_path: Path) -> None:
    def make_world() -> Any:
        return envs.make_world(
            env_id,
            num_envs=num_envs,
            vectorization=vectorization,
            normalize_observation=normalize,
            normalize_reward=normalize,
            env_kwargs={"max_episode_steps": 90},
        )

    assert any(step.episodes for step in check_resume(make_world, tmp_path))


@pytest.mark.parametrize("mode", AutoresetMode)
def test_environments_with_the_protocol(resumable_env: Any, mode: AutoresetMode, tmp_path: Path) -> None:
    lengths = (1, 2, 5)  # at step 137 some are about to be reset

    def make_world() -> Any:
        make_envs = [lambda length=length: wrappers.ClipReward(resumable_env(length), 0, 3) for length in lengths]
        return envs.NormalizedWorld(envs.from_vector_env(SyncVectorEnv(make_envs, autoreset_mode=mode)), reward=True)

    check_resume(make_world, tmp_path)


def test_the_checkers_first_steps_are_not_repeated(tmp_path: Path) -> None:
    check_resume(lambda: envs.from_env(gymnasium.make("CartPole-v1")), tmp_path)


def test_a_snapshot_does_not_change_with_the_world() -> None:
    world = envs.make_world("CartPole-v1")
    world.reset(seed=0)
    state = world.state_dict()
    before = repr(state)
    play(world, 5)
    assert repr(state) == before


@pytest.mark.parametrize(
    "make_env",
    [
        lambda counting: counting(3),
        lambda counting: wrappers.NormalizeObservation(gymnasium.make("CartPole-v1")),
        lambda counting: wrappers.TimeAwareObservation(gymnasium.make("CartPole-v1")),
    ],
    ids=["no protocol", "wrapper with statistics", "wrapper with a clock"],
)
def test_where_a_layer_cannot_give_its_state_episodes_begin_anew(counting_env: Any, make_env: Any) -> None:
    world = envs.from_env(make_env(counting_env))
    world.reset(seed=0)
    play(world, 2)
    state = world.state_dict()
    assert state["episodes"] is None
    assert world.load_state_dict(state) is None
    with pytest.raises(RuntimeError, match="call reset"):
        world.step(np.zeros(1, int))


def test_states_that_are_not_plain_data_are_none(counting_env: Any) -> None:
    class Odd(counting_env):  # type: ignore[misc]
        def get_state(self) -> object:
            return object()

        def set_state(self, state: object) -> None: ...

    world = envs.from_env(Odd())
    world.reset()
    assert world.state_dict()["episodes"] is None


def test_before_the_first_reset_there_are_no_episodes() -> None:
    world = envs.make_world("CartPole-v1")
    assert world.state_dict()["episodes"] is None


@pytest.mark.parametrize(
    "other",
    [
        {"num_envs": 2},
        {"num_envs": 3, "vectorization": "native"},
        {"num_envs": 3, "env_kwargs": {"max_episode_steps": -1}},
    ],
    ids=["another number", "another vectorisation", "other wrappers"],
)
def test_states_of_other_worlds_begin_new_episodes(other: dict[str, Any]) -> None:
    world = envs.make_world("CartPole-v1", num_envs=3, vectorization="sync")
    world.reset(seed=0)
    state = world.state_dict()
    assert state["episodes"] is not None
    assert envs.make_world("CartPole-v1", **{"vectorization": "sync", **other}).load_state_dict(state) is None


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    | hnp.arrays(np.float32, ()).map(lambda array: array[()]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2) | st.sampled_from(["~tuple", "~dict"]), inner, max_size=3)
        | st.dictionaries(st.integers() | st.tuples(st.integers(), st.integers()), inner, max_size=2)
    ),
    max_leaves=8,
)


@given(plain)
def test_plain_data_come_back_as_they_were(value: Any) -> None:
    assert repr(decode(encode(value))) == repr(value)


@given(st.sampled_from([np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64]), st.integers(0, 9))
def test_generators_continue(bits: Any, drawn: int) -> None:
    generator = np.random.Generator(bits(0))
    generator.integers(9, size=drawn, dtype=np.int32)  # may leave half of a 64-bit draw
    copy = decode(encode(generator))
    assert copy.integers(9, size=5, dtype=np.int32).tolist() == generator.integers(9, size=5, dtype=np.int32).tolist()


def test_other_objects_are_refused() -> None:
    with pytest.raises(TypeError, match=r"expected plain data, got a builtins\.object"):
        encode([object()])
