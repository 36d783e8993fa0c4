"""Weights that are computed from other parameters, at each use.

A parametrized module's attribute (``weight``) becomes a property: reading it runs modules on what is learnt instead, which lives
in ``module.parametrizations.weight`` as ``original`` (or ``original0``, ``original1``, ...). Since a property belongs to a class,
the module changes to a subclass of its own, one for each set of parametrized names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from tensor.autograd.modes import no_grad
from tensor.autograd.tensor import Tensor
from tensor.naming import quoted
from tensor.nn.container import ModuleDict, ModuleList
from tensor.nn.module import Module
from tensor.nn.parameter import Parameter

__all__ = [
    "ParametrizationList", "cached", "is_parametrized", "register_parametrization", "remove_parametrizations",
    "type_before_parametrizations",
]  # fmt: skip

#: How many `cached` blocks are open, and what was computed in them, by module and name.
_blocks = 0
_computed: dict[tuple[Module, str], Tensor] = {}


@contextmanager
def cached() -> Iterator[None]:
    """In this block every parametrized tensor is computed once: for modules that read a weight at every time step.

    What is learnt must not be changed inside of it.

    >>> import tensor as T
    >>> layer = register_parametrization(T.nn.Linear(2, 2), "weight", T.nn.Tanh())
    >>> with cached():
    ...     once, again = layer.weight, layer.weight
    >>> once is again
    True
    """
    global _blocks
    _blocks += 1
    try:
        yield
    finally:
        _blocks -= 1
        if not _blocks:
            _computed.clear()


class ParametrizationList(ModuleList):
    """The modules that compute one tensor, and what they compute it from: ``original``, or ``original0``, ``original1``, ...

    Calling it gives the tensor. Made by `register_parametrization`.
    """

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        super().__init__(modules)
        if not len(self):
            msg = "ParametrizationList: expected at least one module, got none"
            raise ValueError(msg)
        self.unsafe = unsafe
        with no_grad():
            sources = self._sources(original, strict=False)
        self.is_tensor = isinstance(sources, Tensor)
        self.ntensors = 1 if self.is_tensor else len(sources)
        if self.is_tensor:
            self._check_like(original, sources, "right_inverse", always=False)
            original.data = sources.detach()  # the parameter that an optimizer may hold already
            _own(self, "original", original)
        else:
            for i, source in enumerate(sources):
                learnt = isinstance(original, Parameter)
                t = Parameter(source.detach(), original.requires_grad) if learnt else source.detach()
                _own(self, f"original{i}", t)
        if not unsafe:
            with no_grad():
                self._check_like(original, self(), "forward", always=True)

    def _sources(self, value: Tensor, strict: bool = True) -> Any:
        """What the tensor would be computed from, so far as the modules know (``right_inverse``).

        One that raises NotImplementedError is left out unless ``strict``.
        """
        result: Any = value
        for module in reversed(list(self)):
            if hasattr(module, "right_inverse"):
                with nullcontext() if strict else suppress(NotImplementedError):
                    result = module.right_inverse(result)
        if isinstance(result, Tensor):
            return result
        if not isinstance(result, Sequence) or not all(isinstance(t, Tensor) for t in result):
            got = type(result).__name__
            msg = f"register_parametrization: expected a tensor or a sequence of them from right_inverse, got {got}"
            raise ValueError(msg)
        return result

    def _check_like(self, expected: Tensor, got: Any, what: str, always: bool) -> None:
        same = isinstance(got, Tensor) and (got.dtype, tuple(got.shape)) == (expected.dtype, tuple(expected.shape))
        if not same and (always or not self.unsafe):
            found = f"{got.dtype} of shape {list(got.shape)}" if isinstance(got, Tensor) else type(got).__name__
            wanted = f"{expected.dtype} of shape {list(expected.shape)}"
            msg = f"register_parametrization: expected {wanted} from {what}, got {found}; unsafe=True allows a change"
            raise ValueError(msg)

    @property
    def originals(self) -> list[Tensor]:
        """What the tensor is computed from."""
        return [self.original] if self.is_tensor else [getattr(self, f"original{i}") for i in range(self.ntensors)]

    def right_inverse(self, value: Tensor) -> None:
        """Set what is learnt so that the tensor becomes ``value``, where the modules know how."""
        with no_grad():
            sources = self._sources(value)
            for old, new in zip(self.originals, [sources] if self.is_tensor else sources, strict=True):
                old.copy_(new)

    def forward(self) -> Tensor:
        modules = list(self)
        value: Tensor = modules[0](*self.originals)
        for module in modules[1:]:
            value = module(value)
        return value


def _own(module: Module, name: str, t: Tensor) -> None:
    """Register a tensor: a parameter, or else a buffer."""
    if isinstance(t, Parameter):
        module.register_parameter(name, t)
    else:
        module.register_buffer(name, t)


def _property(name: str) -> property:
    def read(self: Module) -> Tensor:
        if not _blocks:
            return self.parametrizations[name]()  # type: ignore[no-any-return]
        key = (self, name)
        if key not in _computed:
            _computed[key] = self.parametrizations[name]()
        return _computed[key]

    def write(self: Module, value: Tensor) -> None:
        self.parametrizations[name].right_inverse(value)

    return property(read, write, doc=f"Computed by ``parametrizations.{name}``.")


_classes: dict[tuple[type[Module], frozenset[str]], type[Module]] = {}


def _class_with(base: type[Module], names: frozenset[str]) -> type[Module]:
    """The subclass of a module's class in which these names are computed."""
    if (base, names) not in _classes:
        body: dict[str, Any] = {name: _property(name) for name in names}
        body |= {"_computed": names, "_plain": base, "__reduce_ex__": _reduce}
        _classes[base, names] = type(f"Parametrized{base.__name__}", (base,), body)
    return _classes[base, names]


def _empty(base: type[Module], names: frozenset[str]) -> Module:
    """A module of a computed class, before its state is set: how copying and pickling find the class."""
    made = _class_with(base, names)
    return made.__new__(made)


def _reduce(self: Module, protocol: Any) -> tuple[Any, ...]:
    return _empty, (type_before_parametrizations(self), type(self)._computed), self.__dict__


def type_before_parametrizations(module: Module) -> type[Module]:
    """The class that a module had before anything in it was parametrized."""
    return getattr(type(module), "_plain", type(module))


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether anything (or that tensor) of a module itself is parametrized."""
    names = type(module)._computed
    return bool(names) if tensor_name is None else tensor_name in names


def _set_names(module: Module, names: frozenset[str]) -> None:
    base = type_before_parametrizations(module)
    object.__setattr__(module, "__class__", _class_with(base, names) if names else base)


def register_parametrization(module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False) -> Module:
    """Let ``module.tensor_name`` be computed by a module from then on; returns ``module``.

    A ``right_inverse`` of the parametrization gives the first value (or values) of what is learnt, and takes assignments to the
    attribute. A second parametrization works on the result of the first. Raises ValueError for a name that is no parameter or
    buffer, or, unless ``unsafe``, for a parametrization that changes shape or dtype.

    >>> import tensor as T
    >>> class Symmetric(T.nn.Module):
    ...     def forward(self, x):
    ...         return x.triu() + x.triu(1).T
    >>> layer = register_parametrization(T.nn.Linear(3, 3), "weight", Symmetric())
    >>> bool((layer.weight == layer.weight.T).all())
    True
    >>> list(layer.state_dict())
    ['bias', 'parametrizations.weight.original']
    """
    if is_parametrized(module, tensor_name):
        return _append(module, tensor_name, parametrization, unsafe)
    own = {**module._parameters, **module._buffers}
    original = own.get(tensor_name)
    if original is None:
        have = quoted(name for name, t in own.items() if t is not None)
        what = f"the name of a parameter or buffer of {type(module).__name__} ({have})"
        msg = f"register_parametrization: expected {what}, got {tensor_name!r}"
        raise ValueError(msg)
    parts = ParametrizationList([parametrization], original, unsafe=unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        module.add_module("parametrizations", ModuleDict())
    module.parametrizations[tensor_name] = parts
    _set_names(module, type(module)._computed | {tensor_name})
    return module


def _append(module: Module, tensor_name: str, parametrization: Module, unsafe: bool) -> Module:
    parts = module.parametrizations[tensor_name]
    if not unsafe:
        with no_grad():
            value = getattr(module, tensor_name)
            new = parametrization(value)
            parts._check_like(value, new, "forward", always=True)
            if hasattr(parametrization, "right_inverse"):
                parts._check_like(value, parametrization.right_inverse(new), "right_inverse", always=True)
    parts.append(parametrization)
    parts.unsafe |= unsafe
    return module


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make ``module.tensor_name`` an ordinary parameter again, with its computed value or what was learnt; returns ``module``.

    Raises ValueError for a name that is not parametrized, and for ``leave_parametrized=False`` where several tensors are learnt.

    >>> import tensor as T
    >>> layer = register_parametrization(T.nn.Linear(3, 3), "weight", T.nn.Tanh())
    >>> type(remove_parametrizations(layer, "weight")), list(layer.state_dict())
    (<class 'tensor.nn.linear.Linear'>, ['bias', 'weight'])
    """
    if not is_parametrized(module, tensor_name):
        msg = f"remove_parametrizations: {type(module).__name__} has no parametrized {tensor_name!r}"
        raise ValueError(msg)
    parts = module.parametrizations[tensor_name]
    if not leave_parametrized and not parts.is_tensor:
        msg = f"remove_parametrizations: {tensor_name!r} is computed from {parts.ntensors} tensors; only its value can be left"
        raise ValueError(msg)
    with no_grad():
        value = parts().detach()
    learnt = parts.originals[0]
    if leave_parametrized and parts.is_tensor:
        learnt.data = value
    elif leave_parametrized:
        learnt = Parameter(value, learnt.requires_grad) if isinstance(learnt, Parameter) else value
    names = type(module)._computed - {tensor_name}
    _set_names(module, names)
    del module.parametrizations[tensor_name]
    if not names:
        del module.parametrizations
    _own(module, tensor_name, learnt)
    return module
