"""Online classification and regression: inputs and classes that come and go, and progressive validation."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.checks import same
from agents.supervised import OnlineClassifier, OnlineConfig, OnlineRegressor
from rlcore import checkpoint
from rlcore.errors import ConfigError
from rlcore.progressive import Progress, progressive

SMALL = OnlineConfig(hidden_sizes=(8,), compile=False)


def circles(n, seed=0):
    """Two classes that no straight line parts."""
    rng = np.random.default_rng(seed)
    for x, y in rng.uniform(-1, 1, (n, 2)).tolist():
        yield {"x": x, "y": y}, "in" if x * x + y * y < 0.5 else "out"


def test_learns_what_is_not_linear():
    (end,) = progressive(OnlineClassifier(OnlineConfig(learning_rate=0.1)), circles(3000))
    assert end.accuracy > 0.85


def test_before_anything_is_known():
    classifier, regressor = OnlineClassifier(), OnlineRegressor()
    assert classifier.predict_one({"x": 1}) is None
    assert classifier.predict_proba_one({"x": 1}) == {}
    assert regressor.predict_one([1.0]) == 0.0
    classifier.learn_one({"x": 1}, None)  # no label: nothing to learn
    regressor.learn_one([1.0], None)
    assert classifier.classes == []


@pytest.mark.parametrize("label", [True, 3, "a", np.int64(3), np.bool_(True)])
def test_labels_are_given_back_as_they_came(label):
    classifier = OnlineClassifier(SMALL)
    classifier.learn_one([1.0, 2.0], label)
    given_back = classifier.predict_one([1.0, 2.0])
    assert given_back == label
    assert type(given_back) in (bool, int, str)


def test_inputs_appear_and_vanish():
    classifier = OnlineClassifier(SMALL)
    rng = np.random.default_rng(0)
    for k in range(400):
        label = bool(rng.integers(2))
        x = {"noise": rng.normal()}
        if k >= 100:
            x["late"] = 2.0 * label - 1 + rng.normal() * 0.1
        if k % 3:
            x["colour"] = "red" if label else "blue"
        classifier.learn_one(x, label)
    assert classifier._network.inputs >= len(classifier._inputs) == 4  # noise, late, and two colours
    assert classifier.predict_one({"late": 1.0}) is True
    assert classifier.predict_one({"late": -1.0}) is False
    assert classifier.predict_one({"colour": "red"}) is True


def test_growing_keeps_what_was_known():
    classifier = OnlineClassifier(SMALL)
    for x, y in circles(200):
        classifier.learn_one(x, y)
    before = classifier.predict_proba_one({"x": 0.1, "y": 0.2})
    weights = copy.deepcopy(classifier._network.state_dict())
    classifier._network.fit(10, 2)
    after = classifier.predict_proba_one({"x": 0.1, "y": 0.2})
    assert after == pytest.approx(before, rel=1e-6)
    assert not same(weights, classifier._network.state_dict())
    classifier._network.fit(10, 3)
    assert classifier._network.outputs == 3


def test_classes_appear():
    classifier = OnlineClassifier(OnlineConfig(hidden_sizes=(16,), learning_rate=0.1, compile=False))
    rng = np.random.default_rng(0)
    for k in range(600):
        label = int(rng.integers(2 if k < 200 else 3))
        classifier.learn_one([float(label), 1.0], label)
    assert [classifier.predict_one([float(k), 1.0]) for k in range(3)] == [0, 1, 2]
    assert sum(classifier.predict_proba_one([1.0, 1.0]).values()) == pytest.approx(1.0)


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "c=1", "z"]), st.floats(-1e6, 1e6), max_size=3))
def test_unknown_features_change_no_prediction(extra):
    classifier = OnlineClassifier(SMALL)
    for x, y in circles(20):
        classifier.learn_one(x, y)
    x = {"x": 0.5, "y": -0.5}
    assert classifier.predict_proba_one(x) == classifier.predict_proba_one({**extra, **x})


@pytest.mark.parametrize("compiled", [False, True])
def test_goes_on_from_a_checkpoint_bit_for_bit(compiled, tmp_path):
    config = OnlineConfig(hidden_sizes=(8,), compile=compiled)
    samples = [({**x, **({"z": 1.0} if k > 30 else {})}, y) for k, (x, y) in enumerate(circles(80))]
    one = OnlineClassifier(config)
    for x, y in samples[:40]:
        one.learn_one(x, y)
    checkpoint.save(tmp_path / "c.safetensors", one.state_dict(), {})
    two = OnlineClassifier(config, seed=5)
    two.load_state_dict(checkpoint.load(tmp_path / "c.safetensors")[0])
    for x, y in samples[40:]:
        assert one.predict_proba_one(x) == two.predict_proba_one(x)
        for learner in (one, two):
            learner.learn_one(x, y)
    assert same(one.state_dict(), two.state_dict())


def test_regression_in_the_units_of_the_target(tmp_path):
    regressor = OnlineRegressor(OnlineConfig(hidden_sizes=(32,), learning_rate=0.05, compile=False))
    rng = np.random.default_rng(0)
    samples = [(x, float(1000.0 + 50.0 * x[0] * x[1])) for x in rng.normal(size=(1500, 2)).tolist()]
    reports = list(progressive(regressor, samples, every=500))
    assert [r.samples for r in reports] == [1500] * 3  # it is one report, which grows
    late = np.mean([abs(regressor.predict_one(x) - y) for x, y in samples[-200:]])
    assert late < 20.0
    checkpoint.save(tmp_path / "r.safetensors", regressor.state_dict(), {})
    other = OnlineRegressor(regressor.config)
    other.load_state_dict(checkpoint.load(tmp_path / "r.safetensors")[0])
    assert other.predict_one([0.3, 0.2]) == regressor.predict_one([0.3, 0.2])


def test_the_learning_rate_is_checked():
    with pytest.raises(ConfigError, match="learning_rate: expected a number above 0, got 0"):
        OnlineConfig(learning_rate=0)


# --- progressive validation --------------------------------------------------------------------------------------------


class Diary:
    """Writes down what it is asked and told."""

    def __init__(self):
        self.entries = []

    def predict_one(self, x):
        self.entries.append(("asked", x))
        return x

    def learn_one(self, x, y):
        self.entries.append(("told", x))


def test_predicts_before_it_learns():
    diary = Diary()
    list(progressive(diary, [(0, 0), (1, 1)]))
    assert diary.entries == [("asked", 0), ("told", 0), ("asked", 1), ("told", 1)]


def test_answers_come_when_they_are_due():
    diary = Diary()
    samples = [(10.0, 0), (11.0, 0), (12.0, 0), (20.0, 0)]
    waits = {10.0: 5, 11.0: 0.5, 12.0: 8, 20.0: 1}
    list(progressive(diary, samples, delay=lambda x, y: waits[x], moment=lambda x: x))
    told = [x for what, x in diary.entries if what == "told"]
    assert told == [11.0, 10.0, 12.0, 20.0]
    assert diary.entries.index(("told", 12.0)) < diary.entries.index(("asked", 20.0))  # due at 20 and known at 20


@given(n=st.integers(0, 30), delay=st.integers(0, 40), every=st.integers(1, 7))
def test_every_answer_counts_once_whatever_the_delay(n, delay, every):
    diary = Diary()
    reports = [(r.samples, r.waiting) for r in progressive(diary, [(k, k) for k in range(n)], delay=delay, every=every)]
    assert [x for what, x in diary.entries if what == "told"] == list(range(n))
    if n:
        assert reports[-1] == (n, 0)
    asked = 0
    for what, x in diary.entries:
        asked += what == "asked"
        assert what == "asked" or asked >= min(n, x + delay)


def test_a_negative_delay_is_refused():
    with pytest.raises(ValueError, match="progressive: expected a delay of at least 0, got -1 for sample 0"):
        list(progressive(Diary(), [(0, 0)], delay=-1))


def test_figures_fit_the_target():
    names, numbers = Progress(), Progress()
    for wanted, got in (("a", "a"), ("b", "a")):
        names.add(wanted, got)
    for wanted, got in ((1.0, 4.0), (2.0, 6.0)):
        numbers.add(wanted, got)
    assert names.accuracy == 0.5
    assert np.isnan(names.mean_absolute_error)
    assert (numbers.mean_absolute_error, numbers.root_mean_squared_error) == (3.5, pytest.approx(12.5**0.5))
    assert np.isnan(numbers.accuracy)


def test_a_change_of_the_error_is_an_alarm():
    progress = Progress()
    for k in range(600):
        progress.add(0, 0 if k < 300 else 1)
    assert progress.drifts
    assert progress.drifts[0] > 300
