"""What a recording depends on besides arrays: the Python values that the function can read, seen before and checked at every
call.

`Surroundings` follows a function the way its code can: the variables it closes over, the globals it names, and from every object
found there the attributes whose names occur in code that may run, into lists, dicts, modules (whole), functions and methods. What
is found is remembered with its place. What cannot be followed is a reason not to compile. Code of this library, of NumPy and of
Python's own library is taken to depend on its arguments only; what of it does not is listed here.
"""

from __future__ import annotations

import builtins
import dis
import functools
import importlib.util
import inspect
import os
import sysconfig
import types
from collections import namedtuple
from collections.abc import Callable, Iterable
from operator import is_
from pathlib import Path
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.jit import watch
from tensor.jit.places import (
    BYTES,
    CELL,
    CODE,
    ELEMENTS,
    EMPTY_CELL,
    ENTRIES,
    KEPT,
    MISSING,
    PLAIN,
    SCOPE,
    VALUES,
    Place,
    Reader,
    attribute,
    attributes,
    content,
    entry,
    settings,
    settings_rows,
)  # fmt: skip
from tensor.jit.written import function
from tensor.nn.hooks import Hook
from tensor.nn.module import Module
from tensor.ops.random import Generator
from tensor.optim.flat_optimizer import FlatOptimizer

__all__ = ["Surroundings", "trusted_file"]

#: Special methods that using an object does not call.
_IDLE = frozenset({
    "__init__", "__new__", "__post_init__", "__del__", "__repr__",
    "__str__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__",
    "__copy__", "__deepcopy__", "__init_subclass__", "__subclasshook__", "__class_getitem__", "__sizeof__", "__dir__",
})  # fmt: skip
_REGISTRIES = ("_parameters", "_buffers", "_modules")
#: What a class of named tuples has for each of its fields.
_FIELD = type(vars(namedtuple("_Row", "field"))["field"])
#: A search that finds more than this is given up.
LIMIT = 5000


def _file_of(module: str) -> str:
    """Where a module lies, which need not be imported."""
    spec = importlib.util.find_spec(module)
    return "" if spec is None or spec.origin is None else spec.origin


#: Where code lives that is taken to depend on its arguments only.
_OWN_FILES = tuple(f"{Path(p).parent}{os.sep}" for p in (str(Path(__file__).parent), np.__file__, _file_of("scipy")))
_PYTHON_FILES = tuple({f"{sysconfig.get_path(kind)}{os.sep}" for kind in ("stdlib", "platstdlib")})
_SITE_FILES = tuple({f"{sysconfig.get_path(kind)}{os.sep}" for kind in ("purelib", "platlib")})
_TRUSTED = ("tensor", "numpy", "scipy", "math", "cmath",
"functools", "itertools", "operator", "typing", "dataclasses", "collections",
            "contextlib", "enum", "abc", "__future__", "_operator", "_functools", "types", "numbers")  # fmt: skip
#: Parts of trusted modules whose answers are other ones each time, or that do something outside.
_IMPURE = {np.random, np.save, np.load, np.savez, np.fromfile, np.seterr, np.setbufsize}
_SHUNNED = {"print", "input", "open", "eval", "exec", "compile", "globals", "locals", "vars", "__import__", "breakpoint"}


def trusted_file(name: str) -> bool:
    """Whether code in this file belongs to the library, NumPy or Python itself."""
    if name.startswith("<"):
        return name.startswith(("<frozen", "<string>", "<__array_function__"))
    return name.startswith(_OWN_FILES) or (name.startswith(_PYTHON_FILES) and not name.startswith(_SITE_FILES))


class Surroundings:
    """Everything that a function can see; ``reasons`` say what of it cannot be followed."""

    def __init__(self, roots: Iterable[Any], grads: bool = True) -> None:
        self._names: set[str] = set()
        self._asked: int | None = None
        roots = list(roots)
        while True:  # names found late open attributes of objects found early
            self._start()
            for root in roots:
                self._visit(root, "the function")
            if self._asked in (None, len(self._names)) or self.reasons:
                break

    @property
    def names(self) -> set[str]:
        """The names that occur in the code found so far."""
        if self._asked is None:
            self._asked = len(self._names)
        return self._names

    def _start(self) -> None:
        self._asked = None  # how many names there were when one was first looked for
        self.places: list[Place] = []
        self.reasons: list[str] = []
        self.tensors: dict[int, Tensor] = {}
        self.optimizers: list[Any] = []
        self.codes: set[types.CodeType] = set()
        self._read_codes: set[tuple[int, int]] = set()
        self.arrays: list[tuple[Any, Any]] = []
        self._seen: dict[int, Any] = {}

    def refuse(self, why: str) -> None:
        if why not in self.reasons:
            self.reasons.append(why)

    def changed(self) -> Place | None:
        """The first place whose values changed, None while all are as they were."""
        for place in self.places:
            if not place.holds():
                return place
        return None

    def seal(self, watched: Iterable[tuple[str, Any, Reader]] = (), recheck: Callable[[], bool] = lambda: True) -> None:
        """The search is over. ``watched`` are further things to look at; where one is another object than before, ``recheck``
        decides.
        """
        self.watched = [Place(*each) for each in watched]
        self._settings = settings()
        self._recheck = recheck
        self._read: Callable[[], tuple[Any, ...]] | None = None
        self._now: tuple[Any, ...] = ()
        self._seen.clear()

    def holds(self) -> bool:
        """Whether everything is as it was; call `seal` before."""
        if self._read is None:  # used for the second time: it is worth the while
            if not self._compare():
                return False
            self._fuse()
            return True
        try:
            now = self._read()
        except (ValueError, KeyError, AttributeError):  # what was there is gone
            return False
        if len(now) == len(self._now) and all(map(is_, now, self._now)):
            return True
        if self._compare():
            self._now = now
            return True
        return False

    def _compare(self) -> bool:
        return self._settings == settings() and self.unchanged()

    def unchanged(self) -> bool:
        """Whether everything but the library's settings is as it was."""
        return self.changed() is None and self._recheck()

    def _fuse(self) -> None:
        """Make the check of all places one expression: they are many, and it may run at every call."""
        scope = dict(SCOPE)
        parts = ["*settings()"]
        for i, place in enumerate((*self.places, *self.watched)):
            scope[f"x{i}"] = place.holder
            parts.append(place.reader.text.replace("@", f"x{i}"))
        self._read = function(f"lambda: ({', '.join(parts)},)", scope)
        self._now = self._read()

    def rows(self) -> tuple[list[watch.Row], list[Callable[[], bool]]]:
        """What to watch in memory, and the checks that are left to Python."""
        found = settings_rows()
        rows = found or []
        left: list[Callable[[], bool]] = [] if found else [lambda: self._settings == settings()]
        for place in (*self.places, *self.watched):
            mine = place.rows()
            if mine is None:
                left.append(place.holds if place not in self.watched else self._recheck)
            else:
                rows += mine
        return rows, left

    def disturbed(self, before: Iterable[watch.Row]) -> None:
        """Note which places differ from what was watched although all holds: they are watched in another way if it goes on."""
        known = set(before)
        for place in (*self.places, *self.watched):
            if not known.issuperset(place.rows() or ()):
                place.noise += 1

    def _place(self, name: str, holder: Any, reader: Reader) -> None:
        self.places.append(Place(name, holder, reader))

    # --- following ------------------------------------------------------------------------------------------------------

    def _visit(self, x: Any, name: str) -> None:
        if isinstance(x, PLAIN) or id(x) in self._seen:
            return
        if len(self._seen) > LIMIT:
            self.refuse(f"more than {LIMIT} objects can be reached")
            return
        self._seen[id(x)] = x
        for kind, follow in _FOLLOW:
            if isinstance(x, kind):
                follow(self, x, name)
                return
        self._object(x, name)

    def _all(self, values: Iterable[Any], name: str) -> None:
        for value in values:
            self._visit(value, name)

    def _sequence(self, x: Any, name: str) -> None:
        if type(x) is list:
            self._place(name, x, ELEMENTS)
        elif isinstance(x, list):
            self.refuse(f"{name}: a {type(x).__name__} cannot be followed")
        self._all(x, f"{name}[...]")

    def _slice(self, x: slice, name: str) -> None:
        self._all((x.start, x.stop, x.step), f"{name}[...]")

    def _set(self, x: Any, name: str) -> None:
        if all(isinstance(v, PLAIN) for v in x):
            self._place(name, x, KEPT)
        elif type(x) is set and x:
            self.refuse(f"{name}: a set of objects cannot be followed")

    def _dict(self, x: Any, name: str) -> None:
        self._place(name, x, ENTRIES)
        for key, value in list(x.items()):
            self._visit(key, name)
            self._visit(value, f"{name}[{key!r}]")

    def _tensor(self, x: Tensor, name: str) -> None:
        self.tensors[id(x)] = x

    def _module(self, x: Module, name: str) -> None:
        state = x.__dict__
        library = type(x).__module__.startswith("tensor.")
        # What a module registers counts `_structure` up; the registries' own elements are the attributes.
        self._place(name, x.__dict__, VALUES if library else ENTRIES)
        for key, value in state.items():
            if key == "_hooks":
                self._visit(value, f"{name}.{key}")
            elif key in _REGISTRIES:
                self._all(value.values(), name)
                if not library or (key == "_modules" and value):
                    self._place(f"{name}.{key}", value, VALUES)
            elif key not in ("_transient", "_state_hooks"):
                self._visit(value, f"{name}.{key}")
        self._class(type(x), name)

    def _hook(self, x: Hook, name: str) -> None:
        self._visit(x.function, name)

    def _optimizer(self, x: FlatOptimizer, name: str) -> None:
        """Its step is left to itself; what it holds is of no concern but where code looks into its groups."""
        self.optimizers.append(x)
        if "step" in vars(x):
            self.refuse(f"{name}: an optimizer with hooks")
        if {"state", "state_dict", "load_state_dict", "add_param_group"} & self.names:
            self.refuse(f"{name}: the state of an optimizer is read or changed")
        for group in x.param_groups:
            self._all(group["params"], name)
            if "param_groups" in self.names:
                self._dict(group, name)
        self._place(name, x.param_groups, ELEMENTS)
        for group in x.param_groups:
            self._place(name, group, entry("params"))
            self._place(name, group["params"], ELEMENTS)

    def _array(self, x: Any, name: str) -> None:
        if x.size > 64 or type(x) is not np.ndarray:
            self.refuse(f"{name}: a NumPy array of {x.size} elements; make it a tensor")
            return
        self.arrays.append((x, x.copy()))
        self._place(name, x, BYTES)

    def _function(self, x: Any, name: str) -> None:
        if _is_trusted(x):
            return
        self._code(x.__code__, x.__globals__, name)
        where = f"{name}.{x.__name__}" if name != "the function" else x.__name__
        for variable, cell in zip(x.__code__.co_freevars, x.__closure__ or (), strict=True):
            self._place(variable, cell, EMPTY_CELL if content(cell) is MISSING else CELL)
            self._visit(content(cell), variable)
        self._place(where, x, CODE)
        self._all(x.__defaults__ or (), where)
        self._all((x.__kwdefaults__ or {}).values(), where)
        if hasattr(x, "__wrapped__"):
            self._visit(x.__wrapped__, where)

    def _code(self, code: types.CodeType, scope: dict[str, Any], name: str) -> None:
        if (id(code), id(scope)) in self._read_codes:
            return
        self._read_codes.add((id(code), id(scope)))
        self.codes.add(code)
        self._names.update(code.co_names)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant, scope, name)
            elif isinstance(constant, str) and constant.isidentifier():
                self._names.add(constant)  # for `getattr`
        if code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            self.refuse(f"{name}: asynchronous code")
        imported, variables = _names_in(code)
        for module in imported:
            if not module.startswith(_TRUSTED):
                self.refuse(f"{code.co_name} imports {module}")
        for variable in variables:
            self._global(variable, scope)

    def _global(self, variable: str, scope: dict[str, Any]) -> None:
        if variable not in scope and hasattr(builtins, variable):
            if variable in _SHUNNED:
                self.refuse(f"{variable}() is used")
            self._place(variable, scope, entry(variable))
            return
        if id(scope) not in self._seen:
            self._seen[id(scope)] = scope
        self._place(variable, scope, entry(variable))
        if variable in scope:
            self._visit(scope[variable], variable)

    def _library(self, x: types.ModuleType, name: str) -> None:
        trusted = x.__name__.split(".")[0] in _TRUSTED
        if x in _IMPURE:
            self.refuse(f"{x.__name__} is used")
        for key in sorted(self.names):  # a copy: what is found may name more
            value = x.__dict__.get(key, MISSING)
            if value is MISSING:
                continue
            if isinstance(value, (types.ModuleType, types.BuiltinFunctionType)) or not trusted:
                self._visit(value, f"{name}.{key}")
            if not trusted:
                self._place(f"{name}.{key}", x.__dict__, entry(key))

    def _builtin(self, x: Any, name: str) -> None:
        owner = getattr(x, "__self__", None)
        if owner is not None and not isinstance(owner, types.ModuleType):
            self._visit(owner, name)
        home = (getattr(x, "__module__", None) or "builtins").split(".")[0]
        if x in _IMPURE or x.__name__ in _SHUNNED or home not in ("builtins", *_TRUSTED, "_collections", "_collections_abc"):
            self.refuse(f"{name}: {home}.{x.__name__} may give another answer each time")

    def _method(self, x: Any, name: str) -> None:
        self._visit(x.__self__, name)
        self._visit(x.__func__, name)

    def _partial(self, x: Any, name: str) -> None:
        self._visit(x.func, name)
        self._all(x.args, name)
        self._all(x.keywords.values(), name)

    def _class(self, x: type, name: str, idle: frozenset[str] = _IDLE) -> None:
        """The methods of a class that may run: those named, and the special ones; and its other attributes that are named."""
        for base in x.__mro__:
            if base.__module__.split(".")[0] in _TRUSTED or base.__module__ == "builtins":
                continue
            for key, value in list(vars(base).items()):
                if (
                    key in self.names
                    or key == "forward"
                    or (key[:2] == "__" and key not in idle and isinstance(value, types.FunctionType))
                ):
                    for part in _parts(value):
                        self._visit(part, f"{name}.{key}")
                    self._place(f"{base.__name__}.{key}", vars(base), entry(key))

    def _object(self, x: Any, name: str) -> None:
        kind = type(x)
        home = kind.__module__.split(".")[0]
        if (
            isinstance(x, (np.ufunc, type(np.mean)))
            or home in ("typing", "enum", "contextlib", "functools")
            or kind in (property, classmethod, staticmethod, _FIELD)
        ):
            return
        state = getattr(x, "__dict__", None)
        slots = [s for base in kind.__mro__ for s in _slots(base)]
        if (state is None and not slots) or home in (
            "builtins",
            "numpy",
            "random",
            "itertools",
            "threading",
            "io",
            "_io",
            "collections",
        ):
            self.refuse(f"{name}: a {kind.__name__} cannot be followed")
            return
        if home == "tensor" and kind.__module__.startswith(("tensor.data", "tensor.optim", "tensor.utils")):
            self.refuse(f"{name}: a {kind.__name__} cannot be followed")
            return
        if state is not None:
            wanted = [n for n in state if n in self.names]
            self._place(name, state, attributes(wanted))
            for n in wanted:
                self._visit(state[n], f"{name}.{n}")
        for s in slots:
            if s in self.names:
                self._place(f"{name}.{s}", x, attribute(s))
                self._visit(getattr(x, s, None), f"{name}.{s}")
        self._class(kind, name)


_GLOBALS = {dis.opmap[name] for name in ("LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL")}
_LOAD_GLOBAL, _IMPORT_NAME, _EXTENDED = (dis.opmap[name] for name in ("LOAD_GLOBAL", "IMPORT_NAME", "EXTENDED_ARG"))


@functools.lru_cache(1024)
def _names_in(code: types.CodeType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The modules that code imports, and the global variables that it names.

    Read off the bytes, which takes a tenth of the time that `dis.get_instructions` takes to say more.
    """
    imported: dict[str, None] = {}
    variables: dict[str, None] = {}
    names, raw, extended = code.co_names, code.co_code, 0
    for op, low in zip(raw[::2], raw[1::2], strict=True):
        argument = extended | low
        extended = argument << 8 if op == _EXTENDED else 0
        if op == _LOAD_GLOBAL:  # whose lowest bit says something else
            variables[names[argument >> 1]] = None
        elif op in _GLOBALS:
            variables[names[argument]] = None
        elif op == _IMPORT_NAME:
            imported[names[argument]] = None
    return tuple(imported), tuple(variables)


def _slots(base: type) -> Iterable[str]:
    found = vars(base).get("__slots__", ())
    return [found] if isinstance(found, str) else [s for s in found if not s.startswith("__")]


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, (classmethod, staticmethod)):
        return [value.__func__]
    if isinstance(value, property):
        return [f for f in (value.fget, value.fset) if f is not None]
    if isinstance(value, functools.cached_property):
        return [value.func]
    return [value]


def _is_trusted(x: Any) -> bool:
    return trusted_file(x.__code__.co_filename) and (x.__module__ or "").split(".")[0] in _TRUSTED


def _skip(self: Surroundings, x: Any, name: str) -> None:
    """Nothing to follow: its own code looks after it."""


def _user_class(self: Surroundings, x: type, name: str) -> None:
    self._class(x, name, _IDLE - {"__init__", "__new__", "__post_init__"})


_FOLLOW: list[tuple[Any, Callable[[Surroundings, Any, str], None]]] = [
    (Tensor, Surroundings._tensor),
    ((list, tuple), Surroundings._sequence),
    (slice, Surroundings._slice),
    ((set, frozenset), Surroundings._set),
    ((dict, types.MappingProxyType), Surroundings._dict),
    (Module, Surroundings._module),
    (Hook, Surroundings._hook),
    (FlatOptimizer, Surroundings._optimizer),
    (Generator, _skip),
    (np.ndarray, Surroundings._array),
    (types.FunctionType, Surroundings._function),
    (types.MethodType, Surroundings._method),
    (
        (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType),
        Surroundings._builtin,
    ),
    (functools.partial, Surroundings._partial),
    (types.ModuleType, Surroundings._library),
    (type, _user_class),
]
