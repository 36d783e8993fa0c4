"""LLVM, straight from the library that llvmlite brings.

llvmlite's modules take half as long to import as the functions of a step take to compile, and let one thread at a time into LLVM.
Of the library's functions these few are needed. Their signatures are the same in the releases of `KNOWN`; one that is not among
them is left alone, since a call with other arguments would end the process.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import platform
import re
import weakref
from collections.abc import Callable
from ctypes import POINTER, c_bool, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from pathlib import Path
from typing import Any

__all__ = ["Generator", "Linked", "libraries", "processor", "version", "why_not"]

_OUT = POINTER(c_char_p)  # a string that LLVM hands out
_SIGNATURES: dict[str, tuple[Any, ...]] = {  # the result, then the arguments
    "AddSymbol": (None, c_char_p, c_void_p),
    "ContextCreate": (c_void_p,),
    "ContextDispose": (None, c_void_p),
    "CreateMCJITCompiler": (c_void_p, c_void_p, c_void_p, c_bool, _OUT),
    "CreateObjectFile": (c_void_p, c_char_p, c_size_t),
    "CreateTargetMachine": (
        c_void_p, c_void_p, c_char_p, c_char_p, c_char_p, c_int, c_char_p, c_char_p, c_int, c_int, c_char_p,
    ),
    "DisposeExecutionEngine": (None, c_void_p),
    "DisposeMemoryBuffer": (None, c_void_p),
    "DisposeModule": (None, c_void_p),
    "DisposeObjectFile": (None, c_void_p),
    "DisposeString": (None, c_char_p),
    "FinalizeObject": (None, c_void_p),
    "GetBufferSize": (c_size_t, c_void_p),
    "GetBufferStart": (c_void_p, c_void_p),
    "GetDefaultTargetTriple": (None, _OUT),
    "GetFunctionAddress": (c_uint64, c_void_p, c_char_p),
    "GetHostCPUFeatures": (c_int, _OUT),
    "GetHostCPUName": (None, _OUT),
    "GetTargetFromTriple": (c_void_p, c_char_p, _OUT),
    "GetVersionInfo": (c_uint,),
    "InitializeNativeAsmPrinter": (None,),
    "InitializeNativeTarget": (None,),
    "MCJITAddObjectFile": (None, c_void_p, c_void_p),
    "ParseAssembly": (c_void_p, c_void_p, c_char_p, _OUT),
    "SetTarget": (None, c_void_p, c_char_p),
    "TargetMachineEmitToMemory": (c_void_p, c_void_p, c_void_p, c_int, _OUT),
}  # fmt: skip


#: The first and the last release of llvmlite that this was tried with; pyproject.toml has the same.
KNOWN = (0, 45), (0, 50)


def _places() -> list[Path]:
    """Where llvmlite is installed."""
    spec = importlib.util.find_spec("llvmlite")
    return [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]


def _release(place: Path) -> tuple[int, ...]:
    """Which llvmlite it is; none where its file does not say."""
    try:
        said = re.search(r"version_version = '(\d+)\.(\d+)", (place / "_version.py").read_text(encoding="utf-8"))
    except OSError:
        return ()
    return () if said is None else tuple(map(int, said.groups()))


@functools.cache
def libraries() -> list[Path]:
    """Where llvmlite has LLVM; nowhere if it is not installed, or is not known."""
    names = ("libllvmlite.so", "libllvmlite.dylib", "llvmlite.dll")
    places = [place for place in _places() if KNOWN[0] <= _release(place) <= KNOWN[1]]
    return [path for place in places for name in names if (path := place / "binding" / name).exists()]


def why_not() -> str:
    """What is in the way where there are no `libraries`."""
    first, last = (".".join(map(str, release)) for release in KNOWN)
    for place in _places():
        release = _release(place)
        if KNOWN[0] <= release <= KNOWN[1]:
            return f"expected the library of llvmlite in {place / 'binding'}, found none"
        got = ".".join(map(str, release)) or "one that does not say which it is"
        return f"expected a release of llvmlite from {first} to {last}, got {got}"
    return "the package llvmlite is not installed"


@functools.cache
def _library() -> ctypes.CDLL:
    path = str(libraries()[0])
    if os.name != "posix":
        return ctypes.CDLL(path)
    link = ctypes.CDLL(None).dlopen  # called by itself, since `CDLL` would keep all other threads waiting for it
    link.restype, link.argtypes = c_void_p, [c_char_p, c_int]
    handle = link(os.fsencode(path), os.RTLD_NOW)
    return ctypes.CDLL(path, handle=handle) if handle else ctypes.CDLL(path)  # which says what is wrong


@functools.cache
def _function(name: str) -> Callable[..., Any]:
    found = getattr(_library(), f"LLVMPY_{name}")
    found.restype, *found.argtypes = _SIGNATURES[name]
    return found  # type: ignore[no-any-return]


@functools.cache
def _triple() -> bytes:
    """The kind of this system, once LLVM is ready to generate code for it."""
    _function("InitializeNativeTarget")()
    _function("InitializeNativeAsmPrinter")()
    return _said("GetDefaultTargetTriple").encode()


def _taken(out: c_char_p) -> str:
    """A string that was handed out."""
    text = (out.value or b"").decode()
    if out.value is not None:
        _function("DisposeString")(out)
    return text


def _said(name: str) -> str:
    out = c_char_p()
    _function(name)(ctypes.byref(out))
    return _taken(out)


def _made(name: str, *arguments: Any) -> int:
    """What a function makes that may say why it cannot."""
    why = c_char_p()
    made = _function(name)(*arguments, ctypes.byref(why))
    said = _taken(why)
    if not made:
        msg = f"codegen: LLVM: {name}: {said}"
        raise RuntimeError(msg)
    return int(made)


def processor() -> tuple[str, str]:
    """This processor's name and its features, as LLVM spells them."""
    features = [feature for feature in _said("GetHostCPUFeatures").split(",") if feature]
    return _said("GetHostCPUName"), ",".join(sorted(features, key=lambda feature: feature[1:]))


def version() -> int:
    """The version of LLVM."""
    return int(_function("GetVersionInfo")())


class Generator:
    """Makes object files of text, for a processor; one thread at a time may use it.

    ``movable``: of code that may lie anywhere, else of code for `Linked`.
    """

    def __init__(self, processor: tuple[str, str], optimization: int, movable: bool) -> None:
        triple = _triple()
        self._triple = triple if movable or os.name != "nt" else triple + b"-elf"  # LLVM's own linker takes no other there
        target = _made("GetTargetFromTriple", triple)
        kind = (b"pic", b"small", 0, 0) if movable else (b"default", b"jitdefault", 0, 1)
        name, features = (text.encode() for text in processor)
        self.address = _function("CreateTargetMachine")(target, self._triple, name, features, optimization, *kind, b"")

    def object(self, text: str) -> bytes:
        """Machine code of functions, as an object file."""
        context = _function("ContextCreate")()
        try:
            module = _made("ParseAssembly", context, text.encode())
            _function("SetTarget")(module, self._triple)
            buffer = _made("TargetMachineEmitToMemory", self.address, module, 1)
            content = ctypes.string_at(_function("GetBufferStart")(buffer), _function("GetBufferSize")(buffer))
            _function("DisposeMemoryBuffer")(buffer)
            _function("DisposeModule")(module)
            return content
        finally:
            _function("ContextDispose")(context)


class Linked:
    """An object file in memory, ready to run as long as this lives; ``symbols`` are the C functions that it calls."""

    def __init__(self, content: bytes, processor: tuple[str, str], symbols: dict[str, int]) -> None:
        for name, address in symbols.items():
            _function("AddSymbol")(name.encode(), address)
        self._content = content  # LLVM reads it where it lies
        context = _function("ContextCreate")()
        module = _made("ParseAssembly", context, b"")
        generator = Generator(processor, 1, movable=False)
        own_memory = platform.machine().lower() in ("arm64", "aarch64")  # as llvmlite has it
        self._engine = _made("CreateMCJITCompiler", module, generator.address, own_memory)
        file = _function("CreateObjectFile")(content, len(content))
        _function("MCJITAddObjectFile")(self._engine, file)
        _function("DisposeObjectFile")(file)
        _function("FinalizeObject")(self._engine)
        weakref.finalize(self, _forget, self._engine, context).atexit = False

    def address(self, name: str) -> int:
        return int(_function("GetFunctionAddress")(self._engine, name.encode()))


def _forget(engine: int, context: int) -> None:
    _function("DisposeExecutionEngine")(engine)
    _function("ContextDispose")(context)
