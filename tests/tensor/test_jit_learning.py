"""Networks and optimizers change between the calls of a compiled learning step, which goes on like the function itself."""

from __future__ import annotations

from typing import Any

import pytest
from jit_worlds import World, equal, learner, tier  # noqa: F401

import tensor as T

# --- networks ------------------------------------------------------------------------------------------------------------


def test_training_mode_changes() -> None:
    layers = lambda: T.nn.Sequential(T.nn.Linear(3, 4), T.nn.BatchNorm1d(4), T.nn.Dropout(0.5), T.nn.Linear(4, 1))  # noqa: E731
    equal(lambda: learner(T.optim.SGD, layers=layers), lambda w: w.net.eval(), lambda w: w.net.train(), hits=6)


def test_an_attribute_of_a_module_changes() -> None:
    layers = lambda: T.nn.Sequential(T.nn.Linear(3, 4), T.nn.LeakyReLU(0.1), T.nn.Linear(4, 1))  # noqa: E731
    equal(lambda: learner(layers=layers), lambda w: setattr(w.net[1], "negative_slope", 0.3), hits=4)


def test_layers_are_added_and_removed() -> None:
    equal(
        learner,
        lambda w: w.net.append(T.nn.Tanh()),
        lambda w: w.net.insert(1, T.nn.Linear(4, 4)),
        lambda w: w.net.pop(),
        lambda w: w.net.__setitem__(1, T.nn.Identity()),
        hits=8,
    )


def test_a_layer_grows() -> None:
    def grow(w: World) -> None:
        old, old2 = w.net[0], w.net[2]
        w.net[0], w.net[2] = T.nn.Linear(3, 6), T.nn.Linear(6, 2)
        with T.no_grad():
            w.net[0].weight[:4] = old.weight
            w.net[2].weight[:, :4] = old2.weight
        w.opt.add_param_group({"params": [*w.net[0].parameters(), *w.net[2].parameters()]})

    equal(learner, grow, hits=3)


def test_a_parameter_is_replaced() -> None:
    def replace(w: World) -> None:
        w.net[0].weight = T.nn.Parameter(T.ones(4, 3) * 0.1)

    equal(learner, replace, lambda w: w.net[2].register_parameter("bias", None), hits=4)


def test_parameters_are_loaded_and_written() -> None:
    def load(w: World) -> None:
        w.net.load_state_dict({k: v * 0.5 for k, v in w.net.state_dict().items()})

    def write(w: World) -> None:
        with T.no_grad():
            for p in w.net.parameters():
                p.mul_(0.3)

    def through_data(w: World) -> None:
        for p in w.net.parameters():
            p.data.mul_(2)
            p.data = p.data.clone() + 0.1

    equal(learner, load, write, through_data, hits=10)


def test_a_parameter_is_frozen_and_thawed() -> None:
    equal(learner, lambda w: w.net[0].requires_grad_(False), lambda w: w.net[0].requires_grad_(True), hits=4)


def test_hooks_come_and_go() -> None:
    def hook(w: World) -> None:
        w.handle = w.net[0].register_forward_hook(lambda module, args, output: output * 2)

    equal(learner, hook, lambda w: w.handle.remove(), hits=4)
    equal(learner, lambda w: w.net[0].weight.register_hook(lambda g: g * 2), hits=2)


def test_gradients_are_left_accumulated_and_removed() -> None:
    def build() -> World:
        w = learner()
        net = w.net

        def step(x: T.Tensor) -> T.Tensor:
            loss = (net(x) ** 2).mean()
            loss.backward()
            return loss.detach()

        w.step = step
        return w

    def scale(w: World) -> None:
        for p in w.net.parameters():
            p.grad = p.grad * 2

    equal(build, lambda w: w.opt.zero_grad(), scale, lambda w: w.opt.zero_grad(set_to_none=False), hits=5)


# --- optimizers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [T.optim.SGD, T.optim.Adam, T.optim.AdamW, T.optim.RMSprop])
def test_options_of_an_optimizer_change(kind: Any) -> None:
    def rate(w: World) -> None:
        w.opt.param_groups[0]["lr"] = 0.1

    def decay(w: World) -> None:
        w.opt.param_groups[0]["weight_decay"] = 0.1

    equal(lambda: learner(kind), rate, decay, hits=8)


def test_a_schedule_sets_the_rate() -> None:
    def build() -> World:
        w = learner()
        w.schedule = T.optim.lr_scheduler.StepLR(w.opt, 1, 0.5)
        return w

    equal(build, lambda w: w.schedule.step(), lambda w: w.schedule.step(), hits=8)


def test_state_of_an_optimizer_is_loaded() -> None:
    def load(w: World) -> None:
        w.opt.load_state_dict(w.saved)

    equal(learner, lambda w: setattr(w, "saved", w.opt.state_dict()), load, hits=8)
