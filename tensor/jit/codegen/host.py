"""This machine: whether LLVM is there, what its vectors are, and text to machine code.

LLVM is loaded when first needed. Compiled functions are kept by their name, a digest of their text: a kernel that was seen
before, in whatever program, costs nothing. Machine code lives as long as a program uses it, and some of what was used last.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import functools
import hashlib
import itertools
import json
import os
import platform
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from weakref import WeakValueDictionary

from tensor.jit.codegen import image, llvm, objects
from tensor.jit.codegen.kernel import Code, Finished

OPTIMIZATION = 1  # of the code generator; entries, run once a step, get 0. The text is vector code already: no passes run over it
_lock = threading.RLock()


def available() -> bool:
    """Whether programs can be compiled here: llvmlite is installed (`pip install 'rlcore[compile]'`)."""
    return bool(llvm.libraries())


def why_not() -> str:
    """Why there is none of it, for people."""
    return f"functions are replayed by NumPy: {llvm.why_not()}; pip install 'rlcore[compile]'"


_LIBM = (
    "sin", "cos", "tan", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh", "atan2", "hypot", "cbrt", "erf",
    "erfc", "fmod", "pow", "fma",
)  # fmt: skip


@functools.cache
def _mathematics() -> dict[str, int]:
    """The addresses of C's mathematical functions, for LLVM's linker."""
    name = ctypes.util.find_library("m") if platform.system() != "Windows" else "ucrtbase"
    library = ctypes.CDLL(name)
    found = {name + suffix: getattr(library, name + suffix, None) for name in _LIBM for suffix in ("", "f")}
    return {name: ctypes.cast(function, ctypes.c_void_p).value or 0 for name, function in found.items() if function}


@functools.cache
def features() -> tuple[str, str]:
    """The processor's name and its features, as LLVM spells them."""
    if _remembered is not None:
        return _remembered[0], _remembered[1]
    return llvm.processor()


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
        found = [*features(), str(llvm.version())]
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
        libraries = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in llvm.libraries()]
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
def _generator(optimization: int, movable: bool, hand: int = 0) -> llvm.Generator:
    """LLVM's code generator for this processor; each ``hand`` that works at the same time has its own."""
    return llvm.Generator(features(), optimization, movable)


class Gone(LookupError):
    """Machine code of which only the name is known is not on disk any more."""


#: Bytes of code that stay though no program uses them any more, since the next one may.
MOST_UNUSED = 1 << 20
_finished: WeakValueDictionary[str, Finished] = WeakValueDictionary()
_recent: OrderedDict[str, Finished] = OrderedDict()  # used last comes last
_recent_size = 0
_unkept: list[tuple[Code, int, bytes | None]] = []  # made, and not on disk yet: the optimization it was made with, and its image


_soon: dict[str, Code] = {}


def soon(code: Code) -> None:
    """Have a function compiled together with those that are compiled next, which takes less time than by itself."""
    with _lock:
        if code.name not in _finished:
            _soon[code.name] = code


def compiled(codes: Iterable[Code], entry: Code | None = None) -> dict[str, Finished]:
    """Machine code of functions, by their names; those not seen before are compiled, or loaded from disk."""
    needed = {code.name: code for code in (*codes, *([] if entry is None else [entry]))}
    with _lock:
        needed |= _soon
        _soon.clear()
        found = {name: there for name in needed if (there := _finished.get(name)) is not None}
        missing = [code for name, code in needed.items() if name not in found]
        if missing:
            found |= _loaded(missing)
            rest = [code for code in missing if code.name not in found]
            if rest:
                found |= _made(rest, entry)
        _used(found)
        return found


def at_hand(codes: Iterable[Code]) -> dict[str, Finished] | None:
    """Machine code of functions, if all of it is in the process; waits for nobody."""
    found = {}
    for code in codes:
        there = _finished.get(code.name)
        if there is None:
            return None
        found[code.name] = there
    if _lock.acquire(blocking=False):
        try:
            _used(found)
        finally:
            _lock.release()
    return found


def _used(found: dict[str, Finished]) -> None:
    """Have functions stay for a while, longer than those that were used earlier."""
    global _recent_size
    for name, function in found.items():
        _finished[name] = function
        before = _recent.pop(name, None)
        _recent_size += function.size - (0 if before is None else before.size)
        _recent[name] = function
    while _recent_size > MOST_UNUSED:
        _recent_size -= _recent.popitem(last=False)[1].size


def forget_unused() -> None:
    """Give back the memory of all code that no program uses."""
    global _recent_size
    with _lock:
        _recent.clear()
        _recent_size = 0


def _loaded(codes: Sequence[Code]) -> dict[str, Finished]:
    """Those that are on disk."""
    store = objects.current()
    if store is None:
        return {}
    found = {code.name: content for code in codes if (content := store.get(code.name)) is not None}
    loaded = image.load({name: content for name, content in found.items() if image.is_image(content)})
    for code in codes:
        if code.name in found and not image.is_image(found[code.name]) and set(code.needs) <= _mathematics().keys():
            loaded |= _linked(found[code.name], [code.name])
    return loaded


def _made(codes: Sequence[Code], entry: Code | None) -> dict[str, Finished]:
    """Compile what is nowhere else."""
    if not all(code.text for code in codes):
        raise Gone
    for name in sorted({name for code in codes for name in code.needs}):
        if not (image.SUPPORTED and image.c_function(name)) and name not in _mathematics():  # linking would end the process
            msg = f"codegen: expected the C function {name}, which the mathematical library of this system lacks"
            raise RuntimeError(msg)
    entries = [code for code in codes if code is entry]
    kernels = [code for code in codes if code is not entry]
    pieces = [(share, OPTIMIZATION) for share in _shares(kernels, sum(len(code.text) for code in entries) // 4)]
    pieces += [([code], 0) for code in entries]
    made: dict[str, Finished] = {}
    found: dict[str, bytes] = {}
    contents = _generated_at_once(pieces, image.SUPPORTED)
    for (several, optimization), content in zip(pieces, contents, strict=True):
        images = image.images(content)
        if not images:
            unmovable = _generated(several, optimization, movable=False) if image.SUPPORTED else content
            made |= _linked(unmovable, [code.name for code in several])
        found |= images
        if objects.current() is not None:
            _unkept.extend((code, optimization, images.get(code.name)) for code in several)
    return made | image.load(found)


#: Characters of text that are worth a second hand.
MUCH = 10_000


def _shares(codes: Sequence[Code], more: int) -> list[list[Code]]:
    """What to compile in one piece, which is made faster than one each; two for two hands where it is much.

    ``more``: characters of text that the second has to compile besides.
    """
    if not codes:
        return []
    if _hands() < 2 or len(codes) < 2 or sum(len(code.text) for code in codes) < MUCH:
        return [list(codes)]
    shares: tuple[list[Code], list[Code]] = [], []
    sizes = [0, more]
    for code in sorted(codes, key=lambda code: -len(code.text)):
        lighter = sizes.index(min(sizes))
        shares[lighter].append(code)
        sizes[lighter] += len(code.text) + 1000  # a function costs something of its own
    return list(shares)


def _hands() -> int:
    """How many threads may compile: one processor is left to the steps that go on meanwhile, unless somebody waits."""
    return _processors() if _waiting else _processors() - 1


@functools.cache
def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_waiting: list[None] = []


@contextlib.contextmanager
def awaited() -> Iterator[None]:
    """Nothing but machine code is waited for in this block, so that it may have all processors."""
    _waiting.append(None)
    try:
        yield
    finally:
        _waiting.pop()


def _generated_at_once(pieces: Sequence[tuple[Sequence[Code], int]], movable: bool) -> list[bytes]:
    """An object file for each piece; the first of several by a second hand if there is one: LLVM needs no interpreter."""
    found: list[bytes | BaseException] = []

    def other() -> None:
        try:
            found.append(_generated(*pieces[0], movable, hand=1))
        except BaseException as e:  # is raised where it is waited for
            found.append(e)

    hand = threading.Thread(target=other, name="tensor.jit.hand", daemon=True)
    try:
        if len(pieces) > 1 and _hands() > 1:
            hand.start()
    except RuntimeError:  # there are no more threads to be had
        pass
    helped = hand.ident is not None
    mine = [_generated(*piece, movable) for piece in pieces[helped:]]
    if not helped:
        return mine
    hand.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    return [found[0], *mine]


def _linked(content: bytes, names: Sequence[str]) -> dict[str, Finished]:
    """Functions of an object file that has no image."""
    linked = llvm.Linked(content, features(), _mathematics())
    return {name: Finished(linked.address(name), len(content) // len(names), linked) for name in names}


def keep_on_disk() -> None:
    """Write what has been made since to disk, if anything is kept there.

    For a thread that has nothing more urgent to do.
    """
    while True:
        with _lock:  # asked for even if nothing is left: another thread may be writing the last one
            if not _unkept:
                return
            code, optimization, made = _unkept.pop()
            store = objects.current()
            if store is not None:
                store.put(code.name, made or _generated([code], optimization, movable=False))


def _generated(codes: Sequence[Code], optimization: int, movable: bool, hand: int = 0) -> bytes:
    """Machine code of some functions, as an object file."""
    declared = sorted({line for code in codes for line in code.declared})
    text = "\n\n".join(["\n".join(declared), *(code.text for code in codes)])
    return _generator(optimization, movable, hand).object(text)


@functools.cache
def foreign(name: str) -> int:
    """The address of a BLAS routine, from the capsules that SciPy exports for Cython."""
    from scipy.linalg import cython_blas

    capsule = vars(cython_blas)["__pyx_capi__"][name]
    get_name, get_pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(get_pointer(capsule, get_name(capsule)))
