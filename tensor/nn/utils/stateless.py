"""A module as a function of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensor.autograd.tensor import Tensor
from tensor.naming import quoted
from tensor.nn.module import Module

__all__ = ["functional_call"]


def _places(module: Module) -> dict[str, tuple[Module, dict[str, Any], str]]:
    """Where each parameter and buffer is: its module, its registry there, its name there."""
    found = {}
    for path, part in module.named_modules(remove_duplicate=False):
        for registry in (part._parameters, part._buffers):
            for name, t in registry.items():
                if t is not None:
                    found[f"{path}.{name}" if path else name] = (part, registry, name)
    return found


def functional_call(
    module: Module,
    parameters_and_buffers: Mapping[str, Tensor] | tuple[Mapping[str, Tensor], ...],
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call a module with other tensors in the place of its parameters and buffers, which stay as they are.

    The tensors, by dotted name, may have a history, so that gradients flow to whatever they were computed from. With
    ``tie_weights`` a tensor that the module holds under several names is replaced under all of them. What ``forward`` writes into
    a replaced buffer goes into the tensor given. With ``strict``, missing and unknown names raise RuntimeError; otherwise unknown
    ones are left out.

    >>> import tensor as T
    >>> layer = T.nn.Linear(2, 1)
    >>> functional_call(layer, {"weight": T.ones(1, 2), "bias": T.zeros(1)}, T.ones(2))
    tensor([2.])
    """
    given: dict[str, Tensor] = {}
    for part in (parameters_and_buffers,) if isinstance(parameters_and_buffers, Mapping) else parameters_and_buffers:
        given.update(part)
    places = _places(module)
    if strict:
        problems = {
            "missing": [name for name in places if name not in given],
            "unexpected": [name for name in given if name not in places],
        }
        shown = [f"{kind}: {quoted(names)}" for kind, names in problems.items() if names]
        if shown:
            msg = f"functional_call: {'; '.join(shown)}"
            raise RuntimeError(msg)
    originals = {name: registry[own] for name, (_, registry, own) in places.items()}
    if tie_weights:
        by_identity = {id(originals[name]): t for name, t in given.items() if name in places}
        given = {name: by_identity[id(t)] for name, t in originals.items() if id(t) in by_identity} | given
    swapped = {name: t for name, t in given.items() if name in places}

    def put(tensors: Mapping[str, Tensor]) -> None:
        for name in swapped:
            part, registry, own = places[name]
            registry[own] = part.__dict__[own] = tensors[name]
            part.__dict__["_structure"] += 1

    positional = () if args is None else args if isinstance(args, tuple) else (args,)
    put(swapped)
    try:
        return module(*positional, **(kwargs or {}))
    finally:
        put(originals)
