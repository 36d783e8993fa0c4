"""The life of an agent's networks: looks at the rules' policies, edits within the budgets, and the history."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Space

import tensor as T
from rlcore.errors import ConfigError, RunError, SpaceError
from rlcore.living.budgets import over_budget
from rlcore.living.edits import Place
from rlcore.living.history import drawing_from, layer_of, widths
from rlcore.living.plan import Plan, Rule
from rlcore.living.policies import Look, load_memory, memory
from rlcore.living.trial import Trial, Trials, said
from rlcore.types import EditableAgent, EpisodeEnd, Metrics, Part, RevertibleAgent, State
from tensor import structure

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
        self.rest = 0  # looks that it still sits out
        self.full = False

    def add(self, value: float) -> None:
        """Something that the rule watches."""
        self.total += value
        self.count += 1

    def state_dict(self) -> State:
        """Everything."""
        numbers = {k: getattr(self, k) for k in ("next", "looks", "edits", "total", "count", "rest", "full")}
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
        num_envs: how many observations the agent acts on at once.

    Raises:
        ConfigError: the agent cannot be edited, or has no such layer.
    """

    def __init__(self, agent: Any, plan: Plan | None = None, *, seed: int = 0, num_envs: int = 1) -> None:
        self.agent = agent
        self.plan = plan or Plan()
        self.edits: list[Event] = []  #: the history
        self.start: dict[str, int] = {}  #: the units of each layer at the beginning
        self._seed, self._num_envs = seed, num_envs
        self._watches = [Watch(rule) for rule in self.plan.rules]
        self._returns: deque[float] = deque(maxlen=EPISODES)
        self._waiting: list[list[Any]] = []  # [edit's number, sum of returns, episodes] until there are enough
        self._trials = Trials(num_envs)
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
            rule = watch.rule
            try:
                if rule.trial is not None and not isinstance(self.agent, RevertibleAgent):
                    message = f"trial: {type(self.agent).__name__} cannot take an edit back: it has no snapshot() and roll_back()"
                    raise ConfigError(message)
                for name in rule.layers:
                    part, layer = layer_of(self.agent.parts(), name)
                    self._plan(deepcopy(rule) if rule.edit is None else rule, 0, Place(part.net, layer, sample), name)
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
            self._trials.add(episode.index, reward)
        if any(count >= EPISODES for _, _, count in self._waiting):
            self._conclude()

    def _conclude(self) -> None:
        for number, total, count in self._waiting:
            if count >= EPISODES:
                self._tell(number, total / count)
        self._waiting = [waiting for waiting in self._waiting if waiting[2] < EPISODES]

    def _tell(self, number: int, after: float | None) -> None:
        """What became of an edit."""
        entry = self.edits[number]
        entry["reward_after"] = after
        names = ("number", "step", "edit", "layer", "reward_before", "reward_after", "trial")
        self._events.outcomes.append({name: entry[name] for name in names if name in entry})

    def look(self, step: int, metrics: Metrics) -> None:
        """The agent has just learnt: judge a trial that is over, ask the policies whose time it is, and edit.

        Raises:
            RunError: an edit cannot be made; names the rule.
        """
        trial = self._trials.end()
        if trial is not None:
            self._judge(trial, step)
        for number, watch in enumerate(self._watches, 1):
            options = watch.rule.options
            if options.watch in metrics:
                watch.add(metrics[options.watch])
            if step < watch.next:
                continue
            watch.next = (step // options.interval + 1) * options.interval
            if watch.full or self._waits(watch):
                continue
            try:
                (self._ask if watch.rule.edit is not None else self._renew)(watch, step)
            except (ValueError, RuntimeError, TypeError, ConfigError) as error:
                message = f"structure: rule {number} at step {step:,}: {error}"
                raise RunError(message) from error

    def finish(self, step: int) -> None:
        """The run is over: an edit that is still on trial is decided by the returns that there are."""
        if self._trials.now is not None and not self._trials.now.again:
            self._trials.now.close()
            trial = self._trials.end()
            assert trial is not None
            self._judge(trial, step)

    def take_events(self) -> Events:
        """What has happened since this was last asked."""
        events, self._events = self._events, Events()
        return events

    @property
    def quiet(self) -> bool:
        """Whether `take_events` would give nothing."""
        return not (self._events.edits or self._events.outcomes)

    def _waits(self, watch: Watch) -> bool:
        """Whether a rule is not asked now, though it is time to."""
        rule = watch.rule
        if rule.edit is None:
            return False
        if watch.rest:
            watch.rest -= 1
            return True
        early = rule.trial is not None and not self._trials.ready(rule.trial)
        # What came on top of an edit on trial would go back with it.
        return self._trials.now is not None or early or (self._over and rule.grows)

    # --- editing --------------------------------------------------------------------------------------------------------

    def _ask(self, watch: Watch, step: int) -> None:
        rule = watch.rule
        harmed = None if rule.trial is None else self._trials.harmed(self._watches.index(watch))
        if harmed is not None:
            self._go_back(harmed, step, said(self._trials.returns.values[-harmed.episodes :], harmed.before))
            return
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
        over = over_budget(self.plan.budget, rule, self.agent, lambda i, place: self._plan(rule, i, place), x, self._num_envs)
        if over is not None:
            self._stop(watch, step, over.why, whole=over.whole)
            return
        trial, first = rule.trial, len(self.edits)
        snapshot = None if trial is None else self.agent.snapshot()
        for name in rule.layers:
            part, layer = layer_of(self.agent.parts(), name)
            edit: Any = self._plan(rule, 0, Place(part.net, layer, x))
            edit.reason = reason
            self._apply(rule, edit, part, name, step, x)
        watch.edits += 1
        self.agent.edited()
        if trial is None:
            self._trials.changed()
            self._trials.forget()  # what was kept would go back with what is not on trial
        else:
            numbers = list(range(first, len(self.edits)))
            self._trials.begin(trial, rule=self._watches.index(watch), numbers=numbers, first=first, snapshot=snapshot)

    def _renew(self, watch: Watch, step: int) -> None:
        """Let a policy that chooses units itself look at each layer, and start anew what is due."""
        rule, x, made = watch.rule, self._sample(), 0
        watch.looks += 1
        watch.total, watch.count = 0.0, 0
        for name in rule.layers if x is not None else ():
            part, layer = layer_of(self.agent.parts(), name)
            edit = self._plan(rule, 0, Place(part.net, layer, x), name)
            if edit is None:
                continue
            if rule.budget.edits is not None and watch.edits >= rule.budget.edits:
                self._stop(watch, step, f"{watch.edits} edits of {rule.budget.edits}")
                break
            self._apply(rule, edit, part, name, step, x)
            watch.edits += 1
            made += 1
        if made:
            self.agent.edited()

    def _plan(self, rule: Rule, ahead: int, place: Place, name: str = "") -> structure.Edit | None:
        """The edit after ``ahead`` others, with draws of its own."""
        with drawing_from(self._seed_of(len(self.edits) + ahead)):
            edit: structure.Edit | None = rule.policy.plan(name, place) if rule.edit is None else rule.edit(place)
        return edit

    def _apply(self, rule: Rule, edit: structure.Edit, part: Part, name: str, step: int, x: Any) -> None:
        before = _outputs(part.net, x)
        edit.apply(part.optimizer, *part.followers)
        change = _change(before, _outputs(part.net, x))
        entry = self._entry(edit.log(step), name, change, self._seed_of(len(self.edits)))
        entry |= {"maker": rule.edit_name, "options": rule.edit_options}
        if edit.in_place:
            entry["plan"] = []  # of which there may be thousands, and no shape changes
        if edit.numbers:
            entry["numbers"] = list(edit.numbers)
        if rule.trial is not None:
            entry["trial"] = "running"
        self._log(entry)

    # --- trials ---------------------------------------------------------------------------------------------------------

    def _judge(self, trial: Trial, step: int) -> None:
        """A trial is decided: an edit stays, or all goes back to what it was before; further, where that has not helped."""
        if not trial.again:
            self._end(trial, "kept" if trial.kept else "taken back")
        to = None if trial.kept else self._trials.fallen(trial.after.values) if trial.again else trial
        if to is not None:
            self._go_back(to, step, trial.verdict)

    def _go_back(self, to: Trial, step: int, why: str) -> None:
        """All goes back to what it was before an edit."""
        watch = self._watches[to.rule]
        name = watch.rule.layers[0]
        part, _ = layer_of(self.agent.parts(), name)
        x = self._sample()
        before = _outputs(part.net, x)
        self.agent.roll_back(to.snapshot)
        change = _change(before, _outputs(layer_of(self.agent.parts(), name)[0].net, x))
        self._waiting = [waiting for waiting in self._waiting if waiting[0] < to.first]
        for entry in self.edits[to.first :]:
            if entry.get("trial") == "kept":
                entry["trial"] = "taken back"
                self._tell(entry["number"], entry["reward_after"])
            elif entry["edit"] != "rollback":
                entry["trial"] = "taken back"  # also what other rules have renewed since
        told = {"step": step, "edit": "rollback", "units": 0, "plan": [], "reason": why}
        self._log({**self._entry(told, ", ".join(watch.rule.layers), change, None), "back_to": to.first})
        watch.rest = watch.rule.trial.rest if watch.rule.trial is not None else 0
        self._trials.gone_back(to)

    def _end(self, trial: Trial, verdict: str) -> None:
        for number in trial.numbers:
            self.edits[number]["trial"] = verdict
            if trial.kept is None:
                self._waiting.append([number, sum(trial.after.values), len(trial.after.values)])
            else:
                self._tell(number, trial.mean)

    def _cut_short(self) -> None:
        """What is on trial stays, and what was kept can no longer go back."""
        trial, self._trials.now = self._trials.now, None
        if trial is not None and not trial.again:
            self._end(trial, "kept")
        self._trials.forget()

    # --- budgets and spaces ---------------------------------------------------------------------------------------------

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
        seed = self._seed_of(len(self.edits))
        with drawing_from(seed):
            edits = self.agent.adapt(observation_space, action_space)
        if not edits:
            return
        self._cut_short()  # earlier structures no longer serve the world
        self._trials.changed()
        self.agent.edited()
        if x is not None:
            x = T.from_numpy(np.pad(x.numpy(), ((0, 0), (0, observation_space.shape[0] - x.shape[1]))))
        for part, edit in edits:
            change = _change(before[part], _outputs(self.agent.parts()[part].net, x))
            self._log(self._entry(edit.log(step), f"{part}.{edit.name}", change, seed))

    def _entry(self, told: Event, name: str, change: float | None, seed: int | None) -> Event:
        """The history's entry of an edit."""
        return {
            **told,
            "layer": name,
            "number": len(self.edits),
            "output_change": change,
            "parameters": int(self.agent.num_parameters),
            "widths": widths(self.agent.parts()),
            "reward_before": sum(self._returns) / len(self._returns) if self._returns else None,
            "reward_after": None,
            "seed": seed,
            "maker": told["edit"],
            "options": None,
        }

    def _log(self, entry: Event) -> None:
        if "trial" not in entry:  # whose verdict tells
            self._waiting.append([entry["number"], 0.0, 0])
        self.edits.append(entry)
        self._events.edits.append(entry)

    def _seed_of(self, number: int) -> int:
        """What an edit draws from."""
        return int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])

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
            "trials": self._trials.state_dict(),
        }

    def load_state_dict(self, state: State, *, same_plan: bool = True) -> None:
        """Restore what `state_dict` gave; with another plan, the history only."""
        self.start, self.edits = dict(state["start"]), [dict(entry) for entry in state["edits"]]
        self._returns.clear()
        self._returns.extend(state["returns"])
        self._waiting = [list(waiting) for waiting in state["waiting"]]
        if "trials" in state:
            self._trials.load_state_dict(state["trials"])
        for entry in self.edits if "trials" not in state else ():  # a checkpoint from before rollbacks were on trial
            if entry.get("trial") == "running":
                entry["trial"] = "kept"
        if not same_plan:
            self._cut_short()
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
