"""The life of an agent's networks: looks at the rules' policies, edits within the budgets, and the history."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Space

import tensor as T
from rlcore.errors import ConfigError, RunError, SpaceError
from rlcore.living.edits import Place
from rlcore.living.history import drawing_from, layer_of, widths
from rlcore.living.plan import Plan, Rule
from rlcore.living.policies import Look, load_memory, memory
from rlcore.types import EditableAgent, EpisodeEnd, Metrics, State
from tensor import structure
from tensor.structure.resize import Resize

__all__ = ["Events", "Life"]

#: Episodes over which the reward before and after an edit is taken.
EPISODES = 20

Event = dict[str, Any]


class Events:
    """What there is to tell since the last time: edits, and how the reward was after earlier ones."""

    def __init__(self) -> None:
        self.edits: list[Event] = []
        self.outcomes: list[Event] = []


class Watch:
    """Where a rule stands: when it looks next, what it has seen since the last time, how often it has edited."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.next = rule.options.interval
        self.looks = self.edits = 0
        self.total, self.count = 0.0, 0
        self.full = False

    def add(self, value: float) -> None:
        """Something that the rule watches."""
        self.total += value
        self.count += 1

    def state_dict(self) -> State:
        """Everything."""
        numbers = {k: getattr(self, k) for k in ("next", "looks", "edits", "total", "count", "full")}
        return {**numbers, "policy": memory(self.rule.policy)}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave."""
        given = dict(state)
        load_memory(self.rule.policy, given.pop("policy"))
        for name, value in given.items():
            setattr(self, name, value)


class Life:
    """Edits an agent's networks, by a plan and as the world's spaces ask for.

    Args:
        agent: without a plan, any; it need not be an `EditableAgent` as long as no space changes.
        plan: what the structure file says; None where there is none.
        seed: of the run: each edit draws from a seed made from it and the edit's number.

    Raises:
        ConfigError: the agent cannot be edited, or has no such layer.
    """

    def __init__(self, agent: Any, plan: Plan | None = None, *, seed: int = 0) -> None:
        self.agent = agent
        self.plan = plan or Plan()
        self.edits: list[Event] = []  #: the history
        self.start: dict[str, int] = {}  #: the units of each layer at the beginning
        self._seed = seed
        self._watches = [Watch(rule) for rule in self.plan.rules]
        self._returns: deque[float] = deque(maxlen=EPISODES)
        self._waiting: list[list[float]] = []  # [edit's number, sum of returns, episodes] until there are enough
        self._over = False
        self._events = Events()
        if isinstance(agent, EditableAgent):
            self.start = widths(agent.parts())
        elif self.plan.rules:
            message = f"{type(agent).__name__} cannot be edited: it has no parts(), as rlcore.types.EditableAgent describes"
            raise ConfigError(message)

    def check(self, observation_space: Box) -> None:
        """Plan every rule's edit once, without making it: what cannot be made is said before anything is learnt.

        Raises:
            ConfigError: names the rule.
        """
        sample = T.zeros(2, *observation_space.shape)
        for number, watch in enumerate(self._watches, 1):
            for name in watch.rule.layers:
                try:
                    part, layer = layer_of(self.agent.parts(), name)
                    with drawing_from(0):
                        watch.rule.edit(Place(part.net, layer, sample))
                except (ConfigError, ValueError) as error:
                    message = f"structure: rule {number}: {error}"
                    raise ConfigError(message) from error

    # --- what the runner tells ------------------------------------------------------------------------------------------

    def add_episodes(self, episodes: Iterable[EpisodeEnd]) -> None:
        """Take in finished episodes."""
        for episode in episodes:
            reward = float(episode.total_reward)
            self._returns.append(reward)
            for watch in self._watches:
                if watch.rule.options.watch == "return":
                    watch.add(reward)
            for waiting in self._waiting:
                waiting[1] += reward
                waiting[2] += 1
        if self._waiting and self._waiting[0][2] >= EPISODES:
            self._conclude()

    def _conclude(self) -> None:
        for number, total, count in self._waiting:
            if count >= EPISODES:
                entry = self.edits[int(number)]
                entry["reward_after"] = total / count
                names = ("number", "step", "edit", "layer", "reward_before", "reward_after")
                self._events.outcomes.append({name: entry[name] for name in names})
        self._waiting = [waiting for waiting in self._waiting if waiting[2] < EPISODES]

    def look(self, step: int, metrics: Metrics) -> None:
        """The agent has just learnt: ask the policies whose time it is, and edit.

        Raises:
            RunError: an edit cannot be made; names the rule.
        """
        for number, watch in enumerate(self._watches, 1):
            options = watch.rule.options
            if options.watch in metrics:
                watch.add(metrics[options.watch])
            if step < watch.next:
                continue
            watch.next = (step // options.interval + 1) * options.interval
            if self._over or watch.full:
                continue
            try:
                self._ask(watch, step)
            except (ValueError, RuntimeError, TypeError, ConfigError) as error:
                message = f"structure: rule {number} at step {step:,}: {error}"
                raise RunError(message) from error

    def take_events(self) -> Events:
        """What has happened since this was last asked."""
        events, self._events = self._events, Events()
        return events

    @property
    def quiet(self) -> bool:
        """Whether `take_events` would give nothing."""
        return not (self._events.edits or self._events.outcomes)

    # --- editing --------------------------------------------------------------------------------------------------------

    def _ask(self, watch: Watch, step: int) -> None:
        rule = watch.rule
        watch.looks += 1
        value = watch.total / watch.count if watch.count else None
        watch.total, watch.count = 0.0, 0
        part, layer = layer_of(self.agent.parts(), rule.layers[0])
        x = self._sample()
        reason = rule.policy(Look(watch.looks, step, value, rule.options.watch == "return", part.net, layer, x))
        if not reason:
            return
        if rule.budget.edits is not None and watch.edits >= rule.budget.edits:
            self._stop(watch, step, f"{watch.edits} edits of {rule.budget.edits}")
            return
        made = 0
        for name in rule.layers:
            made += self._edit(watch, name, step, reason, x)
            if watch.full:
                break
        watch.edits += 1
        if made:
            self.agent.edited()

    def _edit(self, watch: Watch, name: str, step: int, reason: str, x: Any) -> bool:
        """Edit one layer, unless that would go over a budget."""
        rule, agent = watch.rule, self.agent
        part, layer = layer_of(agent.parts(), name)
        seed = self._next_seed()
        with drawing_from(seed):
            edit = rule.edit(Place(part.net, layer, x))
            edit.reason = reason
            over = self._over_budget(rule, edit, name)
            if over:
                self._stop(watch, step, over, whole="parameters" in over)
                return False
            before = _outputs(part.net, x)
            edit.apply(part.optimizer, *part.followers)
        change = _change(before, _outputs(part.net, x))
        self._log(edit, name, step, change, seed, rule.edit_name, rule.edit_options)
        return True

    def _over_budget(self, rule: Rule, edit: structure.Edit, name: str) -> str:
        most, units = self.plan.budget.parameters, rule.budget.units
        if most is not None:
            now = sum(p.numel() for p in edit.net.parameters())
            size = self.agent.num_parameters - now + sum(p.numel() for p in edit.preview().parameters())
            if size > most:
                return f"{size:,} parameters of {most:,}"
        if units is not None and edit.kind == "grow" and widths(self.agent.parts())[name] + edit.units > units:
            return f"{widths(self.agent.parts())[name] + edit.units} units of {units} in {name}"
        return ""

    def _stop(self, watch: Watch, step: int, why: str, *, whole: bool = False) -> None:
        """A budget is reached: said once."""
        watch.full = True
        self._over |= whole
        names = ", ".join(watch.rule.layers)
        self._events.edits.append({"step": step, "edit": "budget reached", "layer": names, "units": 0, "reason": why})

    def adapt(self, observation_space: Box, action_space: Space[Any], step: int) -> None:
        """The world's spaces have changed: have the agent serve them.

        Raises:
            SpaceError: it cannot.
        """
        if not isinstance(self.agent, EditableAgent):
            message = f"{type(self.agent).__name__} cannot serve spaces that change while it learns"
            raise SpaceError(message)
        x = self._sample()
        before = {name: _outputs(part.net, x) for name, part in self.agent.parts().items()}
        seed = self._next_seed()
        with drawing_from(seed):
            edits = self.agent.adapt(observation_space, action_space)
        if not edits:
            return
        self.agent.edited()
        if x is not None:
            x = T.from_numpy(np.pad(x.numpy(), ((0, 0), (0, observation_space.shape[0] - x.shape[1]))))
        for part, edit in edits:
            change = _change(before[part], _outputs(self.agent.parts()[part].net, x))
            self._log(edit, f"{part}.{edit.name}", step, change, seed, edit.kind, None)

    def _log(self, edit: structure.Edit, name: str, step: int, change: float | None, seed: int, maker: str, options: Any) -> None:
        numbers = _numbers(edit) if edit.kind in ("prune", "reset_units") else None
        entry = {
            **edit.log(step),
            "layer": name,
            "number": len(self.edits),
            "output_change": change,
            "parameters": int(self.agent.num_parameters),
            "widths": widths(self.agent.parts()),
            "reward_before": sum(self._returns) / len(self._returns) if self._returns else None,
            "reward_after": None,
            "seed": seed,
            "maker": maker,
            "options": options,
        }
        if numbers is not None:
            entry["numbers"] = numbers
        self._waiting.append([len(self.edits), 0.0, 0])
        self.edits.append(entry)
        self._events.edits.append(entry)

    def _next_seed(self) -> int:
        return int(np.random.SeedSequence([self._seed, len(self.edits)]).generate_state(1)[0])

    def _sample(self) -> Any:
        sample = self.agent.sample()
        return None if sample is None else T.from_numpy(np.ascontiguousarray(sample))

    # --- keeping --------------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """For people: the layers at the start and now, and the history."""
        return {"start": self.start, "now": widths(self.agent.parts()), "edits": self.edits} if self.start else {}

    def state_dict(self) -> State:
        """Everything needed to go on."""
        return {
            "start": self.start,
            "edits": [dict(entry) for entry in self.edits],
            "watches": [watch.state_dict() for watch in self._watches],
            "returns": list(self._returns),
            "waiting": [list(waiting) for waiting in self._waiting],
            "over": self._over,
        }

    def load_state_dict(self, state: State, *, same_plan: bool = True) -> None:
        """Restore what `state_dict` gave; with another plan, the history only."""
        self.start, self.edits = dict(state["start"]), [dict(entry) for entry in state["edits"]]
        self._returns = deque(state["returns"], maxlen=EPISODES)
        self._waiting = [list(waiting) for waiting in state["waiting"]]
        if same_plan:
            self._over = state["over"]
            for watch, given in zip(self._watches, state["watches"], strict=True):
                watch.load_state_dict(given)


def _outputs(net: Any, x: Any) -> Any:
    if x is None:
        return None
    with T.no_grad():
        return net(x).numpy().copy()


def _change(before: Any, after: Any) -> float | None:
    """The largest change of the outputs that there were, as a share of the largest of them."""
    if before is None or after is None:
        return None
    both = min(before.shape[-1], after.shape[-1])
    largest = max(float(np.abs(before).max(initial=0)), 1e-30)
    return float(np.abs(before[..., :both] - after[..., :both]).max(initial=0)) / largest


def _numbers(edit: structure.Edit) -> list[int]:
    """The units that an edit has taken out or started anew, off its changes."""
    action: Any = edit.action
    assert isinstance(action, Resize)
    layer: Any = edit.net.get_submodule(edit.name)
    change = next(c for c in action.changes[_name_of(edit.net, layer.weight)].changes if c.axis == 0)
    if edit.kind == "prune":
        old = action.changes[change.name].before[0]
        return sorted(set(range(old)) - set(change.index.tolist()))
    return np.flatnonzero(change.index < 0).tolist()


def _name_of(net: Any, parameter: Any) -> str:
    return next(str(name) for name, p in net.named_parameters() if p is parameter)
