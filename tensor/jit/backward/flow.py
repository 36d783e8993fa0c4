"""Functions with branches and loops of any number of rounds: `tensor.jit.codegen.text` for code that decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tensor.jit.codegen.text import Function

__all__ = ["Flow", "new_array"]


class Flow(Function):
    """A function that goes to the block ``%no`` where something is not as it has to be."""

    def __init__(self, wide: bool = False) -> None:
        super().__init__(wide)
        self.prologue: list[str] = []

    # --- control ----------------------------------------------------------------------------------------------------------

    def demand(self, condition: str, otherwise: str = "no") -> None:
        """Go on only where this holds."""
        go_on = self.label()
        self.do(f"br i1 {condition}, label %{go_on}, label %{otherwise}")
        self.start(go_on)

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """A block for where this holds."""
        inside, after = self.label(), self.label()
        self.do(f"br i1 {condition}, label %{inside}, label %{after}")
        self.start(inside)
        yield
        self.do(f"br label %{after}")
        self.start(after)

    @contextmanager
    def unless(self, condition: str) -> Iterator[None]:
        """A block for where this does not hold."""
        with self.when(self.put(f"xor i1 {condition}, true")):
            yield

    @contextmanager
    def each(self, stop: str | Callable[[], str], step: int = 1, start: str = "0") -> Iterator[str]:
        """``for i in range(start, stop, step)``; what a function gives is asked before every round."""
        head, inside, done, before = self.label(), self.label(), self.label(), self.block
        self.do(f"br label %{head}")
        self.start(head)
        place = len(self.lines)
        self._count += 1
        index = f"%v{self._count}"
        more = self.put(f"icmp slt i64 {index}, {stop if isinstance(stop, str) else stop()}")
        self.do(f"br i1 {more}, label %{inside}, label %{done}")
        self.start(inside)
        yield index
        following = self.put(f"add i64 {index}, {step}")
        self.lines.insert(place, f"  {index} = phi i64 [ {start}, %{before} ], [ {following}, %{self.block} ]")
        self.do(f"br label %{head}")
        self.start(done)

    @contextmanager
    def while_(self, condition: Callable[[], str]) -> Iterator[None]:
        """A loop that asks before every round."""
        head, inside, done = self.label(), self.label(), self.label()
        self.do(f"br label %{head}")
        self.start(head)
        self.do(f"br i1 {condition()}, label %{inside}, label %{done}")
        self.start(inside)
        yield
        self.do(f"br label %{head}")
        self.start(done)

    def finished(self) -> list[str]:
        """The body, with what it has on the stack."""
        self.lines[:0] = self.prologue
        self.prologue = []
        return self.lines

    # --- memory -----------------------------------------------------------------------------------------------------------

    def stack(self, words: int = 1) -> str:
        """Words on the stack."""
        name = f"%stack{len(self.prologue)}"
        self.prologue.append(f"  {name} = alloca i64, i64 {words}, align {64 if words >= 8 else 8}")
        return name

    def variable(self, start: str = "0") -> str:
        """A word that changes."""
        name = self.stack()
        self.set(name, start)
        return name

    def at(self, pointer: str, index: int | str) -> str:
        """The address of a word."""
        return pointer if str(index) == "0" else self.put(f"getelementptr i64, ptr {pointer}, i64 {index}")

    def get(self, pointer: str, index: int | str = 0, kind: str = "i64") -> str:
        """A word."""
        return self.put(f"load {kind}, ptr {self.at(pointer, index)}")

    def set(self, pointer: str, value: str, index: int | str = 0, kind: str = "i64") -> None:
        """Write a word."""
        self.do(f"store {kind} {value}, ptr {self.at(pointer, index)}")

    def bytes_on(self, pointer: str, offset: int | str, kind: str = "ptr") -> str:
        """What lies some bytes behind an address."""
        return self.put(f"load {kind}, ptr {self.put(f'getelementptr i8, ptr {pointer}, i64 {offset}')}")

    # --- numbers ----------------------------------------------------------------------------------------------------------

    def same(self, a: str, b: str, kind: str = "i64") -> str:
        """Whether two words are equal."""
        return self.put(f"icmp eq {kind} {a}, {b}")

    def there(self, pointer: str) -> str:
        """Whether an address is not null."""
        return self.put(f"icmp ne ptr {pointer}, null")

    def byte(self, word: str, place: int) -> str:
        """One of the eight bytes of a word."""
        shifted = word if place == 0 else self.put(f"lshr i64 {word}, {8 * place}")
        return self.put(f"and i64 {shifted}, 255")

    def add(self, a: str, b: int | str) -> str:
        """a + b."""
        return self.put(f"add i64 {a}, {b}")

    def mul(self, a: str, b: int | str) -> str:
        """a * b."""
        return self.put(f"mul i64 {a}, {b}")

    def advance(self, variable: str, by: int | str = 1) -> str:
        """Add to a variable; what it was."""
        before = self.get(variable)
        self.set(variable, self.add(before, by))
        return before

    def call(self, kind: str, function: str, *arguments: str) -> str:
        """The result of a call."""
        return self.put(f"call {kind} {function}({', '.join(arguments)})")

    def any_of(self, conditions: Sequence[str]) -> str:
        """Whether one of them holds."""
        found = conditions[0]
        for condition in conditions[1:]:
            found = self.put(f"or i1 {found}, {condition}")
        return found


#: NumPy's numbers of element types, by their bytes, and its flags of an array that is contiguous, aligned and writeable.
_TYPE, _FLAGS = {4: 11, 8: 12}, 0x501


def new_array(f: Flow, known: Callable[[str], str], itemsize: int, lengths: str, dims: str, data: str = "null") -> str:
    """An array of NumPy's over some memory, or with its own; leaves for ``%error`` where there is none to be had."""
    made = f.call(
        "ptr", known("PyArray_New"), f"ptr {known('ndarray')}", f"i32 {f.put(f'trunc i64 {dims} to i32')}", f"ptr {lengths}",
        f"i32 {_TYPE[itemsize]}", "ptr null", f"ptr {data}", "i32 0", f"i32 {0 if data == 'null' else _FLAGS}", "ptr null",
    )  # fmt: skip
    f.demand(f.there(made), "error")
    return made
