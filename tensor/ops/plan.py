"""What one use of an operator keeps for backward, and how that goes back: two functions, written out for the inputs that want a gradient.

Both run for every recorded operation, so there is no loop over inputs and no table to look into: the source is put together from the
operator's rules the first time that a set of inputs wants a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor.autograd.batched import NotBatchable, deepest
from tensor.autograd.modes import disabled
from tensor.autograd.node import FREED, MAKERS, Node, OpNode, OutputNode, Version, new_node, next_number, version_of
from tensor.autograd.samples import enter, raw_arrays, sample_of_tensors
from tensor.autograd.tensor import Tensor
from tensor.ops.machine import word

if TYPE_CHECKING:
    from tensor.ops.record import Operator

__all__ = ["Plan", "keep"]


class Plan:
    """``record(out, edges, *inputs)`` gives an output its node; ``backward(node, g)`` the gradients for the node's edges.

    Of an operator with several outputs, ``save(outputs, *inputs)`` gives what their node keeps. ``on_tensors`` is the way back that
    records and watches, where ``backward`` has a shorter one on arrays. Most plans never need it, and writing functions out is
    what the first use of an operator costs: it waits until it is asked for. ``word`` is what machine code goes by instead
    (`tensor.ops.machine`).
    """

    __slots__ = ("_waiting", "backward", "on_tensors", "op", "record", "save", "word")

    record: Callable[..., None]
    save: Callable[..., tuple[Any, ...]]
    backward: Callable[[OpNode, Any], Sequence[Any]]
    on_tensors: Callable[[OpNode, Any], Sequence[Any]]
    _waiting: tuple[list[str], dict[str, Any]] | None

    def __init__(self, op: Operator, mask: int) -> None:
        self.op = op
        wanted = [(i, *rule) for i, rule in enumerate(op.rules) if op.joint or mask >> i & 1]
        slots = sorted({s for _, _, needed in wanted for s in needed})
        self.word = word(op, slots)
        scope: dict[str, Any] = {"plan": self, "op": op, **{f"rule_{i}": rule for i, rule, _ in wanted}}
        saving = _recording(op, slots)
        lines = ["def backward(node, g):", "    saved = node.saved", "    if saved is FREED:", "        refuse(op)"]
        on_arrays = _on_arrays(op, wanted, slots, scope)
        if on_arrays:
            saving += [*lines, *on_arrays, "    return plan.on_tensors(node, g)"]
            lines = ["def on_tensors(node, g):", "    saved = node.saved"]
        for i, s in enumerate(slots):
            lines += _LOAD.get((op.names[s][0], _many(op, s)), "    x{s} = saved[{i}]").format(i=i, s=s).splitlines()
        calls = {i: f"({', '.join(['g', *(f'x{s}' for s in needed)])})" for i, _, needed in wanted}
        for i, rule, _ in wanted:
            if rule is None:
                lines.append(f"    no_rule(op, {i})")
        if op.joint:
            plain, by_sample = f"rule_0{calls[0]}", f"rule_by_sample(rule_0, {calls[0]})"
        else:
            parts = [
                (f"rule_{i}{calls[i]}", f"rule_by_sample(rule_{i}, {calls[i]})") if i in calls else ("None",) * 2
                for i in range(len(op.rules))
            ]
            plain, by_sample = ("".join(f"{part[k]}, " for part in parts) for k in (0, 1))
        lines += ["    try:", f"        return {plain}", "    except NotBatchable:", f"        return {by_sample}"]
        made = _written(saving if on_arrays else saving + lines, scope)
        self.save = self.record = made[0]
        self.backward = made[1]
        self.on_tensors, self._waiting = (self._write_out, (lines, scope)) if on_arrays else (self.backward, None)

    def _write_out(self, node: OpNode, g: Any) -> Sequence[Any]:
        waiting = self._waiting
        if waiting is not None:  # else another thread was faster
            (self.on_tensors,) = _written(*waiting)
            self._waiting = None
        return self.on_tensors(node, g)


def _written(lines: list[str], scope: dict[str, Any]) -> list[Any]:
    """The functions of this source, which all look for what they share in one namespace."""
    names = [line[4 : line.index("(")] for line in lines if line.startswith("def ")]
    inner = "\n    ".join(lines)
    found: dict[str, Any] = {}
    exec(f"def make({', '.join(scope)}):\n    {inner}\n    return [{', '.join(names)}]", _NAMES, found)
    functions: list[Any] = found["make"](*scope.values())
    return functions


def _recording(op: Operator, slots: list[int]) -> list[str]:
    """The function that gives an output its node, or, of several outputs, what their node is to keep."""
    entries = ", ".join(_SAVE[op.names[s][0], _many(op, s)].format(p=op.names[s][1], i=i) for i, s in enumerate(slots))
    saved = f"({entries}{',' * bool(entries)})"
    inputs = "".join(f", i{p}" for p in range(op.arity))
    if op.outputs > 1:
        return [f"def save(outputs{inputs}):", f"    return {saved}"]
    return [
        f"def record(out, edges{inputs}):",
        *(_COUNTER if "counter" in saved else ()),
        *_NODE.format(saved=saved).splitlines(),
    ]


def _many(op: Operator, slot: int) -> bool:
    """Whether a slot holds several values: a sequence of tensors, or the outputs of an operator with several."""
    kind, position = op.names[slot]
    return op.outputs > 1 if kind == "output" else (position, True) in op.inputs


def _on_arrays(op: Operator, wanted: list[Any], slots: list[int], scope: dict[str, Any]) -> list[str]:
    """The way back without a tensor for each value, where nothing is recorded and all are NumPy's arrays of floats."""
    if op.raw is None or (not op.joint and any(op.raw.get(name) is None for name in _wanted_names(op, wanted))):
        return []
    values = [s for s in slots if op.names[s][0] in ("value", "output")]
    if any(_many(op, s) for s in values):
        return []
    lines = [
        "    a = g._array",
        "    if a.__class__ is ndarray and disabled and get_ident() in disabled and a.dtype.kind == 'f':",
    ]
    for i, s in enumerate(slots):
        kind = op.names[s][0]
        lines += _LOAD_ARRAY.get(kind, "        a{s} = saved[{i}]").format(i=i, s=s).splitlines()
    indent = "        "
    if values:
        lines.append(f"        if {' and '.join(_FIT.format(s=s) for s in values)}:")
        indent += "    "
    calls = {i: f"({', '.join(['a', *(f'a{s}' for s in needed)])})" for i, _, needed in wanted}
    if op.joint:
        scope["raw_0"] = op.raw
        return [*lines, f"{indent}return [wrapped(r) for r in raw_0{calls[0]}]"]
    for (i, _, _), name in zip(wanted, _wanted_names(op, wanted), strict=True):
        scope[f"raw_{i}"] = op.raw[name]
    gradients = [f"wrapped(raw_{i}{calls[i]})" if i in calls else "None" for i in range(len(op.rules))]
    return [*lines, f"{indent}return ({', '.join(gradients)},)"]


def _wanted_names(op: Operator, wanted: list[Any]) -> list[str]:
    return [op.parameters[op.inputs[i][0]].name for i, _, _ in wanted]


def wrapped(r: Any) -> Any:
    """A raw array, or a scalar that NumPy made of one, as a tensor; a tensor, or a term, as it is."""
    if r.__class__ is not ndarray:
        if not isinstance(r, np.generic):
            return r
        r = np.asarray(r)
    t = new_tensor(Tensor)  # Tensor(r), written out
    t._array = r
    t._node = t._version = t._view = t._extra = None
    return t


#: What the raw value of a slot has to be.
_FIT = "(a{s}.__class__ is ndarray and a{s}.dtype is a.dtype or a{s}.__class__ is float or a{s}.__class__ is int)"
#: How the raw value of slot ``s`` is got back from entry ``i``.
_LOAD_ARRAY = {
    "value": """\
        a{s} = saved[{i}]
        if a{s}.__class__ is tuple:
            a{s}, n = a{s}
            if (v := a{s}._version) is not None and v.value != n:
                changed(op, "an input", a{s}._array.shape, v.value, n)
            a{s} = a{s}._array
""",
    "output": """\
        a{s}, v, n = saved[{i}]
        if v.value != n:
            changed(op, "its output", a{s}.shape, v.value, n)
""",
}

#: How the entry of a slot is made from input ``p``, by what is kept and whether it is many.
_SAVE = {
    ("value", False): "(i{p}, 0 if (v := i{p}._version) is None else v.value) if isinstance(i{p}, Tensor) else i{p}",
    ("value", True): "[keep(t) for t in i{p}]",
    ("shape", False): "i{p}._array.shape if isinstance(i{p}, Tensor) else np.shape(i{p})",
    ("shape", True): "[t._array.shape if isinstance(t, Tensor) else np.shape(t) for t in i{p}]",
    ("output", False): "(array, counter, counter.value)",  # not the tensor, which would keep its own node alive
    ("output", True): "[keep_output(t) for t in outputs]",
    ("plain", False): "i{p}",
}
_COUNTER = """\
    counter = out._version
    if counter is None:
        counter = out._version = Version()
        counter.value = 0
        counter.views = None
""".splitlines()
_NODE = """\
    array = out._array
    node = new_node()
    node.plan = plan
    node.edges = edges
    node.saved = {saved}
    node.shape = array.shape
    node.dtype = array.dtype
    node.hooks = None
    node.number = next_number()
    out._node = node
"""
#: How the value of slot ``s`` is got back from entry ``i``, checked against in-place writes since.
_LOAD = {
    ("value", False): """\
    x{s} = saved[{i}]
    if x{s}.__class__ is tuple:
        x{s}, n = x{s}
        if (v := x{s}._version) is not None and v.value != n:
            changed(op, "an input", x{s}._array.shape, v.value, n)
""",
    ("value", True): "    x{s} = [intact(op, kept) for kept in saved[{i}]]",
    ("output", False): """\
    a, v, n = saved[{i}]
    if v.value != n:
        changed(op, "its output", a.shape, v.value, n)
    x{s} = new_tensor(Tensor)
    x{s}._array = a
    x{s}._node = node
    x{s}._version = x{s}._view = x{s}._extra = None
""",
    ("output", True): "    x{s} = tuple(output(op, node, k, kept) for k, kept in enumerate(saved[{i}]))",
}

new_tensor = Tensor.__new__
ndarray = np.ndarray


def keep(x: Any) -> Any:
    """An input kept for backward, with its version; numbers and arrays as they are."""
    if isinstance(x, Tensor):
        version = x._version
        return (x, 0 if version is None else version.value)
    return x


def keep_output(t: Tensor) -> tuple[Any, Version, int]:
    """One of several outputs kept for backward: its array and version."""
    version = version_of(t)
    return (t._array, version, version.value)


def intact(op: Operator, kept: Any) -> Any:
    """A saved input of a sequence, unless it was written into."""
    if type(kept) is not tuple:
        return kept
    t, value = kept
    version = t._version
    if version is not None and version.value != value:
        changed(op, "an input", t._array.shape, version.value, value)
    return t


def output(op: Operator, node: Node, index: int, kept: Any) -> Tensor:
    """One of several saved outputs, unless it was written into."""
    array, version, value = kept
    if version.value != value:
        changed(op, "its output", array.shape, version.value, value)
    return Tensor(array, OutputNode(node, index, array.shape, array.dtype))


def changed(op: Operator, what: str, shape: Any, version: int, expected: int) -> None:
    """Raise the error for a value that backward needs and that is no more."""
    msg = (
        f"{op.name}: {what} of shape {tuple(shape)}, needed for its gradient, was changed by an in-place operation "
        f"(version {version}, expected {expected}); clone it before writing"
    )
    raise RuntimeError(msg)


def refuse(op: Operator) -> None:
    """Raise the error for a node whose saved values were used before."""
    msg = (
        f"{op.name}: trying to backward through the graph a second time, but its saved values were freed; "
        "pass retain_graph=True to the first backward"
    )
    raise RuntimeError(msg)


def no_rule(op: Operator, i: int) -> None:
    """Raise the error for an input without a rule that wants a gradient."""
    msg = f"{op.name}: no gradient rule for input {i}"
    raise NotImplementedError(msg)


def rule_by_sample(rule: Callable[..., Any], given: tuple[Any, ...]) -> Any:
    """What a rule that looks at values gives when it is run on each sample of a `vmap`."""
    from tensor.ops.record import OPERATORS  # which builds on this file

    level = deepest(raw_arrays(given))
    if level is None:
        return rule(*given)
    results = []
    for i in range(level.size):
        one = sample_of_tensors(given, i, level)
        try:
            results.append(rule(*one))
        except NotBatchable:  # an outer level's samples differ too
            results.append(rule_by_sample(rule, one))

    def together(parts: Sequence[Any]) -> Any:
        return None if parts[0] is None else enter(OPERATORS["stack"].function(list(parts), 0), level)

    return together(results) if isinstance(results[0], Tensor | None) else [together(p) for p in zip(*results, strict=True)]


#: What the functions written out use.
_NAMES: dict[str, Any] = {
    "FREED": FREED,
    "NotBatchable": NotBatchable,
    "Tensor": Tensor,
    "Version": Version,
    "changed": changed,
    "disabled": disabled,
    "get_ident": get_ident,
    "ndarray": ndarray,
    "wrapped": wrapped,
    "intact": intact,
    "keep": keep,
    "keep_output": keep_output,
    "new_node": new_node,
    "new_tensor": new_tensor,
    "next_number": next_number,
    "no_rule": no_rule,
    "np": np,
    "output": output,
    "refuse": refuse,
    "rule_by_sample": rule_by_sample,
}
MAKERS.append(_NAMES)
