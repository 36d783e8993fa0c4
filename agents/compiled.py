"""Acting and learning compiled or as they are: the one place that decides, for all agents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensor as T
from tensor import Tensor, jit, nn
from tensor.optim.flat_optimizer import FlatOptimizer

__all__ = ["GRACE", "LearningStep", "restore"]

#: Steps after an edit of the network that run as they are, while another thread makes machine code for the new shapes.
GRACE = 256
#: One call records; with the next, a replay, machine code begins to be made.
TRIALS = 2


class LearningStep:
    """A function of tensors that learns; compiled unless told otherwise.

    ``changes`` is what it changes in place: an optimizer with its parameters, or tensors. ``nets`` are the networks it runs,
    whose structure machine code depends on, too.

    Machine code rounds differently from NumPy, and `T.compile` makes it while the first calls already run. So that a run
    depends on its seed alone, and goes on bit for bit from a checkpoint, no call that counts is made before there is machine
    code: the first one has it made, by calls whose effects are taken back.

    That holds as long as there is one recording: arguments always have the same shapes, and the function does not branch on
    values. After an edit of the network (`edited`) the next `GRACE` calls run as they are, which keeps acting and learning going
    while machine code is made in the background; that the number is fixed keeps the run one that its seed alone decides.

    >>> w = T.zeros(2, requires_grad=True)
    >>> optimizer = T.optim.Adam([w], lr=0.5)
    >>> def follow(x):
    ...     optimizer.zero_grad()
    ...     loss = ((w - x) ** 2).sum()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss.detach()
    >>> step = LearningStep(follow, optimizer)
    >>> step(T.ones(2)), w.detach()
    (tensor(2.), tensor([0.5000, 0.5000]))
    """

    def __init__(
        self,
        function: Callable[..., Any],
        changes: FlatOptimizer | Sequence[Tensor],
        nets: Sequence[nn.Module] = (),
        *,
        compile: bool = True,
    ) -> None:
        self._call = T.compile(function) if compile else function
        self._function = function
        self._changes, self._nets = changes, nets
        self._ready = not compile
        self._trials = 0 if self._ready else TRIALS  # calls still to be made for machine code to be made
        self._laid = _layout(changes, nets)
        self.grace = 0  #: how many calls will still run as they are; part of an agent's state

    def __call__(self, *tensors: Tensor) -> Any:
        """What the function gives."""
        if not self._ready:
            if self._trials:
                # One at a time where acting must not wait.
                self._record(tensors, 1 if self.grace else self._trials)
            if self.grace:
                self.grace -= 1
                return self._function(*tensors)
            self.prepare(*tensors)
        return self._call(*tensors)

    def prepare(self, *tensors: Tensor) -> None:
        """Have machine code made for arguments of these shapes, whatever their values, so that no call has to wait for it.

        No call will run as it is after that, not even soon after an edit. Where nothing is changed, it is also called a few
        times, since the first calls still set up the check of later ones.
        """
        if not self._ready:
            if self._trials:
                self._record(tensors, self._trials)
            self.settle()
            self._insist(tensors)
            self._ready, self.grace, self._trials = True, 0, 0
            if self._changes == ():
                for _ in range(3):
                    self._call(*tensors)

    def _insist(self, tensors: tuple[Tensor, ...]) -> None:
        """Try again where something has kept machine code from being made: what the calls saw was another moment's by then."""
        for _ in range(TRIALS):
            if not isinstance(self._call, jit.Compiled) or self._call.native:
                return
            self._record(tensors, 1)
            self._call.hasten()
            self.settle()

    def restored(self, grace: int = 0) -> None:
        """The optimizer's state was replaced, and with it the memory that machine code was made for."""
        self._laid = _layout(self._changes, self._nets)
        if isinstance(self._call, jit.Compiled):
            self._call.reset()
            self._ready, self._trials = False, TRIALS
            self.grace = grace

    def settle(self) -> None:
        """Wait for machine code that is being made."""
        if isinstance(self._call, jit.Compiled):
            self._call.wait()

    def stale(self, changes: Sequence[Tensor] | None = None) -> bool:
        """Whether an edit has moved what machine code was made for; one in place has not. ``changes``: the tensors of now.

        Always, where nothing is changed: what is read is not known.
        """
        laid = _layout(self._changes if changes is None else changes, self._nets)
        return not laid or len(laid) != len(self._laid) or not all(map(_alike, laid, self._laid))

    def edited(self) -> bool:
        """The network was edited; says whether anything had to be made anew, or the edit was in place and all goes on."""
        if not self.stale():
            return False
        if isinstance(self._changes, FlatOptimizer):
            # Lays late elements in the order in which a checkpoint will have them: in another, sums may round differently.
            self._changes.load_state_dict(self._changes.state_dict())
        self.restored(GRACE)
        return True

    def _record(self, tensors: tuple[Tensor, ...], trials: int = TRIALS) -> None:
        """Call so often, and put everything back."""
        put_back = _kept(self._changes) if isinstance(self._changes, FlatOptimizer) else _kept_tensors(self._changes)
        for _ in range(trials):
            self._call(*tensors)
        self._trials -= trials
        put_back()


def _layout(changes: FlatOptimizer | Sequence[Tensor], nets: Sequence[nn.Module]) -> list[Any]:
    """What machine code depends on: the memory, the modules, and whether all elements count the same steps."""
    modules = [module for net in nets for module in net.modules()]
    structure = [*modules, *(module._structure for module in modules)]
    if not isinstance(changes, FlatOptimizer):
        return [*structure, *(tensor._array for tensor in changes)]
    flats = [flat for group in changes._flats for flat in group]
    return [*structure, *flats, *(flat.late is None and isinstance(flat.steps, int) for flat in flats)]


def _alike(one: Any, other: Any) -> bool:
    return one is other or (isinstance(one, int) and one == other)


def restore(steps: Sequence[LearningStep], grace: Sequence[int] | int) -> None:
    """After a checkpoint was loaded, with the calls of each that will still run as they are; an old one has the first's."""
    calls = [grace, *[0] * (len(steps) - 1)] if isinstance(grace, int) else grace
    for step, left in zip(steps, calls, strict=True):
        step.restored(left)


def _kept(optimizer: FlatOptimizer) -> Callable[[], None]:
    """What puts parameters and optimizer back to how they are now."""
    optimizer._fit()
    copies = [(flat, flat.keep()) for group in optimizer._flats for flat in group]

    def put_back() -> None:
        optimizer.zero_grad()
        for flat, copy in copies:
            copy(flat)

    return put_back


def _kept_tensors(tensors: Sequence[Tensor]) -> Callable[[], None]:
    """What puts tensors back to how they are now."""
    kept = [(tensor, tensor.detach().clone()) for tensor in tensors]

    def put_back() -> None:
        with T.no_grad():
            for tensor, copy in kept:
                tensor.copy_(copy)

    return put_back
