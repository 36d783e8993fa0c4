"""Worlds by environment id, whoever provides them: `envs`, Gymnasium, or a third party's entry point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from rlcore.errors import UnknownNameError
from rlcore.registry import ENVS, load_object
from rlcore.types import World

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvCreator

__all__ = ["list_environments", "make_world"]

#: `rlcore` never imports `envs`; it reaches it through these names only.
_MAKE_WORLD = "envs:make_world"
_LIST_ENVIRONMENTS = "envs:list_environments"


def make_world(
    env_id: str,
    *,
    num_envs: int = 1,
    vectorization: str = "auto",
    normalize_observation: bool = False,
    normalize_reward: bool = False,
    discount: float = 0.99,
    training: bool = True,
    render_mode: str | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
) -> World:
    """Build ``num_envs`` copies of an environment, stepped together.

    Args:
        env_id: a Gymnasium id, ``"package:Name-v0"``, ``"module:Class"`` of an environment, or a name registered in
            `rlcore.registry.ENVS`.
        num_envs: how many copies.
        vectorization: ``"auto"``, ``"native"``, ``"sync"`` or ``"async"``, as `envs` understands it.
        normalize_observation: subtract the running mean, divide by the running deviation.
        normalize_reward: divide by the running deviation of the discounted return.
        discount: of that return.
        training: False freezes the running statistics.
        render_mode: ``"human"`` or ``"rgb_array"`` to see it.
        env_kwargs: arguments of the environment itself.

    Raises:
        UnknownNameError: no such environment; the message gives the nearest.
    """
    options: dict[str, Any] = {
        "num_envs": num_envs,
        "vectorization": vectorization,
        "normalize_observation": normalize_observation,
        "normalize_reward": normalize_reward,
        "discount": discount,
        "training": training,
        "render_mode": render_mode,
    }
    if env_kwargs:
        options["env_kwargs"] = dict(env_kwargs)
    make: Any = None
    if env_id in ENVS:
        import gymnasium

        target = ENVS.load(env_id)
        if not (isinstance(target, type) and issubclass(target, gymnasium.Env)):
            make = target
        elif env_id not in gymnasium.registry:
            # Once Gymnasium knows the class under this name, vectorising and autoreset are the same as for any id.
            gymnasium.register(env_id, entry_point=cast("EnvCreator", target))
    try:
        world: World = (make or load_object(_MAKE_WORLD))(env_id, **options)
    except UnknownNameError as error:
        if make is not None or error.name != env_id or ":" in env_id:
            raise
        raise UnknownNameError(error.kind, env_id, list_environments()) from error  # third parties' names too
    return world


def list_environments() -> list[str]:
    """Every id that `make_world` knows, sorted."""
    return sorted({*load_object(_LIST_ENVIRONMENTS)(), *ENVS.names()})
