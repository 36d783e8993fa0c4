"""The base of all layers: a tree of modules that own parameters and buffers.

Registered things live twice: in the registries (``_parameters``, ``_buffers``, ``_modules``), which give order and
kind, and as ordinary attributes. So ``self.weight`` in a forward is a plain attribute read, where PyTorch goes through
``__getattr__`` and three dictionaries; writing, which is rare, keeps both in step. The tree's names and their state
dictionaries are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeVar

from tensor import dtypes
from tensor.autograd.data import to_array
from tensor.autograd.inplace import bump
from tensor.autograd.tensor import RemovableHandle, Tensor
from tensor.device import device as Device
from tensor.device import move
from tensor.nn.hooks import Hook
from tensor.nn.parameter import Parameter

__all__ = ["LoadResult", "Module"]

V = TypeVar("V")


class LoadResult(NamedTuple):
    """What `Module.load_state_dict` did not find (``missing_keys``) or had no place for (``unexpected_keys``)."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
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

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _transient: set[str]  #: buffers that the state dictionary leaves out
    _hooks: list[Hook]
    _structure: int  #: counts registrations and removals here, for whoever caches what this module is made of

    def __init__(self) -> None:
        write = object.__setattr__
        write(self, "training", True)
        for name in ("_parameters", "_buffers", "_modules"):
            write(self, name, {})
        write(self, "_transient", set())
        write(self, "_hooks", [])
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
        if self._hooks:
            return self._call_with_hooks(args, kwargs)
        return self.forward(*args, **kwargs)

    def _call_with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hooks = list(self._hooks)  # a hook may remove itself
        for hook in hooks:
            if hook.before and hook.with_kwargs:
                replaced = hook.function(self, args, kwargs)
                if replaced is not None:
                    args, kwargs = replaced
            elif hook.before:
                replaced = hook.function(self, args)
                if replaced is not None:
                    args = replaced if isinstance(replaced, tuple) else (replaced,)
        result = self.forward(*args, **kwargs)
        for hook in hooks:
            if not hook.before:
                seen = (self, args, kwargs, result) if hook.with_kwargs else (self, args, result)
                replaced = hook.function(*seen)
                if replaced is not None:
                    result = replaced
        return result

    def register_forward_pre_hook(self, hook: Callable[..., Any], *, with_kwargs: bool = False) -> RemovableHandle:
        """Call ``hook(module, args)`` before each forward; what it returns replaces the arguments.

        With ``with_kwargs`` it is ``hook(module, args, kwargs)`` and returns both. Returns a handle whose ``remove()``
        ends it.
        """
        return RemovableHandle(self._hooks, Hook(hook, True, with_kwargs))

    def register_forward_hook(self, hook: Callable[..., Any], *, with_kwargs: bool = False) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after each forward; what it returns replaces the output.

        With ``with_kwargs`` it is ``hook(module, args, kwargs, output)``. Returns a handle whose ``remove()`` ends it.
        """
        return RemovableHandle(self._hooks, Hook(hook, False, with_kwargs))

    # --- registering --------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        state = self.__dict__
        if "_modules" not in state:
            if isinstance(value, (Parameter, Module)):
                msg = f"{type(self).__name__}: call super().__init__() before assigning {name!r}"
                raise AttributeError(msg)
            object.__setattr__(self, name, value)
        elif isinstance(value, Parameter):
            self._place(self._parameters, name, value)
        elif isinstance(value, Module):
            self._place(self._modules, name, value)
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
            msg = f"{type(self).__name__}.{name}: expected {kind} or None, got {given}; delete the attribute first"
            raise TypeError(msg)
        self._place(registry, name, None)

    def _check_name(self, registry: Mapping[str, Any], name: str) -> None:
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

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under a name; None keeps the name for one that this module does without.

        Raises KeyError for an unusable or taken name, TypeError for anything but a Parameter.
        """
        self._check_name(self._parameters, name)
        if param is not None and not isinstance(param, Parameter):
            msg = f"{type(self).__name__}.{name}: expected a Parameter or None, got {type(param).__name__}"
            raise TypeError(msg)
        self._place(self._parameters, name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but not learnt, such as running statistics; left out of `state_dict` unless
        persistent.

        Raises KeyError for an unusable or taken name, TypeError for anything but a Tensor.
        """
        self._check_name(self._buffers, name)
        if tensor is not None and not isinstance(tensor, Tensor):
            msg = f"{type(self).__name__}.{name}: expected a Tensor or None, got {type(tensor).__name__}"
            raise TypeError(msg)
        self._place(self._buffers, name, tensor)
        (self._transient.discard if persistent else self._transient.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule under a name.

        Raises KeyError for an unusable or taken name, TypeError for anything but a Module.
        """
        self._check_name(self._modules, name)
        if module is not None and not isinstance(module, Module):
            msg = f"{type(self).__name__}.{name}: expected a Module or None, got {type(module).__name__}"
            raise TypeError(msg)
        self._place(self._modules, name, module)

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

    def modules(self) -> Iterator[Module]:
        """This module and all below it, parents first, each once."""
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
                msg = f"get_submodule: {where} has no module {name!r}; it has {', '.join(module._modules) or 'none'}"
                raise AttributeError(msg)
            module = child
        return module

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
            msg = f"get_{kind}: {where} has no {kind} {name!r}; it has {', '.join(found) or 'none'}"
            raise AttributeError(msg)
        return value

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call ``fn`` on every submodule and at last on this module, for example to initialise weights."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # --- state --------------------------------------------------------------------------------------------------

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """Parameters and persistent buffers by dotted name, in PyTorch's names and layouts.

        The tensors share the module's memory; ``keep_vars`` gives the parameters themselves.
        """
        result: dict[str, Tensor] = {}
        for path, module in self.named_modules(prefix=prefix.removesuffix("."), remove_duplicate=False):
            start = f"{path}." if path else ""
            for name, p in module._parameters.items():
                if p is not None:
                    result[start + name] = p if keep_vars else p.detach()
            for name, b in module._buffers.items():
                if b is not None and name not in module._transient:
                    result[start + name] = b if keep_vars else b.detach()
        return result

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> LoadResult:
        """Copy tensors (or arrays) into the parameters and buffers of the same names.

        ``assign`` adopts the given arrays, with their dtype, in place of copying. Raises RuntimeError, with
        everything that is wrong in one line, for a shape that differs and, when ``strict``, for missing and unexpected
        names; nothing is changed then.

        >>> import tensor as T
        >>> T.nn.Linear(2, 1).load_state_dict({"weight": T.ones(1, 3)})
        Traceback (most recent call last):
        RuntimeError: Linear.load_state_dict: missing: bias; shape mismatch: weight expected [1, 2], got [1, 3]
        """
        own = self.state_dict(keep_vars=True)
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        arrays = {name: to_array(state_dict[name], copy=False) for name in own if name in state_dict}
        wrong = [
            f"{name} expected {list(own[name].shape)}, got {list(a.shape)}"
            for name, a in arrays.items()
            if a.shape != own[name]._array.shape
        ]
        problems = [f"missing: {', '.join(missing)}"] if missing and strict else []
        problems += [f"unexpected: {', '.join(unexpected)}"] if unexpected and strict else []
        problems += [f"shape mismatch: {', '.join(wrong)}"] if wrong else []
        if problems:
            msg = f"{type(self).__name__}.load_state_dict: {'; '.join(problems)}"
            raise RuntimeError(msg)
        for name, a in arrays.items():
            t = own[name]
            if assign:
                t.data = Tensor(a)
            else:
                t._array[...] = move(a, t.device)
                bump(t)
        return LoadResult(missing, unexpected)

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
                device = Device("cuda", a) if isinstance(a, int) else a
            elif a is not None and not isinstance(a, bool):
                dtype = a
        if dtype is not None and not dtypes.as_dtype(dtype).is_floating_point:
            msg = f"{type(self).__name__}.to: expected a floating dtype, got {dtype}"
            raise TypeError(msg)
        return self._convert(lambda t: t.to(dtype=dtype if t.is_floating_point() else None, device=device))

    def _convert(self, convert: Callable[[Tensor], Tensor]) -> Self:
        for t in [*self.parameters(), *self.buffers()]:
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
