"""Finished code on disk, one small file a function.

A file is named after the function's digest and those of processor, features and LLVM version, so it can only be found by a
machine that would have made the same. It begins with a checksum: whatever is damaged or cut short is made anew. Files are
written aside and moved into place, so concurrent processes see whole ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from pathlib import Path

MOST_FILES = 4096
CHECKSUM = 32


class Objects:
    """A directory of object files; `tag` is everything besides the text that the code depends on."""

    def __init__(self, directory: Path, tag: str) -> None:
        self._directory = directory
        self._tag = hashlib.sha256(tag.encode()).hexdigest()[:12]
        self._written = 0

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}-{self._tag}.o"

    def get(self, name: str) -> bytes | None:
        """The code of a function, if a sound file has it."""
        try:
            content = self._path(name).read_bytes()
        except OSError:
            return None
        checksum, code = content[:CHECKSUM], content[CHECKSUM:]
        return code if hashlib.sha256(name.encode() + code).digest() == checksum else None

    def put(self, name: str, code: bytes) -> None:
        """Keep a function's code; a disk that is full or read-only is no error, since it can be made again."""
        with contextlib.suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
            if self._written % 256 == 0:
                self._prune()
            self._written += 1
            with tempfile.NamedTemporaryFile(dir=self._directory, suffix=".part", delete=False) as file:
                file.write(hashlib.sha256(name.encode() + code).digest() + code)
            Path(file.name).replace(self._path(name))

    def _prune(self) -> None:
        """Drop the oldest files beyond the limit."""
        files = sorted(self._directory.glob("*.o"), key=lambda path: path.stat().st_mtime)
        for path in files[: max(0, len(files) - MOST_FILES)]:
            path.unlink(missing_ok=True)


_current: Objects | None = None


def current() -> Objects | None:
    return _current


def use(directory: Path | None, tag: str) -> None:
    global _current
    _current = Objects(directory, tag) if directory else None
