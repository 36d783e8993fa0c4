"""Classification and regression on streams: learn from one sample at a time, with inputs and classes that appear as they come."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

import tensor as T
from agents.compiled import LearningStep
from agents.settings import check, positive
from agents.state import pack, unpack
from rlcore.types import State
from tensor import Tensor, nn, optim, structure

__all__ = ["OnlineClassifier", "OnlineConfig", "OnlineRegressor", "Sample"]

#: Features by name (numbers, booleans, or strings, of which each value is a feature of its own), or an array of numbers.
Sample: TypeAlias = Mapping[str, Any] | ArrayLike

_LEAST_VARIANCE = 1e-8
#: Features beyond those at hand for which room is made at a time; the part of those at hand, where that is more.
_ROOM, _PART = 8, 2


@dataclass
class OnlineConfig:
    """A multilayer perceptron that learns from one sample at a time."""

    learning_rate: float = 0.02
    """Step size of stochastic gradient descent, for standardised inputs."""
    hidden_sizes: tuple[int, ...] = (128,)
    """Units of the hidden layers."""
    compile: bool = True
    """Learn by compiled steps (`T.compile`): much faster, and equal up to rounding."""

    def __post_init__(self) -> None:
        check(self, positive, "learning_rate")


class _Inputs:
    """Features by name, each with its own running mean and deviation; one that is missing counts as average."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self.counts, self.means, self.squares = (np.zeros(0) for _ in range(3))
        self.indicator = np.zeros(0, np.bool_)  #: features that are there or not, and are not standardised

    def __len__(self) -> int:
        return len(self.counts)

    def see(self, x: Sample) -> None:
        """Take a sample's values in, and features that are new."""
        items = _items(x)
        new = [(name, flag) for name, _, flag in items if name not in self.places]
        if new:
            self.places |= {name: len(self) + k for k, (name, _) in enumerate(new)}
            zeros = np.zeros(len(new))
            self.counts, self.means, self.squares = (np.append(a, zeros) for a in (self.counts, self.means, self.squares))
            self.indicator = np.append(self.indicator, [flag for _, flag in new])
        at = np.array([self.places[name] for name, _, _ in items], np.intp)
        values = np.array([value for _, value, _ in items])
        self.counts[at] += 1
        delta = values - self.means[at]
        self.means[at] += delta / self.counts[at]
        self.squares[at] += delta * (values - self.means[at])

    def row(self, x: Sample, width: int) -> Tensor:
        """A sample as ``[1, width]``, standardised; unknown features are left out."""
        known = [(self.places[name], value) for name, value, _ in _items(x) if name in self.places]
        row = np.zeros((1, width), np.float32)
        if known:
            places, values = zip(*known, strict=True)
            at = np.array(places, np.intp)
            variance = self.squares[at] / np.maximum(self.counts[at], 1)
            varies = variance > _LEAST_VARIANCE
            scaled = (np.array(values) - self.means[at]) / np.sqrt(np.where(varies, variance, 1.0))
            row[0, at] = np.where(self.indicator[at], values, np.where(varies, scaled, 0.0))
        return T.from_numpy(row)

    def state_dict(self) -> State:
        return {
            "names": list(self.places),
            "counts": self.counts.copy(),
            "means": self.means.copy(),
            "squares": self.squares.copy(),
            "indicator": self.indicator.copy(),
        }

    def load_state_dict(self, state: State) -> None:
        self.places = {name: k for k, name in enumerate(state["names"])}
        self.counts, self.means, self.squares = (np.array(state[name]) for name in ("counts", "means", "squares"))
        self.indicator = np.array(state["indicator"], np.bool_)


def _items(x: Sample) -> list[tuple[str, float, bool]]:
    """Name, value and whether it is an indicator, of each feature of a sample."""
    if not isinstance(x, Mapping):
        array: NDArray[np.float64] = np.asarray(x, np.float64).ravel()
        return [(str(k), value, False) for k, value in enumerate(array.tolist())]
    items = []
    for name, value in x.items():
        if isinstance(value, str):
            items.append((f"{name}={value}", 1.0, True))
        elif value is not None:
            items.append((str(name), float(value), False))
    return items


class _Network:
    """A perceptron whose inputs and outputs grow, and its learning step.

    Inputs are added with some room to spare: those are zero, so that the function stays what it was, and the step is compiled
    anew only where the room is used up.
    """

    def __init__(self, config: OnlineConfig, seed: int, *, classes: bool) -> None:
        self.config, self.seed, self.classes = config, seed, classes
        self.net: nn.Sequential | None = None
        self.inputs = self.outputs = 0

    def fit(self, inputs: int, outputs: int) -> None:
        """Be as wide as is needed."""
        if self.net is None:
            self._make(inputs, outputs)
            return
        wider, more = inputs - self.inputs, outputs - self.outputs
        if wider > 0:
            room = max(wider, self.inputs // _PART, _ROOM)
            structure.add_inputs(self.net, "0", room, init="random").apply(self.optimizer)
            self.inputs += room
        if more > 0:
            structure.add_outputs(self.net, self._last, more).apply(self.optimizer)
            self.outputs = outputs
        if wider > 0 or more > 0:
            self.learn.restored()

    def _make(self, inputs: int, outputs: int) -> None:
        T.manual_seed(self.seed)
        sizes = [inputs, *self.config.hidden_sizes]
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU()]
        last = nn.Linear(sizes[-1], outputs)
        with T.no_grad():  # nothing is known yet: all classes alike, or the mean
            last.weight.zero_()
            if last.bias is not None:
                last.bias.zero_()
        self.net = nn.Sequential(*layers, last)
        self.inputs, self.outputs, self._last = inputs, outputs, str(len(layers))
        self.optimizer = optim.SGD(self.net.parameters(), lr=self.config.learning_rate)
        self.learn = LearningStep(self._step, self.optimizer, compile=self.config.compile)

    @property
    def _built(self) -> nn.Sequential:
        if self.net is None:
            msg = "nothing has been learnt yet"
            raise RuntimeError(msg)
        return self.net

    def _step(self, x: Tensor, y: Tensor) -> Tensor:
        outputs = self._built(x)
        loss: Tensor = nn.functional.cross_entropy(outputs, y) if self.classes else nn.functional.smooth_l1_loss(outputs[:, 0], y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def __call__(self, x: Tensor) -> NDArray[np.float32]:
        with T.no_grad():
            values: NDArray[np.float32] = self._built(x).numpy()[0]
            return values

    def state_dict(self) -> State:
        return None if self.net is None else {"sizes": [self.inputs, self.outputs], "weights": pack(self.net.state_dict())}

    def load_state_dict(self, state: State) -> None:
        if state is None:
            self.net = None
            return
        self._make(*state["sizes"])
        self._built.load_state_dict(unpack(state["weights"]))
        self.learn.restored()


class OnlineClassifier:
    """Classes of samples, as they come: neither features nor classes have to be known beforehand.

    A feature that appears is a new input of the network, one that is missing counts as average; a class that appears is a new
    output. Features are standardised by their mean and deviation so far.

    Args:
        config: the learner's configuration.
        seed: of the first weights.

    >>> classifier = OnlineClassifier()
    >>> for k in range(200):
    ...     classifier.learn_one({"height": k % 10, "colour": "red" if k % 2 else "blue"}, "odd" if k % 2 else "even")
    >>> classifier.predict_one({"colour": "red"}), classifier.predict_one({"height": 4, "colour": "blue", "weight": 3.0})
    ('odd', 'even')
    >>> sorted(classifier.predict_proba_one({"colour": "red"}))
    ['even', 'odd']
    """

    Config = OnlineConfig

    def __init__(self, config: OnlineConfig | None = None, *, seed: int = 0) -> None:
        self.config = config or OnlineConfig()
        self.classes: list[Hashable] = []  #: in the order in which they came
        self._inputs = _Inputs()
        self._network = _Network(self.config, seed, classes=True)

    def predict_proba_one(self, x: Sample) -> dict[Hashable, float]:
        """The probability of each class that has been seen; empty before any has."""
        if not self.classes:
            return {}
        logits = self._network(self._inputs.row(x, self._network.inputs)).astype(np.float64)
        powers = np.exp(logits - logits.max())
        return dict(zip(self.classes, (powers / powers.sum()).tolist(), strict=True))

    def predict_one(self, x: Sample) -> Hashable | None:
        """The likeliest class; None before any has been seen."""
        if not self.classes:
            return None
        return self.classes[int(self._network(self._inputs.row(x, self._network.inputs)).argmax())]

    def learn_one(self, x: Sample, y: Hashable) -> None:
        """Learn a sample's class (None says nothing, and nothing is learnt)."""
        if y is None:
            return
        label = y.item() if isinstance(y, np.generic) else y
        if label not in self.classes:
            self.classes.append(label)
        self._inputs.see(x)
        self._network.fit(len(self._inputs), len(self.classes))
        self._network.learn(self._inputs.row(x, self._network.inputs), T.from_numpy(np.array([self.classes.index(label)])))

    def state_dict(self) -> State:
        """Everything needed to go on bit for bit."""
        return {"inputs": self._inputs.state_dict(), "network": self._network.state_dict(), "classes": list(self.classes)}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave."""
        self._inputs.load_state_dict(state["inputs"])
        self._network.load_state_dict(state["network"])
        self.classes = list(state["classes"])


class OnlineRegressor:
    """Numbers from samples, as they come; features as those of `OnlineClassifier`. The target is standardised too.

    >>> regressor = OnlineRegressor()
    >>> for k in range(500):
    ...     regressor.learn_one([k % 7], 10.0 * (k % 7))
    >>> abs(regressor.predict_one([3]) - 30.0) < 3.0
    True
    """

    Config = OnlineConfig

    def __init__(self, config: OnlineConfig | None = None, *, seed: int = 0) -> None:
        self.config = config or OnlineConfig()
        self._inputs, self._target = _Inputs(), _Inputs()
        self._network = _Network(self.config, seed, classes=False)

    def predict_one(self, x: Sample) -> float:
        """The expected number; 0 before anything has been learnt."""
        if not len(self._target):
            return 0.0
        mean, deviation = self._scale()
        return mean + deviation * float(self._network(self._inputs.row(x, self._network.inputs))[0])

    def learn_one(self, x: Sample, y: float | None) -> None:
        """Learn a sample's number (None says nothing, and nothing is learnt)."""
        if y is None:
            return
        self._target.see([float(y)])
        self._inputs.see(x)
        self._network.fit(len(self._inputs), 1)
        mean, deviation = self._scale()
        wanted = np.array([(float(y) - mean) / deviation], np.float32)
        self._network.learn(self._inputs.row(x, self._network.inputs), T.from_numpy(wanted))

    def _scale(self) -> tuple[float, float]:
        variance = float(self._target.squares[0] / self._target.counts[0])
        return float(self._target.means[0]), variance**0.5 if variance > _LEAST_VARIANCE else 1.0

    def state_dict(self) -> State:
        """Everything needed to go on bit for bit."""
        return {
            "inputs": self._inputs.state_dict(),
            "target": self._target.state_dict(),
            "network": self._network.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave."""
        self._inputs.load_state_dict(state["inputs"])
        self._target.load_state_dict(state["target"])
        self._network.load_state_dict(state["network"])
