"""A network's structure as plain data for JSON: a grown network is rebuilt without the code that grew it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tensor import dtypes
from tensor.autograd.tensor import Tensor
from tensor.nn.module import Module
from tensor.nn.parameter import Parameter
from tensor.ops.create import zeros

__all__ = ["build", "describe"]

#: What `Module.__init__` makes, and what is no option of a layer.
OWN = set(vars(Module()))


def describe(net: Module) -> dict[str, Any]:
    """The layers, their plain attributes, and the shapes of their tensors, by numbers where they are shared.

    Layers are named by "module:Name". Raises TypeError for an attribute that is no number, text, or nesting of such.

    >>> import json
    >>> import tensor as T
    >>> spec = json.loads(json.dumps(describe(T.nn.Linear(2, 3))))
    >>> build(spec)
    Linear(in_features=2, out_features=3, bias=True)
    """
    return _describe(net, {}, type(net).__name__)


def build(spec: dict[str, Any]) -> Module:
    """The network that `describe` told of, all tensors zero: load its `state_dict` next.

    Layers are made without their constructors. Raises TypeError for a name that is no Module.
    """
    net: Module = _build(spec, {})
    return net


def _describe(module: Module, seen: dict[int, int], where: str) -> dict[str, Any]:
    if id(module) in seen:
        return {"same": seen[id(module)]}
    number = seen[id(module)] = len(seen)
    registered = {*module._parameters, *module._buffers, *module._modules}
    if "<locals>" in type(module).__qualname__ or type(module).__module__ == "__main__":
        msg = f"describe: {where} is a {type(module).__qualname__} that no other process can import; put its class into a module"
        raise TypeError(msg)
    return {
        "number": number,
        "type": f"{type(module).__module__}:{type(module).__qualname__}",
        "training": module.training,
        "transient": sorted(module._transient),
        "attributes": {
            name: _plain(value, f"{where}.{name}") for name, value in vars(module).items() if name not in OWN | registered
        },
        "parameters": {name: _tensor(t, seen) for name, t in module._parameters.items()},
        "buffers": {name: _tensor(t, seen) for name, t in module._buffers.items()},
        "modules": {
            name: None if child is None else _describe(child, seen, f"{where}.{name}") for name, child in module._modules.items()
        },
    }


def _tensor(t: Tensor | None, seen: dict[int, int]) -> Any:
    if t is None:
        return None
    if id(t) in seen:
        return {"same": seen[id(t)]}
    seen[id(t)] = len(seen)
    dtype = str(t.dtype).rpartition(".")[2]
    return {"number": seen[id(t)], "shape": list(t.shape), "dtype": dtype, "requires_grad": t.requires_grad}


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [_plain(item, where) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_plain(item, where) for item in value]}
    msg = f"describe: expected numbers, text, lists or tuples in {where}, got {type(value).__name__}"
    raise TypeError(msg)


def _value(plain: Any) -> Any:
    if isinstance(plain, dict):
        return tuple(_value(item) for item in plain["tuple"])
    return [_value(item) for item in plain] if isinstance(plain, list) else plain


def _build(spec: dict[str, Any], made: dict[int, Any]) -> Any:
    if "same" in spec:
        return made[spec["same"]]
    if "shape" in spec:
        return made.setdefault(spec["number"], zeros(spec["shape"], dtype=dtypes.as_dtype(spec["dtype"])))
    path, _, name = spec["type"].partition(":")
    kind: Any = import_module(path)
    for part in name.split("."):
        kind = getattr(kind, part)
    if not (isinstance(kind, type) and issubclass(kind, Module)):
        msg = f"build: expected a Module, got {spec['type']}"
        raise TypeError(msg)
    module = made[spec["number"]] = kind.__new__(kind)
    Module.__init__(module)
    module.training = spec["training"]
    for key, value in spec["attributes"].items():
        setattr(module, key, _value(value))
    for key, item in spec["parameters"].items():
        if item is not None and "number" in item:
            made[item["number"]] = Parameter(_build(item, {}), requires_grad=item["requires_grad"])
        module.register_parameter(key, None if item is None else made[item.get("number", item.get("same"))])
    for key, item in spec["buffers"].items():
        module.register_buffer(key, None if item is None else _build(item, made), persistent=key not in spec["transient"])
    for key, item in spec["modules"].items():
        module.add_module(key, None if item is None else _build(item, made))
    return module
