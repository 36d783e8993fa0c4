"""Worlds by the ids of their environments."""

from __future__ import annotations

import copy
import functools
import importlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import gymnasium
from gymnasium.envs.registration import EnvSpec, find_highest_version, parse_env_id
from gymnasium.vector import VectorEnv

from envs.normalize import NormalizedWorld
from envs.registration import REMOTE
from envs.vector import AsyncVector, SyncVector
from envs.world import VectorWorld
from rlcore.errors import RlcoreError, UnknownNameError, UsageError, WorldError
from rlcore.registry import ENVS

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvCreator

__all__ = ["Vectorization", "list_environments", "make_env", "make_world"]

#: How n environments become one: ``native`` by their own vector class, ``sync`` one after another,
#: ``async`` each in its own process, ``auto`` natively where several can be, else one after another.
Vectorization = Literal["auto", "native", "sync", "async"]


def make_world(
    env_id: str,
    *,
    num_envs: int = 1,
    vectorization: Vectorization = "auto",
    normalize_observation: bool = False,
    normalize_reward: bool = False,
    discount: float = 0.99,
    training: bool = True,
    render_mode: str | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
) -> VectorWorld | NormalizedWorld:
    """Build n environments, stepped together.

    Args:
        env_id: any Gymnasium id, also without its version (the newest is taken) and as ``"package.module:Name-v0"``,
            where the module is imported first; ``"module:Class"``, a `gymnasium.Env`; the address of one that runs
            elsewhere, ``"remote+tcp://host:port"`` (`envs.remote`); or a name that another distribution gave in the entry
            point group ``rlcore.envs``, whose value makes a `gymnasium.Env`.
        num_envs: n.
        vectorization: see `Vectorization`.
        normalize_observation: standardise observations by their running mean and deviation.
        normalize_reward: divide rewards by the running deviation of the discounted return.
        discount: of that return.
        training: False freezes both statistics and leaves rewards as they are.
        render_mode: ``"rgb_array"`` for `VectorWorld.render`, ``"human"`` for a window.
        env_kwargs: for the environment's constructor; ``max_episode_steps`` too.

    Raises:
        UnknownNameError: no such environment; the message gives the nearest.
        UsageError: its module is not installed, or it does not take these arguments.
        SpaceError: observations or actions of a kind that cannot be served.
        WorldError: the environment's constructor raised.

    >>> world = make_world("FrozenLake-v1", num_envs=2, env_kwargs={"is_slippery": False})
    >>> world.reset(seed=0).shape, world.action_space
    ((2, 16), Discrete(4))
    >>> world.close()
    """
    if num_envs < 1:
        message = f"num_envs: expected at least 1, got {num_envs}"
        raise UsageError(message)
    if vectorization not in get_args(Vectorization):
        kind = "vectorization"
        raise UnknownNameError(kind, vectorization, get_args(Vectorization))
    kwargs = dict(env_kwargs or {})
    with _errors_of(env_id, kwargs), _quiet():
        spec = _find_spec(env_id)
        if render_mode is not None:
            kwargs["render_mode"] = render_mode
        venv = _make_vector(spec, num_envs, _choose(spec, vectorization, num_envs, kwargs), kwargs)
        try:
            if render_mode is not None:
                _check_render_mode(env_id, render_mode, venv)
            world = VectorWorld(venv, name=env_id)
        except BaseException:
            venv.close()
            raise
    if normalize_observation or normalize_reward:
        return NormalizedWorld(
            world, observation=normalize_observation, reward=normalize_reward, discount=discount, training=training
        )
    return world


def make_env(
    env_id: str, *, render_mode: str | None = None, env_kwargs: Mapping[str, Any] | None = None
) -> gymnasium.Env[Any, Any]:
    """One environment, by whatever `make_world` takes as an id; raises what it raises.

    >>> make_env("FrozenLake-v1").observation_space
    Discrete(16)
    """
    kwargs = dict(env_kwargs or {}) | ({} if render_mode is None else {"render_mode": render_mode})
    with _errors_of(env_id, kwargs), _quiet():
        return _make_env(_find_spec(env_id), kwargs)


def list_environments() -> list[str]:
    """Every id that `make_world` knows without importing more, sorted."""
    return sorted({*gymnasium.registry, *ENVS.names()})


def _find_spec(env_id: str) -> EnvSpec:
    if env_id in gymnasium.registry:
        return gymnasium.registry[env_id]
    if env_id.startswith("remote+"):
        spec = copy.deepcopy(gymnasium.registry[REMOTE])
        spec.kwargs = {"address": env_id}
        return spec
    if env_id in ENVS:
        return EnvSpec(id=env_id, entry_point=ENVS.load(env_id))
    if "://" in env_id:
        message = f"{env_id}: expected the id of an environment, or remote+tcp://host:port of one that run-agent serve-env serves"
        raise UsageError(message)
    module, _, name = env_id.rpartition(":")
    own = vars(importlib.import_module(module)) if module else {}
    if name in gymnasium.registry:
        return gymnasium.registry[name]
    thing = own.get(name)
    if isinstance(thing, type) and issubclass(thing, gymnasium.Env):  # never registered
        return EnvSpec(id=env_id, entry_point=cast("EnvCreator", thing))
    if callable(thing):  # not called: ids are read from checkpoints too, which must not be able to call just anything
        message = f"{env_id}: expected a gymnasium.Env class; a function is given an id by gymnasium.register, in the same file"
        raise UsageError(message)
    newest = None
    with suppress(gymnasium.error.Error):  # not of the form of an id
        namespace, bare, version = parse_env_id(name)
        newest = find_highest_version(namespace, bare) if version is None else None
    if newest is None:
        raise _unknown(env_id, module, name, own)
    return gymnasium.registry[f"{name}-v{newest}"]


def _lies_in(made: Any, module: str) -> bool:
    """Whether an entry point, or what it names, is of a module."""
    return made.startswith(f"{module}:") if isinstance(made, str) else getattr(made, "__module__", None) == module


def _unknown(env_id: str, module: str, name: str, own: Mapping[str, Any]) -> UsageError:
    """What to say of an environment that is not there: in the user's module, of a package not imported, or misspelt."""
    kind = "environment"
    if module:
        makers: dict[str, Any] = {spec.id: spec.entry_point for spec in gymnasium.registry.values()}
        makers |= {n: thing for n, thing in own.items() if isinstance(thing, type) and issubclass(thing, gymnasium.Env)}
        return UnknownNameError(kind, env_id, [f"{module}:{n}" for n, made in makers.items() if _lies_in(made, module)])
    known = list_environments()
    namespace, slash, _ = name.partition("/")
    if slash and not any(other.startswith(f"{namespace}/") for other in known):
        message = f"unknown {kind} {name!r}; nothing imported registers {namespace}/...: name its module, as in 'package:{name}'"
        return UsageError(message)
    return UnknownNameError(kind, name, known)


def _choose(spec: EnvSpec, vectorization: Vectorization, num_envs: int, kwargs: dict[str, Any]) -> Vectorization:
    """What "auto" means here; the other choices as they are."""
    can_be_native = spec.vector_entry_point is not None and not spec.additional_wrappers
    if vectorization == "auto":
        # A picture is wanted of one environment only, and native ones draw all.
        return "native" if can_be_native and num_envs > 1 and "render_mode" not in kwargs else "sync"
    if vectorization == "native" and not can_be_native:
        message = f"{spec.id} has no vector class of its own: use vectorization 'sync' or 'async'"
        raise UsageError(message)
    return vectorization


def _make_vector(spec: EnvSpec, num_envs: int, vectorization: Vectorization, kwargs: dict[str, Any]) -> VectorEnv[Any, Any, Any]:
    if vectorization == "native":
        return gymnasium.make_vec(spec, num_envs=num_envs, vectorization_mode="vector_entry_point", **kwargs)
    make_envs = [functools.partial(_make_env, spec, kwargs)] * num_envs
    return AsyncVector(make_envs) if vectorization == "async" else SyncVector(make_envs, spec.id)


def _make_env(spec: EnvSpec, kwargs: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    # Gymnasium's checker warns where the world raises, and is a layer in every step.
    with _quiet():
        return gymnasium.make(spec, disable_env_checker=True, **kwargs)


def _check_render_mode(env_id: str, render_mode: str, venv: VectorEnv[Any, Any, Any]) -> None:
    known = venv.metadata.get("render_modes") or []
    if render_mode not in known and not (render_mode == "human" and "rgb_array" in known):
        message = f"{env_id}: expected a render_mode of {', '.join(map(repr, known)) or 'none'}, got {render_mode!r}"
        raise UsageError(message)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Gymnasium's advice to authors of environments (bounds, dtypes, render modes, versions) from their users."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"gymnasium\.")
        yield


@contextmanager
def _errors_of(env_id: str, kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Whatever goes wrong while an environment is made, as one line that names it and says what to do."""
    try:
        yield
    except RlcoreError:
        raise
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if f"{env_id.rpartition(':')[0]}.".startswith(f"{missing}."):
            message = f"{env_id}: no module {missing!r} is installed or in this directory"
        else:
            message = f"{env_id} needs the module {missing!r}: pip install {missing.partition('.')[0]}"
        raise UsageError(message) from error
    except gymnasium.error.DependencyNotInstalled as error:
        message = f"{env_id}: {_one_line(error)}"
        raise UsageError(message) from error
    except Exception as error:
        if isinstance(error, TypeError) and kwargs:
            message = f"{env_id}: expected other arguments? got {dict(kwargs)}: {_one_line(error)}"
            raise UsageError(message) from error
        message = f"{env_id}: could not be made: {type(error).__name__}: {_one_line(error)}"
        raise WorldError(message) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
