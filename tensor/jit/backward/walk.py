"""The pass itself as machine code: ``walk(roots, gradients, workspace, held, found, release)``, called by Python as a builtin.
It takes what `tensor.jit.backward.Pass` gives it, and does not look at it.

1. From the roots on, every node gets a record: what it is, what it kept, where its gradient will lie, the records of its inputs.
   Whatever is not as a kernel wants it, a hook, a strided array, a value that was written into since, ends the pass with False,
   before anybody has seen anything of it: the ordinary one takes over, and says what is wrong if anything is.
2. The nodes are put in the order of their numbers, newest first, as the ordinary pass takes them, so that sums have its order.
3. Each node's kernel adds to the gradients of its inputs, in the workspace.
4. ``found`` gets the leaves in the order in which they were reached, each with the array of its gradient.
"""

from __future__ import annotations

from tensor.autograd.node import Term
from tensor.jit.backward.flow import Flow, new_array
from tensor.jit.backward.kernels import Word
from tensor.jit.backward.layout import MOST_NODES, OPERAND, OPERANDS, RECORD, TABLE, Operand, Record, State, words
from tensor.jit.codegen.kernel import Code, finish
from tensor.jit.watch import DATA, DIMENSIONS, DTYPE, FIRST, ITEMS, NDIM, SIZE, TYPE
from tensor.ops.machine import KERNELS, KINDS

__all__ = ["FLAGS", "write"]

FLAGS = 64  #: where an array has its flags
_DENSE = 0x101  # contiguous and aligned
MOST_DIMENSIONS = 64  #: of an array, to NumPy


def write(itemsize: int, word: Word, slots: dict[str, int]) -> Code:
    """The function, for elements of some bytes. ``slots``: where objects keep their attributes, by name."""
    w = _Writer(itemsize, word, slots)
    f = w.function
    w.enter()
    w.discover()
    w.sort()
    w.run()
    w.report()
    w.release()
    w.leave("True")
    f.start("no")
    w.leave("False")
    f.start("error")
    w.forget()
    f.do("ret ptr null")
    f.finished()
    return finish(f, [], "ptr %self, ptr %args, i64 %count", "ptr")


class _Writer:
    def __init__(self, itemsize: int, word: Word, slots: dict[str, int]) -> None:
        self.function, self.itemsize, self.word, self.slots = Flow(), itemsize, word, slots
        self.table = self.function.bytes_on("%self", DATA)

    # --- Python's objects -------------------------------------------------------------------------------------------------

    def known(self, name: str) -> str:
        """Something whose address is in the table."""
        return self.function.get(self.table, self.word(name), "ptr")

    def attribute(self, thing: str, name: str) -> str:
        return self.function.bytes_on(thing, self.slots[name])

    def is_(self, thing: str, name: str) -> str:
        return self.function.same(thing, self.known(name), "ptr")

    def kind_is(self, thing: str, name: str) -> str:
        return self.is_(self.function.bytes_on(thing, TYPE), name)

    def item(self, pair: str, index: str | int) -> str:
        """An item of a tuple."""
        f = self.function
        return f.bytes_on(pair, f.add(f.mul(str(index), 8), FIRST))

    def length(self, pair: str) -> str:
        return self.function.bytes_on(pair, SIZE, "i64")

    def integer(self, thing: str) -> str:
        return self.function.call("i64", self.known("PyLong_AsLongLong"), f"ptr {thing}")

    def append(self, several: str, thing: str) -> None:
        f = self.function
        failed = f.call("i32", self.known("PyList_Append"), f"ptr {several}", f"ptr {thing}")
        f.demand(f.same(failed, "0", "i32"), "error")

    def append_own(self, thing: str) -> None:
        """To the list ``found``, which keeps it from now on."""
        self.append(self.found, thing)
        self.let_go(thing)

    def let_go(self, thing: str) -> None:
        self.function.do(f"call void {self.known('Py_DecRef')}(ptr {thing})")

    def forget(self) -> None:
        """Empty the table of records."""
        f = self.function
        made = f.get(self.nodes)
        some = f.put(f"icmp slt i64 {made}, {MOST_NODES}")
        with f.each(f.put(f"select i1 {some}, i64 {made}, i64 {MOST_NODES}")) as i:
            place = f.get(f.at(self.region("records"), f.mul(i, RECORD)), Record.PLACE)
            f.set(self.region("table"), "null", place, "ptr")

    def leave(self, name: str) -> None:
        f, thing = self.function, self.known(name)
        self.forget()
        f.do(f"call void {self.known('Py_IncRef')}(ptr {thing})")
        f.do(f"ret ptr {thing}")

    def product(self, pointer: str, count: str, load: str) -> str:
        """Of the lengths in a tuple, or of an array."""
        f, total = self.function, self.function.variable("1")
        with f.each(count) as i:
            n = self.integer(self.item(pointer, i)) if load == "tuple" else f.get(pointer, i)
            f.set(total, f.mul(f.get(total), n))
        return f.get(total)

    # --- the workspace ----------------------------------------------------------------------------------------------------

    def region(self, name: str) -> str:
        return self.function.at(self.work, getattr(words, name))

    def space(self, elements: str) -> str:
        """So many elements of the workspace, from a multiple of 64 bytes on."""
        f = self.function
        size = f.put(f"and i64 {f.add(f.mul(elements, self.itemsize), 63)}, -64")
        f.demand(f.put(f"icmp ult i64 {size}, {1 << 40}"))
        place = f.get(self.free)
        after = f.add(place, size)
        f.demand(f.put(f"icmp ule i64 {after}, {self.end}"))
        f.set(self.free, after)
        return f.put(f"inttoptr i64 {place} to ptr")

    def enter(self) -> None:
        f = self.function
        self.roots, self.given, space, self.held, self.found, self.flag = (f.get("%args", i, "ptr") for i in range(6))
        self.work = f.bytes_on(space, DATA)
        length = f.get(f.bytes_on(space, DIMENSIONS))
        self.first = f.put(f"ptrtoint ptr {self.region('end')} to i64")
        self.end = f.put(f"ptrtoint ptr {f.at(self.work, length)} to i64")
        self.free = f.variable(self.first)
        self.nodes, self.waiting, self.ordered, self.reached = (f.variable() for _ in range(4))
        self.edges = f.variable()
        f.set(self.work, self.region("parts"), 0, "ptr")
        f.declared.add("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        f.declared.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")

    def new_record(self, node: str) -> str:
        """A record for a node, which waits to be looked at."""
        f = self.function
        number = f.advance(self.nodes)
        f.demand(f.put(f"icmp ult i64 {number}, {MOST_NODES}"))
        record = f.at(self.region("records"), f.mul(number, RECORD))
        f.do(f"call void @llvm.memset.p0.i64(ptr {record}, i8 0, i64 {8 * RECORD}, i1 false)")
        f.set(record, node, Record.OBJECT, "ptr")
        f.set(self.region("stack"), record, f.advance(self.waiting), "ptr")
        return record

    def record_of(self, node: str, into: str) -> None:
        """Find the record of a node, or make it, and write its address."""
        f = self.function
        address = f.put(f"ptrtoint ptr {node} to i64")
        mixed = f.mul(f.put(f"lshr i64 {address}, 4"), -7046029254386353131)
        place = f.variable(f.put(f"lshr i64 {mixed}, {64 - (TABLE.bit_length() - 1)}"))
        entry = f.stack()

        def taken_by_another() -> str:
            found = f.get(self.region("table"), f.get(place), "ptr")
            f.set(entry, found, 0, "ptr")
            other = f.variable("0")
            with f.when(f.there(found)):
                same = f.same(f.get(found, Record.OBJECT, "ptr"), node, "ptr")
                f.set(other, f.put(f"select i1 {same}, i64 0, i64 1"))
            return f.same(f.get(other), "1")

        with f.while_(taken_by_another):
            f.set(place, f.put(f"and i64 {f.add(f.get(place), 1)}, {TABLE - 1}"))
        with f.unless(f.there(f.get(entry, 0, "ptr"))):
            made = self.new_record(node)
            f.set(self.region("table"), made, f.get(place), "ptr")
            f.set(made, f.get(place), Record.PLACE)
            f.set(entry, made, 0, "ptr")
        f.set(into, f.get(entry, 0, "ptr"), 0, "ptr")

    # --- 1: records -------------------------------------------------------------------------------------------------------

    def discover(self) -> None:
        f = self.function
        into = f.stack()
        count = f.bytes_on(self.roots, SIZE, "i64")
        with f.each(count) as i:
            self.record_of(f.get(f.bytes_on(self.roots, ITEMS), i, "ptr"), into)
        with f.while_(lambda: f.put(f"icmp ne i64 {f.get(self.waiting)}, 0")):
            f.advance(self.waiting, -1)
            record = f.get(self.region("stack"), f.get(self.waiting), "ptr")
            node = f.get(record, Record.OBJECT, "ptr")
            shape = self.attribute(node, "shape")
            leaf = self.kind_is(node, "Leaf")
            f.demand(f.any_of([leaf, self.kind_is(node, "OpNode")]))
            f.demand(self.is_(self.attribute(node, "dtype"), "dtype"))
            f.demand(self.kind_is(shape, "tuple"))
            dims = self.length(shape)
            size = self.product(shape, dims, "tuple")
            f.set(record, size, Record.SIZE)
            f.set(record, dims, Record.DIMS)
            f.set(record, "1", Record.LAST)
            with f.when(f.put(f"icmp ne i64 {dims}, 0")):
                f.set(record, self.integer(self.item(shape, f.add(dims, -1))), Record.LAST)
            f.set(record, self.space(size), Record.GRAD, "ptr")
            with f.unless(leaf):
                self.operation(record, node, shape)
        with f.each(count) as i:
            self.record_of(f.get(f.bytes_on(self.roots, ITEMS), i, "ptr"), into)
            self.accept(f.get(into, 0, "ptr"), f.get(f.bytes_on(self.given, ITEMS), i, "ptr"))

    def accept(self, root: str, given: str) -> None:
        """A root has a gradient from the start, or None for what is no array yet."""
        f = self.function
        f.set(root, str(State.ELSEWHERE), Record.STATE)
        with f.unless(self.is_(given, "None")):
            self.demand_dense(given)
            dims = f.put(f"sext i32 {f.bytes_on(given, NDIM, 'i32')} to i64")
            size = self.product(f.bytes_on(given, DIMENSIONS), dims, "array")
            f.demand(f.same(size, f.get(root, Record.SIZE)))
            self.copy(f.get(root, Record.GRAD, "ptr"), "0", f.bytes_on(given, DATA), f.mul(size, self.itemsize))
            f.set(root, str(State.GRADIENT), Record.STATE)

    def demand_dense(self, array: str) -> None:
        """A contiguous array of the right elements."""
        f = self.function
        f.demand(self.kind_is(array, "ndarray"))
        f.demand(self.is_(f.bytes_on(array, DTYPE), "dtype"))
        f.demand(f.same(f.put(f"and i32 {f.bytes_on(array, FLAGS, 'i32')}, {_DENSE}"), str(_DENSE), "i32"))

    def operation(self, record: str, node: str, shape: str) -> None:
        f = self.function
        f.demand(self.is_(self.attribute(node, "hooks"), "None"))
        plan, saved, edges = (self.attribute(node, name) for name in ("plan", "saved", "edges"))
        f.demand(self.kind_is(saved, "tuple"))
        word = self.integer(self.attribute(plan, "word"))
        f.demand(f.put(f"icmp ne i64 {word}, 0"))
        f.set(record, word, Record.WORD)
        f.set(record, self.integer(self.attribute(node, "number")), Record.NUMBER)
        f.set(self.region("order"), record, f.advance(self.ordered), "ptr")
        for k in (0, 1):
            kind, place = (f.byte(word, 2 + 2 * k + i) for i in (0, 1))
            self.operand(f.at(record, OPERANDS + k * OPERAND), kind, place, saved, shape, record)
        count = self.length(edges)
        first = f.advance(self.edges, count)
        f.demand(f.put(f"icmp ule i64 {f.get(self.edges)}, {words.parts - words.edges}"))
        place = f.at(self.region("edges"), first)
        f.set(record, place, Record.EDGES, "ptr")
        f.set(record, count, Record.COUNT)
        into = f.stack()
        with f.each(count) as j:
            edge = self.item(edges, j)
            f.set(into, "null", 0, "ptr")
            with f.unless(self.is_(edge, "None")):
                self.record_of(edge, into)
            f.set(place, f.get(into, 0, "ptr"), j, "ptr")
        with f.when(f.same(f.byte(word, 0), str(1 + KERNELS.index("linear")))):
            self.count_uses(record, place, count)

    def count_uses(self, record: str, edges: str, count: str) -> None:
        """Give up early where a weight is used more often than is added up at once."""
        f = self.function
        f.demand(f.same(count, "3"))
        out = f.get(record, Record.LAST)
        f.demand(f.put(f"icmp sgt i64 {out}, 0"))
        rows = f.put(f"udiv i64 {f.get(record, Record.SIZE)}, {out}")
        for j in (1, 2):
            edge = f.get(edges, j, "ptr")
            with f.when(f.there(edge)):
                before = f.get(edge, Record.USES)
                f.set(edge, f.add(before, rows), Record.USES)
                first = f.same(before, "0")
                f.demand(f.any_of([first, f.put(f"icmp ule i64 {f.get(edge, Record.USES)}, {Term.most}")]))

    def operand(self, operand: str, kind: str, place: str, saved: str, shape: str, record: str) -> None:
        """What was kept at a place, if it is still what it was."""
        f = self.function
        array = f.stack()
        f.set(array, "null", 0, "ptr")
        f.set(operand, str(Operand.MISSING), Operand.SIZE)

        def is_a(name: str) -> str:
            return f.same(kind, str(KINDS[name]))

        with f.when(is_a("value")):
            kept = self.item(saved, place)
            pair = self.kind_is(kept, "tuple")
            with f.when(pair):
                f.demand(f.same(self.length(kept), "2"))
                t = self.item(kept, 0)
                kinds = (f"ptr {kind}" for kind in (f.bytes_on(t, TYPE), self.known("Tensor")))
                f.demand(f.same(f.call("i32", self.known("PyType_IsSubtype"), *kinds), "1", "i32"))
                counter = self.attribute(t, "_version")
                with f.unless(self.is_(counter, "None")):
                    f.demand(f.same(self.integer(self.attribute(counter, "value")), self.integer(self.item(kept, 1))))
                f.set(array, self.attribute(t, "_array"), 0, "ptr")
            with f.unless(pair):
                f.demand(f.any_of([self.kind_is(kept, "float"), self.kind_is(kept, "int")]))
                value = f.call("double", self.known("PyFloat_AsDouble"), f"ptr {kept}")
                with f.when(f.there(f.call("ptr", self.known("PyErr_Occurred")))):  # an integer too large
                    f.do(f"call void {self.known('PyErr_Clear')}()")
                    f.demand("false")
                f.set(operand, value, Operand.DATA, "double")
                f.set(operand, str(Operand.NUMBER), Operand.SIZE)
        with f.when(is_a("output")):
            kept = self.item(saved, place)
            counter = self.item(kept, 1)
            f.demand(f.same(self.integer(self.attribute(counter, "value")), self.integer(self.item(kept, 2))))
            f.set(array, self.item(kept, 0), 0, "ptr")
        with f.when(is_a("None")):
            f.demand(self.is_(self.item(saved, place), "None"))
        with f.when(is_a("axis")):
            kept, dims = self.item(saved, place), f.get(record, Record.DIMS)
            f.demand(self.kind_is(kept, "int"))
            given = self.integer(kept)
            negative = f.put(f"icmp slt i64 {given}, 0")
            axis = f.put(f"select i1 {negative}, i64 {f.add(given, dims)}, i64 {given}")
            f.demand(f.put(f"icmp ult i64 {axis}, {dims}"))
            f.set(record, self.product(shape, axis, "tuple"), Record.OUTER)
        found = f.get(array, 0, "ptr")
        with f.when(f.there(found)):
            self.demand_dense(found)
            self.append(self.held, found)  # until the pass is over
            dims = f.put(f"sext i32 {f.bytes_on(found, NDIM, 'i32')} to i64")
            lengths = f.bytes_on(found, DIMENSIONS)
            f.set(operand, found, Operand.OBJECT, "ptr")
            f.set(operand, f.bytes_on(found, DATA), Operand.DATA, "ptr")
            f.set(operand, dims, Operand.DIMS)
            f.set(operand, self.product(lengths, dims, "array"), Operand.SIZE)
            with f.when(f.put(f"icmp ne i64 {dims}, 0")):
                f.set(operand, f.get(lengths, f.add(dims, -1)), Operand.LAST)

    # --- 2 and 3: in order ------------------------------------------------------------------------------------------------

    def sort(self) -> None:
        """By insertion: nodes are found nearly in order."""
        f, order = self.function, self.region("order")
        place = f.variable()
        with f.each(f.get(self.ordered), start="1") as i:
            record = f.get(order, i, "ptr")
            number = f.get(record, Record.NUMBER)
            f.set(place, i)

            def older() -> str:
                before = f.variable("0")
                with f.when(f.put(f"icmp sgt i64 {f.get(place)}, 0")):
                    other = f.get(order, f.add(f.get(place), -1), "ptr")
                    smaller = f.put(f"icmp slt i64 {f.get(other, Record.NUMBER)}, {number}")
                    f.set(before, f.put(f"select i1 {smaller}, i64 1, i64 0"))
                return f.same(f.get(before), "1")

            with f.while_(older):
                at = f.get(place)
                f.set(order, f.get(order, f.add(at, -1), "ptr"), at, "ptr")
                f.set(place, f.add(at, -1))
            f.set(order, record, f.get(place), "ptr")

    def run(self) -> None:
        f, order = self.function, self.region("order")
        with f.each(f.get(self.ordered)) as i:
            record = f.get(order, i, "ptr")
            f.demand(f.same(f.get(record, Record.STATE), str(State.GRADIENT)))
            kernel = f.get(self.table, f.add(f.byte(f.get(record, Record.WORD), 0), self.word("kernels") - 1), "ptr")
            done = f.call("i64", kernel, f"ptr {record}", f"ptr {self.table}", f"ptr {self.work}")
            f.demand(f.put(f"icmp sge i64 {done}, 0"), "error")
            f.demand(f.same(done, "1"))
            edges = f.get(record, Record.EDGES, "ptr")
            with f.each(f.get(record, Record.COUNT)) as j:
                edge = f.get(edges, j, "ptr")
                with f.when(f.there(edge)):
                    # Of a leaf that was reached the number, which only operations have otherwise, is 1.
                    new = f.put(f"or i64 {f.get(edge, Record.WORD)}, {f.get(edge, Record.NUMBER)}")
                    with f.when(f.same(new, "0")):
                        f.set(edge, "1", Record.NUMBER)
                        f.set(self.region("arrived"), edge, f.advance(self.reached), "ptr")

    # --- 4: results -------------------------------------------------------------------------------------------------------

    def report(self) -> None:
        f = self.function
        with f.each(f.get(self.reached)) as i:
            leaf = f.get(self.region("arrived"), i, "ptr")
            state = f.get(leaf, Record.STATE)
            self.append(self.found, f.get(leaf, Record.OBJECT, "ptr"))
            dense = f.same(state, str(State.GRADIENT))
            with f.when(dense):
                self.hand_out(leaf)
            with f.unless(dense):
                self.add_up(leaf, state)

    def hand_out(self, leaf: str) -> None:
        """A gradient in memory of its own."""
        f, lengths = self.function, self.function.stack(MOST_DIMENSIONS)
        dims, shape = f.get(leaf, Record.DIMS), self.attribute(f.get(leaf, Record.OBJECT, "ptr"), "shape")
        f.demand(f.put(f"icmp ule i64 {dims}, {MOST_DIMENSIONS}"))
        with f.each(dims) as i:
            f.set(lengths, self.integer(self.item(shape, i)), i)
        made = new_array(f, self.known, self.itemsize, lengths, dims)
        self.copy(f.bytes_on(made, DATA), "0", f.get(leaf, Record.GRAD, "ptr"), f.mul(f.get(leaf, Record.SIZE), self.itemsize))
        self.append_own(made)

    def add_up(self, leaf: str, state: str) -> None:
        """The rows of all uses one after another, and what `tensor.ops.matmul` makes of them."""
        f = self.function
        weight = f.same(state, str(State.WEIGHT))
        inner = f.get(leaf, Record.LAST)
        out = f.put(f"udiv i64 {f.get(leaf, Record.SIZE)}, {f.put(f'select i1 {weight}, i64 {inner}, i64 1')}")
        rows = f.get(leaf, Record.USES)
        outs, ins = self.space(f.mul(out, rows)), f.variable()
        with f.when(weight):
            f.set(ins, self.space(f.mul(inner, rows)), 0, "ptr")
        done, read, use = f.variable("0"), f.variable("0"), f.variable()
        f.set(use, f.get(leaf, Record.FIRST, "ptr"), 0, "ptr")
        with f.while_(lambda: f.there(f.get(use, 0, "ptr"))):
            node = f.get(f.get(use, 0, "ptr"), 0, "ptr")
            size = f.mul(f.get(node, Record.SIZE), self.itemsize)
            self.copy(outs, f.advance(done, size), f.get(node, Record.GRAD, "ptr"), size)
            with f.when(weight):
                size = f.mul(f.get(node, OPERANDS + Operand.SIZE), self.itemsize)
                self.copy(f.get(ins, 0, "ptr"), f.advance(read, size), f.get(node, OPERANDS + Operand.DATA, "ptr"), size)
            f.set(use, f.get(f.get(use, 0, "ptr"), 1, "ptr"), 0, "ptr")
        given, result = f.stack(2), f.stack()
        f.set(given, self.matrix(outs, rows, out), 0, "ptr")
        with f.when(weight):
            f.set(given, self.matrix(f.get(ins, 0, "ptr"), rows, inner), 1, "ptr")
            self.sum("sum_outer", given, 2, result)
            self.let_go(f.get(given, 1, "ptr"))
        with f.unless(weight):
            self.sum("sum_rows", given, 1, result)
        self.let_go(f.get(given, 0, "ptr"))
        f.demand(f.there(f.get(result, 0, "ptr")), "error")
        self.append_own(f.get(result, 0, "ptr"))

    def matrix(self, data: str, rows: str, columns: str) -> str:
        f, lengths = self.function, self.function.stack(2)
        f.set(lengths, rows)
        f.set(lengths, columns, 1)
        return new_array(f, self.known, self.itemsize, lengths, "2", data)

    def sum(self, name: str, given: str, count: int, result: str) -> None:
        f = self.function
        arguments = (f"ptr {self.known(name)}", f"ptr {given}", f"i64 {count}", "ptr null")
        f.set(result, f.call("ptr", self.known("PyObject_Vectorcall"), *arguments), 0, "ptr")

    def copy(self, target: str, offset: str, source: str, size: str) -> None:
        f = self.function
        place = f.put(f"getelementptr i8, ptr {target}, i64 {offset}")
        f.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {place}, ptr {source}, i64 {size}, i1 false)")

    def release(self) -> None:
        """Let go of what nodes have kept, if that is wanted."""
        f, order = self.function, self.region("order")
        with f.when(self.is_(self.flag, "True")), f.each(f.get(self.ordered)) as i:
            record = f.get(order, i, "ptr")
            holds = f.byte(f.get(record, Record.WORD), 1)
            with f.when(f.same(holds, "1")):
                node, freed = f.get(record, Record.OBJECT, "ptr"), self.known("FREED")
                saved = self.attribute(node, "saved")
                f.do(f"call void {self.known('Py_IncRef')}(ptr {freed})")
                place = f.put(f"getelementptr i8, ptr {node}, i64 {self.slots['saved']}")
                f.do(f"store ptr {freed}, ptr {place}")
                self.let_go(saved)
