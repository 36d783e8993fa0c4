"""Operators written by users: a forward and a backward of their own."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensor.autograd.inplace import bump
from tensor.autograd.modes import is_grad_enabled, no_grad
from tensor.autograd.node import FREED, Node, OutputNode
from tensor.autograd.tensor import Tensor

__all__ = ["Function"]


class FunctionContext:
    """What a `Function` passes from its forward to its backward; any attribute may be set on it."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._saved: tuple[Any, ...] = ()
        self._non_differentiable: set[int] = set()
        self._dirty: set[int] = set()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep inputs or outputs; they are checked against in-place writes when read."""
        self._saved = tuple(None if t is None else (t, t._version.value if t._version else 0) for t in tensors)

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What `save_for_backward` kept."""
        if self._saved is FREED:
            msg = "Function: the saved tensors were freed by an earlier backward; pass retain_graph=True to it"
            raise RuntimeError(msg)
        result = []
        for entry in self._saved:
            if entry is not None:
                t, version = entry
                now = t._version.value if t._version else 0
                if now != version:
                    what = f"a saved tensor of shape {tuple(t.shape)} was changed by an in-place operation"
                    msg = f"Function: {what} (version {now}, expected {version})"
                    raise RuntimeError(msg)
                entry = t
            result.append(entry)
        return tuple(result)

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Outputs that no gradient comes back through."""
        self._non_differentiable = {id(t) for t in tensors}

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Inputs that the forward changed in place."""
        self._dirty = {id(t) for t in tensors}
        for t in tensors:
            bump(t)


class FunctionNode(Node):
    """An application of a user's Function."""

    __slots__ = ("cls", "context", "outputs", "tensor_inputs")

    def __init__(
        self, cls: type[Function], context: FunctionContext, edges: tuple[Node | None, ...], inputs: tuple[int, ...]
    ) -> None:
        self.setup(edges, (), None)
        self.cls, self.context, self.tensor_inputs = cls, context, inputs
        self.outputs: list[tuple[Any, Any]] = []

    @property
    def name(self) -> str:
        return f"{self.cls.__name__}Backward"

    def backward(self, g: dict[int, Any]) -> tuple[Any, ...]:
        # An output that nothing used gets zeros, as PyTorch's default does.
        grads = [g[i] if i in g else Tensor(np.zeros(shape, dtype)) for i, (shape, dtype) in enumerate(self.outputs)]
        result = self.cls.backward(self.context, *grads)
        results = result if isinstance(result, tuple) else (result,)
        expected = len(self.context.needs_input_grad)
        if len(results) < expected or any(r is not None for r in results[expected:]):
            msg = f"{self.name}: expected {expected} gradients, one for each input of forward, got {len(results)}"
            raise RuntimeError(msg)
        return tuple(results[i] for i in self.tensor_inputs)

    def release(self) -> None:
        if self.context._saved:
            self.context._saved = FREED


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

    ``backward`` is run with recording on when a gradient of the gradient is wanted, so it must then use differentiable operators.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        """The value(s), from tensors and plain arguments. Nothing in it is recorded."""
        raise NotImplementedError

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """A gradient (or None) for each argument of ``forward``."""
        raise NotImplementedError

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run the forward and record it."""
        needs = tuple(isinstance(a, Tensor) and a._node is not None for a in args)
        ctx = FunctionContext(needs)
        before = {id(a): a._node for a in args if isinstance(a, Tensor)}
        with no_grad():
            out = cls.forward(ctx, *args, **kwargs)
        if not (is_grad_enabled() and any(needs)):
            return out
        positions = tuple(i for i, a in enumerate(args) if isinstance(a, Tensor))
        node = FunctionNode(cls, ctx, tuple(before[id(args[i])] for i in positions), positions)
        outputs = out if isinstance(out, tuple) else (out,)
        wrapped = []
        for i, t in enumerate(outputs):
            if not isinstance(t, Tensor):
                wrapped.append(t)
                node.outputs.append(((), None))
                continue
            node.outputs.append((t._array.shape, t._array.dtype))
            if id(t) in before and id(t) not in ctx._dirty:  # an input handed through: a new tensor over it
                t = t.detach()
            if id(outputs[i]) not in ctx._non_differentiable:
                t._node = OutputNode(node, i, t._array.shape, t._array.dtype)
            wrapped.append(t)
        return tuple(wrapped) if isinstance(out, tuple) else wrapped[0]
