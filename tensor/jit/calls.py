"""What a function calls while it is recorded: code that was not found from it, and code that may look at numbers it has read.

The first needs only to know each piece of code that is run, which is cheap (`tensor.jit.called`). Once a number has left the
arrays, every call of a C function is looked at too, since it may be given that number.
"""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any

from tensor.jit.called import Watcher, watcher
from tensor.jit.guards import trusted_file
from tensor.jit.traced import ReadNumber
from tensor.nn.module import Module
from tensor.ops.random import Generator
from tensor.optim.optimizer import Optimizer

if TYPE_CHECKING:
    from tensor.jit.recorder import Recording

__all__ = ["Calls"]

#: Library functions that change or tell what a replay would not, by the id of their code: its hash takes long.
_REFUSED = {
    id(f.__code__): f"{f.__qualname__} is called"
    for f in (
        Optimizer.state_dict, Optimizer.load_state_dict, Optimizer.add_param_group, Optimizer.__init__, Generator.get_state,
        Generator.set_state, Generator.manual_seed, Generator.seed, Generator.__init__, Module.__init__, Module.load_state_dict,
    )
}  # fmt: skip
_trusted: dict[int, types.CodeType] = {}
_HERE = str(Path(__file__).parent)


class Calls:
    """A ``with`` block in which a recording is told of calls that it cannot follow; ``codes`` are those that can be."""

    def __init__(self, recording: Recording, codes: set[types.CodeType]) -> None:
        self._recording, self._codes = recording, {id(code): code for code in codes}
        self._unseen: dict[int, types.CodeType] = {}
        self._watcher: Watcher | None = None
        self._before: Any = None
        self._away = False

    def __enter__(self) -> None:
        self._before = sys.getprofile()
        self._recording.calls = self
        self._watcher = watcher(self._ran) if self._before is None else None
        if self._watcher is None:
            sys.setprofile(self._watch)

    def __exit__(self, *exc: object) -> None:
        self._recording.calls = None
        self._stop()
        if hasattr(self._before, "enable"):  # a profiler written in C
            sys.setprofile(None)
            self._before.enable()
        else:
            sys.setprofile(self._before)

    def pause(self) -> bool:
        """Look away for a while, if that is worth it."""
        watcher = self._watcher
        if watcher is None or self._away or not watcher.pauses:
            return False
        self._away = True
        watcher.look_away()
        return True

    def resume(self) -> None:
        """Look again, unless something looks closely since."""
        self._away = False
        if self._watcher is not None:
            self._watcher.look()

    @contextmanager
    def away(self, certain: bool) -> Iterator[None]:
        """A block that runs nothing but code of the library, if that is ``certain``."""
        paused = certain and self.pause()
        try:
            yield
        finally:
            if paused:
                self.resume()

    def number_made(self) -> None:
        """A number has left the arrays: look closely from now on."""
        if self._watcher is not None:
            self._stop()
            sys.setprofile(self._watch)

    def _stop(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None

    def _ran(self, codes: Iterable[types.CodeType]) -> None:
        for code in codes:
            if id(code) not in _trusted:  # most are
                self._called(code)

    def _called(self, code: types.CodeType) -> None:
        key = id(code)
        if key in _trusted or key in self._codes or key in self._unseen:
            return
        if key in _REFUSED:
            self._recording.refuse(_REFUSED[key])
        elif trusted_file(code.co_filename):
            _trusted[key] = code
        else:
            self._unseen[key] = code
            self._recording.refuse(f"{code.co_qualname} is called, which was not found from the function")

    def _watch(self, frame: types.FrameType, event: str, arg: Any) -> None:
        recording = self._recording
        if event == "call":
            recording.fresh = False
            self._called(frame.f_code)
        elif event == "c_call" and recording.numbers and recording.active and not _blind(arg):
            if id(frame.f_code) in self._codes:  # it might be given any of the numbers
                recording.use_numbers()
            elif not frame.f_code.co_filename.startswith(_HERE):
                for number in _numbers(frame.f_locals.values()):
                    number.use()
                if recording.fresh:
                    recording.numbers[-1].used = True
            recording.fresh = False


def _blind(function: Any) -> bool:
    """Whether a C function looks at numbers only by their own methods, which tell, or not at all."""
    owner = function.__self__ if isinstance(function, types.BuiltinFunctionType) else getattr(function, "__objclass__", None)
    home: Any = owner if isinstance(owner, type) else type(owner)
    return owner is builtins or home in (list, dict, set, tuple, str, type, object) or function in (get_ident, sys.setprofile)


def _numbers(values: Iterable[Any]) -> Iterator[ReadNumber]:
    for x in values:
        if type(x) is ReadNumber:
            yield x
        elif type(x) is tuple or type(x) is list:
            yield from _numbers(x)
        elif type(x) is dict:
            yield from _numbers(x.values())
