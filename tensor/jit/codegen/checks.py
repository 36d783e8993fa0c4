"""Lists of rows (`tensor.jit.watch`) as machine code: one function for all of them, that goes through a table."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterable
from typing import Any

from tensor.jit import watch
from tensor.jit.codegen import host
from tensor.jit.codegen.entry import builtin
from tensor.jit.codegen.kernel import Code, Finished, finish
from tensor.jit.codegen.text import Function

__all__ = ["checker", "make_check"]

#: What each kind of row does: the words a, b and c of the row are at hand, and `%holds` or a register is to be made.
_TAKE = "  %{kind}.r{x} = getelementptr ptr, ptr %registers, i64 %{x}\n  %{kind}.{x} = load ptr, ptr %{kind}.r{x}\n"
_AT = "  %{kind}.at = getelementptr i8, ptr %{kind}.a, i64 %b\n"
_PUT = (
    "  %{kind}.to = getelementptr ptr, ptr %registers, i64 %{to}\n  store ptr %{kind}.value, ptr %{kind}.to\n"
    "  %{kind}.holds = icmp ne ptr %{kind}.value, null\n"
)
_FIND = "  %{kind}.value = call ptr %get(ptr {dict}, ptr %{kind}.key)\n"
_BODIES = {
    watch.WORD: "  %{kind}.p = inttoptr i64 %a to ptr\n  %{kind}.v = load i64, ptr %{kind}.p\n"
    "  %{kind}.holds = icmp eq i64 %{kind}.v, %b\n",
    watch.ENTRY: "  %{kind}.dict = inttoptr i64 %a to ptr\n  %{kind}.key = inttoptr i64 %b to ptr\n"
    + _FIND.replace("{dict}", "%{kind}.dict")
    + "  %{kind}.v = ptrtoint ptr %{kind}.value to i64\n  %{kind}.holds = icmp eq i64 %{kind}.v, %c\n",
    watch.IS: _TAKE.replace("{x}", "a")
    + "  %{kind}.v = ptrtoint ptr %{kind}.a to i64\n  %{kind}.holds = icmp eq i64 %{kind}.v, %b\n",
    watch.OTHER: _TAKE.replace("{x}", "a")
    + "  %{kind}.v = ptrtoint ptr %{kind}.a to i64\n  %{kind}.holds = icmp ne i64 %{kind}.v, %b\n",
    watch.FIELD: _TAKE.replace("{x}", "a")
    + _AT
    + "  %{kind}.v = load i64, ptr %{kind}.at\n  %{kind}.holds = icmp eq i64 %{kind}.v, %c\n",
    watch.HALF: _TAKE.replace("{x}", "a")
    + _AT
    + "  %{kind}.h = load i32, ptr %{kind}.at\n  %{kind}.v = sext i32 %{kind}.h to i64\n"
    "  %{kind}.holds = icmp eq i64 %{kind}.v, %c\n",
    watch.FOLLOW: _TAKE.replace("{x}", "a") + _AT + "  %{kind}.value = load ptr, ptr %{kind}.at\n" + _PUT.replace("{to}", "c"),
    watch.FIND: _TAKE.replace("{x}", "a")
    + "  %{kind}.key = inttoptr i64 %b to ptr\n"
    + _FIND.replace("{dict}", "%{kind}.a")
    + _PUT.replace("{to}", "c"),
    watch.SAME: _TAKE.replace("{x}", "a") + _TAKE.replace("{x}", "b") + "  %{kind}.holds = icmp eq ptr %{kind}.a, %{kind}.b\n",
    watch.APART: _TAKE.replace("{x}", "a") + _TAKE.replace("{x}", "b") + "  %{kind}.holds = icmp ne ptr %{kind}.a, %{kind}.b\n",
    watch.LOAD: "  %{kind}.p = inttoptr i64 %a to ptr\n  %{kind}.value = load ptr, ptr %{kind}.p\n" + _PUT.replace("{to}", "b"),
}


def _text() -> Function:
    """`check(self, args, count)`: the arguments go into registers; True if all rows hold, else False."""
    function = Function()
    kinds = {number: f"k{number}" for number in _BODIES}
    function.lines += [
        f"  %registers = alloca ptr, i64 {watch.REGISTERS}",
        "  %at.table = getelementptr i8, ptr %self, i64 16",
        "  %table = load ptr, ptr %at.table",
        *(
            f"  %at.{name} = getelementptr i64, ptr %table, i64 {place}\n  %{name} = load {kind}, ptr %at.{name}"
            for place, (name, kind) in enumerate(_HEADER)
        ),
        "  br label %take",
        "take:",
        "  %i = phi i64 [ 0, %entry ], [ %i.next, %taken ]",
        "  %more = icmp ult i64 %i, %count",
        "  br i1 %more, label %taken, label %first",
        "taken:",
        "  %from = getelementptr ptr, ptr %args, i64 %i",
        "  %argument = load ptr, ptr %from",
        "  %to = getelementptr ptr, ptr %registers, i64 %i",
        "  store ptr %argument, ptr %to",
        "  %i.next = add i64 %i, 1",
        "  br label %take",
        "first:",
        f"  %rows = getelementptr i64, ptr %table, i64 {len(_HEADER)}",
        f"  %end = getelementptr [4 x i64], ptr %rows, i64 %{_HEADER[0][0]}",
        "  br label %next",
        "next:",
        "  %row = phi ptr [ %rows, %first ], [ %row.next, %held ]",
        "  %over = icmp eq ptr %row, %end",
        "  br i1 %over, label %yes, label %check",
        "check:",
        "  %row.next = getelementptr [4 x i64], ptr %row, i64 1",
        *(
            f"  %p{name} = getelementptr i64, ptr %row, i64 {place}\n  %{name} = load i64, ptr %p{name}"
            for place, name in enumerate(("kind", "a", "b", "c"))
        ),
        "  switch i64 %kind, label %no [ " + " ".join(f"i64 {n}, label %{kind}" for n, kind in kinds.items()) + " ]",
    ]
    for number, body in _BODIES.items():
        kind = kinds[number]
        function.lines += [
            f"{kind}:",
            body.replace("{kind}", kind).rstrip("\n"),
            f"  br i1 %{kind}.holds, label %held, label %no",
        ]
    function.lines += [
        "held:", "  br label %next",
        "yes:", "  call void %keep(ptr %true)", "  ret ptr %true",
        "no:", "  call void %keep(ptr %false)", "  ret ptr %false",
    ]  # fmt: skip
    return function


_HEADER = (("rows.count", "i64"), ("get", "ptr"), ("keep", "ptr"), ("true", "ptr"), ("false", "ptr"))


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def make_check(rows: Iterable[watch.Row], *kept: object) -> Callable[..., bool] | None:
    """A builtin that says whether all rows hold, given what the first registers are to hold.

    None where the layout of objects is not known.
    ``kept`` are objects whose addresses are in the rows.
    """
    if not watch.layout_is_known():
        return None
    api = ctypes.pythonapi
    rows = list(rows)
    words = [len(rows), _address(api.PyDict_GetItemWithError), _address(api.Py_IncRef), id(True), id(False)]
    for row in rows:
        words += row
    made: Callable[..., bool] = builtin(_compiled().address, words, *kept)
    return made


@functools.cache
def _code() -> Code:
    return finish(_text(), [], "ptr %self, ptr %args, i64 %count", "ptr")


@functools.cache
def _compiled() -> Finished:
    return host.compiled([_code()])[_code().name]


def checker_is_ready() -> bool:
    """Whether `checker` waits for nobody."""
    return not watch.layout_is_known() or _compiled.cache_info().currsize > 0


def checker(soon: bool = False) -> Callable[..., Callable[..., bool] | None]:
    """`make_check`, ready for use: its machine code is there, or is made together with what is compiled next (``soon``)."""
    if watch.layout_is_known():
        if soon:
            host.soon(_code())
        else:
            _compiled()
    return make_check
