"""Stream AC(lambda): an actor and a critic that learn from one step at a time, without replay or batches (arXiv 2410.14606)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from numpy.typing import NDArray

import tensor as T
from agents.compiled import GRACE, LearningStep, restore
from agents.growing import (
    build_space,
    describe_space,
    more_actions,
    more_dimensions,
    more_inputs,
    new_outputs,
    rebuilt,
)
from agents.intentional import PolicyIntent, intentional
from agents.networks import make_head, sparse_mlp
from agents.obgd import obgd
from agents.settings import at_least, check, positive
from agents.state import copies, generator_state, load_generator, pack, put, unpack
from agents.streaming import Numbers, Recent, Scales, StreamingConfig, Traces, Transition, trained, transitions
from rlcore.types import Part, State
from tensor import Tensor, nn, structure

__all__ = ["StreamAC", "StreamACConfig"]


@dataclass
class StreamACConfig(StreamingConfig):
    """Stream AC(lambda): a streaming actor-critic for discrete and continuous actions, which keeps no step it has learnt from."""

    kappa_policy: float = 3.0
    """With obgd: how much smaller than the bound the policy's steps stay."""
    kappa_value: float = 2.0
    """With obgd: how much smaller than the bound the values' steps stay."""
    policy_change: float = 0.05
    """With intentional: the largest change that a step makes to the log-probability of the action taken."""
    entropy_coefficient: float = 0.01
    """Weight of the bonus for random policies."""
    hidden_sizes: tuple[int, ...] = (128, 128)
    """Units of the hidden layers, of the policy and of the value network each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, positive, "policy_change")
        check(self, at_least(1), "kappa_policy", "kappa_value")
        check(self, at_least(0), "entropy_coefficient")


class StreamAC:
    """The agent; see `rlcore.types.Agent` for its protocol. Several environments share the networks and have traces each.

    >>> from gymnasium.spaces import Box, Discrete
    >>> agent = StreamAC(StreamACConfig(), Box(-1, 1, (4,)), Discrete(2), num_envs=1, total_steps=1000, seed=0)
    >>> agent.act(np.zeros((1, 4), np.float32), deterministic=True).shape
    (1,)
    """

    Config = StreamACConfig

    def __init__(
        self,
        config: StreamACConfig,
        observation_space: Box,
        action_space: Space[Any],
        *,
        num_envs: int,
        total_steps: int,
        seed: int,
    ) -> None:
        self.config = config
        self.num_envs = num_envs
        self.rng = np.random.Generator(np.random.PCG64(seed))
        T.manual_seed(seed)
        (inputs,) = observation_space.shape
        self.version = 0
        self.head, self.action_space = make_head(action_space, "stream-ac", spread=True), action_space
        self.actor = sparse_mlp(inputs, config.hidden_sizes, self.head.size, sparsity=config.sparsity)
        self.critic = sparse_mlp(inputs, config.hidden_sizes, 1, sparsity=config.sparsity)
        self.intent = PolicyIntent()
        self._see(inputs)
        self._join()
        self._seen: list[Transition] = []

    def _see(self, inputs: int) -> None:
        self.inputs, self.recent = inputs, Recent(inputs)
        self.scales = Scales.of(self.config, inputs, self.num_envs)

    def _join(self) -> None:
        nets = {"actor": self.actor, "critic": self.critic}
        self.networks, self.traces = nn.ModuleDict(nets), Traces(nets, self.num_envs)
        self._take()

    def _take(self) -> None:
        """Take the networks into use as they have become."""
        self._policy_parameters, self._value_parameters = trained(self.actor), trained(self.critic)
        self._acting = [*self.actor.parameters(), *self.scales.acting]
        self._learn = LearningStep(self._step, self._written(), (self.actor, self.critic), compile=self.config.compile)
        self._outputs = LearningStep(self._evaluate, (), compile=self.config.compile)
        self._described = {name: structure.describe(net) for name, net in self.traces.nets.items()}

    def _written(self) -> list[Tensor]:
        """All that a step writes, as the networks are now."""
        traces = [e for part in self.traces.tensors for e in part]
        return [*trained(self.actor), *trained(self.critic), *self.scales.tensors, *self.intent.tensors, *traces]

    @property
    def num_parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(p.numel() for p in self.networks.parameters())

    def prepare(self) -> None:
        """Have machine code made before the first step."""
        x, head = T.zeros(1, self.inputs), self.head
        action = T.from_numpy(np.zeros((1, *head.action_shape), head.action_dtype))
        numbers = Numbers(0.0, 0.0, 0.0, 0.0).row()
        self._learn.prepare(x, action, x.clone(), numbers, self.scales.running[0], *self.traces.tensors[0])
        self.prepare_to_act()

    def prepare_to_act(self) -> None:
        """Have machine code made for acting."""
        self._outputs.prepare(T.zeros(self.num_envs, self.inputs))

    # --- acting -------------------------------------------------------------------------------------------------

    def act(self, observation: NDArray[np.float32], *, deterministic: bool = False) -> NDArray[Any]:
        """Draw actions from the policy; the most likely ones with ``deterministic``."""
        if deterministic:
            return self.head.mode(self._evaluate(T.from_numpy(observation)))
        outputs = self._outputs if len(observation) == self.num_envs else self._evaluate  # one shape, one recording
        return self.head.sample(outputs(T.from_numpy(observation)), self.rng)

    def _evaluate(self, observation: Tensor) -> Tensor:
        with T.no_grad():
            outputs: Tensor = self.actor(self.scales.standardized(observation))
            return outputs

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
        self.recent.add(observation[valid])

    def interrupt(self) -> None:
        """The episodes under way were cut off without an outcome: begin the traces anew."""
        self._seen.clear()
        self.traces.restart()

    # --- learning -----------------------------------------------------------------------------------------------

    def learn(self) -> Mapping[str, float] | None:
        """Learn from each step held, once."""
        if not self._seen:
            return None
        c, errors = self.config, 0.0
        for step in self._seen:
            ends = step.terminated or step.truncated
            decay = self.traces.decay(step.env, c.gamma * c.trace_decay, ends=ends)
            numbers = Numbers(step.reward, 0.0 if step.terminated else c.gamma, decay, 0.0 if ends else 1.0)
            delta: Tensor = self._learn(
                T.from_numpy(step.observation),
                T.from_numpy(step.action),
                T.from_numpy(step.next_observation),
                numbers.row(),
                self.scales.running[step.env],
                *self.traces.tensors[step.env],
            )
            errors += abs(delta.item())
        n = len(self._seen)
        self._seen.clear()
        return {"td_error": errors / n}

    def _step(
        self, observation: Tensor, action: Tensor, next_observation: Tensor, row: Tensor, running: Tensor, *traces: Tensor
    ) -> Tensor:
        """Learn from one step; returns the temporal-difference error, in scaled rewards."""
        c = self.config
        earned, discount, decay, going = row.unbind()
        with T.no_grad():
            self.scales.see(observation)
            reward = self.scales.reward(earned, going, running)
            following = self.critic(self.scales.standardized(next_observation))
            x = self.scales.standardized(observation)
        value = self.critic(x)
        delta: Tensor = (reward + discount * following - value.detach()).reshape(())
        outputs = self.actor(x)
        score = self.head.log_prob(outputs, action)
        if c.entropy_coefficient:
            # The bonus has the sign of the error, by which the update multiplies it: it always favours randomness.
            score = score + self.head.entropy(outputs) * (delta.sign() * c.entropy_coefficient)
        policy = T.autograd.grad(score.sum(), self._policy_parameters)
        values = T.autograd.grad(value.sum(), self._value_parameters)
        split = len(self._policy_parameters)
        with T.no_grad():
            if c.step_rule == "intentional":
                change = self.intent.change(delta, c.policy_change)
                intentional(self._policy_parameters, traces[:split], policy, change, decay, self.intent.usual)
                intentional(self._value_parameters, traces[split:], values, delta * c.error_reduction, decay)
                return delta
            for parameters, part, gradients, kappa in (
                (self._policy_parameters, traces[:split], policy, c.kappa_policy),
                (self._value_parameters, traces[split:], values, c.kappa_value),
            ):
                obgd(parameters, part, gradients, delta, decay, step_size=c.step_size, kappa=kappa)
        return delta

    # --- changing -----------------------------------------------------------------------------------------------

    def parts(self) -> Mapping[str, Part]:
        """``actor`` and ``critic``, which take standardised observations; the traces of all environments follow."""
        self._learn.settle()
        self._outputs.settle()
        return self.traces.parts()

    def sample(self) -> NDArray[np.float32] | None:
        """The latest observations, as the networks take them."""
        rows = self.recent.rows
        return self.scales.standardized(T.from_numpy(rows)).numpy() if len(rows) else None

    def edited(self) -> None:
        """Learn with the networks as they are now."""
        self.traces.fit()
        if self._learn.stale(self._written()):
            self.version += 1
            self._take()
            restore((self._learn, self._outputs), [GRACE, GRACE])

    def adapt(self, observation_space: Box, action_space: Space[Any]) -> Sequence[tuple[str, structure.Edit]]:
        """Serve spaces that have grown. What was seen before is learnt from before; a new component has no statistics yet."""
        (inputs,), outputs = observation_space.shape, new_outputs("stream-ac", self.action_space, action_space)
        self.learn()
        edits: list[tuple[str, structure.Edit]] = []
        if inputs > self.inputs:
            edits += more_inputs(self.parts(), inputs - self.inputs)
            self.scales.widen(inputs)
            self.recent.widen(inputs)
            self.inputs = inputs
        if outputs:
            actor = self.parts()["actor"]
            if isinstance(action_space, Box):
                edits += more_dimensions("actor", actor, outputs)
            else:
                # A new choice is like the mean of the others; what is apart from the others (a component) begins at zero.
                edits += more_actions("actor", actor, outputs, slice(None) if isinstance(action_space, Discrete) else None)
            self.head, self.action_space = make_head(action_space, "stream-ac", spread=True), action_space
        return edits

    def snapshot(self) -> State:
        """Structure and weights."""
        return {"structure": self._structure(), "networks": pack(self.networks.state_dict())}

    def roll_back(self, state: State) -> None:
        """Take the networks of a `snapshot` into use, with traces that begin anew; all else stays as it is."""
        version = self.version + 1
        self._rebuild(state["structure"])
        self.networks.load_state_dict(unpack(state["networks"]))
        self.traces.restart()
        self.version = version
        restore((self._learn, self._outputs), [GRACE, GRACE])

    # --- keeping ------------------------------------------------------------------------------------------------

    def policy(self) -> State:
        """What `act` depends on, as copies."""
        values = {"values": copies(self._acting)}
        return {**values, "structure": self._structure()} if self.version else values

    def load_policy(self, state: State) -> None:
        """Act as the agent that gave `policy` does."""
        if "structure" in state and state["structure"]["version"] != self.version:
            self._rebuild(state["structure"])
        put(self._acting, state["values"])

    def state_dict(self) -> State:
        """Structure, weights, traces, statistics, the latest observations, steps not yet learnt from and the generator."""
        return {
            "structure": self._structure(),
            "networks": pack(self.networks.state_dict()),
            "traces": self.traces.state_dict(),
            "scales": self.scales.state_dict(),
            "intent": self.intent.state_dict(),
            "recent": self.recent.state_dict(),
            "seen": [list(step) for step in self._seen],
            "generator": generator_state(self.rng),
        }

    def _structure(self) -> State:
        return {
            "version": self.version,
            "inputs": self.inputs,
            "actions": describe_space(self.action_space),
            **self._described,
            "grace": [self._learn.grace, self._outputs.grace],
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave, bit for bit, whatever the networks have grown to."""
        given = state.get("structure")  # not in checkpoints from before networks could change
        if given is not None:
            self._rebuild(given)
            self.recent.load_state_dict(state["recent"])
        self.networks.load_state_dict(unpack(state["networks"]))
        self.traces.load_state_dict(state["traces"])
        self.scales.load_state_dict(state["scales"])
        if "intent" in state:  # checkpoints from before there was one
            self.intent.load_state_dict(state["intent"])
        restore((self._learn, self._outputs), 0 if given is None else given["grace"])
        self._seen = [Transition(*step) for step in state["seen"]]
        load_generator(self.rng, state["generator"])

    def _rebuild(self, given: State) -> None:
        """The networks as they had become, with weights to be loaded."""
        described = {name: given[name] for name in self._described}
        if given["version"] == self.version and described == self._described:
            return
        self.version = given["version"]
        self.action_space = build_space(given["actions"])
        self.head = make_head(self.action_space, "stream-ac", spread=True)
        self.actor, self.critic = (rebuilt(nn.Sequential, spec) for spec in described.values())
        if given["inputs"] != self.inputs:
            self._see(given["inputs"])
        self._join()
