"""Matrix products: small ones as loops with their results in registers, large ones through BLAS.

Two shapes of loop. *Rows*: vectors run along a row of the result; each row of `b` is loaded once for a block of rows of `a`,
whose elements are broadcast. It wants the rows of `b` contiguous, else `b` is transposed into scratch memory first. *Dots*:
vectors run along the summed axis, where both operands are contiguous in it; several sums are then reduced together. Either
may compute the transposed product instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from tensor.jit.codegen.kernel import Address, Code, Foreign, finish
from tensor.jit.codegen.loops import shuffled, widened
from tensor.jit.codegen.text import SCALARS, Function, Lanes, Scalar
from tensor.jit.program import MatMul, Program, View

INLINE_LIMIT = 64 * 64 * 1024  # multiply-adds; more go to BLAS, which has threads and blocks for the caches
SCRATCH_LIMIT = 128 * 1024  # bytes of stack for a transposed operand
OUT, A, B = 0, 1, 2
Pair = tuple[int, int]
Part = tuple[str, int]  # where a block begins, and how long it is
Write = Callable[["_Writer", "Shape", Sequence[str]], None]


@dataclass(frozen=True, slots=True)
class Shape:
    """out (m, n) = a (m, k) @ b (k, n), with the strides of rows and columns; `order` says which arguments play out, a and b."""

    m: int
    n: int
    k: int
    out: Pair
    a: Pair
    b: Pair
    order: tuple[int, int, int] = (OUT, A, B)

    def transposed(self) -> Shape:
        """out^T = b^T a^T."""
        out, a, b = self.order
        return Shape(self.n, self.m, self.k, self.out[::-1], self.b[::-1], self.a[::-1], (out, b, a))


def shape_of(product: MatMul) -> Shape:
    """Strides along axes of length 1 are free; they become what suits contiguous code."""
    (m, k), n = product.a.shape[-2:], product.b.shape[-1]

    def strides(view: View) -> Pair:
        rows, columns = view.strides[-2:]
        if view.shape[-1] == 1:
            columns = 1
        if view.shape[-2] == 1:
            rows = columns * view.shape[-1]
        elif view.shape[-1] == 1 and rows == 1:
            columns = view.shape[-2]
        return rows, columns

    return Shape(m, n, k, strides(product.out), strides(product.a), strides(product.b))


def emit_product(program: Program, product: MatMul, vector_bytes: int) -> Code | None:
    """The kernel of a product, or None where only Python can do it."""
    scalar = SCALARS.get(program.dtype(product.out))
    shape = shape_of(product)
    if scalar is None or scalar.family != "float" or 0 in (*product.out.shape, shape.k):
        return None
    width = vector_bytes // scalar.size
    plans = [(cost(plan, width, dots), dots, plan) for plan in (shape, shape.transposed()) for dots in (False, True)]
    _, dots, plan = min(plans, key=lambda entry: entry[0])
    inline = plan.m * plan.n * plan.k <= INLINE_LIMIT or (min(plan.m, plan.n) <= 2 and (dots or plan.b[1] == 1))
    scratch = plan.k * plan.n * (plan.b[1] != 1) + plan.m * plan.n * (plan.out[1] != 1)
    if not dots and scratch * scalar.size > SCRATCH_LIMIT:
        inline = False
    if not inline:
        fitting = next((option for option in (shape, shape.transposed()) if _blas_fits(option)), None)
        return _emit(program, product, fitting, _Writer.blas) if fitting else None
    return _emit(program, product, plan, _Writer.dots if dots else _Writer.rows, width)


def cost(shape: Shape, width: int, dots: bool) -> float:
    """An estimate in multiply-adds of vectors."""
    m, n, k = shape.m, shape.n, shape.k
    scatter = 0 if shape.out[1] == 1 or n == 1 else 2 * m * n
    if dots:
        gather = 0 if shape.a[1] == 1 and shape.b[0] == 1 else 2 * m * n * k
        return m * n * (-(-k // width) + 2.5) + scatter + gather
    transpose = 0 if shape.b[1] == 1 else k * n * (0.5 if shape.b[0] == 1 else 2)
    return m * -(-n // width) * k + transpose + scatter


def _emit(program: Program, product: MatMul, plan: Shape, write: Write, width: int = 1) -> Code:
    """A kernel that writes one product for each index of the leading axes."""
    scalar = SCALARS[program.dtype(product.out)]
    function = Function(width * scalar.size == 64)
    writer = _Writer(function, scalar, width)
    views = (product.out, product.a, product.b)
    leading = product.out.shape[:-2]

    def nest(axis: int, pointers: list[str]) -> None:
        if axis == len(leading):
            write(writer, plan, pointers)
            return

        def turn(index: str, _: list[str]) -> list[str]:
            moved = [writer.at(p, (index, view.strides[axis])) for p, view in zip(pointers, views, strict=True)]
            nest(axis + 1, moved)
            return []

        function.loop(leading[axis], 1, [], turn)

    nest(0, ["%a0", "%a1", "%a2"])
    function.do("ret void")
    function.lines[:0] = writer.prologue
    arguments = [Address(view.buffer, view.offset) for view in views]
    names = [Foreign("sgemm" if scalar.size == 4 else "dgemm")] if write is _Writer.blas else []
    return finish(function, [*arguments, *names])


def even(length: int, most: int) -> int:
    """The size of the blocks that a length is cut into: a little less than ``most`` where none remains then."""
    return next((size for size in range(most, most // 2, -1) if length % size == 0), most) if length > most else length


class _Writer:
    """Writes one product into a function; `width` lanes a vector."""

    def __init__(self, function: Function, scalar: Scalar, width: int) -> None:
        self.function = function
        self.scalar = scalar
        self.width = width
        self.registers = 24 if width * scalar.size in (16, 64) else 12
        self.prologue: list[str] = []

    def lanes(self, count: int) -> Lanes:
        return Lanes(self.function, self.scalar, count)

    def at(self, pointer: str, *places: tuple[str, int]) -> str:
        """The address at the sum of index times stride."""
        index = "0"
        for place, stride in places:
            index = self.function.plus(self.function.times(place, stride), index)
        return self.function.offset(pointer, self.scalar, index)

    def blocks(self, length: int, size: int, body: Callable[[str, int], None]) -> None:
        """`body(start, count)` for blocks of `size` and a smaller one that remains."""
        whole = length // size * size

        def turn(index: str, _: list[str]) -> list[str]:
            body(index, size)
            return []

        if whole:
            self.function.loop(whole, size, [], turn)
        if length > whole:
            body(str(whole), length - whole)

    # Rows

    def rows(self, shape: Shape, pointers: Sequence[str]) -> None:
        target, a, b = (pointers[place] for place in shape.order)
        out, strides = target, shape.out
        if shape.b[1] != 1:
            given, b = b, self.scratch(shape.k * shape.n)
            self.copy(given, shape.b, b, shape.n, (shape.k, shape.n))
            shape = replace(shape, b=(shape.n, 1))
        if strides[1] != 1:
            out = self.scratch(shape.m * shape.n)
            shape = replace(shape, out=(shape.n, 1))
        columns = 4 * self.width

        def panel(column: str, count: int) -> None:
            lanes = [self.width] * (count // self.width) + [count % self.width] * (count % self.width > 0)
            most = max(1, self.registers // len(lanes))
            size = even(shape.m, most)
            self.blocks(shape.m, size, lambda row, rows: self.tile(shape, (out, a, b), (row, rows), (column, lanes)))

        self.blocks(shape.n, columns, panel)
        if strides[1] != 1:
            self.scatter(out, target, strides, (shape.m, shape.n))

    def scatter(self, source: str, target: str, strides: Pair, size: Pair) -> None:
        """Contiguous rows to any layout."""
        m, n = size
        if strides[0] == 1:
            self.copy(source, (1, n), target, strides[1], (n, m))
            return
        one = self.lanes(1)

        def row(i: str, _: list[str]) -> list[str]:
            def column(j: str, _: list[str]) -> list[str]:
                one.store(self.at(target, (i, strides[0]), (j, strides[1])), 1, one.load(self.at(source, (i, n), (j, 1)), 1))
                return []

            return self.function.loop(n, 1, [], column)

        self.function.loop(m, 1, [], row)

    def tile(self, shape: Shape, pointers: tuple[str, str, str], rows: Part, columns: tuple[str, list[int]]) -> None:
        """A block of rows and vectors of the result, summed over k in registers."""
        (row, count), (column, lanes) = rows, columns
        out, a, b = pointers
        function = self.function
        a = self.at(a, (row, shape.a[0]))
        b = self.at(b, (column, 1))
        chains = max(1, min(8 // (count * len(lanes)), 4, shape.k // 4))  # few sums would wait for each other
        starts = [sum(lanes[:i]) for i in range(len(lanes))]

        def products(k: str, sums: Sequence[str] | None, start: int) -> list[str]:
            here_a, here_b = self.at(a, (k, shape.a[1])), self.at(b, (k, shape.b[0]))
            vectors = [self.lanes(n).load(self.at(here_b, (str(first), 1)), 1) for n, first in zip(lanes, starts, strict=True)]
            result = []
            for i in range(count):
                one = self.lanes(1).load(self.at(here_a, (str(i), shape.a[0])), 1)
                wide = {n: self.lanes(n).splat(one) for n in set(lanes)}
                for j, (n, vector) in enumerate(zip(lanes, vectors, strict=True)):
                    v = self.lanes(n)
                    total = sums[start + i * len(lanes) + j] if sums is not None else None
                    result.append(v.mul(wide[n], vector) if total is None else v.intrinsic("fmuladd", wide[n], vector, total))
            return result

        each = count * len(lanes)
        if shape.k == 1:
            sums = products("0", None, 0)
        else:
            kinds = [(self.lanes(n).type, self.lanes(n).const(0)) for _ in range(chains * count) for n in lanes]
            whole = shape.k // chains * chains

            def turn(k: str, values: list[str]) -> list[str]:
                return [new for c in range(chains) for new in products(function.plus(k, c), values, c * each)]

            sums = function.loop(whole, chains, kinds, turn)
            for k in range(whole, shape.k):
                sums[:each] = products(str(k), sums, 0)
            for c in range(1, chains):
                sums[:each] = [self.lanes(lanes[i % len(lanes)]).add(sums[i], sums[c * each + i]) for i in range(each)]
        out = self.at(out, (row, shape.out[0]), (column, shape.out[1]))
        for i in range(count):
            for j, n in enumerate(lanes):
                target = self.at(out, (str(i), shape.out[0]), (str(starts[j]), shape.out[1]))
                self.lanes(n).store(target, shape.out[1], sums[i * len(lanes) + j])

    def scratch(self, count: int) -> str:
        """Memory on the stack."""
        name = f"%scratch{len(self.prologue)}"
        self.prologue.append(f"  {name} = alloca {self.scalar.name}, i64 {count}, align 64")
        return name

    def copy(self, source: str, strides: Pair, target: str, step: int, size: Pair) -> None:
        """Rows and columns, from any layout to rows `step` apart."""
        rows, columns = size
        side = min(8, self.width) if strides[0] == 1 else 1

        def block(row: str, height: int, column: str, width: int) -> None:
            origin = self.at(source, (row, strides[0]), (column, strides[1]))
            place = self.at(target, (row, step), (column, 1))
            if height == width == side > 1:
                self.square(origin, strides[1], place, step, side)
                return
            v = self.lanes(width)

            def line(i: str, _: list[str]) -> list[str]:
                v.store(self.at(place, (i, step)), 1, v.load(self.at(origin, (i, strides[0])), strides[1]))
                return []

            self.function.loop(height, 1, [], line)

        self.blocks(rows, side, lambda row, m: self.blocks(columns, max(side, 4), lambda column, n: block(row, m, column, n)))

    def square(self, source: str, step: int, target: str, target_step: int, side: int) -> None:
        """A square block transposed, by exchanging halves, quarters, ... between its rows."""
        v = self.lanes(side)
        rows = [v.load(self.at(source, (str(i), step)), 1) for i in range(side)]
        half = side // 2
        while half:
            low = [i - half + side if i & half else i for i in range(side)]
            high = [i + side if i & half else i + half for i in range(side)]
            for i in range(side):
                if not i & half:
                    a, b = rows[i], rows[i + half]
                    rows[i], rows[i + half] = shuffled(v, a, b, low), shuffled(v, a, b, high)
            half //= 2
        for i, row in enumerate(rows):
            v.store(self.at(target, (str(i), target_step)), 1, row)

    # Dots

    def dots(self, shape: Shape, pointers: Sequence[str]) -> None:
        out, a, b = (pointers[place] for place in shape.order)
        columns = 8
        while columns > min(shape.n, self.width):
            columns //= 2
        rows = even(shape.m, max(1, self.registers // 2 // columns))

        def panel(column: str, count: int) -> None:
            done = 0
            while done < count:  # a rest that is no power of two is cut into some
                part = self.function.plus(column, done), 1 << ((count - done).bit_length() - 1)
                self.blocks(shape.m, rows, partial(block, part))
                done += part[1]

        def block(part: Part, row: str, count: int) -> None:
            self.sums(shape, (out, a, b), (row, count), part)

        self.blocks(shape.n, columns, panel)

    def sums(self, shape: Shape, pointers: tuple[str, str, str], rows: Part, columns: Part) -> None:
        """Rows times columns (a power of two) sums along k."""
        (row, m), (column, n) = rows, columns
        out, a, b = pointers
        function = self.function
        a, b = self.at(a, (row, shape.a[0])), self.at(b, (column, shape.b[1]))
        whole, rest = shape.k // self.width * self.width, shape.k % self.width
        width = self.width if whole else 1 << (rest - 1).bit_length()

        def products(k: str, lanes: int, totals: Sequence[str] | None) -> list[str]:
            v = self.lanes(lanes)
            here_a, here_b = self.at(a, (k, shape.a[1])), self.at(b, (k, shape.b[0]))
            left = [v.load(self.at(here_a, (str(i), shape.a[0])), shape.a[1]) for i in range(m)]
            right = [v.load(self.at(here_b, (str(j), shape.b[1])), shape.b[0]) for j in range(n)]
            pairs = [(x, y) for x in left for y in right]
            if totals is None:
                return [v.mul(x, y) for x, y in pairs]
            return [v.intrinsic("fmuladd", x, y, total) for (x, y), total in zip(pairs, totals, strict=True)]

        v = self.lanes(width)
        totals = [v.const(0)] * (m * n)
        if rest:
            totals = [widened(v, total, rest, 0) for total in products(str(whole), rest, None)]
        if whole:
            kinds = [(v.type, total) for total in totals]
            totals = function.loop(whole, self.width, kinds, lambda k, values: products(k, self.width, values))
        out = self.at(out, (row, shape.out[0]), (column, shape.out[1]))
        together = m if shape.out == (n, 1) and m * n <= self.width and m & m - 1 == 0 else 1  # rows that lie in one piece
        for i in range(0, m, together):
            result = self.folded(totals[i * n : (i + together) * n], width)
            self.lanes(together * n).store(self.at(out, (str(i), shape.out[0])), shape.out[1], result)

    def folded(self, vectors: list[str], width: int) -> str:
        """The sums of the lanes of each of some vectors (a power of two of them), as the lanes of one."""
        each = width  # lanes that belong to one sum
        v, count = self.lanes(width), len(vectors)
        if each < count:
            fill = [widened(self.lanes(count), vector, width, 0) for vector in vectors]
            v, vectors, each = self.lanes(count), fill, count
        while each > 1 or len(vectors) > 1:
            half = each // 2
            if len(vectors) > 1:
                pairs = [(vectors[i], vectors[i + 1]) for i in range(0, len(vectors), 2)]
                places = [g * each + i for g in range(2 * v.count // each) for i in range(half)]
                target = v
            else:
                pairs = [(vectors[0], vectors[0])]
                places = [g * each + i for g in range(v.count // each) for i in range(half)]
                target = self.lanes(v.count // 2)
            vectors = [
                target.add(self.lane_or_vector(v, x, y, places), self.lane_or_vector(v, x, y, [p + half for p in places]))
                for x, y in pairs
            ]
            v, each = target, half
        return vectors[0]

    def lane_or_vector(self, v: Lanes, x: str, y: str, places: list[int]) -> str:
        if len(places) == 1:
            return self.function.put(f"extractelement {v.type} {x}, i64 {places[0]}")
        return shuffled(v, x, y, places)

    # BLAS

    def blas(self, shape: Shape, pointers: Sequence[str]) -> None:
        """C in rows is C^T in columns, Fortran's order: C^T = B^T A^T."""
        out, a, b = (pointers[place] for place in shape.order)
        function, scalar = self.function, self.scalar
        transpose_b, ld_b = _leading(shape.b, shape.k, shape.n)
        transpose_a, ld_a = _leading(shape.a, shape.m, shape.k)
        integers = [shape.n, shape.m, shape.k, ld_b, ld_a, max(shape.out[0], shape.n)]
        if not self.prologue:
            self.prologue += [f"  %int{i} = alloca i32" for i in range(6)] + ["  %tb = alloca i8", "  %ta = alloca i8"]
            self.prologue += [f"  %one = alloca {scalar.name}", f"  %zero = alloca {scalar.name}"]
        for i, value in enumerate(integers):
            function.do(f"store i32 {value}, ptr %int{i}")
        function.do(f"store i8 {ord(transpose_b)}, ptr %tb")
        function.do(f"store i8 {ord(transpose_a)}, ptr %ta")
        function.do(f"store {scalar.name} {self.lanes(1).const(1)}, ptr %one")
        function.do(f"store {scalar.name} {self.lanes(1).const(0)}, ptr %zero")
        given = ["%tb", "%ta", "%int0", "%int1", "%int2", "%one", b, "%int3", a, "%int4", "%zero", out, "%int5"]
        function.do(f"call void %a3({', '.join('ptr ' + value for value in given)})")


def _leading(strides: Pair, rows: int, columns: int) -> tuple[str, int]:
    """Fortran's flag and leading dimension for a matrix seen transposed."""
    if strides[1] == 1 and strides[0] >= columns:
        return "N", max(strides[0], 1)
    return "T", max(strides[1], rows, 1)


def _blas_fits(shape: Shape) -> bool:
    def fits(strides: Pair, rows: int, columns: int) -> bool:
        in_rows = strides[1] == 1 and strides[0] >= columns
        return max(strides) < 2**31 and (in_rows or (strides[0] == 1 and strides[1] >= rows))

    out = shape.out[1] == 1 and shape.out[0] >= shape.n and shape.out[0] < 2**31
    return out and fits(shape.a, shape.m, shape.k) and fits(shape.b, shape.k, shape.n)
