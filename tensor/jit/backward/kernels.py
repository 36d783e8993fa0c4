"""The gradients of operators as machine code: one function ``kernel(node, table, work)`` each.

A kernel reads the gradient of a node's value and adds to those of its inputs, with the roundings of the operator's own rule in
the same order, so that a pass by machine code and one by NumPy agree to the last bit. It returns 1, or 0 where it does not fit
(then nothing that anybody sees has happened), or -1 where Python has raised an error. Products are NumPy's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tensor.autograd.node import Term
from tensor.jit.backward.flow import Flow, new_array
from tensor.jit.backward.layout import OPERAND, OPERANDS, Operand, Record, State
from tensor.jit.codegen.kernel import Code, finish
from tensor.jit.codegen.text import Lanes, Scalar
from tensor.ops.matmul import FEW

__all__ = ["KERNELS", "Word", "write"]

Value = Callable[..., str]
#: Where in the table of the pass a word is, by its name.
Word = Callable[[str], int]


class Each(NamedTuple):
    """An elementwise operator: for each input the gradient, of ``g`` and some of the operands; None where it has none here."""

    rules: tuple[tuple[Value, tuple[int, ...]] | None, ...]
    #: The one gradient of a whole, as the gradient of each of ``n`` (a double) elements.
    share: Value | None = None


def _one_of(v: Lanes, relation: str, x: str) -> str:
    """1 where x is in this relation to 0, else 0."""
    return v.select(v.compare(relation, x, v.const(0)), v.const(1), v.const(0))


def _narrow(v: Lanes, double: str) -> str:
    return double if v.scalar.size == 8 else v.function.put(f"fptrunc double {double} to {v.scalar.name}")


def _two_over(v: Lanes, g: str, n: str) -> str:
    return v.mul(g, _narrow(v, v.function.put(f"fdiv double 2.0, {n}")))


def _minus(v: Lanes, x: str) -> str:
    return v.op("fneg", x)


_SAME = (lambda v, g: g, ())
_DIFFERENCE = (lambda v, g, a, b: v.mul(v.sub(a, b), g), (0, 1)), (lambda v, g, a, b: v.mul(v.sub(b, a), g), (0, 1))

KERNELS: dict[str, Each | None] = {
    "linear": None,
    "cat": None,
    "tanh": Each(((lambda v, g, y: v.mul(v.sub(v.const(1), v.mul(y, y)), g), (0,)),)),
    "sigmoid": Each(((lambda v, g, y: v.mul(v.mul(v.sub(v.const(1), y), y), g), (0,)),)),
    "relu": Each(((lambda v, g, y: v.mul(g, _one_of(v, "ogt", y)), (0,)),)),
    "exp": Each(((lambda v, g, y: v.mul(g, y), (0,)),)),
    "expm1": Each(((lambda v, g, y: v.mul(g, v.add(y, v.const(1))), (0,)),)),
    "log": Each(((lambda v, g, x: v.div(g, x), (0,)),)),
    "log1p": Each(((lambda v, g, x: v.div(g, v.add(v.const(1), x)), (0,)),)),
    "sqrt": Each(((lambda v, g, y: v.div(g, v.mul(v.const(2), y)), (0,)),)),
    "reciprocal": Each(((lambda v, g, y: v.mul(_minus(v, g), v.mul(y, y)), (0,)),)),
    "neg": Each(((_minus, ()),)),
    "add": Each((_SAME, _SAME)),
    "sub": Each((_SAME, (_minus, ()))),
    "mul": Each(((lambda v, g, b: v.mul(g, b), (1,)), (lambda v, g, a: v.mul(g, a), (0,)))),
    "div": Each(((lambda v, g, b: v.div(g, b), (0,)), (lambda v, g, b, y: v.mul(_minus(v, g), v.div(y, b)), (0, 1)))),
    "square": Each(((lambda v, g, a: v.mul(g, v.add(a, a)), (0,)), None)),
    "twice": Each(((lambda v, g, x: v.mul(v.mul(g, x), v.const(2)), (0,)),)),
    "sum": Each((_SAME,), lambda v, g, n: g),
    "mean": Each((_SAME,), lambda v, g, n: v.div(g, _narrow(v, n))),
    "mean_square": Each(_DIFFERENCE, _two_over),
    "same": Each((_SAME,)),
}


def write(name: str, scalar: Scalar, width: int, word: Word) -> Code:
    """The function of a kernel, for an element type and the lanes of a vector."""
    w = _Writer(scalar, width, word)
    rule = KERNELS[name]
    if rule is None:
        {"linear": w.linear, "cat": w.cat}[name]()
    else:
        if name == "square":
            w.demand_power(2)
        w.each_of(rule)
    f = w.function
    f.do("ret i64 1")
    for block, result in (("no", 0), ("error", -1)):
        f.start(block)
        f.do(f"ret i64 {result}")
    f.finished()
    return finish(f, [], "ptr %node, ptr %table, ptr %work", "i64")


class _Writer:
    def __init__(self, scalar: Scalar, width: int, word: Word) -> None:
        self.function, self.scalar, self.width, self.word = Flow(), scalar, width, word
        f = self.function
        self.g, self.size = f.get("%node", Record.GRAD, "ptr"), f.get("%node", Record.SIZE)

    # --- what there is ----------------------------------------------------------------------------------------------------

    def target(self, j: int | str) -> str:
        """The record of an input, null where it wants no gradient."""
        f = self.function
        return f.get(f.get("%node", Record.EDGES, "ptr"), j, "ptr")

    def operand(self, k: int, what: int, kind: str = "i64") -> str:
        return self.function.get("%node", OPERANDS + k * OPERAND + what, kind)

    def demand_inputs(self, count: int) -> None:
        f = self.function
        f.demand(f.same(f.get("%node", Record.COUNT), str(count)))

    def demand_power(self, number: int) -> None:
        """The second operand is this number."""
        f = self.function
        f.demand(f.same(self.operand(1, Operand.SIZE), str(Operand.NUMBER)))
        f.demand(f.put(f"fcmp oeq double {self.operand(1, Operand.DATA, 'double')}, {float(number)}"))

    def stretch(self, target: str, start: str, count: str, value: Callable[[Lanes, str], str]) -> None:
        """Add ``value(lanes, i)``, for each i < count, to the gradient of a target, from an element on."""
        f, scalar = self.function, self.scalar
        fresh = f.same(f.get(target, Record.STATE), str(State.NOTHING))
        into = f.offset(f.get(target, Record.GRAD, "ptr"), scalar, start)
        whole = f.put(f"and i64 {count}, {-self.width}")
        for lanes, first, stop in ((self.width, "0", whole), (1, whole, count)):
            v = Lanes(f, scalar, lanes)
            with f.each(stop, lanes, first) as i:
                place = f.offset(into, scalar, i)
                new = value(v, i)
                total = v.add(v.load(place, 1), new)
                v.store(place, 1, f.put(f"select i1 {fresh}, {v.type} {new}, {v.type} {total}"))

    def demand_gradient(self, target: str, size: str) -> None:
        """A target takes a gradient of so many elements now."""
        f = self.function
        f.demand(f.same(f.get(target, Record.SIZE), size))
        f.demand(f.put(f"icmp ule i64 {f.get(target, Record.STATE)}, {State.GRADIENT}"))

    def arrived(self, target: str) -> None:
        self.function.set(target, str(State.GRADIENT), Record.STATE)

    # --- elementwise ------------------------------------------------------------------------------------------------------

    def each_of(self, rule: Each) -> None:
        f = self.function
        self.demand_inputs(len(rule.rules))
        if rule.share is not None:
            f.demand(f.same(self.size, "1"))
        for j, each in enumerate(rule.rules):
            target = self.target(j)
            with f.when(f.there(target)):
                if each is None:
                    f.demand("false")
                    continue
                size = self.size if rule.share is None else f.get(target, Record.SIZE)
                self.demand_gradient(target, size)
                load, places = each[0], [self.places(k, size) for k in each[1]]
                shared = self.shared(rule.share, size) if rule.share is not None else ""
                self.stretch(target, "0", size, lambda v, i: load(v, self.gradient(v, i, shared), *self.loaded(v, i, places)))  # noqa: B023
                self.arrived(target)

    def shared(self, share: Value, size: str) -> str:
        f, one = self.function, Lanes(self.function, self.scalar, 1)
        return share(one, one.load(self.g, 1), f.put(f"sitofp i64 {size} to double"))

    def gradient(self, v: Lanes, i: str, shared: str) -> str:
        return v.splat(shared) if shared else v.load(self.function.offset(self.g, self.scalar, i), 1)

    def places(self, k: int, size: str) -> tuple[str, str]:
        """The address of an operand and how far it goes from element to element: a number stays where it is."""
        f = self.function
        found = self.operand(k, Operand.SIZE)
        number = f.same(found, str(Operand.NUMBER))
        f.demand(f.any_of([number, f.same(found, size)]))
        buffer, v = f.stack(8), Lanes(f, self.scalar, self.width)
        v.store(buffer, 1, v.splat(_narrow(Lanes(f, self.scalar, 1), self.operand(k, Operand.DATA, "double"))))
        pointer = f.put(f"select i1 {number}, ptr {buffer}, ptr {self.operand(k, Operand.DATA, 'ptr')}")
        return pointer, f.put(f"select i1 {number}, i64 0, i64 1")

    def loaded(self, v: Lanes, i: str, places: list[tuple[str, str]]) -> list[str]:
        f = self.function
        return [v.load(f.offset(pointer, self.scalar, f.mul(step, i)), 1) for pointer, step in places]

    # --- joining ----------------------------------------------------------------------------------------------------------

    def cat(self) -> None:
        """The gradient of each part is its stretch of every row; the one part without a gradient has what the others leave."""
        f = self.function
        outer, count = f.get("%node", Record.OUTER), f.get("%node", Record.COUNT)
        f.demand(f.put(f"icmp sgt i64 {outer}, 0"))
        left, gaps, start = f.variable(self.size), f.variable(), f.variable()
        with f.each(count) as j:
            target = self.target(j)
            with f.when(f.there(target)):
                f.advance(left, f.put(f"sub i64 0, {f.get(target, Record.SIZE)}"))
            with f.unless(f.there(target)):
                f.advance(gaps)
        f.demand(f.put(f"icmp sge i64 {f.get(left)}, 0"))
        f.demand(f.put(f"icmp ule i64 {f.get(gaps)}, 1"))
        width, gap = (f.put(f"udiv i64 {n}, {outer}") for n in (self.size, f.get(left)))
        with f.each(count) as j:
            target = self.target(j)
            with f.unless(f.there(target)):
                f.advance(start, gap)
            with f.when(f.there(target)):
                size = f.get(target, Record.SIZE)
                self.demand_gradient(target, size)
                part = f.put(f"udiv i64 {size}, {outer}")
                first = f.advance(start, part)
                with f.each(outer) as row:
                    source = f.offset(self.g, self.scalar, f.add(f.mul(row, width), first))
                    self.stretch(
                        target,
                        f.mul(row, part),
                        part,
                        lambda v, i: v.load(f.offset(source, self.scalar, i), 1),
                    )
                self.arrived(target)

    # --- products ---------------------------------------------------------------------------------------------------------

    def linear(self) -> None:
        f = self.function
        self.demand_inputs(3)
        f.demand(f.same(f.get("%node", Record.DIMS), "2"))
        out = f.get("%node", Record.LAST)
        f.demand(f.put(f"icmp sgt i64 {self.size}, 0"))
        rows = f.put(f"udiv i64 {self.size}, {out}")
        x, weight, bias = (self.target(j) for j in range(3))
        with f.when(f.there(x)):
            self.demand_matrix(1)
            inner = self.operand(1, Operand.LAST)
            f.demand(f.same(self.operand(1, Operand.SIZE), f.mul(out, inner)))
            self.demand_gradient(x, f.mul(rows, inner))
            column = f.same(out, "1")
            with f.when(column):
                self.outer(x, rows, inner)
            with f.unless(column):
                self.product(x, rows, out, inner)
            self.arrived(x)
        with f.when(f.there(weight)):
            self.demand_matrix(0)
            inner = self.operand(0, Operand.LAST)
            f.demand(f.same(self.operand(0, Operand.SIZE), f.mul(rows, inner)))
            f.demand(f.same(f.get(weight, Record.SIZE), f.mul(out, inner)))
            self.part(weight, State.WEIGHT, rows, 2)
        with f.when(f.there(bias)):
            f.demand(f.same(f.get(bias, Record.SIZE), out))
            self.part(bias, State.BIAS, rows, 1)

    def demand_matrix(self, k: int) -> None:
        f = self.function
        f.demand(f.same(self.operand(k, Operand.DIMS), "2"))

    def outer(self, x: str, rows: str, inner: str) -> None:
        """A column times a row."""
        f, one = self.function, Lanes(self.function, self.scalar, 1)
        weight = self.operand(1, Operand.DATA, "ptr")
        with f.each(rows) as row:
            g = one.load(f.offset(self.g, self.scalar, row), 1)
            self.stretch(x, f.mul(row, inner), inner, lambda v, i: v.mul(v.splat(g), v.load(f.offset(weight, self.scalar, i), 1)))

    def product(self, x: str, rows: str, out: str, inner: str) -> None:
        """``g.dot(weight)``, by NumPy; straight into the gradient of x where it is the first."""
        f = self.function
        arguments, fresh = f.stack(3), f.same(f.get(x, Record.STATE), str(State.NOTHING))
        matrix = self.array(self.g, rows, out)
        f.set(arguments, matrix, 0, "ptr")
        f.set(arguments, self.operand(1, Operand.OBJECT, "ptr"), 1, "ptr")
        with f.when(fresh):
            f.set(arguments, self.array(f.get(x, Record.GRAD, "ptr"), rows, inner), 2, "ptr")
        result = f.call(
            "ptr", self.api("PyObject_Vectorcall"), f"ptr {self.api('dot')}", f"ptr {arguments}",
            f"i64 {f.put(f'select i1 {fresh}, i64 3, i64 2')}", "ptr null",
        )  # fmt: skip
        self.forget(matrix)
        with f.when(fresh):
            self.forget(f.get(arguments, 2, "ptr"))
        f.demand(f.there(result), "error")
        with f.unless(fresh):
            data = f.bytes_on(result, 16)
            self.stretch(x, "0", f.mul(rows, inner), lambda v, i: v.load(f.offset(data, self.scalar, i), 1))
        self.forget(result)

    def array(self, data: str, rows: str, columns: str) -> str:
        """NumPy's object for a matrix in the workspace."""
        f, lengths = self.function, self.function.stack(2)
        f.set(lengths, rows)
        f.set(lengths, columns, 1)
        return new_array(f, self.api, self.scalar.size, lengths, "2", data)

    def forget(self, thing: str) -> None:
        self.function.do(f"call void {self.api('Py_DecRef')}(ptr {thing})")

    def api(self, name: str) -> str:
        return self.function.get("%table", self.word(name), "ptr")

    def part(self, target: str, state: int, rows: str, dims: int) -> None:
        """One more use of a weight or a bias: what is added up at the end, all at once, like a `Term`."""
        f = self.function
        f.demand(f.same(f.get(target, Record.WORD), "0"))  # a leaf
        f.demand(f.same(f.get(target, Record.DIMS), str(dims)))
        before = f.get(target, Record.STATE)
        first = f.same(before, str(State.NOTHING))
        f.demand(f.any_of([first, f.same(before, str(state))]))
        # Of many rows there is only one use: no other one is added.
        many = f.put(f"icmp sgt i64 {rows}, {FEW}")
        total = f.add(f.get(target, Record.ROWS), f.put(f"select i1 {many}, i64 {Term.most}, i64 {rows}"))
        f.demand(f.put(f"icmp ule i64 {total}, {Term.most}"))
        f.set(target, total, Record.ROWS)
        use = f.get("%work", 0, "ptr")  # the next free place for a use: the node, and the use after it
        f.set("%work", f.at(use, 2), 0, "ptr")
        f.set(use, "%node", 0, "ptr")
        f.set(use, "null", 1, "ptr")
        with f.when(first):
            f.set(target, use, Record.FIRST, "ptr")
        with f.unless(first):
            f.set(f.get(target, Record.TAIL, "ptr"), use, 1, "ptr")
        f.set(target, use, Record.TAIL, "ptr")
        f.set(target, str(state), Record.STATE)


Kernel = Any
