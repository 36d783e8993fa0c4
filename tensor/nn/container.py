"""Modules that hold others: in a row, in a list, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from threading import get_ident
from typing import Any, Self, overload

from tensor.autograd.modes import disabled
from tensor.autograd.tensor import Tensor
from tensor.naming import instead
from tensor.nn.hooks import EVERYWHERE
from tensor.nn.module import Module
from tensor.nn.parameter import Parameter

__all__ = ["ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]


def _position(index: int, n: int, who: str) -> int:
    if not -n <= index < n:
        msg = f"{who}: index {index} is out of range for {n} entries"
        raise IndexError(msg)
    return index % n


class _Row(Module):
    """What Sequential and ModuleList share: modules named by their positions."""

    def _modules_in_row(self) -> list[Any]:
        return list(self._modules.values())

    def _set_row(self, modules: Iterable[Module]) -> None:
        """Name the modules anew, from 0."""
        row = list(modules)
        for name in list(self._modules):
            delattr(self, name)
        for i, module in enumerate(row):
            self.add_module(str(i), module)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def __setitem__(self, index: int | slice, module: Any) -> None:
        who = type(self).__name__
        if not isinstance(index, slice):
            self.add_module(list(self._modules)[_position(index, len(self), who)], module)
            return
        names, modules = list(self._modules)[index], list(module)
        if len(names) != len(modules):
            msg = f"{who}: expected {len(names)} modules for the slice, got {len(modules)}"
            raise ValueError(msg)
        for name, one in zip(names, modules, strict=True):
            self.add_module(name, one)

    def __delitem__(self, index: int | slice) -> None:
        row = self._modules_in_row()
        del row[index if isinstance(index, slice) else _position(index, len(row), type(self).__name__)]
        self._set_row(row)

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Put a module before position ``index``; those after it move up."""
        row = self._modules_in_row()
        row.insert(index, module)
        self._set_row(row)
        return self

    def pop(self, index: int = -1) -> Any:
        """Take a module out; those after it move down."""
        row = self._modules_in_row()
        module = row.pop(_position(index, len(row), type(self).__name__))
        self._set_row(row)
        return module

    def __iadd__(self, other: Iterable[Module]) -> Self:
        return self.extend(other)

    def __add__(self, other: Iterable[Module]) -> Self:
        """A new container with the modules of both."""
        joined = type(self)()
        joined._set_row([*self, *other])
        return joined


def _what_to_give(given: Any) -> str:
    """What was given for a module, and what was probably meant."""
    if isinstance(given, type):
        return f"the class {given.__name__}; {given.__name__}() makes one"
    if isinstance(given, (list, tuple)):
        return f"a {type(given).__name__}; a star before it unpacks it"
    return type(given).__name__


class Sequential(_Row):
    """Modules applied one after the other, named by position, or by the keys of a mapping.

    >>> import tensor as T
    >>> net = Sequential(T.nn.Linear(3, 2), T.nn.Tanh())
    >>> net(T.ones(5, 3)).shape
    tensor.Size([5, 2])
    >>> net[1]
    Tanh()
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        named: Any = modules[0] if len(modules) == 1 else None
        if not isinstance(named, Mapping):
            named = {str(i): module for i, module in enumerate(modules)}
        for name, module in named.items():
            if module is not None and not isinstance(module, Module):
                msg = f"Sequential.{name}: expected a Module or None, got {_what_to_give(module)}"
                raise TypeError(msg)
            self.add_module(name, module)

    def forward(self, input: Any) -> Any:
        """The last module's output."""
        x = input
        if EVERYWHERE:  # hooks of all modules
            for module in self._modules.values():
                x = module(x)  # type: ignore[misc]
            return x
        if disabled and get_ident() in disabled and isinstance(x, Tensor) and x._array.dtype.kind == "f":
            return self._unrecorded(x)
        for module in self._modules.values():
            # Without hooks a call is its forward: the detour would be a tenth of a small layer's time.
            x = module(x) if module._hooks else module.forward(x)  # type: ignore[union-attr, misc]
        return x

    def _unrecorded(self, x: Any) -> Any:
        """The same on raw arrays, as far as layers can: acting, where half of a small network's time is making tensors."""
        a = None
        for module in self._modules.values():
            on_array = module.on_array  # type: ignore[union-attr]
            if on_array is None or module._hooks:  # type: ignore[union-attr]
                x, a = module(x if a is None else Tensor(a)), None  # type: ignore[misc]
            else:
                a = on_array(x._array if a is None else a)
        return x if a is None else Tensor(a)

    def __mul__(self, times: int) -> Sequential:
        """The modules several times in a row: the same ones, so their weights are shared."""
        return Sequential()._repeated(list(self), times)

    __rmul__ = __mul__

    def __imul__(self, times: int) -> Self:
        return self._repeated(list(self), times)

    def _repeated(self, row: list[Module], times: int) -> Self:
        if not isinstance(times, int) or times < 1:
            msg = f"Sequential: expected a positive number of times, got {times!r}"
            raise (TypeError if not isinstance(times, int) else ValueError)(msg)
        self._set_row(row * times)
        return self

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Any:
        """A module, or for a slice a Sequential that shares the modules and keeps their names."""
        if isinstance(index, slice):
            return Sequential(dict(list(self._modules.items())[index]))  # type: ignore[arg-type]
        return self._modules_in_row()[_position(index, len(self), "Sequential")]


class ModuleList(_Row):
    """A list of modules, for a forward that loops over them.

    >>> import tensor as T
    >>> layers = ModuleList(T.nn.Linear(2, 2) for _ in range(3))
    >>> len(layers), layers[-1]
    (3, Linear(in_features=2, out_features=2, bias=True))
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def _children_shown(self) -> list[tuple[str, str]]:
        """Neighbours that look the same are shown once, with their number."""
        rows = []
        for text, group in groupby(super()._children_shown(), key=lambda row: row[1]):
            names = [name for name, _ in group]
            n = len(names)
            rows.append((names[0], text) if n == 1 else (f"{names[0]}-{names[-1]}", f"{n} x {text}"))
        return rows

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...
    def __getitem__(self, index: int | slice) -> Any:
        """A module, or for a slice a ModuleList that shares the modules."""
        row = self._modules_in_row()
        return ModuleList(row[index]) if isinstance(index, slice) else row[_position(index, len(row), "ModuleList")]


class ModuleDict(Module):
    """Modules by name, in the order in which they were added.

    >>> import tensor as T
    >>> heads = ModuleDict({"actor": T.nn.Linear(2, 3), "critic": T.nn.Linear(2, 1)})
    >>> heads["critic"].out_features, list(heads)
    (1, ['actor', 'critic'])
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        super().__init__()
        self.update(modules)

    def __getitem__(self, key: str) -> Any:
        if key not in self._modules:
            msg = f"ModuleDict: no module {key!r}; {instead(key, self._modules)}"
            raise KeyError(msg)
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        self[key]
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._modules.keys()

    def values(self) -> Iterable[Any]:
        """The modules."""
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        """Names with their modules."""
        return self._modules.items()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules."""
        for key, module in dict(modules).items():
            self[key] = module

    def pop(self, key: str) -> Any:
        """Take a module out. Raises KeyError for an unknown name."""
        module = self[key]
        del self[key]
        return module

    def clear(self) -> None:
        """Take all modules out."""
        for key in list(self._modules):
            del self[key]


def _as_parameter(value: Any) -> Parameter:
    return value if isinstance(value, Parameter) else Parameter(value)


def _entries(parameters: Iterable[tuple[str, Parameter | None]]) -> str:
    rows = [f"({k}): Parameter of shape {list(p.shape)}, {p.dtype}" for k, p in parameters if p is not None]
    return "".join(f"\n  {row}" for row in rows) + "\n" * bool(rows)


class ParameterList(Module):
    """A list of parameters; tensors become parameters.

    >>> import tensor as T
    >>> weights = ParameterList([T.zeros(2), T.zeros(3)])
    >>> [tuple(w.shape) for w in weights]
    [(2,), (3,)]
    """

    def __init__(self, values: Iterable[Any] = ()) -> None:
        super().__init__()
        self.extend(values)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Parameter]:
        return (p for p in self._parameters.values() if p is not None)

    @overload
    def __getitem__(self, index: int) -> Parameter: ...
    @overload
    def __getitem__(self, index: slice) -> ParameterList: ...
    def __getitem__(self, index: int | slice) -> Any:
        """A parameter, or for a slice a ParameterList that shares the parameters."""
        row = list(self)
        return ParameterList(row[index]) if isinstance(index, slice) else row[_position(index, len(row), "ParameterList")]

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, str(_position(index, len(self), "ParameterList")), _as_parameter(value))

    def __iadd__(self, values: Iterable[Any]) -> Self:
        return self.extend(values)

    def append(self, value: Tensor) -> Self:
        """Add a parameter at the end."""
        self.register_parameter(str(len(self)), _as_parameter(value))
        return self

    def extend(self, values: Iterable[Any]) -> Self:
        """Add parameters at the end."""
        for value in list(values):
            self.append(value)
        return self

    def extra_repr(self) -> str:
        return _entries(self._parameters.items())


class ParameterDict(Module):
    """Parameters by name; tensors become parameters.

    >>> import tensor as T
    >>> ParameterDict({"scale": T.ones(2)})["scale"].requires_grad
    True
    """

    def __init__(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None) -> None:
        super().__init__()
        self.update(parameters or {})

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._parameters)

    def __contains__(self, key: object) -> bool:
        return key in self._parameters

    def __getitem__(self, key: str) -> Parameter:
        found = self._parameters.get(key)
        if found is None:
            msg = f"ParameterDict: no parameter {key!r}; {instead(key, self._parameters)}"
            raise KeyError(msg)
        return found

    def __setitem__(self, key: str, value: Any) -> None:
        self.register_parameter(key, _as_parameter(value))

    def __delitem__(self, key: str) -> None:
        self[key]
        delattr(self, key)

    def __or__(self, other: Mapping[str, Any] | ParameterDict) -> ParameterDict:
        joined = self.copy()
        joined.update(other)
        return joined

    def __ior__(self, other: Mapping[str, Any] | ParameterDict) -> Self:
        self.update(other)
        return self

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._parameters.keys()

    def values(self) -> Iterable[Parameter | None]:
        """The parameters."""
        return self._parameters.values()

    def items(self) -> Iterable[tuple[str, Parameter | None]]:
        """Names with their parameters."""
        return self._parameters.items()

    def get(self, key: str, default: Any = None) -> Any:
        """The parameter of a name, or ``default``."""
        return self._parameters.get(key, default)

    def setdefault(self, key: str, default: Any = None) -> Parameter:
        """The parameter of a name, which becomes ``default`` when it is new."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] | ParameterDict) -> None:
        """Add or replace parameters."""
        for key, value in dict(values).items():
            self[key] = value

    def pop(self, key: str) -> Parameter:
        """Take a parameter out. Raises KeyError for an unknown name."""
        parameter = self[key]
        del self[key]
        return parameter

    def popitem(self) -> tuple[str, Parameter]:
        """Take the last one out, with its name. Raises KeyError when there is none."""
        if not len(self):
            msg = "ParameterDict: popitem of an empty dictionary"
            raise KeyError(msg)
        key = next(reversed(self))
        return key, self.pop(key)

    def clear(self) -> None:
        """Take all parameters out."""
        for key in list(self):
            del self[key]

    def copy(self) -> ParameterDict:
        """A new dictionary that shares the parameters."""
        return ParameterDict(self._parameters)

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> ParameterDict:
        """A new dictionary with one value under all of the names."""
        return ParameterDict(dict.fromkeys(keys, default))

    def extra_repr(self) -> str:
        return _entries(self._parameters.items())
