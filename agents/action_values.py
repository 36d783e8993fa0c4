"""Values of discrete actions, learnt from one step at a time: what `stream-q` and `stream-sarsa` share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from numpy.typing import NDArray

import tensor as T
from agents.compiled import GRACE, LearningStep, restore
from agents.growing import Chances, cautious, more_actions, more_inputs, new_outputs, rebuilt
from agents.intentional import intentional
from agents.networks import sparse_mlp
from agents.obgd import obgd
from agents.settings import at_least, check, fraction
from agents.state import copies, generator_state, load_generator, pack, put, unpack
from agents.streaming import Numbers, Recent, Scales, StreamingConfig, Traces, Transition, trained, transitions
from rlcore.errors import SpaceError
from rlcore.types import Part, State
from tensor import Tensor, nn, structure

__all__ = ["ActionValueAgent", "ActionValues", "ActionValuesConfig"]


@dataclass
class ActionValuesConfig(StreamingConfig):
    """What the agents that learn action values from single steps have in common; each has a docstring of its own for the help."""

    kappa: float = 2.0
    """With obgd: how much smaller than the bound the steps stay."""
    exploration_fraction: float = 0.1
    """Part of the run over which exploration is lowered."""
    exploration_initial_epsilon: float = 1.0
    """Probability of a random action at the start."""
    exploration_final_epsilon: float = 0.01
    """Probability of a random action after that."""
    new_action_tries: int = 2_000
    """Uses of an action that appeared in mid-run until it is taken whenever it seems best; before, ever more often."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Units of the hidden layers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, at_least(1), "kappa")
        check(self, at_least(0), "new_action_tries")
        check(self, fraction, "exploration_fraction", "exploration_initial_epsilon", "exploration_final_epsilon")


#: What a step leads to: see `ActionValues`.
Backup = Literal["best", "expected", "taken"]


class ActionValues:
    """A network of action values with its traces and statistics, a policy that explores, and the learning step.

    Args:
        name: of the agent, for errors.
        backup: what a step leads to. ``best``: the largest next value, and an action that is not the best one begins the traces
            anew (Watkins' Q(lambda)). ``expected``: the mean of the next values, as often as each action is taken, and traces
            decay by how probable the action was, too (tree backup). ``taken``: the value of the next action, which `learn` is
            given, and traces decay alike (SARSA(lambda)).
    """

    def __init__(
        self,
        name: str,
        config: ActionValuesConfig,
        observation_space: Box,
        action_space: Space[Any],
        *,
        num_envs: int,
        total_steps: int,
        seed: int,
        backup: Backup,
    ) -> None:
        if not isinstance(action_space, Discrete):
            msg = f"{name} cannot serve the action space {action_space}: expected Discrete; stream-ac serves others"
            raise SpaceError(msg)
        self.name, self.config, self.total_steps, self.backup = name, config, total_steps, backup
        self.steps = 0
        self.actions = int(action_space.n)
        self.new = self.tries = 0  # how many actions, the last, are new, and how often one of them was taken
        self._chances_of: tuple[int, int, float, float] | None = None
        self.version = 0  #: of the structure
        self.num_envs = num_envs
        self.rng = np.random.Generator(np.random.PCG64(seed))
        T.manual_seed(seed)
        (inputs,) = observation_space.shape
        self.network = sparse_mlp(inputs, config.hidden_sizes, self.actions, sparsity=config.sparsity)
        self.traces = Traces({"network": self.network}, num_envs)
        self._see(inputs)
        self._take()

    def _see(self, inputs: int) -> None:
        self.inputs, self.recent = inputs, Recent(inputs)
        self.scales = Scales.of(self.config, inputs, self.num_envs)

    def _take(self) -> None:
        """Take the network into use as it has become."""
        self.parameters = trained(self.network)
        self._acting = [*self.network.parameters(), *self.scales.acting]
        self._learn = LearningStep(self._step, self._written(), (self.network,), compile=self.config.compile)
        self._values = LearningStep(self._evaluate, (), compile=self.config.compile)
        self._described = structure.describe(self.network)

    def _written(self) -> list[Tensor]:
        """All that a step writes, as the network is now."""
        return [*trained(self.network), *self.scales.tensors, *(e for part in self.traces.tensors for e in part)]

    @property
    def epsilon(self) -> float:
        """The probability of a random action now."""
        c = self.config
        done = min(self.steps / max(c.exploration_fraction * self.total_steps, 1), 1.0)
        return c.exploration_initial_epsilon + done * (c.exploration_final_epsilon - c.exploration_initial_epsilon)

    @property
    def share(self) -> float:
        """How often a new action is taken where it seems best; 1 where none is new."""
        return self.tries / max(self.config.new_action_tries * self.new, 1) if self.new else 1.0

    def _chances(self) -> Chances:
        """How probable each action is by now; the same tensors where that has not changed."""
        now = self.actions, self.new, self.share, self.epsilon
        if self._chances_of != now:
            self._chances_of, self._chances_now = now, Chances.of(*now)
        return self._chances_now

    def prepare(self) -> None:
        """Have machine code made before the first step."""
        x, action, numbers = T.zeros(1, self.inputs), T.zeros(1, dtype=T.int64), Numbers(0.0, 0.0, 0.0, 0.0).row()
        self._learn.prepare(x, action, x.clone(), numbers, self.scales.running[0], *self._told(0), *self.traces.tensors[0])
        self.prepare_to_act()

    def prepare_to_act(self) -> None:
        """Have machine code made for acting."""
        self._values.prepare(T.zeros(self.num_envs, self.inputs))

    # --- acting -------------------------------------------------------------------------------------------------

    def act(self, observation: NDArray[np.float32], *, deterministic: bool) -> NDArray[Any]:
        """The best action, or with probability `epsilon` any; never any with ``deterministic``."""
        if deterministic:
            return self._best(self._evaluate(T.from_numpy(observation)))
        n = len(observation)
        explore, random = self.rng.random(n) < self.epsilon, self.rng.integers(self.actions, size=n)
        if np.count_nonzero(explore) == n and not self.new:
            return random
        evaluate = self._values if n == self.num_envs else self._evaluate  # one shape, one recording
        values = evaluate(T.from_numpy(observation))
        if self.new:
            return cautious(self.rng, values.numpy(), self.new, self.share, explore)
        return np.where(explore, random, self._best(values))

    def _best(self, values: Tensor) -> NDArray[np.int64]:
        return values.numpy()[:, : self.actions - self.new].argmax(-1)  # type: ignore[no-any-return]

    def _evaluate(self, observation: Tensor) -> Tensor:
        with T.no_grad():
            values: Tensor = self.network(self.scales.standardized(observation))
            return values

    def took(self, observation: NDArray[np.float32], action: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        """Count the steps that were taken, of all environments."""
        self.recent.add(observation[valid])
        self.steps += int(np.count_nonzero(valid))
        if self.new:
            self.tries += int(np.count_nonzero((action >= self.actions - self.new) & valid))
            if self.tries >= self.config.new_action_tries * self.new:
                self.new = 0

    # --- learning -----------------------------------------------------------------------------------------------

    def learn(self, step: Transition, next_action: int = 0) -> float:
        """Learn from one transition; returns the temporal-difference error, in scaled rewards."""
        c, ends = self.config, step.terminated or step.truncated
        decay = self.traces.decay(step.env, c.gamma * c.trace_decay, ends=ends)
        numbers = Numbers(step.reward, 0.0 if step.terminated else c.gamma, decay, 0.0 if ends else 1.0)
        delta: Tensor = self._learn(
            T.from_numpy(step.observation),
            T.from_numpy(step.action),
            T.from_numpy(step.next_observation),
            numbers.row(),
            self.scales.running[step.env],
            *self._told(next_action),
            *self.traces.tensors[step.env],
        )
        return float(delta.item())

    def _told(self, next_action: int) -> Sequence[Tensor]:
        """What the backup wants to know beside values."""
        if self.backup == "expected":
            return self._chances()
        return (T.from_numpy(np.array([next_action])),) if self.backup == "taken" else ()

    def _step(
        self, observation: Tensor, action: Tensor, next_observation: Tensor, row: Tensor, running: Tensor, *rest: Tensor
    ) -> Tensor:
        following, kept = _BACKUPS[self.backup]
        traces = rest[-len(self.parameters) :]
        told = rest[: -len(self.parameters)]
        earned, discount, decay, going = row.unbind()
        with T.no_grad():
            self.scales.see(observation)
            reward = self.scales.reward(earned, going, running)
            after = following(self.network(self.scales.standardized(next_observation)), *told)
            x = self.scales.standardized(observation)
        values = self.network(x)
        value = _gathered(values, action)
        gradients = T.autograd.grad(value.sum(), self.parameters)
        with T.no_grad():
            delta: Tensor = (reward + discount * after - value).squeeze(0)
            if kept is not None:
                decay = decay * kept(values, action, *told).squeeze(0)
            c = self.config
            if c.step_rule == "intentional":
                intentional(self.parameters, traces, gradients, delta * c.error_reduction, decay)
            else:
                obgd(self.parameters, traces, gradients, delta, decay, step_size=c.step_size, kappa=c.kappa)
        return delta

    # --- changing -----------------------------------------------------------------------------------------------

    def parts(self) -> Mapping[str, Part]:
        """``network``, from standardised observations to values; the traces of all environments follow."""
        self._learn.settle()
        self._values.settle()
        return self.traces.parts()

    def sample(self) -> NDArray[np.float32] | None:
        """The latest observations, as the network takes them."""
        rows = self.recent.rows
        return self.scales.standardized(T.from_numpy(rows)).numpy() if len(rows) else None

    def edited(self) -> None:
        """Learn with the network as it is now."""
        self.traces.fit()
        if self._learn.stale(self._written()):
            self.version += 1
            self._take()
            restore((self._learn, self._values), [GRACE, GRACE])

    def more(self, action_space: Space[Any]) -> int:
        """How many actions a space has more; SpaceError where it cannot be served."""
        return new_outputs(self.name, Discrete(self.actions), action_space)

    def adapt(self, observation_space: Box, action_space: Space[Any]) -> Sequence[tuple[str, structure.Edit]]:
        """Serve spaces that have grown. A new action begins as the mean of the others, a component without statistics."""
        (inputs,), actions = observation_space.shape, self.more(action_space)
        edits: list[tuple[str, structure.Edit]] = []
        if inputs > self.inputs:
            edits += more_inputs(self.parts(), inputs - self.inputs)
            self.scales.widen(inputs)
            self.recent.widen(inputs)
            self.inputs = inputs
        if actions:
            edits += more_actions("network", self.parts()["network"], actions, slice(None))
            self.actions += actions
            self.new, self.tries = self.new + actions, 0
        return edits

    def snapshot(self) -> State:
        """Structure and weights."""
        return {"structure": self._structure(), "network": pack(self.network.state_dict())}

    def roll_back(self, state: State) -> None:
        """Take the network of a `snapshot` into use, with traces that begin anew; all else stays as it is."""
        version, new, tries = self.version + 1, self.new, self.tries
        self._rebuild(state["structure"])
        self.network.load_state_dict(unpack(state["network"]))
        self.traces.restart()
        self.version, self.new, self.tries = version, new, tries
        restore((self._learn, self._values), [GRACE, GRACE])

    # --- keeping ------------------------------------------------------------------------------------------------

    def policy(self) -> State:
        """What `act` depends on, as copies."""
        policy = {"values": copies(self._acting), "steps": self.steps}
        return {**policy, "structure": self._structure()} if self.version else policy

    def load_policy(self, state: State) -> None:
        """Act as the agent that gave `policy` does."""
        if "structure" in state:
            if state["structure"]["version"] != self.version:
                self._rebuild(state["structure"])
            self.actions, self.new, self.tries = state["structure"]["actions"]
        put(self._acting, state["values"])
        self.steps = state["steps"]

    def state_dict(self) -> State:
        """Structure, weights, traces, statistics, the latest observations, the counter and the generator."""
        return {
            "structure": self._structure(),
            "network": pack(self.network.state_dict()),
            "traces": self.traces.state_dict(),
            "scales": self.scales.state_dict(),
            "recent": self.recent.state_dict(),
            "steps": self.steps,
            "generator": generator_state(self.rng),
        }

    def _structure(self) -> State:
        return {
            "version": self.version,
            "inputs": self.inputs,
            "actions": [self.actions, self.new, self.tries],
            "network": self._described,
            "grace": [self._learn.grace, self._values.grace],
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave, bit for bit, whatever the network has grown to."""
        given = state.get("structure")  # not in checkpoints from before networks could change
        if given is not None:
            self._rebuild(given)
            self.recent.load_state_dict(state["recent"])
        self.network.load_state_dict(unpack(state["network"]))
        self.traces.load_state_dict(state["traces"])
        self.scales.load_state_dict(state["scales"])
        restore((self._learn, self._values), 0 if given is None else given["grace"])
        self.steps = state["steps"]
        load_generator(self.rng, state["generator"])

    def _rebuild(self, given: State) -> None:
        """The network as it had become, with weights to be loaded."""
        self.actions, self.new, self.tries = given["actions"]
        if given["version"] == self.version and given["network"] == self._described:
            return
        self.version = given["version"]
        self.network = rebuilt(nn.Sequential, given["network"])
        self.traces = Traces({"network": self.network}, self.num_envs)
        if given["inputs"] != self.inputs:
            self._see(given["inputs"])
        self._take()


def _gathered(values: Tensor, action: Tensor) -> Tensor:
    return values.gather(1, action.unsqueeze(1)).squeeze(1)


#: Of a backup: what the next values come to, and what part of the traces an action keeps (None: all), given what was told.
_BACKUPS: dict[Backup, tuple[Callable[..., Tensor], Callable[..., Tensor] | None]] = {
    "best": (lambda after: after.amax(1), lambda values, action: (_gathered(values, action) >= values.amax(1)).to(T.float32)),
    "expected": (
        lambda after, *chances: Chances(*chances).expected(after),
        lambda values, action, *chances: Chances(*chances).probability(values, action),
    ),
    "taken": (_gathered, None),
}


class ActionValueAgent(ABC):
    """What the agents of action values hand on to their `ActionValues`; how they learn from what they have seen is their own."""

    values: ActionValues
    _seen: list[Transition]

    @property
    def num_parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(p.numel() for p in self.values.network.parameters())

    @property
    def version(self) -> int:
        """Of the structure: how often the network was edited."""
        return self.values.version

    def prepare(self) -> None:
        """Have machine code made before the first step."""
        self.values.prepare()

    def prepare_to_act(self) -> None:
        """Have machine code made for acting."""
        self.values.prepare_to_act()

    def act(self, observation: NDArray[np.float32], *, deterministic: bool = False) -> NDArray[Any]:
        """The best action, or with a probability that falls any; never any with ``deterministic``."""
        return self.values.act(observation, deterministic=deterministic)

    def observe(
        self,
        observation: NDArray[np.float32],
        action: NDArray[Any],
        reward: NDArray[np.float32],
        next_observation: NDArray[np.float32],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        valid: NDArray[np.bool_],
    ) -> None:
        """Hold a step until `learn`."""
        self._seen += transitions(observation, action, reward, next_observation, terminated, truncated, valid)
        self.values.took(observation, action, valid)

    @abstractmethod
    def learn(self) -> Mapping[str, float] | None:
        """Learn from the steps held."""

    def parts(self) -> Mapping[str, Part]:
        """``network``, from standardised observations to values; the traces of all environments follow."""
        return self.values.parts()

    def sample(self) -> NDArray[np.float32] | None:
        """The latest observations, as the network takes them."""
        return self.values.sample()

    def edited(self) -> None:
        """Learn with the network as it is now."""
        self.values.edited()

    def snapshot(self) -> State:
        """Structure and weights."""
        return self.values.snapshot()

    def roll_back(self, state: State) -> None:
        """Take the network of a `snapshot` into use, with traces that begin anew; all else stays as it is."""
        self.values.roll_back(state)

    def policy(self) -> State:
        """What `act` depends on, as copies."""
        return self.values.policy()

    def load_policy(self, state: State) -> None:
        """Act as the agent that gave `policy` does."""
        self.values.load_policy(state)
