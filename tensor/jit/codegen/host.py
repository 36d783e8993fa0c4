"""This machine: whether LLVM is there, what its vectors are, and text to machine code.

llvmlite is imported when first needed (0.1 s). Compiled functions are kept by their name, a digest of their text: a kernel
that was seen before, in whatever program, costs nothing. Machine code lives as long as the process.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import hashlib
import importlib
import importlib.util
import itertools
import json
import os
import platform
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tensor.jit.codegen import image, objects
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


def _libraries() -> list[Path]:
    """Where llvmlite has LLVM."""
    spec = importlib.util.find_spec("llvmlite")
    places = () if spec is None else spec.submodule_search_locations or ()
    return [path for place in places for path in (Path(place) / "binding").glob("libllvmlite.*")]


def _link_unlocked() -> None:
    """Have the library linked that llvmlite is about to load: Python would keep all other threads waiting for it meanwhile."""
    if os.name == "posix":
        for path in _libraries():
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
    if _remembered is not None:
        return _remembered[0], _remembered[1]
    llvm = binding()
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def use_disk(directory: Path | None) -> None:
    """Keep finished code in a directory from one process to the next (None: do not). Nothing is kept unless this is called."""
    global _remembered
    _unkept.clear()
    objects.use(directory, tag="")
    store = objects.current()
    name = None if store is None else _identity()
    if directory is None or store is None:
        return
    content = None if name is None else store.get(name)
    if content is None:
        found = [*features(), str(binding().llvm_version_info)]
        if name is not None:
            store.put(name, json.dumps(found).encode())
    else:
        found = json.loads(content)
        _remembered = found[0], found[1]
    objects.use(directory, tag=f"{(found[0], found[1])} {found[2]} {OPTIMIZATION} images")


#: What LLVM said of this processor in an earlier process.
_remembered: tuple[str, str] | None = None


def _identity() -> str | None:
    """A digest of what the system says of this processor and of where LLVM is; None where it does not say enough."""
    try:
        processor = Path("/proc/cpuinfo").open(encoding="utf-8")  # noqa: SIM115
        with processor:
            lines = list(itertools.takewhile(str.strip, processor))
        said = sorted(line for line in lines if line.startswith(("vendor_id", "cpu family", "model", "stepping", "flags")))
        libraries = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in _libraries()]
    except OSError:
        return None
    if not libraries or not any(line.startswith("flags") for line in said):
        return None
    return "h" + hashlib.sha256(repr((said, libraries)).encode()).hexdigest()[:24]


@functools.cache
def vector_bytes() -> int:
    """The width of a vector register."""
    found = set(features()[1].split(","))
    return 64 if "+avx512f" in found else 32 if "+avx2" in found else 16


@functools.cache
def _machine(optimization: int, movable: bool = False) -> Any:
    """LLVM's code generator for this processor; ``movable``: for code that may lie anywhere."""
    llvm = binding()
    name, flags = features()
    target = llvm.Target.from_default_triple()
    if movable:
        return target.create_target_machine(cpu=name, features=flags, opt=optimization, reloc="pic", codemodel="small")
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
        if missing:
            _addresses.update(_loaded(missing))
            rest = [code for code in missing if code.name not in _addresses]
            if rest:
                _link(rest, entry)
        return {name: _addresses[name] for name in needed}


def _loaded(codes: list[Code]) -> dict[str, int]:
    """Those that are on disk."""
    store = objects.current()
    if store is None:
        return {}
    found = {code.name: content for code in codes if (content := store.get(code.name)) is not None}
    addresses = image.load({name: content for name, content in found.items() if image.is_image(content)})
    others = {name: content for name, content in found.items() if not image.is_image(content)}
    checked = {code.name for code in codes if code.name in others and set(code.needs) <= _library().keys()}
    return addresses | _linked({name: others[name] for name in checked})


def _link(codes: list[Code], entry: Code | None) -> None:
    """Compile what is nowhere else: in one piece, which is made faster than one each."""
    if not all(code.text for code in codes):
        raise Gone
    for name in sorted({name for code in codes for name in code.needs}):
        if name not in _library():  # linking would end the process
            msg = f"codegen: expected the C function {name}, which the mathematical library of this system lacks"
            raise RuntimeError(msg)
    for several, optimization in (([code for code in codes if code is not entry], OPTIMIZATION), ([entry], 0)):
        made = [code for code in several if code is not None and code in codes]
        if made:
            content = _generated(made, _machine(optimization))
            _addresses.update(_linked({made[0].name: content}, [code.name for code in made]))
            if objects.current() is not None:
                _unkept.extend((code, optimization) for code in made)


def _linked(contents: dict[str, bytes], names: list[str] | None = None) -> dict[str, int]:
    """The addresses of functions in object files."""
    if not contents:
        return {}
    for content in contents.values():
        _kept.append(content)
        _engine().add_object_file(binding().ObjectFileRef.from_data(content))
    _engine().finalize_object()
    return {name: _engine().get_function_address(name) for name in (names or contents)}


def keep_on_disk() -> None:
    """Write what has been made since to disk, if anything is kept there: a function at a time, so it is made once more.

    For a thread that has nothing more urgent to do.
    """
    while True:
        with _lock:  # asked for even if nothing is left: another thread may be writing the last one
            if not _unkept:
                return
            code, optimization = _unkept.pop()
            store = objects.current()
            if store is not None:
                content = None
                if image.SUPPORTED:
                    content = image.flat(_generated([code], _machine(optimization, movable=True)), code.name)
                store.put(code.name, content or _generated([code], _machine(optimization)))


def _generated(codes: list[Code], machine: Any) -> bytes:
    """Machine code of some functions, as an object file."""
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
