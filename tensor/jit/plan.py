"""A recording that can be repeated: when it may be, and what is run then."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from tensor.jit import watch
from tensor.jit.arguments import argument_rows
from tensor.jit.guards import Surroundings
from tensor.jit.script import Script

__all__ = ["Plan"]

#: How often a plan watches memory anew; where addresses are others at every call, Python compares.
MOST_RENEWALS = 32


class Plan:
    """One recording, ready to be repeated; `check(args, kwargs)` says whether it may be."""

    def __init__(
        self,
        surroundings: Surroundings,
        guard: Callable[[], Any],
        script: Callable[[], Script],
        captured: set[int] | None,
        resized: Callable[[], bool],
    ) -> None:
        """``guard`` and ``script`` make what their names say when it is first needed: many a recording is never used.

        ``captured``: the ids of the tensors that the function sees besides its arguments, None where the check needs Python.
        ``resized`` says whether such tensors have got other shapes since.
        """
        self.surroundings, self._make_guard, self._make_script, self._captured = surroundings, guard, script, captured
        self.resized = resized
        self.run: Callable[..., Any] = self._first_run
        self.check: Callable[..., Any] = _never  #: what is tried first; at its first use a plan is told of it
        self.hits = 0
        self.tier = 0
        self.queued = False  #: whether machine code is being made, or was
        self.due = 1  #: at which use to have it made
        self._make_check: Callable[..., Any] | None = None
        self._rows: list[watch.Row] = []
        self._armed = 0

    @cached_property
    def guard(self) -> Callable[[tuple[Any, ...], dict[str, Any]], bool]:
        """Whether arguments are of the kind that the recording was made with."""
        guard: Callable[..., bool] = self._make_guard()
        return guard

    @cached_property
    def script(self) -> Script:
        """What a run does."""
        return self._make_script()

    def _first_run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.run = self.script.run
        return self.run(args, kwargs)

    def wanted(self) -> bool:
        """Whether it could be used now, so that machine code is worth the while; else it may ask again at its next use.

        Modes do not count: this is asked in a thread of its own, and they are each thread's own.
        """
        wanted = self.surroundings.unchanged()
        if not wanted:
            self.ask_again()
        return wanted

    def ask_again(self) -> None:
        """At the next use, ask for machine code."""
        self.queued, self.check = False, _never

    def lower_quickly(self, checker: Callable[..., Callable[..., Any]]) -> None:
        """Have machine code do what it is soon made for: the check, and steps of optimizers.

        ``checker()`` is what makes checks, once its own code is made; ``checker(soon=True)`` has that made with the next.
        """
        self.script.lower_steps(checker(soon=True))
        self.watch_memory(checker())

    def lower_at_once(self, checker: Callable[..., Callable[..., Any]]) -> bool:
        """The same here and now, if all of that code has been made before; says whether it was. ``checker()`` is ready."""
        done = self.script.lower_steps(checker(), at_once=True)
        if done:
            self.watch_memory(checker())
        return done

    def foresee(self) -> None:
        """Have code made that will be wanted after an edit of the network."""
        if self.tier:
            self.script.foresee()

    def lower(self, compile_program: Callable[..., Any], make_check: Callable[..., Any]) -> None:
        """Have machine code do what it can."""
        if self.script.lower(compile_program, make_check):
            self.run, self.tier = self.script.run, 1

    def holds(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether everything that the recording depends on is as it was."""
        return bool(self.guard(args, kwargs)) and self.surroundings.holds()

    def fits(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """`holds`, but sooner known where a network has been edited since: of its recordings, all may be of other sizes."""
        return bool(self.guard(args, kwargs)) and not self.resized() and self.surroundings.holds()

    def watch_memory(self, make_check: Callable[..., Any]) -> None:
        """From its next use on, have machine code made by ``make_check`` do most of the check."""
        self._make_check, self.check = make_check, _never

    def renew(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Watch memory as it is now, at a call for which `holds` has said yes."""
        self.check = self.holds
        if self._make_check is None or self._armed > MOST_RENEWALS:
            return
        self._armed += 1
        around = self.surroundings
        if self._rows:
            around.disturbed(self._rows)
        self._rows, left = around.rows()
        mine = None
        if self._captured is not None and self._armed < MOST_RENEWALS:
            mine = argument_rows(args, kwargs, self._captured)
        check = self._make_check([*(mine or ()), *self._rows], self)
        # What was read as the rows were made may have been of another moment than the values that were compared.
        if check is None or not self.holds(args, kwargs):
            return
        if mine is None:
            self.check = lambda args, kwargs: check(args, kwargs) and self.guard(args, kwargs) and all(each() for each in left)
        elif left:
            self.check = lambda args, kwargs: check(args, kwargs) and all(each() for each in left)
        else:
            self.check = check


def _never(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """For a plan that has something else to do before it is checked."""
    return False
