"""The base of all layers: a tree of modules that own parameters and buffers.

Registered things live twice: in the registries (``_parameters``, ``_buffers``, ``_modules``), which give order and
kind, and as ordinary attributes. So ``self.weight`` in a forward is a plain attribute read, where PyTorch goes through
``__getattr__`` and three dictionaries; writing, which is rare, keeps both in step. The tree's names and their state
dictionaries are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from tensor import dtypes
from tensor.autograd.tensor import Tensor
from tensor.device import as_device
from tensor.device import device as Device
from tensor.naming import instead
from tensor.nn.hooks import EVERYWHERE, Hookable, call_with_hooks
from tensor.nn.parameter import Buffer, Parameter
from tensor.nn.state import LoadResult, collect, load

__all__ = ["LoadResult", "Module"]

V = TypeVar("V")


class Module(Hookable):
    """A piece of a network: its parameters, buffers, submodules, and a ``forward`` that a subclass writes.

    >>> import tensor as T
    >>> class Scale(Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = T.nn.Parameter(T.tensor([2.0, 3.0]))
    ...
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> scale = Scale()
    >>> scale(T.ones(2)).detach()
    tensor([2., 3.])
    >>> list(scale.state_dict())
    ['factor']
    """

    #: The forward on a raw floating-point array, for layers that have one: what `Sequential` runs while nothing is recorded.
    on_array: ClassVar[Any] = None
    #: What a subclass computes where its parent has a parameter or buffer: see `nn.utils.parametrize`.
    _computed: ClassVar[frozenset[str]] = frozenset()

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _transient: set[str]  #: buffers that the state dictionary leaves out
    _structure: int  #: counts registrations and removals here, for whoever caches what this module is made of

    def __init__(self) -> None:
        write = object.__setattr__
        write(self, "training", True)
        for name in ("_parameters", "_buffers", "_modules"):
            write(self, name, {})
        write(self, "_transient", set())
        write(self, "_hooks", [])
        write(self, "_state_hooks", [])
        write(self, "_structure", 0)

    if TYPE_CHECKING:
        # What is registered under names that only run time knows.
        def __getattr__(self, name: str) -> Any: ...

    # --- calling ------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation; call the module itself, so that its hooks run."""
        msg = f"{type(self).__name__} has no forward"
        raise NotImplementedError(msg)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "forward" in cls.__dict__ and "on_array" not in cls.__dict__:
            cls.on_array = None
        if "__call__" in cls.__dict__:  # `Sequential` may go straight to forward
            msg = f"{cls.__name__}: override forward, not __call__, which runs the hooks around it"
            raise TypeError(msg)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._hooks or EVERYWHERE:
            return call_with_hooks(self, args, kwargs)
        if len(args) == 1 and not kwargs:  # most often, and in two thirds of the time
            return self.forward(args[0])
        return self.forward(*args, **kwargs)

    # --- registering --------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        state = self.__dict__
        if "_modules" not in state:
            if isinstance(value, (Parameter, Module)):
                msg = f"{type(self).__name__}: call super().__init__() before assigning {name!r}"
                raise AttributeError(msg)
            object.__setattr__(self, name, value)
        elif name in self._computed:
            object.__setattr__(self, name, value)
        elif isinstance(value, Parameter):
            self._place(self._parameters, name, value)
        elif isinstance(value, Module):
            self._place(self._modules, name, value)
        elif isinstance(value, Buffer):
            self._place(self._buffers, name, value)
            (self._transient.discard if value.persistent else self._transient.add)(name)
        elif name in self._parameters:
            self._replace(self._parameters, name, value, "a Parameter")
        elif name in self._modules:
            self._replace(self._modules, name, value, "a Module")
        elif name in self._buffers:
            if isinstance(value, Tensor):
                self._place(self._buffers, name, value)
            else:
                self._replace(self._buffers, name, value, "a Tensor")
        else:
            object.__setattr__(self, name, value)
            if name == "forward":  # another forward for this one module
                object.__setattr__(self, "on_array", None)

    def __delattr__(self, name: str) -> None:
        for registry in (self._parameters, self._buffers, self._modules):
            if registry.pop(name, self) is not self:
                self._transient.discard(name)
                object.__setattr__(self, "_structure", self._structure + 1)
        object.__delattr__(self, name)

    def _place(self, registry: dict[str, Any], name: str, value: Any) -> None:
        """Register ``value`` under a name, which then means nothing else."""
        for other in (self._parameters, self._buffers, self._modules):
            if other is not registry:
                other.pop(name, None)
        if registry is not self._buffers:
            self._transient.discard(name)
        registry[name] = value
        object.__setattr__(self, name, value)
        object.__setattr__(self, "_structure", self._structure + 1)

    def _replace(self, registry: dict[str, Any], name: str, value: Any, kind: str) -> None:
        if value is not None:
            given = type(value).__name__
            hint = "nn.Parameter(...) makes one of it, or " if registry is self._parameters and isinstance(value, Tensor) else ""
            msg = f"{type(self).__name__}.{name}: expected {kind} or None, got {given}; {hint}delete the attribute first"
            raise TypeError(msg)
        self._place(registry, name, None)

    def _register(self, registry: dict[str, Any], name: str, value: Any, kind: type, a_kind: str) -> None:
        what = f"{type(self).__name__}: cannot register {name!r}"
        if "_modules" not in self.__dict__:
            msg = f"{what}; call super().__init__() first"
            raise AttributeError(msg)
        if not isinstance(name, str):
            msg = f"{what}: expected a string as the name, got {type(name).__name__}"
            raise TypeError(msg)
        if not name or "." in name:
            msg = f"{what}: a name must not be empty or contain a dot"
            raise KeyError(msg)
        if name not in registry and hasattr(self, name):
            msg = f"{what}: the attribute exists already"
            raise KeyError(msg)
        if value is not None and not isinstance(value, kind):
            msg = f"{type(self).__name__}.{name}: expected {a_kind} or None, got {type(value).__name__}"
            raise TypeError(msg)
        self._place(registry, name, value)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under a name; None keeps the name for one that this module does without.

        Raises KeyError for an unusable or taken name, TypeError for anything but a Parameter.
        """
        self._register(self.__dict__.get("_parameters", {}), name, param, Parameter, "a Parameter")

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but not learnt, such as running statistics; left out of `state_dict` unless
        persistent.

        Raises KeyError for an unusable or taken name, TypeError for anything but a Tensor.
        """
        self._register(self.__dict__.get("_buffers", {}), name, tensor, Tensor, "a Tensor")
        (self._transient.discard if persistent else self._transient.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule under a name.

        Raises KeyError for an unusable or taken name, TypeError for anything but a Module.
        """
        self._register(self.__dict__.get("_modules", {}), name, module, Module, "a Module")

    register_module = add_module

    # --- walking ------------------------------------------------------------------------------------------------

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it with their dotted names, parents first; a module met twice is given once."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                yield from child.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """This module and all below it, parents first, each once unless told otherwise."""
        if not remove_duplicate:
            return (m for _, m in self.named_modules(remove_duplicate=False))
        found: dict[Module, None] = {}
        stack: list[Module] = [self]
        while stack:
            module = stack.pop()
            if module not in found:
                found[module] = None
                stack += [child for child in reversed(module._modules.values()) if child is not None]
        return iter(found)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules with their names, each once."""
        seen = set()
        for name, child in self._modules.items():
            if child is not None and child not in seen:
                seen.add(child)
                yield name, child

    def children(self) -> Iterator[Module]:
        """The direct submodules."""
        return (m for _, m in self.named_children())

    def _named(
        self, registry: Callable[[Module], Mapping[str, V | None]], prefix: str, recurse: bool, unique: bool
    ) -> Iterator[tuple[str, V]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix=prefix, remove_duplicate=unique) if recurse else [(prefix, self)]:
            for name, value in registry(module).items():
                if value is not None and not (unique and id(value) in seen):
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their dotted names; one that is shared is given once."""
        return self._named(lambda m: m._parameters, prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, those of this module first; one that is shared is given once."""
        # Without the names, which take longer to build than the walk: optimizers and clipping ask at every step.
        found: dict[int, Parameter] = {}
        for module in self.modules() if recurse else (self,):
            for p in module._parameters.values():
                if p is not None:
                    found[id(p)] = p
        return iter(found.values())

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """All buffers with their dotted names."""
        return self._named(lambda m: m._buffers, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module with a dotted name; itself for "". Raises AttributeError that tells how far the name led."""
        module: Module = self
        for i, name in enumerate(target.split(".") if target else []):
            child = module._modules.get(name)
            if child is None:
                where = ".".join(target.split(".")[:i]) or type(self).__name__
                msg = f"get_submodule: {where} has no module {name!r}; {instead(name, module._modules)}"
                raise AttributeError(msg)
            module = child
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put a module under a dotted name, in the place of the one there is.

        Raises AttributeError where there is no parent, or when ``strict`` no module to replace.
        """
        path, _, name = target.rpartition(".")
        if strict:
            self.get_submodule(target)
        self.get_submodule(path).add_module(name, module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with a dotted name. Raises AttributeError when there is none."""
        return self._get(target, lambda m: m._parameters, "parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer with a dotted name. Raises AttributeError when there is none."""
        return self._get(target, lambda m: m._buffers, "buffer")

    def _get(self, target: str, registry: Callable[[Module], Mapping[str, V | None]], kind: str) -> V:
        path, _, name = target.rpartition(".")
        found = registry(self.get_submodule(path))
        value = found.get(name)
        if value is None:
            where = path or type(self).__name__
            msg = f"get_{kind}: {where} has no {kind} {name!r}; {instead(name, (n for n, v in found.items() if v is not None))}"
            raise AttributeError(msg)
        return value

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call ``fn`` on every submodule and at last on this module, for example to initialise weights."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # --- state --------------------------------------------------------------------------------------------------

    def state_dict(
        self, *, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Parameters and persistent buffers by dotted name, in PyTorch's names and layouts.

        The tensors share the module's memory; ``keep_vars`` gives the parameters themselves. ``destination`` is filled and
        returned when given.
        """
        return collect(self, prefix, keep_vars, {} if destination is None else destination)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> LoadResult:
        """Copy tensors (or arrays) into the parameters and buffers of the same names.

        ``assign`` adopts the given arrays, with their dtype, in place of copying. Raises RuntimeError, with
        everything that is wrong in one line, for a shape that differs and, when ``strict``, for missing and unexpected
        names; nothing is changed then.

        >>> import tensor as T
        >>> T.nn.Linear(2, 1).load_state_dict({"weight": T.ones(1, 3), "biass": T.ones(1)})
        Traceback (most recent call last):
        RuntimeError: Linear.load_state_dict: missing: 'bias'; shape mismatch: 'weight' expected [1, 2], got [1, 3]; unexpected: \
'biass' (did you mean 'bias'?)
        """
        return load(self, state_dict, strict, assign)

    def get_extra_state(self) -> Any:
        """State beside tensors that a subclass wants in `state_dict`; it overrides this and `set_extra_state`."""
        msg = f"{type(self).__name__} has no extra state"
        raise NotImplementedError(msg)

    def set_extra_state(self, state: Any) -> None:
        """Take back what `get_extra_state` gave."""
        msg = f"{type(self).__name__} has no extra state"
        raise NotImplementedError(msg)

    # --- modes, dtypes, devices ---------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Switch layers that behave differently while learning (dropout, batch normalisation)."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """The same as ``train(False)``."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let all parameters record gradients, or none: a frozen network."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or fill them with zeros."""
        for p in self.parameters():
            if set_to_none or p.grad is None:
                p.grad = None
            else:
                p.grad = p.grad.detach().new_zeros(p.shape)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move parameters, gradients and buffers: ``to(dtype)``, ``to(device)``, ``to(device, dtype)``, ``to(tensor)``.

        Tensors keep their identity; a dtype only concerns floating ones. Raises TypeError for a dtype that is not
        floating.
        """
        dtype, device = kwargs.get("dtype"), kwargs.get("device")
        for a in args:
            if isinstance(a, Tensor):
                dtype, device = a.dtype, a.device
            elif isinstance(a, (str, Device, int)) and not isinstance(a, bool):
                device = as_device(a)
            elif a is not None and not isinstance(a, bool):
                dtype = a
        if dtype is not None and not dtypes.as_dtype(dtype).is_floating_point:
            msg = f"{type(self).__name__}.to: expected a floating dtype, got {dtype}"
            raise TypeError(msg)
        return self._convert(lambda t: t.to(dtype=dtype if t.is_floating_point() else None, device=device))

    def to_empty(self, *, device: Any, recurse: bool = True) -> Self:
        """Parameters and buffers on a device, their values left to chance: memory to load into."""
        return self._convert(lambda t: t.new_empty(t.shape, device=as_device(device)), recurse)

    def type(self, dst_type: Any) -> Self:
        """All parameters and buffers, also those of integers, as one dtype."""
        return self._convert(lambda t: t.to(dtype=dst_type))

    def _convert(self, convert: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        for t in [*self.parameters(recurse), *self.buffers(recurse)]:
            grad = t.grad
            moved = convert(t.data)
            if moved._array is not t._array:
                t.data = moved
            if grad is not None:
                t.grad = convert(grad.detach())
        return self

    def float(self) -> Self:
        """Parameters and floating buffers as float32."""
        return self.to(dtypes.float32)

    def double(self) -> Self:
        """Parameters and floating buffers as float64."""
        return self.to(dtypes.float64)

    def half(self) -> Self:
        """Parameters and floating buffers as float16."""
        return self.to(dtypes.float16)

    def bfloat16(self) -> Self:
        """Raises TypeError: NumPy has no such dtype."""
        msg = f"{type(self).__name__}.bfloat16: expected a dtype that NumPy has, got bfloat16; use half() or float()"
        raise TypeError(msg)

    def cpu(self) -> Self:
        """Parameters and buffers on the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """Parameters and buffers on a CUDA device. Raises RuntimeError without CuPy or a device."""
        return self._convert(lambda t: t.cuda() if device is None else t.to(device=Device("cuda", device)))

    # --- printing -----------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What a layer says of itself in the parentheses of its `repr`."""
        return ""

    def _children_shown(self) -> list[tuple[str, str]]:
        """The names and texts of submodules for `repr`."""
        return [(key, repr(child)) for key, child in self._modules.items()]

    def __repr__(self) -> str:
        name = type(self).__name__
        lines = [f"({key}): " + text.replace("\n", "\n  ") for key, text in self._children_shown()]
        extra = self.extra_repr()
        if not lines:
            return f"{name}({extra})"
        return "\n  ".join([f"{name}(", *([extra] if extra else []), *lines]) + "\n)"
