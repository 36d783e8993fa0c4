"""This machine: whether LLVM is there, what its vectors are, and text to machine code.

llvmlite is imported when first needed (0.1 s). Compiled functions are kept by their name, a digest of their text: a kernel
that was seen before, in whatever program, costs nothing. Machine code lives as long as the process.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib
import importlib.util
import os
import platform
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tensor.jit.codegen import objects
from tensor.jit.codegen.kernel import Code

OPTIMIZATION = 1  # of the code generator; entries, run once a step, get 0. The text is vector code already: no passes run over it
_lock = threading.RLock()


@functools.cache
def available() -> bool:
    """Whether programs can be compiled here: llvmlite is installed (`pip install llvmlite`)."""
    return importlib.util.find_spec("llvmlite") is not None


@functools.cache
def binding() -> Any:
    _link_unlocked()
    llvm = importlib.import_module("llvmlite.binding")

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name, address in _library().items():
        llvm.add_symbol(name, address)
    return llvm


def _link_unlocked() -> None:
    """Have the library linked that llvmlite is about to load: Python would keep all other threads waiting for it meanwhile."""
    if os.name != "posix":
        return
    spec = importlib.util.find_spec("llvmlite")
    for directory in (spec.submodule_search_locations or ()) if spec is not None else ():
        for path in (Path(directory) / "binding").glob("libllvmlite.*"):
            link = ctypes.CDLL(None).dlopen
            link.restype, link.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
            link(os.fsencode(path), os.RTLD_NOW)


_LIBM = (
    "sin", "cos", "tan", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh", "atan2", "hypot", "cbrt", "erf",
    "erfc", "fmod", "pow", "fma",
)  # fmt: skip


@functools.cache
def _library() -> dict[str, int]:
    """The addresses of C's mathematical functions."""
    name = ctypes.util.find_library("m") if platform.system() != "Windows" else "ucrtbase"
    library = ctypes.CDLL(name)
    found = {name + suffix: getattr(library, name + suffix, None) for name in _LIBM for suffix in ("", "f")}
    return {name: ctypes.cast(function, ctypes.c_void_p).value or 0 for name, function in found.items() if function}


@functools.cache
def features() -> tuple[str, str]:
    """The processor's name and its features, as LLVM spells them."""
    llvm = binding()
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def use_disk(directory: Path | None) -> None:
    """Keep finished code in a directory from one process to the next (None: do not). Nothing is kept unless this is called."""
    _unkept.clear()
    objects.use(directory, tag=f"{features()} {binding().llvm_version_info} {OPTIMIZATION}" if directory else "")


@functools.cache
def vector_bytes() -> int:
    """The width of a vector register."""
    found = set(features()[1].split(","))
    return 64 if "+avx512f" in found else 32 if "+avx2" in found else 16


@functools.cache
def _machine(optimization: int) -> Any:
    """LLVM's code generator for this processor."""
    llvm = binding()
    name, flags = features()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=name, features=flags, opt=optimization, jit=True)


@functools.cache
def _engine() -> Any:
    """The one linker of all finished code."""
    llvm = binding()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine(OPTIMIZATION))


class Gone(LookupError):
    """Machine code of which only the name is known is not on disk any more."""


_addresses: dict[str, int] = {}
_unkept: list[tuple[Code, int]] = []  # made, and not on disk yet; with the optimization it was made with
_kept: list[bytes] = []  # LLVM reads object files where they lie, now and later


def compiled(codes: Iterable[Code], entry: Code | None = None) -> dict[str, int]:
    """The addresses of functions by their names; those not seen before are compiled, or loaded from disk."""
    needed = {code.name: code for code in (*codes, *([] if entry is None else [entry]))}
    with _lock:
        missing = [code for name, code in needed.items() if name not in _addresses]
        made = [
            *_objects([code for code in missing if code is not entry], OPTIMIZATION),
            *_objects([code for code in missing if code is entry], 0),
        ]
        for content in made:
            _kept.append(content)
            _engine().add_object_file(binding().ObjectFileRef.from_data(content))
        if made:
            _engine().finalize_object()
        for code in missing:
            _addresses[code.name] = _engine().get_function_address(code.name)
        return {name: _addresses[name] for name in needed}


def _objects(codes: list[Code], optimization: int) -> list[bytes]:
    """Object files of some functions: those on disk, and one for all others, which is made faster than one each."""
    for name in sorted({name for code in codes for name in code.needs}):
        if name not in _library():  # linking would end the process
            msg = f"codegen: expected the C function {name}, which the mathematical library of this system lacks"
            raise RuntimeError(msg)
    store = objects.current()
    kept = {code.name: store.get(code.name) for code in codes} if store is not None else {}
    rest = [code for code in codes if kept.get(code.name) is None]
    if not all(code.text for code in rest):
        raise Gone
    if store is not None:
        _unkept.extend((code, optimization) for code in rest)
    return [content for content in kept.values() if content is not None] + ([_generated(rest, optimization)] if rest else [])


def keep_on_disk() -> None:
    """Write what has been made since to disk, if anything is kept there: a function at a time, so it is made once more.

    For a thread that has nothing more urgent to do.
    """
    while _unkept:
        with _lock:
            code, optimization = _unkept.pop() if _unkept else (None, 0)
            store = objects.current()
            if code is not None and store is not None:
                store.put(code.name, _generated([code], optimization))


def _generated(codes: list[Code], optimization: int) -> bytes:
    """Machine code of some functions, as an object file."""
    machine = _machine(optimization)
    declared = sorted({line for code in codes for line in code.declared})
    module = binding().parse_assembly("\n\n".join(["\n".join(declared), *(code.text for code in codes)]))
    module.triple = machine.triple
    content: bytes = machine.emit_object(module)
    return content


@functools.cache
def foreign(name: str) -> int:
    """The address of a BLAS routine, from the capsules that SciPy exports for Cython."""
    from scipy.linalg import cython_blas

    capsule = vars(cython_blas)["__pyx_capi__"][name]
    get_name, get_pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(get_pointer(capsule, get_name(capsule)))
