"""Edits of depth: layers put in, replaced, and injected beside what was learnt."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from tensor.autograd.modes import no_grad
from tensor.naming import quoted
from tensor.nn import activation, init
from tensor.nn.container import Sequential
from tensor.nn.conv import Conv1d, Conv2d, Conv3d
from tensor.nn.embedding import Embedding
from tensor.nn.linear import Linear
from tensor.nn.module import Module
from tensor.structure.blocks import Injection, Residual
from tensor.structure.edit import Edit
from tensor.structure.finding import layer_named
from tensor.structure.rearrange import Arrangement, Rearrange

__all__ = ["DEEPENINGS", "deepen", "inject", "replace"]

#: How a new layer keeps the function: as the identity before an activation that changes nothing the second time, or beside what
#: it is put behind, adding zero at first.
DEEPENINGS = ("identity", "residual")
IDEMPOTENT = activation.ReLU, activation.ReLU6, activation.Hardtanh
ACTIVATIONS = tuple(getattr(activation, name) for name in (
    "CELU", "ELU", "GELU", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid", "Mish", "ReLU", "ReLU6", "SELU",
    "SiLU", "Sigmoid", "Softplus", "Softsign", "Tanh", "Tanhshrink",
))  # fmt: skip
CONVOLUTIONS = Conv1d, Conv2d, Conv3d


def deepen(net: Module, name: str, *, init: str | None = None, x: Any = None, reason: str = "") -> Edit:
    """Put a new layer of the same width behind the layer ``name`` and its activation; the function stays the same.

    ``init``: "identity", an identity map and the activation once more, where that is idempotent (ReLU, ReLU6, Hardtanh: arXiv
    1511.05641); "residual", two maps beside what is there, the second zero at first; None takes the first that is exact.
    In a `Sequential` the new layers follow; elsewhere the layer becomes a `Sequential` of itself and the new ones. With ``x``,
    an input, the network is tried out. Raises ValueError for a layer without a width, and "identity" where it is not exact.

    >>> import tensor as T
    >>> net = T.nn.Sequential(T.nn.Linear(2, 3), T.nn.ReLU(), T.nn.Linear(3, 1))
    >>> deepen(net, "0").plan()
    ['2.weight: new [3, 3]', '2.bias: new [3]']
    """
    if init not in (None, *DEEPENINGS):
        msg = f"deepen: expected init to be one of {quoted(DEEPENINGS)} or None, got {init!r}"
        raise ValueError(msg)
    layer = layer_named("deepen", net, name)
    path, _, own = name.rpartition(".")
    parent = net.get_submodule(path)
    row = list(parent._modules) if type(parent) is Sequential else []
    at = row.index(own) if row else 0
    if row and at + 1 < len(row) and isinstance(parent._modules[row[at + 1]], ACTIVATIONS):
        at += 1
    last: Any = parent._modules[row[at]] if row else layer
    wide = next((m for m in [parent._modules[n] for n in reversed(row[: at + 1])] if _width(m)), None) if row else layer
    if wide is None or not _width(wide):
        msg = f"deepen: expected a Linear, a convolution or an Embedding at {name!r}, or before it, got {type(layer).__name__}"
        raise ValueError(msg)
    exact = isinstance(last, IDEMPOTENT)
    if init == "identity" and not exact:
        msg = f"deepen: expected an idempotent activation (ReLU, ReLU6, Hardtanh) behind {name!r} for init 'identity', got \
{type(last).__name__}"
        raise ValueError(msg)
    act = deepcopy(last) if isinstance(last, ACTIVATIONS) else activation.ReLU()
    made: list[Module] = [_same(wide, "identity"), act]
    if init == "residual" or not exact:
        made = [Residual(Sequential(_same(wide, "draw"), act, _same(wide, "zero")))]
    if row:
        names = _names(row, at, len(made))
        kept = names[: at + 1] + names[at + 1 + len(made) :]

        def follow(old: Mapping[str, Module], new: list[Module]) -> dict[str, Module]:
            modules = list(old.values())
            return dict(zip(names, [*modules[: at + 1], *new, *modules[at + 1 :]], strict=True))

        how = Arrangement(path, follow, made, dict(zip(row, kept, strict=True)))
    else:
        how = Arrangement(path, lambda old, new: {**old, own: Sequential(old[own], *new)}, made, {own: f"{own}.0"})
    near = f"{path}.{next(n for n in row if parent._modules[n] is wide)}".lstrip(".") if row else name
    return _edit("deepen", net, name, how, near, x, reason)


def replace(net: Module, name: str, module: Module, *, x: Any = None, reason: str = "") -> Edit:
    """Put another module in the place of the layer ``name``; its parameters start with fresh state.

    Followers get copies of it. With ``x``, an input, the network is tried out: ValueError where the forward then fails.

    >>> import tensor as T
    >>> net = T.nn.Sequential(T.nn.Linear(2, 3), T.nn.ReLU(), T.nn.Linear(3, 1))
    >>> replace(net, "1", T.nn.Tanh(), x=T.ones(1, 2)).apply().net[1]
    Tanh()
    """
    layer_named("replace", net, name)
    if any(m is module for m in net.modules()):
        msg = f"replace: expected a module that is not in the network yet for {name!r}, got one of its own"
        raise ValueError(msg)
    path, _, own = name.rpartition(".")
    how = Arrangement(path, lambda old, new: {**old, own: new[0]}, [module], {own: ""})
    return _edit("replace", net, name, how, name, x, reason)


def inject(net: Module, name: str, *, x: Any = None, reason: str = "") -> Edit:
    """Freeze the layer (or block) ``name`` and let a newly drawn one learn beside it, exactly zero at first (arXiv 2305.15555).

    With ``x``, an input, the network is tried out: ValueError where the forward then fails, as where it uses the layer's weights
    without calling it. Raises ValueError for a block whose parts cannot be drawn anew.

    >>> import tensor as T
    >>> net = T.nn.Sequential(T.nn.Linear(2, 3), T.nn.ReLU(), T.nn.Linear(3, 1))
    >>> edit = inject(net, "2")
    >>> edit.check(T.ones(4, 2)).absolute
    0.0
    """
    layer = layer_named("inject", net, name)
    new = deepcopy(layer)
    for p in new.parameters():
        p.grad = None
    for path, part in new.named_modules():
        own = [p for p in part._parameters.values() if p is not None]
        reset = getattr(part, "reset_parameters", None)
        if own and reset is None:
            msg = f"inject: expected layers with reset_parameters in {name!r}, got {type(part).__name__} at {path!r}"
            raise ValueError(msg)
        if own and reset is not None:
            reset()
    if not any(True for _ in new.parameters()):
        msg = f"inject: expected a layer with parameters at {name!r}, got {type(layer).__name__}"
        raise ValueError(msg)
    start = deepcopy(new).requires_grad_(False)
    path, _, own_name = name.rpartition(".")

    def beside(old: Mapping[str, Module], made: list[Module]) -> dict[str, Module]:
        return {**old, own_name: Injection(old[own_name], *made)}

    how = Arrangement(path, beside, [new, start], {own_name: f"{own_name}.frozen"}, own_name)
    return _edit("inject", net, name, how, name, x, reason)


def _width(m: Any) -> int:
    """How many units a layer has on which a new one can be put; 0 for other layers."""
    if isinstance(m, Embedding):
        return m.embedding_dim
    return m.out_features if isinstance(m, Linear) else m.out_channels if isinstance(m, CONVOLUTIONS) else 0


def _same(wide: Any, start: str) -> Module:
    """A layer from a width to the same: the identity, zero, or drawn."""
    n, options = _width(wide), {"dtype": wide.weight.dtype, "device": wide.weight.device}
    made: Any = Linear(n, n, **options) if isinstance(wide, (Linear, Embedding)) else type(wide)(n, n, 3, padding=1, **options)
    if start != "draw":
        with no_grad():
            made.bias.zero_()
            if start == "zero":
                made.weight.zero_()
            elif made.weight.ndim == 2:
                init.eye_(made.weight)
            else:
                init.dirac_(made.weight)
    return made  # type: ignore[no-any-return]


def _names(row: list[str], at: int, count: int) -> list[str]:
    """Names for a row with ``count`` more behind position ``at``: numbers go on counting, other names are kept."""
    if all(name.isdigit() for name in row):
        return [str(i) for i in range(len(row) + count)]
    new: list[str] = []
    while len(new) < count:
        k = len(new) + 1
        while f"{row[at]}_{k}" in {*row, *new}:
            k += 1
        new.append(f"{row[at]}_{k}")
    return [*row[: at + 1], *new, *row[at + 1 :]]


def _edit(kind: str, net: Module, name: str, how: Arrangement, near: str, x: Any, reason: str) -> Edit:
    if not name:
        msg = f"{kind}: expected the name of a layer inside of the network, got the network itself"
        raise ValueError(msg)
    edit = Edit(net, kind, name, Rearrange(net, how, near), (), reason)
    if x is not None:
        edit.try_out(x)
    return edit
