"""When networks change: triggers, budgets, trials, and the renewal of units."""

from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensor as T
from tensor import nn, structure
from tensor.structure.activity import measure
from tensor.structure.policies import Seen


def mlp(*sizes, activation=nn.ReLU):
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1])


def fired(trigger, values):
    return [i for i, value in enumerate(values, 1) if trigger(Seen(i, value, None, None))]


def test_adwin_finds_a_change_and_is_quiet_without_one():
    rng = np.random.default_rng(0)
    quiet, delays = 0, []
    for _ in range(20):
        detector = structure.Adwin()
        quiet += any(detector.update(v) for v in rng.normal(size=1000))
        found = [i for i in range(1000) if detector.update(2 + rng.normal())]
        delays.append(found[0])
        assert abs(detector.mean - 2) < 0.3
    assert quiet <= 1
    assert max(delays) <= 64


def test_adwins_variance_is_that_of_its_window():
    rng = np.random.default_rng(1)
    values = rng.normal(size=700) * 3 + 1
    detector = structure.Adwin(delta=1e-9)
    for v in values:
        detector.update(v)
    assert detector.width == 700
    np.testing.assert_allclose(detector._spread, values.var() * 700, rtol=1e-9)
    assert sum(len(row) * 2**k for k, row in enumerate(detector._rows)) == 700
    for _ in range(3):
        detector._drop()
    rest = values[700 - detector.width :]
    np.testing.assert_allclose(detector._spread, rest.var() * len(rest), rtol=1e-9)
    np.testing.assert_allclose(detector.mean, rest.mean())


def test_triggers_tell_when():
    assert fired(structure.every(3), [0.0] * 7) == [3, 6]
    falling = [1 / i for i in range(1, 40)]
    assert fired(structure.plateau(5, smooth=0.0), falling[:20]) == []
    assert fired(structure.plateau(5, smooth=0.0), [1.0] * 12) == [6, 11]
    rng = np.random.default_rng(0)
    up = [*rng.normal(size=300), *(5 + rng.normal(size=100))]
    assert 300 < fired(structure.drift(), up)[0] < 332
    assert fired(structure.drift(), [-v for v in up]) == []
    net = mlp(2, 4, 3)
    actions = structure.new_action(lambda: 4, "2")
    assert actions(Seen(1, None, net, None)) == "4 actions, 3 outputs"
    structure.add_outputs(net, "2", 1).apply()
    assert not actions(Seen(2, None, net, None))
    net, x = mlp(2, 10, 1), T.randn(16, 2)
    with T.no_grad():
        net[0].bias[:] = 5
        net[0].bias[:3] = -100
    assert structure.dormant(0.3, period=1)(Seen(1, None, net, x)) == "3 of 10 units dormant"
    assert not structure.dormant(0.4, period=1)(Seen(1, None, net, x))
    assert not structure.utility("0", 0.01, period=1)(Seen(1, None, net, x))
    structure.prune(net, "0", [0, 1, 2]).apply()
    assert structure.utility("0", 1e-6, period=1)(Seen(1, None, net, x))


def test_growth_is_logged_and_stays_within_its_budget():
    net, x = mlp(2, 4, 1), T.randn(8, 2)
    growth = structure.Growth(net, structure.every(2), lambda n: structure.grow(n, "0", 2), budget=30)
    for _ in range(9):
        growth.step(1.0, x)
    assert [(e["step"], e["edit"], e["units"], e["reason"]) for e in growth.events] == [
        (2, "grow", 2, "every 2 steps"), (4, "over budget", 2, "33 parameters of 30"),
    ]  # fmt: skip
    assert growth.events[0]["output_change"] < 1e-6
    assert net[0].out_features == 6


@pytest.mark.parametrize("after, verdict, width", [(2.0, "rollback", 4), (0.5, "kept", 6)])
def test_growth_on_trial_is_rolled_back_where_it_does_not_help(after, verdict, width):
    net, x = mlp(2, 4, 1), T.randn(8, 2)
    optimizer = T.optim.Adam(net.parameters())
    growth = structure.Growth(net, structure.every(5), lambda n: structure.grow(n, "0", 2), optimizer, trial=4)
    before = None
    for i in range(9):
        optimizer.zero_grad()
        net(x).sum().backward()
        optimizer.step()
        if i == 4:
            before = net[0].weight.detach().numpy().copy()
        growth.step(1.0 if i < 5 else after)
    assert [(e["step"], e["edit"]) for e in growth.events] == [(5, "grow"), (9, verdict)]
    assert net[0].out_features == width
    assert np.array_equal(net[0].weight.detach().numpy(), before) is (verdict == "rollback")


def convnet():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 1), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)
    )


def test_activity_is_what_consumers_hear():
    net, x = convnet(), T.randn(5, 1, 6, 6)
    found = measure("test", net, ["0", "3"], x)
    pooled = net[:3](x).detach().numpy()
    size = np.abs(pooled).mean((0, 2, 3))
    np.testing.assert_allclose(found["0"].size, size, rtol=1e-5)
    weights = np.abs(net[3].weight.detach().numpy()).sum((0, 2, 3))
    np.testing.assert_allclose(found["0"].utility, size * weights, rtol=1e-5)
    flat = np.abs(net[:6](x).detach().numpy()).mean(0)
    utility = (flat * np.abs(net[6].weight.detach().numpy()).sum(0)).reshape(3, 4).sum(1)
    np.testing.assert_allclose(found["3"].utility, utility, rtol=1e-5)


@pytest.mark.parametrize("make, x", [(lambda: mlp(3, 8, 8, 2), (6, 3)), (convnet, (6, 1, 6, 6))])
def test_continual_backprop_renews_the_least_useful_of_the_mature(make, x):
    T.manual_seed(0)
    net, x = make(), T.randn(*x)
    target = make()
    optimizer = T.optim.Adam(net.parameters())
    policy = structure.ContinualBackprop(net, optimizer, target, rate=0.05, maturity=5)
    assert policy.layers == [name for name, m in net.named_modules() if hasattr(m, "weight")][:-1]
    for _ in range(30):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
        policy.step(x)
    units = {name: policy._testers[name].age.size for name in policy.layers}
    assert policy.events
    assert policy.events[0]["step"] > 5
    assert {e["layer"] for e in policy.events} == set(policy.layers)
    # 0.05 of a layer's units at each of about 25 steps, less while the renewed are young.
    assert 5 <= sum(e["units"] for e in policy.events) <= 0.05 * 25 * sum(units.values()) + 2
    event = policy.events[-1]
    assert {"step", "edit", "layer", "units", "numbers", "reason", "output_change"} <= event.keys()
    ages = policy._testers[event["layer"]].age
    assert (ages[event["numbers"]] == 30 - event["step"]).all()


def test_a_renewed_units_mean_goes_to_the_bias_behind_it():
    net, x = mlp(2, 4, 1, activation=nn.Sigmoid).double(), T.randn(64, 2, dtype=T.float64)
    with T.no_grad():
        net[0].weight[2] = 0  # a unit that says .5 whatever comes
        net[0].bias[2] = 0
        net[2].weight[0] = T.tensor([1.0, 1.0, 0.1, 1.0], dtype=T.float64)
    before = net(x).detach().numpy()
    policy = structure.ContinualBackprop(net, rate=0.25, maturity=0)
    policy.step(x)
    assert [e["numbers"] for e in policy.events] == [[2]]
    np.testing.assert_allclose(net(x).detach().numpy(), before, rtol=1e-12)
    assert policy.events[0]["output_change"] < 1e-12
    assert net[2].weight[0, 2].item() == 0


def test_redo_renews_the_dormant_and_keeps_the_function():
    net, x = mlp(2, 10, 1), T.randn(16, 2)
    with T.no_grad():
        net[0].bias[:] = 5
        net[0].bias[:3] = -100
    optimizer = T.optim.Adam(net.parameters())
    net(x).sum().backward()
    optimizer.step()
    policy = structure.ReDo(net, optimizer, period=2)
    policy.step(x)
    assert not policy.events
    policy.step(x)
    (event,) = policy.events
    assert (event["step"], event["numbers"], event["output_change"]) == (2, [0, 1, 2], 0.0)
    assert event["reason"] == "3 of 10 units at most 0.025 of the mean"
    assert not net[2].weight.detach().numpy()[0, :3].any()


def test_options_that_make_no_sense():
    net = mlp(2, 4, 1)
    cases = [
        (lambda: structure.every(0), "every: expected at least 1 step, got 0"),
        (lambda: structure.plateau(0), "plateau: expected patience >= 1"),
        (lambda: structure.Adwin(2.0), "Adwin: expected 0 < delta < 1, got 2.0"),
        (lambda: structure.ReDo(net, period=0), "ReDo: expected threshold >= 0 and period >= 1, got 0.025 and 0"),
        (lambda: structure.ContinualBackprop(net, rate=2), "ContinualBackprop: expected 0 <= rate <= 1"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**20), shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)),
    rate=st.floats(0, 1), maturity=st.integers(0, 4),
)  # fmt: skip
def test_networks_side_by_side_are_tested_as_each_alone(seed, shape, rate, maturity):
    rng = np.random.default_rng(seed)
    stacked = structure.Tester(shape, rate, maturity)
    alone = {i: structure.Tester(shape[-1:], rate, maturity) for i in np.ndindex(shape[:-1])}
    for _ in range(12):
        worth = rng.random(shape)
        due = stacked.update(worth)
        for i, tester in alone.items():
            mine = tester.update(worth[i])
            assert np.array_equal(
                np.zeros(shape[-1], bool) if mine is None else mine, np.zeros(shape, bool)[i] if due is None else due[i]
            )
            if mine is not None:
                assert mine.sum() < shape[-1]
                assert (tester.age[mine] > maturity).all()
                tester.renewed(mine)
        if due is not None:
            stacked.renewed(due)


def test_looking_at_a_network_changes_nothing_in_it():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 2))
    x, before = T.randn(3, 1, 6, 6), {name: t.numpy().copy() for name, t in net.state_dict().items()}
    for policy in (structure.ContinualBackprop(net, rate=0.0), structure.ReDo(net, period=1, threshold=0.0)):
        policy.step(x)
    sizes = [measure("test", net, ["0"], x)["0"].size for _ in range(2)]
    assert np.array_equal(*sizes)
    assert all(np.array_equal(before[name], t.numpy()) for name, t in net.state_dict().items())
    assert all(m.training for m in net.modules())


def test_renewal_goes_on_from_its_state_exactly():
    T.manual_seed(0)
    net, x = mlp(3, 8, 8, 2), T.randn(6, 3)
    optimizer = T.optim.Adam(net.parameters())
    policy = structure.ContinualBackprop(net, optimizer, rate=0.05, maturity=5)

    def steps(net, optimizer, policy):
        T.manual_seed(1)
        for _ in range(20):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
            policy.step(x)
        return policy.events, [p.detach().numpy().copy() for p in net.parameters()]

    steps(net, optimizer, policy)
    other = deepcopy(net)
    resumed = T.optim.Adam(other.parameters())
    resumed.load_state_dict(optimizer.state_dict())
    again = structure.ContinualBackprop(other, resumed, rate=0.05, maturity=5)
    again.load_state_dict(policy.state_dict())
    (events, weights), (found, mine) = steps(net, optimizer, policy), steps(other, resumed, again)
    assert len(events) > 5
    assert found == events
    assert all(np.array_equal(a, b) for a, b in zip(weights, mine, strict=True))
    redo, copied = structure.ReDo(net, period=2), structure.ReDo(net, period=2)
    redo.step(x)
    copied.load_state_dict(redo.state_dict())
    assert copied.steps == 1


def test_a_budget_of_latency():
    net, x = mlp(2, 4, 1), T.randn(8, 2)
    for latency, width in ((0.0, 4), (60.0, 8)):
        growth = structure.Growth(net, structure.every(2), lambda n: structure.grow(n, "0", 2), latency=latency)
        for _ in range(5):
            growth.step(1.0, x)
        assert net[0].out_features == width
        assert [e["edit"] for e in growth.events] == (["grow", "grow"] if latency else ["over budget"])
        assert latency or "s a forward of 0" in growth.events[0]["reason"]


@pytest.mark.parametrize("with_optimizer", [True, False])
def test_an_edit_on_trial_on_which_others_stand_is_kept(with_optimizer):
    net = mlp(2, 4, 1)
    optimizer = T.optim.Adam(net.parameters()) if with_optimizer else None
    growth = structure.Growth(net, structure.every(3), lambda n: structure.grow(n, "0", 2), optimizer, trial=3)
    for i in range(6):
        growth.step(1.0 if i < 3 else 2.0)
        if i == 4:
            structure.grow(net, "0", 1).apply(optimizer)
    assert [e["edit"] for e in growth.events] == ["grow", "kept"]
    assert "got a later edit's" in growth.events[1]["reason"]
    assert (net[0].out_features, net[2].in_features) == (7, 7)
    assert net(T.randn(3, 2)).shape == (3, 1)


def test_layers_that_are_not_there_or_cannot_be_followed():
    net = mlp(2, 4, 1)

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.out = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

        def forward(self, x):
            return self.out(self.conv(x).relu().mean((2, 3)))

    cases = [
        (lambda: structure.ContinualBackprop(net, layers=["00"]), "ContinualBackprop: no layer '00'; did you mean '0'"),
        (lambda: structure.ReDo(net, layers=["zebra"]), "ReDo: no layer 'zebra'; there are '0', '1', '2'"),
        (
            lambda: structure.ReDo(nn.Sequential(nn.Linear(2, 1))),
            "ReDo: expected hidden layers that can be followed, got none in",
        ),
        (lambda: structure.ContinualBackprop(Odd()), "got none in Odd; give x, an input"),
        (lambda: structure.new_action(lambda: 3, "22")(Seen(1, None, net, None)), "new_action: no layer '22'; did you mean '2'"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    assert structure.ContinualBackprop(Odd(), x=T.randn(2, 1, 5, 5)).layers == ["conv"]
