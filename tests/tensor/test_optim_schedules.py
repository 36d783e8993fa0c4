"""Schedules: what goldens do not show; averaged models."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensor as T
from tensor import nn, optim
from tensor.optim import lr_scheduler, swa_utils


def fresh(lr=0.8, **options):
    return optim.SGD([nn.Parameter(T.ones(1))], lr=lr, **options)


def test_schedules_save_and_resume():
    a = fresh()
    one = lr_scheduler.CosineAnnealingLR(a, 10)
    for _ in range(4):
        one.step()
    saved = pickle.loads(pickle.dumps((one.state_dict(), a.state_dict())))
    b = fresh()
    two = lr_scheduler.CosineAnnealingLR(b, 10)
    two.load_state_dict(saved[0])
    b.load_state_dict(saved[1])
    one.step()
    two.step()
    assert one.get_last_lr() == two.get_last_lr() == [b.param_groups[0]["lr"]]
    resumed = lr_scheduler.StepLR(a, 2, last_epoch=3)
    assert resumed.last_epoch == 4
    with pytest.raises(KeyError, match="group 0 has no 'initial_lr'"):
        lr_scheduler.StepLR(fresh(), 2, last_epoch=3)


def test_functions_are_not_saved_but_objects_are():
    class Decay:
        def __init__(self, base):
            self.base = base

        def __call__(self, step):
            return self.base**step

    plain = lr_scheduler.LambdaLR(fresh(), lambda step: 0.5**step)
    plain.step()
    assert plain.get_last_lr() == [0.4]
    assert plain.state_dict()["lr_lambdas"] == [None]
    one, two = (lr_scheduler.LambdaLR(fresh(), Decay(base)) for base in (0.5, 0.1))
    two.load_state_dict(one.state_dict())
    two.step()
    assert two.get_last_lr() == [0.4]


def test_steps_to_an_epoch_follow_the_closed_form():
    for make in (
        lambda o: lr_scheduler.StepLR(o, 3, 0.5),
        lambda o: lr_scheduler.MultiStepLR(o, [2, 5]),
        lambda o: lr_scheduler.LinearLR(o, 0.5, total_iters=6),
        lambda o: lr_scheduler.CosineAnnealingLR(o, 6, 0.1),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2, 2),
        lambda o: lr_scheduler.PolynomialLR(o, 9, 2.0),
    ):
        walked, jumped = make(fresh()), make(fresh())
        for _ in range(7):
            walked.step()
        jumped.step(3)
        jumped.step(7)
        assert jumped.get_last_lr() == pytest.approx(walked.get_last_lr(), rel=1e-12)
        assert jumped.last_epoch == walked.last_epoch == 7


def test_warm_restarts_may_stand_between_epochs():
    scheduler = lr_scheduler.CosineAnnealingWarmRestarts(fresh(), 4, 2)
    scheduler.step(4 + 8 + 4.0)  # the third period of 16 begins at 12
    assert (scheduler.T_cur, scheduler.T_i) == (4.0, 16)
    with pytest.raises(ValueError, match="expected epoch >= 0, got -1"):
        scheduler.step(-1)


def test_combinations_nest():
    """A sequence in a sequence, and a chain in a sequence, begin where they are reached."""
    optimizer = fresh(1.0)
    halving = lr_scheduler.ExponentialLR(optimizer, 0.5)
    inner = lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.ConstantLR(optimizer, 0.1, 9), lr_scheduler.ExponentialLR(optimizer, 0.5)], [2]
    )
    chain = lr_scheduler.ChainedScheduler([lr_scheduler.ConstantLR(optimizer, 0.5, 1), lr_scheduler.StepLR(optimizer, 2, 0.1)])
    outer = lr_scheduler.SequentialLR(optimizer, [halving, inner, chain], [3, 7])
    expected = [1, 0.5, 0.25, 0.1, 0.1, 1, 0.5, 0.5, 1, 0.1, 0.1]
    assert rates(lambda _: outer, 11) == pytest.approx(expected)

    def inside_first(optimizer):
        parts = [S.ConstantLR(optimizer, 0.1, 9), S.ExponentialLR(optimizer, 0.5)]
        inner = S.SequentialLR(optimizer, parts, [2])
        return S.SequentialLR(optimizer, [inner, S.ExponentialLR(optimizer, 0.1)], [5])

    assert rates(inside_first, 7) == pytest.approx([0.1, 0.1, 1, 0.5, 0.25, 1, 0.1])


def test_cycles_move_the_first_beta():
    optimizer = optim.Adam([nn.Parameter(T.ones(1))])
    scheduler = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10)
    assert optimizer.param_groups[0]["betas"] == (0.95, 0.999)
    for _ in range(2):
        scheduler.step()
    assert optimizer.param_groups[0]["betas"] == (pytest.approx(0.85), 0.999)


S = lr_scheduler

#: Schedules that are a curve times the first rate, with any of their options.
factors = st.floats(0.125, 1.0)
counts = st.integers(1, 12)
curves = st.one_of(
    st.builds(lambda g: (S.ExponentialLR, {"gamma": g}), factors),
    st.builds(lambda n, g: (S.StepLR, {"step_size": n, "gamma": g}), counts, factors),
    st.builds(lambda ms, g: (S.MultiStepLR, {"milestones": ms, "gamma": g}), st.lists(counts), factors),
    st.builds(lambda f, n: (S.ConstantLR, {"factor": f, "total_iters": n}), factors, counts),
    st.builds(lambda a, b, n: (S.LinearLR, {"start_factor": a, "end_factor": b, "total_iters": n}), factors, factors, counts),
    st.builds(lambda n, p: (S.PolynomialLR, {"total_iters": n, "power": p}), counts, st.sampled_from([0.5, 1.0, 2.0])),
    st.builds(lambda f: (S.LambdaLR, {"lr_lambda": lambda step: f**step}), factors),
)


def rates(make, steps):
    optimizer = fresh(1.0)
    scheduler = make(optimizer)
    seen = []
    for _ in range(steps):
        seen += scheduler.get_last_lr()
        scheduler.step()
    return np.array(seen)


@given(chain=st.lists(curves.filter(lambda curve: curve[0] is not S.LambdaLR), min_size=1, max_size=4))
def test_chained_curves_multiply(chain):
    together = rates(lambda o: S.ChainedScheduler([kind(o, **options) for kind, options in chain]), 14)
    apart = [rates(lambda o, k=kind, given=options: k(o, **given), 14) for kind, options in chain]
    np.testing.assert_allclose(together, np.prod(apart, axis=0), rtol=1e-12)


@given(first=curves, second=curves, milestone=counts)
def test_a_sequence_is_one_schedule_and_then_the_other(first, second, milestone):
    def make(optimizer):
        return S.SequentialLR(optimizer, [kind(optimizer, **options) for kind, options in (first, second)], [milestone])

    alone = [rates(lambda o, k=kind, given=options: k(o, **given), 14) for kind, options in (first, second)]
    expected = [*alone[0][:milestone], *alone[1]][:14]
    np.testing.assert_allclose(rates(make, 14), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "act, error, text",
    [
        (lambda: S.StepLR(3, 2), TypeError, "StepLR: expected an Optimizer, got int"),
        (lambda: S.StepLR(fresh(), 0), ValueError, "StepLR: expected step_size >= 1, got 0"),
        (lambda: S.LambdaLR(fresh(), [abs, abs]), ValueError, "LambdaLR: expected 1 functions, one for each group, got 2"),
        (lambda: S.ConstantLR(fresh(), 1.5), ValueError, r"ConstantLR: expected a factor in \[0, 1\], got 1.5"),
        (lambda: S.LinearLR(fresh(), 0), ValueError, r"LinearLR: expected factors in \[0, 1\] and a start above 0, got 0"),
        (lambda: S.CosineAnnealingLR(fresh(), 0), ValueError, "CosineAnnealingLR: expected T_max >= 1, got 0"),
        (lambda: S.CosineAnnealingWarmRestarts(fresh(), 2, 0.5), ValueError, "expected an integer T_mult >= 1, got 0.5"),
        (lambda: S.CyclicLR(fresh(), 0.1, 1, mode="square"), ValueError, "CyclicLR: expected mode to be one of 'triangular', "),
        (lambda: S.CyclicLR(fresh(), [0.1, 1], 1), ValueError, "expected 1 values of base_lr, one for each group, got 2"),
        (
            lambda: S.CyclicLR(optim.Adagrad([T.ones(1)]), 0.1, 1),
            ValueError,
            "cycle_momentum needs an optimizer with momentum or betas, got Adagrad",
        ),
        (lambda: S.OneCycleLR(fresh(), 1), ValueError, "OneCycleLR: expected total_steps >= 1, or epochs and steps_per_epoch"),
        (lambda: S.OneCycleLR(fresh(), 1, 5, pct_start=2), ValueError, "OneCycleLR: expected 0 <= pct_start <= 1, got 2"),
        (lambda: S.OneCycleLR(fresh(), 1, 5, anneal_strategy="up"), ValueError, "anneal_strategy to be 'cos' or 'linear'"),
        (lambda: [S.OneCycleLR(fresh(), 1, 5).step(7)], ValueError, "OneCycleLR.step: expected at most 5 steps, got step 7"),
        (lambda: S.ReduceLROnPlateau(fresh(), factor=1), ValueError, "ReduceLROnPlateau: expected factor < 1, got 1"),
        (lambda: S.ReduceLROnPlateau(fresh(), "low"), ValueError, "expected mode to be 'min' or 'max', got 'low'"),
        (lambda: S.SequentialLR(fresh(), [], []), ValueError, "SequentialLR: expected at least one schedule, got none"),
        (lambda: S.SequentialLR(fresh(), [3], []), TypeError, "SequentialLR: expected schedules, got int as number 0"),
        (lambda: S.ChainedScheduler([S.ReduceLROnPlateau(fresh())]), ValueError, "a ReduceLROnPlateau, whose steps need a met"),
        (
            lambda: S.ChainedScheduler([S.ExponentialLR(fresh(), 0.5), S.ExponentialLR(fresh(), 0.5)]),
            ValueError,
            "ChainedScheduler: expected schedules of one optimizer, got another one's as number 1",
        ),
        (lambda: sequence([1]), ValueError, "SequentialLR: expected 0 milestones for 1 schedules, got 1"),
        (lambda: sequence([]).step(3), ValueError, "SequentialLR.step: expected no epoch, or 0 for the start, got 3"),
        (lambda: sequence([]).load_state_dict({"_schedulers": []}), ValueError, "expected the state of 1 schedules, got 0"),
        (lambda: swa_utils.SWALR(fresh(), 0.1, -1), ValueError, "SWALR: expected anneal_epochs >= 0, got -1"),
        (lambda: swa_utils.get_ema_avg_fn(2), ValueError, "get_ema_avg_fn: expected 0 <= decay <= 1, got 2"),
    ],
)
def test_error_texts(act, error, text):
    with pytest.raises(error, match=text):
        act()


def test_a_group_added_later_is_an_error():
    optimizer = fresh()
    scheduler = S.CosineAnnealingWarmRestarts(optimizer, 3)
    optimizer.add_param_group({"params": T.ones(1)})
    with pytest.raises(ValueError, match=r"Restarts\.step: expected 1 groups, as when the schedule was made, got 2"):
        scheduler.step()


def sequence(milestones):
    optimizer = fresh()
    return S.SequentialLR(optimizer, [S.ExponentialLR(optimizer, 0.5)], milestones)


def constant(model, value):
    for p in model.parameters():
        nn.init.constant_(p, value)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, 5.0),  # (2 + 4 + 9) / 3
        ({"avg_fn": swa_utils.get_swa_avg_fn()}, 5.0),
        ({"avg_fn": swa_utils.get_ema_avg_fn(0.75)}, 0.75 * 2.5 + 0.25 * 9),
        ({"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.75)}, 0.75 * 2.5 + 0.25 * 9),
    ],
)
@pytest.mark.parametrize("optimised", [False, True])
def test_averaged_models(options, expected, optimised, device):
    model = nn.Linear(2, 1).to(device)
    if optimised:
        optim.Adam(model.parameters())  # the parameters are views of one buffer then, their averages are not
    average = swa_utils.AveragedModel(model, **options)
    for value in (2.0, 4.0, 9.0):
        constant(model, value)
        average.update_parameters(model)
    assert all(((p - expected).abs() < 1e-5).all() for p in average.parameters())
    assert all((p == 9).all() for p in model.parameters())
    assert average.n_averaged.item() == 3
    assert set(average.state_dict()) == {"n_averaged", "module.weight", "module.bias"}
    assert average(T.ones(1, 2, device=device)).item() == pytest.approx(3 * expected, rel=1e-5)
    twin = swa_utils.AveragedModel(model, **options)
    twin.load_state_dict(average.state_dict())
    constant(model, 1.0)
    twin.update_parameters(model)
    average.update_parameters(model)
    assert all((a == b).all() for a, b in zip(twin.parameters(), average.parameters(), strict=True))


def test_averaged_models_take_only_one_function_and_structure():
    with pytest.raises(ValueError, match=r"update_parameters: expected tensors of shapes \[\[1, 1\], \[1\]\], got \[\[2, 1"):
        swa_utils.AveragedModel(nn.Linear(1, 1)).update_parameters(nn.Linear(1, 2))
    with pytest.raises(ValueError, match="AveragedModel: expected avg_fn or multi_avg_fn, got both"):
        swa_utils.AveragedModel(nn.Linear(1, 1), None, swa_utils.get_swa_avg_fn(), swa_utils.get_swa_multi_avg_fn())


@pytest.mark.parametrize("use_buffers, expected", [(False, 6.0), (True, 4.0)])
def test_buffers_follow_or_are_averaged(use_buffers, expected):
    model = nn.BatchNorm1d(2)
    average = swa_utils.AveragedModel(model, use_buffers=use_buffers)
    for value in (2.0, 6.0):
        model.running_mean.fill_(value)
        average.update_parameters(model)
    assert (average.module.running_mean == expected).all()


def test_update_bn_takes_the_statistics_of_the_data():
    data = [T.tensor(np.random.default_rng(i).normal(i, 1 + i, size=(8, 3)).astype(np.float32)) for i in range(4)]
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1)).eval()
    model[0].running_mean.fill_(float("nan"))
    swa_utils.update_bn([(x, "label") for x in data], model)
    norm = model[0]
    np.testing.assert_allclose(norm.running_mean.numpy(), np.mean([x.numpy().mean(0) for x in data], 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(norm.running_var.numpy(), np.mean([x.numpy().var(0, ddof=1) for x in data], 0), rtol=1e-5)
    assert (norm.momentum, norm.num_batches_tracked.item(), model.training) == (0.1, 4, False)
    swa_utils.update_bn(data, nn.Linear(7, 1))  # no norms: the data is not even looked at
