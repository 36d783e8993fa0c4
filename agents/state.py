"""Weights and optimizers as the plain trees that a checkpoint holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

import tensor as T
from rlcore.types import State
from tensor import Tensor
from tensor.autograd.inplace import bump

__all__ = ["copies", "generator_state", "load_generator", "pack", "put", "unpack", "unpack_optimizer"]


def pack(tree: Any) -> State:
    """Tensors as arrays (copies), numbers as keys as strings; the rest as it is."""
    if isinstance(tree, Tensor):
        return tree.detach().cpu().numpy().copy()
    if isinstance(tree, dict):
        return {str(k): pack(v) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [pack(v) for v in tree]
    return tree


def unpack(tree: State) -> Any:
    """Arrays as tensors (copies); the rest as it is."""
    if isinstance(tree, np.ndarray):
        return T.from_numpy(tree.copy())
    if isinstance(tree, dict):
        return {k: unpack(v) for k, v in tree.items()}
    if isinstance(tree, list):
        return [unpack(v) for v in tree]
    return tree


def unpack_optimizer(tree: State) -> Any:
    """`unpack` for an optimizer's state, which counts its parameters with numbers."""
    state = unpack(tree)
    return {**state, "state": {int(k): v for k, v in state["state"].items()}}


def generator_state(rng: np.random.Generator) -> State:
    """The exact position of a NumPy generator, plain numbers only."""
    return rng.bit_generator.state


def load_generator(rng: np.random.Generator, state: State) -> None:
    """Put a NumPy generator where `generator_state` found it."""
    rng.bit_generator.state = state


def copies(tensors: Iterable[Tensor]) -> State:
    """The values of tensors, as arrays of their own: quicker than `pack` of a state dict, for what is done at every step."""
    return [t._array.copy() for t in tensors]


def put(tensors: Iterable[Tensor], values: State) -> None:
    """Give tensors the values that `copies` took, in place."""
    for t, a in zip(tensors, values, strict=True):
        t._array[...] = a
        bump(t)
