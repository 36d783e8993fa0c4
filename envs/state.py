"""The exact state of environments, as plain data that a checkpoint can hold.

An environment can be continued bit for bit when each of its layers gives its state:

- any environment, wrapper or vector environment with ``get_state()`` and ``set_state(state)``. The state is made of
  numbers, bools, None, strings, NumPy arrays and generators, and tuples, lists and dicts of these; it holds all that
  ``step`` and ``reset`` depend on, except ``np_random``, which is kept for you;
- the environments of ``gymnasium.envs.classic_control`` and ``gymnasium.envs.toy_text``, whose attributes are such
  data, and ``CartPoleVectorEnv``;
- Gymnasium's own wrappers that hold none but a counter.

Every other layer makes the whole state unknown (None): better to begin new episodes than to continue wrong ones.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import wrappers
from gymnasium.vector import SyncVectorEnv, VectorEnv

from rlcore.types import State

__all__ = [
    "StateMismatchError",
    "capture_env",
    "capture_vector",
    "decode",
    "encode",
    "restore_env",
    "restore_vector",
    "spread_vector",
]

_OWN_MODULES = ("gymnasium.envs.classic_control.", "gymnasium.envs.toy_text.")

# What belongs to drawing, not to the world: a run that resumes, or is shown, may draw differently.
_DRAWING = frozenset({"render_mode", "isopen", "screen", "screens", "surf", "clock", "window", "window_surface"})

_COUNTERS: dict[type[Any], tuple[str, ...]] = {
    wrappers.TimeLimit: ("_elapsed_steps",),
    wrappers.OrderEnforcing: ("_has_reset",),
    # It compares the first steps with the reset before them, which a restored one has not seen; it changes no result.
    wrappers.PassiveEnvChecker: (),
    wrappers.ClipAction: (),
    wrappers.ClipReward: (),
    wrappers.DtypeObservation: (),
    wrappers.FilterObservation: (),
    wrappers.FlattenObservation: (),
    wrappers.GrayscaleObservation: (),
    wrappers.HumanRendering: (),
    wrappers.RescaleAction: (),
    wrappers.RescaleObservation: (),
    wrappers.ReshapeObservation: (),
    wrappers.ResizeObservation: (),
}


class StateMismatchError(ValueError):
    """A state of other environments than those it is given to."""


def encode(value: Any) -> State:
    """Plain data as a snapshot of nested dicts and lists of arrays and JSON-able scalars; `decode` gives it back.

    Raises:
        TypeError: it holds something else.

    >>> encode((1, np.float32(2)))
    {'~tuple': [1, {'~scalar': array(2., dtype=float32)}]}
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is np.ndarray and not value.dtype.hasobject:
        return value.copy()
    if isinstance(value, np.generic) and not value.dtype.hasobject:
        return {"~scalar": np.array(value)}
    if kind is tuple:
        return {"~tuple": [encode(item) for item in value]}
    if kind is list:
        return [encode(item) for item in value]
    if kind is dict:
        if all(type(key) is str and not key.startswith("~") for key in value):
            return {key: encode(item) for key, item in value.items()}
        return {"~dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if kind is np.random.Generator:
        return {"~generator": encode(value.bit_generator.state)}
    message = f"expected plain data, got a {kind.__module__}.{kind.__qualname__}"
    raise TypeError(message)


def decode(state: State) -> Any:
    """What `encode` was given; its arrays are new.

    >>> decode(encode({"at": (1, 2)}))
    {'at': (1, 2)}
    """
    if isinstance(state, np.ndarray):
        return state.copy()
    if isinstance(state, list):
        return [decode(item) for item in state]
    if not isinstance(state, dict):
        return state
    if "~tuple" in state:
        return tuple(decode(item) for item in state["~tuple"])
    if "~scalar" in state:
        return state["~scalar"][()]
    if "~dict" in state:
        return {decode(key): decode(item) for key, item in state["~dict"]}
    if "~generator" in state:
        inner = decode(state["~generator"])
        bits = getattr(np.random, inner["bit_generator"])()
        bits.state = inner
        return np.random.Generator(bits)
    return {key: decode(item) for key, item in state.items()}


def capture_env(env: gymnasium.Env[Any, Any]) -> list[tuple[str, Any]] | None:
    """The state of every layer, outermost first, as ``(type, data)``; None where one cannot give it.

    The data are the environment's own objects, not copies: encode or pickle them before the next step.
    """
    layers = []
    for layer in _layers(env):
        if _has_protocol(layer):
            data = {"state": layer.get_state(), "np_random": vars(layer).get("_np_random")}
        elif type(layer) in _COUNTERS:
            data = {name: getattr(layer, name) for name in _COUNTERS[type(layer)]}
        elif type(layer).__module__.startswith(_OWN_MODULES):
            data = _plain_attributes(layer)
        else:
            return None
        layers.append((_type_name(layer), data))
    return layers


def restore_env(env: gymnasium.Env[Any, Any], layers: list[tuple[str, Any]]) -> None:
    """Give every layer the state that `capture_env` took from it.

    Raises:
        StateMismatchError: the layers are of other types; nothing has been changed.
    """
    mine = list(_layers(env))
    if [_type_name(layer) for layer in mine] != [name for name, _ in layers]:
        message = f"expected a state of {[_type_name(layer) for layer in mine]}, got {[name for name, _ in layers]}"
        raise StateMismatchError(message)
    for layer, (_, data) in zip(mine, layers, strict=True):
        if _has_protocol(layer):
            layer.set_state(data["state"])
            if data["np_random"] is not None:
                layer._np_random = data["np_random"]
        else:
            for name, value in data.items():
                setattr(layer, name, value)
        if isinstance(layer, wrappers.PassiveEnvChecker):
            layer.checked_reset = layer.checked_step = layer.checked_data_reuse = True


def capture_vector(venv: VectorEnv[Any, Any, Any]) -> State | None:
    """A snapshot of n environments, or None where they cannot give one."""
    data: Any
    if _has_protocol(venv):
        data = venv.get_state()  # type: ignore[attr-defined]  # just asked for
        data = None if data is None else {"state": data, "np_random": vars(venv).get("_np_random")}
    elif type(venv) is SyncVectorEnv:
        data = [capture_env(env) for env in venv.envs]
        data = None if None in data else {"envs": data, "_autoreset_envs": venv._autoreset_envs}
    elif type(venv).__module__.startswith(_OWN_MODULES):
        data = _plain_attributes(venv)
    else:
        data = None
    if data is None:
        return None
    try:
        return {"type": _type_name(venv), "num_envs": venv.num_envs, "data": encode(data)}
    except TypeError:  # some environment's get_state() means something else
        return None


def restore_vector(venv: VectorEnv[Any, Any, Any], state: State) -> None:
    """Give n environments the state that `capture_vector` took.

    Raises:
        StateMismatchError: it is of other environments, or of another number of them.
    """
    expected, actual = (_type_name(venv), venv.num_envs), (state["type"], state["num_envs"])
    if expected != actual:
        message = f"expected a state of {expected}, got {actual}"
        raise StateMismatchError(message)
    data = decode(state["data"])
    if type(venv) is SyncVectorEnv:
        for env, layers in zip(venv.envs, data["envs"], strict=True):
            restore_env(env, layers)
        venv._autoreset_envs = data["_autoreset_envs"]
    elif _has_protocol(venv):
        venv.set_state(data["state"])  # type: ignore[attr-defined]  # just asked for
        if data["np_random"] is not None:
            venv._np_random = data["np_random"]
    else:
        for name, value in data.items():
            setattr(venv, name, value)


def spread_vector(venv: VectorEnv[Any, Any, Any], state: State) -> State | None:
    """A state for n environments made of that of another number of the same, each in turn; None where it cannot be.

    For environments of `envs.vector`, in one process or in several.
    """
    data = state["data"].get("state") if isinstance(state["data"], dict) else None
    envs = data["envs"] if isinstance(data, dict) else data
    if not (_has_protocol(venv) and isinstance(envs, list) and envs and state["type"].startswith("envs.vector.")):
        return None
    many = [envs[i % len(envs)] for i in range(venv.num_envs)]
    data = {**data, "envs": many} if isinstance(data, dict) else many
    return {"type": _type_name(venv), "num_envs": venv.num_envs, "data": {**state["data"], "state": data}}


def _layers(env: gymnasium.Env[Any, Any]) -> list[Any]:
    layers: list[Any] = [env]
    while isinstance(layers[-1], gymnasium.Wrapper):
        layers.append(layers[-1].env)
    return layers


def _has_protocol(layer: Any) -> bool:
    return callable(getattr(type(layer), "get_state", None)) and callable(getattr(type(layer), "set_state", None))


def _type_name(layer: Any) -> str:
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


def _plain_attributes(layer: Any) -> dict[str, Any]:
    """All attributes of plain data. Dicts are left out: in these modules they are tables that never change."""
    return {name: value for name, value in vars(layer).items() if name not in _DRAWING and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return type(value) in (tuple, list) and all(map(_is_plain, value))
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject
    return value is None or isinstance(value, bool | int | float | str | np.generic | np.random.Generator)
