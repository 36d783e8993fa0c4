"""Finished code on disk, one small file a function.

A file is named after the function's digest and those of processor, features and LLVM version, so it can only be found by a
machine that would have made the same. It begins with a checksum: whatever is damaged or cut short is made anew. Files are
written aside and moved into place, so concurrent processes see whole ones. The files used least recently go first.

They lie in the user's directory for caches, or where the environment variable ``RLCORE_CACHE`` says; with an empty one nothing is
kept. What is loaded is run, so a directory that others may write into is not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import tempfile
import time
from pathlib import Path

log = logging.getLogger("tensor.jit")

MOST_FILES = 4096
CHECKSUM = 32


class Objects:
    """A directory of object files; `tag` is everything besides the text that the code depends on."""

    def __init__(self, directory: Path, tag: str) -> None:
        self._directory, self._text = directory, os.fspath(directory)
        self._tag = hashlib.sha256(tag.encode()).hexdigest()[:12]
        self._written = 0

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}-{self._tag}.o"

    def get(self, name: str) -> bytes | None:
        """The code of a function, if a sound file has it."""
        path = f"{self._text}/{name}-{self._tag}.o"
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # a step that is on disk waits for thirty of them
                content = file.read()
        except OSError:
            return None
        checksum, code = content[:CHECKSUM], content[CHECKSUM:]
        if hashlib.sha256(name.encode() + code).digest() != checksum:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used just now
        return code

    def put(self, name: str, code: bytes) -> None:
        """Keep a function's code; a disk that is full or read-only is no error, since it can be made again."""
        with contextlib.suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._written % 256 == 0:
                self._prune()
            self._written += 1
            with tempfile.NamedTemporaryFile(dir=self._directory, suffix=".part", delete=False) as file:
                file.write(hashlib.sha256(name.encode() + code).digest() + code)
            Path(file.name).replace(self._path(name))

    def _prune(self) -> None:
        """Where there are more files than the limit, drop the oldest quarter of it besides: looking at all takes a while."""
        names = os.listdir(self._directory)  # noqa: PTH208  # no look at each
        files = [self._directory / name for name in names if name.endswith(".o")]
        if len(files) > MOST_FILES:
            for path in sorted(files, key=_used)[: len(files) - MOST_FILES + MOST_FILES // 4]:
                path.unlink(missing_ok=True)
        for left in (self._directory / name for name in names if name.endswith(".part")):  # by a process that was killed
            if 0 < _used(left) < time.time() - 3600:
                left.unlink(missing_ok=True)


def _used(path: Path) -> float:
    """When a file was used last; 0 if another process has dropped it."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def default_directory() -> Path | None:
    """Where finished code is kept unless something else is said; None for nowhere."""
    named = os.environ.get("RLCORE_CACHE")
    if named is not None:
        return Path(named) if named else None
    system = platform.system()
    if system == "Windows":
        home = os.environ.get("LOCALAPPDATA")
    else:
        home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ("Library/Caches" if system == "Darwin" else ".cache"))
    return Path(home) / "rlcore" / "kernels" if home else None


def is_private(directory: Path) -> bool:
    """Whether nobody but this user may write into a directory, or make it."""
    if not hasattr(os, "getuid"):
        return True
    try:
        found = directory.stat()
    except FileNotFoundError:
        return True
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


_current: Objects | None = None


def current() -> Objects | None:
    return _current


def use(directory: Path | None, tag: str) -> None:
    global _current
    if directory is not None and not is_private(directory):
        log.warning("compile: machine code is not kept in %s, which others may write into", directory)
        directory = None
    _current = Objects(directory, tag) if directory else None
