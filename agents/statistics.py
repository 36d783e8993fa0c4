"""Running statistics as tensors, which a compiled step updates in place."""

from __future__ import annotations

import tensor as T
from agents.growing import widen
from agents.state import pack
from rlcore.types import State
from tensor import Tensor

__all__ = ["RunningStatistics"]

_EPSILON = 1e-8


class RunningStatistics:
    """Count, mean and spread of all samples so far, each kept in float64 (Welford 1962).

    Args:
        shape: of one sample.

    >>> statistics = RunningStatistics((2,))
    >>> for sample in ([1.0, 5.0], [3.0, 5.0], [5.0, 5.0]):
    ...     statistics.update(T.tensor(sample))
    >>> statistics.mean, statistics.std()
    (tensor([3., 5.], dtype=tensor.float64), tensor([1.6330e+00, 1.0000e-04], dtype=tensor.float64))
    >>> statistics.standardized(T.tensor([3.0, 5.0]))
    tensor([0., 0.])
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.count = T.zeros(shape, dtype=T.float64)  #: of each element, since one may appear later than others
        self.mean = T.zeros(shape, dtype=T.float64)
        self.squares = T.zeros(shape, dtype=T.float64)  #: sum of squared distances from the mean

    @property
    def tensors(self) -> list[Tensor]:
        """All that `update` writes."""
        return [self.count, self.mean, self.squares]

    def update(self, sample: Tensor) -> None:
        """Take a sample in."""
        sample = sample.to(T.float64)
        self.count.add_(1.0)
        delta = sample - self.mean
        self.mean.add_(delta / self.count)
        self.squares.add_(delta * (sample - self.mean))

    def std(self) -> Tensor:
        """The deviation over all samples, never quite 0; 1 before there are two."""
        variance = T.where(self.count > 1, self.squares / self.count.clamp(min=1.0), T.ones_like(self.squares))
        std: Tensor = (variance + _EPSILON).sqrt()
        return std

    def standardized(self, x: Tensor) -> Tensor:
        """``x`` (``[..., *shape]``) less the mean, over the deviation, as float32."""
        return ((x.to(T.float64) - self.mean) / self.std()).to(T.float32)

    def widen(self, width: int) -> None:
        """Take rows of more elements, of which nothing is known yet."""
        for name in ("count", "mean", "squares"):
            setattr(self, name, T.from_numpy(widen(getattr(self, name).numpy(), width)))

    def state_dict(self) -> State:
        """Everything, exactly."""
        return {"count": pack(self.count), "mean": pack(self.mean), "squares": pack(self.squares)}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave, in place."""
        for name in ("count", "mean", "squares"):
            getattr(self, name).copy_(T.from_numpy(state[name]))
