"""Operators written by users: a forward and a backward of their own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from tensor.autograd.batched import deepest
from tensor.autograd.inplace import bump, check_writable, rebase
from tensor.autograd.modes import is_grad_enabled, no_grad
from tensor.autograd.node import FREED, Node, OutputNode, version_of
from tensor.autograd.tensor import Tensor

__all__ = ["Function", "once_differentiable"]


class VmapInfo(NamedTuple):
    """What a `Function.vmap` is told of the `vmap` that it is in."""

    batch_size: int
    randomness: str


class FunctionContext:
    """What a `Function` passes from its forward to its backward; any attribute may be set on it."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._saved: Any = ()
        self._non_differentiable: set[int] = set()
        self._dirty: list[Tensor] = []
        self._materialize = True
        self._node: FunctionNode | None = None

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep inputs or outputs (or tensors made on the way); they are checked against in-place writes when read."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                msg = f"save_for_backward: expected tensors or None, got {type(t).__name__}; set an attribute of ctx instead"
                raise TypeError(msg)
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What `save_for_backward` kept."""
        if self._saved is FREED:
            msg = "Function: the saved tensors were freed by an earlier backward; pass retain_graph=True to it"
            raise RuntimeError(msg)
        return tuple(entry.value(self._node) if isinstance(entry, Saved) else entry for entry in self._saved)

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Outputs that no gradient comes back through."""
        self._non_differentiable = {id(t) for t in tensors}

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Inputs that the forward changed in place; it returns them."""
        self._dirty = list(tensors)
        for t in tensors:
            bump(t)

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward gets zeros (the default) or None for an output that nothing used."""
        self._materialize = value


class Saved:
    """A tensor as it was when the forward ended. An output is kept without the tensor itself, which would keep its own node."""

    __slots__ = ("array", "index", "tensor", "version", "written")

    def __init__(self, t: Tensor, index: int | None) -> None:
        self.array, self.index = t._array, index
        self.tensor = t if index is None else None
        self.version = version_of(t)
        self.written = self.version.value

    def value(self, node: FunctionNode | None) -> Tensor:
        """The tensor, if nobody wrote into it."""
        if self.version.value != self.written:
            name = node.name() if node is not None else "Function"
            what = f"a saved tensor of shape {tuple(self.array.shape)} was changed by an in-place operation"
            msg = f"{name}: {what} (version {self.version.value}, expected {self.written})"
            raise RuntimeError(msg)
        if self.tensor is not None:
            return self.tensor
        assert node is not None
        assert self.index is not None
        return Tensor(self.array, OutputNode(node, self.index, self.array.shape, self.array.dtype))


class FunctionNode(Node):
    """An application of a user's Function."""

    __slots__ = ("cls", "context", "outputs", "tensor_inputs")

    def __init__(
        self, cls: type[Function], context: FunctionContext, edges: tuple[Node | None, ...], inputs: tuple[int, ...]
    ) -> None:
        self.setup(edges, (), None)
        self.cls, self.context, self.tensor_inputs = cls, context, inputs
        self.outputs: list[tuple[Any, Any]] = []

    def name(self) -> str:
        return f"{self.cls.__name__}Backward"

    def _as_outputs(self, g: dict[int, Any]) -> tuple[Any, ...]:
        if not self.context._materialize:
            return tuple(g.get(i) for i in range(len(self.outputs)))
        some = next(iter(g.values()))
        return tuple(
            g[i] if i in g else None if dtype is None else some.new_zeros(shape, dtype=dtype)
            for i, (shape, dtype) in enumerate(self.outputs)
        )

    def backward(self, g: dict[int, Any]) -> tuple[Any, ...]:
        self.context._node = self  # only while it runs: a node and its context must not keep each other alive
        try:
            result = self.cls.backward(self.context, *self._as_outputs(g))
        finally:
            self.context._node = None
        results = result if isinstance(result, tuple) else (result,)
        expected = len(self.context.needs_input_grad)
        if len(results) < expected or any(r is not None for r in results[expected:]):
            msg = f"{self.name()}: expected {expected} gradients, one for each input of forward, got {len(results)}"
            raise RuntimeError(msg)
        for i, edge in zip(self.tensor_inputs, self.edges, strict=True):
            self._check(i, results[i], edge)
        return tuple(results[i] for i in self.tensor_inputs)

    def _check(self, i: int, r: Any, edge: Node | None) -> None:
        if r is None or edge is None:
            return
        if not isinstance(r, Tensor):
            msg = f"{self.name()}: expected a tensor or None as gradient {i}, got {type(r).__name__}"
            raise TypeError(msg)
        have, want = tuple(r.shape), tuple(edge.shape)
        lead = len(have) - len(want)
        if lead < 0 or any(w not in (1, h) for h, w in zip(have[lead:], want, strict=True)):
            msg = f"{self.name()}: expected gradient {i} of shape {want}, got {have}"
            raise RuntimeError(msg)

    def release(self) -> None:
        if self.context._saved:
            self.context._saved = FREED


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a ``backward`` that does not use differentiable operators: a gradient of its result is an error, not wrong.

    >>> import tensor as T
    >>> class Square(Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x
    ...
    ...     @staticmethod
    ...     @once_differentiable
    ...     def backward(ctx, g):
    ...         (x,) = ctx.saved_tensors
    ...         return T.tensor(2 * x.numpy() * g.numpy())
    >>> x = T.tensor([3.0], requires_grad=True)
    >>> Square.apply(x).backward()
    >>> x.grad
    tensor([6.])
    """

    @functools.wraps(backward)
    def run(ctx: Any, *grads: Any) -> Any:
        with no_grad():
            plain = [g if g is None else g.detach() for g in grads]
            saved = ctx._saved
            ctx._saved = tuple(t if t is None else t.detach() for t in ctx.saved_tensors)
            try:
                result = backward(ctx, *plain)
            finally:
                ctx._saved = saved
        if not is_grad_enabled() or not any(g is not None and g._node is not None for g in grads):
            return result
        results = result if isinstance(result, tuple) else (result,)
        return tuple(_refusing(r, grads, backward.__qualname__) for r in results)

    return run


class _Refusal(Node):
    """Raises when a gradient of a gradient comes here."""

    __slots__ = ("who",)

    who: str

    def name(self) -> str:
        return "OnceDifferentiable"

    def backward(self, g: Any) -> tuple[Any, ...]:
        msg = f"{self.who}: trying to differentiate twice a function that was marked with @once_differentiable"
        raise RuntimeError(msg)


def _refusing(r: Any, grads: Any, who: str) -> Any:
    if not isinstance(r, Tensor):
        return r
    node = _Refusal()
    node.setup(tuple(g._node for g in grads if g is not None), r._array.shape, r._array.dtype)
    node.who = who
    return Tensor(r._array, node)


class Function:
    """An operator with its own gradient.

    >>> import tensor as T
    >>> class Double(Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return x * 2
    ...
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         return g * 2
    >>> x = T.ones(2, requires_grad=True)
    >>> Double.apply(x).sum().backward()
    >>> x.grad
    tensor([2., 2.])

    ``backward`` is run with recording on when a gradient of the gradient is wanted, so it must then use differentiable operators;
    otherwise decorate it with `once_differentiable`. A subclass that defines ``setup_context(ctx, inputs, output)`` has a
    ``forward(*args)`` without the context. Inside of a `vmap` the forward acts on one sample, unless the subclass defines
    ``vmap(info, in_dims, *args)``, which returns the outputs for whole batches and where their batch dimensions are.
    """

    #: PyTorch asks for a `vmap` or for this; here the forward and backward are always run on samples when there is no `vmap`.
    generate_vmap_rule = False

    @staticmethod
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        """The value(s), from tensors and plain arguments. Nothing in it is recorded."""
        raise NotImplementedError

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """What is to be kept for backward, when ``forward`` takes no context."""
        raise NotImplementedError

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """A gradient (or None) for each argument of ``forward``."""
        raise NotImplementedError

    @staticmethod
    def vmap(info: VmapInfo, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        """The outputs for whole batches, and their batch dimensions."""
        raise NotImplementedError

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run the forward and record it."""
        if cls.vmap is not Function.vmap:
            level = deepest([a._array for a in args if isinstance(a, Tensor)])
            if level is not None:
                return cls._apply_to_batches(level, args)
        needs = tuple(isinstance(a, Tensor) and a._node is not None for a in args)
        ctx = FunctionContext(needs)
        before = {id(a): a._node for a in args if isinstance(a, Tensor)}
        with no_grad():
            if cls.setup_context is Function.setup_context:
                out = cls.forward(ctx, *args, **kwargs)
            else:
                out = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, out)
        if not (is_grad_enabled() and any(needs)):
            return out
        positions = tuple(i for i, a in enumerate(args) if isinstance(a, Tensor))
        node = FunctionNode(cls, ctx, tuple(before[id(args[i])] for i in positions), positions)
        outputs = out if isinstance(out, tuple) else (out,)
        inputs = {id(args[i]) for i in positions}
        numbers = {id(t): i for i, t in enumerate(outputs) if isinstance(t, Tensor) and id(t) not in inputs}
        ctx._saved = tuple(None if t is None else Saved(t, numbers.get(id(t))) for t in ctx._saved)
        wrapped = tuple(node_output(node, ctx, i, t, id(t) in inputs) for i, t in enumerate(outputs))
        return wrapped if isinstance(out, tuple) else wrapped[0]

    @classmethod
    def _apply_to_batches(cls, level: Any, args: tuple[Any, ...]) -> Any:
        from tensor.autograd.samples import enter, leave

        dims = tuple(0 if isinstance(a, Tensor) and deepest(a._array) is level else None for a in args)
        whole = [a if d is None else leave(a, level) for a, d in zip(args, dims, strict=True)]
        out, out_dims = cls.vmap(VmapInfo(level.size, level.randomness), dims, *whole)
        if not isinstance(out, tuple):
            return out if out_dims is None else enter(out.movedim(out_dims, 0), level)
        places = out_dims if isinstance(out_dims, tuple) else (out_dims,) * len(out)
        return tuple(y if d is None else enter(y.movedim(d, 0), level) for y, d in zip(out, places, strict=True))


def node_output(node: FunctionNode, ctx: FunctionContext, i: int, t: Any, is_input: bool) -> Any:
    """Output i as the caller gets it."""
    if not isinstance(t, Tensor):
        node.outputs.append(((), None))
        return t
    node.outputs.append((t._array.shape, t.dtype))
    if id(t) in ctx._non_differentiable or t._array.dtype.kind not in "fc":
        return t.detach() if is_input else t
    made = OutputNode(node, i, t._array.shape, t._array.dtype)
    if any(t is d for d in ctx._dirty):
        check_writable(t, node.name())
        rebase(t, made)
        return t
    if is_input:  # handed through: a new tensor over it
        t = t.detach()
    t._node = made
    return t
