"""Losses, distances, embeddings, noise, and activations in place: what the goldens cannot show, and what is refused."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import pdist

import tensor as T
from tensor import nn
from tensor.nn import functional as F

RNG = np.random.default_rng(2)
INF = float("inf")


@pytest.mark.parametrize(
    "p, name", [(0.0, "hamming"), (1.0, "cityblock"), (2.0, "euclidean"), (3.0, "minkowski"), (INF, "chebyshev")]
)
def test_distances_are_scipy_s(p: float, name: str) -> None:
    a = RNG.normal(size=(5, 3))
    expected = pdist(a, name, **({"p": p} if name == "minkowski" else {})) * (3 if p == 0 else 1)
    np.testing.assert_allclose(F.pdist(T.tensor(a), p).numpy(), expected, rtol=1e-12)
    x = T.tensor(a, requires_grad=True)
    assert T.autograd.gradcheck(lambda x: F.pdist(x, p), x)


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, INF])
def test_the_gradient_of_no_distance_is_zero(p: float) -> None:
    x = T.ones(2, 3, requires_grad=True)
    F.pdist(x, p).sum().backward()
    assert (x.grad == 0).all()


# --- CTC -------------------------------------------------------------------------------------------------------------


def test_ctc_without_an_alignment_is_infinite_or_left_out() -> None:
    x = T.tensor(RNG.normal(size=(2, 2, 3)), requires_grad=True)
    targets, frames, lengths = T.tensor([[1, 1], [2, 0]]), [2, 2], [2, 1]  # two equal labels need a blank between
    losses = F.ctc_loss(x.log_softmax(2), targets, frames, lengths, reduction="none")
    assert losses.isinf().tolist() == [True, False]
    F.ctc_loss(x.log_softmax(2), targets, frames, lengths, reduction="sum", zero_infinity=True).backward()
    assert (x.grad[:, 0] == 0).all()
    assert (x.grad[:, 1] != 0).any()


def test_ctc_of_nothing() -> None:
    even = T.zeros(3, 1, 2).log_softmax(2)
    assert F.ctc_loss(even, T.zeros(1, 0, dtype=T.int64), [3], [0], reduction="sum").item() == pytest.approx(3 * np.log(2))


def test_ctc_takes_targets_after_each_other_or_padded() -> None:
    x = T.tensor(RNG.normal(size=(6, 2, 4))).log_softmax(2)
    padded = F.ctc_loss(x, T.tensor([[1, 2, 3], [3, 0, 0]]), T.tensor([6, 5]), T.tensor([3, 1]), reduction="none")
    flat = F.ctc_loss(x, T.tensor([1, 2, 3, 3]), (6, 5), (3, 1), reduction="none")
    assert padded.tolist() == flat.tolist()
    alone = F.ctc_loss(x[:, 0], T.tensor([1, 2, 3]), 6, 3, reduction="none")
    assert alone.item() == pytest.approx(padded[0].item())


def test_ctc_has_no_second_derivative() -> None:
    x = T.tensor(RNG.normal(size=(3, 1, 2)), requires_grad=True)
    (g,) = T.autograd.grad(F.ctc_loss(x.exp(), T.tensor([[1]]), [3], [1]), x, create_graph=True)
    assert g.requires_grad  # by exp alone
    assert T.autograd.gradcheck(lambda x: F.ctc_loss(x.log_softmax(2), T.tensor([[1]]), [3], [1]), x)


# --- embedding -------------------------------------------------------------------------------------------------------


def test_embedding_scales_long_rows_down_in_place() -> None:
    layer = nn.Embedding(4, 2, max_norm=1.0)
    layer.weight.data.fill_(3.0)
    layer(T.tensor([0, 2]))
    assert layer.weight.norm(dim=1).isclose(T.tensor([1.0, 18**0.5, 1.0, 18**0.5]), rtol=1e-5).all()


def test_bags_of_any_shape() -> None:
    layer = nn.EmbeddingBag.from_pretrained(T.arange(8.0).reshape(4, 2), mode="sum")
    assert not layer.weight.requires_grad
    assert layer(T.tensor([0, 1, 3]), T.tensor([0, 0, 2])).tolist() == [[0, 0], [2, 4], [6, 7]]
    weighted = layer(T.tensor([[1, 3]]), per_sample_weights=T.tensor([[2.0, 0.5]]))
    assert weighted.tolist() == [[7.0, 9.5]]


def test_rows_looked_up_often_share_one_gradient() -> None:
    for layer in (nn.Embedding(3, 1, scale_grad_by_freq=True), nn.EmbeddingBag(3, 1, scale_grad_by_freq=True, mode="sum")):
        layer(T.tensor([[0, 0, 0, 2]])).sum().backward()
        assert layer.weight.grad.flatten().tolist() == pytest.approx([1, 0, 1])


def test_embedding_bag_takes_pytorch_s_former_order() -> None:
    with pytest.warns(UserWarning, match=r"expected \(input, weight\)"):
        assert F.embedding_bag(T.ones(3, 2), T.tensor([[0, 1]]), mode="sum").tolist() == [[2, 2]]


# --- noise -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer, shape",
    [
        (nn.Dropout1d(0.5), (50, 4, 9)),
        (nn.Dropout2d(0.5), (50, 4, 3, 3)),
        (nn.Dropout3d(0.5), (50, 4, 3, 3, 1)),
        (nn.Dropout2d(0.5), (200, 3, 3)),
    ],
)
def test_channels_are_dropped_as_a_whole(layer: nn.Module, shape: tuple[int, ...]) -> None:
    y = layer(T.ones(shape)).reshape(200, 9).numpy()
    assert (y == y[:, :1]).all()
    assert set(np.unique(y)) == {0.0, 2.0}
    assert 0.3 < (y[:, 0] == 0).mean() < 0.7
    x = T.ones(shape)
    assert layer.eval()(x) is x


@pytest.mark.parametrize("layer", [nn.AlphaDropout(0.3), nn.FeatureAlphaDropout(0.3)])
def test_alpha_dropout_keeps_mean_and_variance(layer: nn.Module) -> None:
    y = layer(T.randn(400, 500, 1))
    assert y.mean().item() == pytest.approx(0, abs=0.02)
    assert y.var().item() == pytest.approx(1, abs=0.03)


def test_rrelu_draws_its_slopes_while_training() -> None:
    layer = nn.RReLU(0.1, 0.4)
    y = layer(-T.ones(1000))
    assert -0.4 <= y.min().item() < -0.39 < -0.11 < y.max().item() <= -0.1
    assert layer.eval()(-T.ones(1)).item() == pytest.approx(-0.25)


def test_gumbel_softmax_samples_its_distribution() -> None:
    logits = T.tensor([0.2, 0.5, 0.3]).log().expand(4000, 3)
    hard = F.gumbel_softmax(logits, hard=True)
    assert (hard.sum(1) == 1).all()
    np.testing.assert_allclose(hard.mean(0).numpy(), [0.2, 0.5, 0.3], atol=0.03)
    x = T.zeros(2, 3, requires_grad=True)
    (F.gumbel_softmax(x, tau=2.0, hard=True) * T.arange(3.0)).sum().backward()
    assert (x.grad != 0).all()


# --- in place --------------------------------------------------------------------------------------------------------

IN_PLACE = ["relu", "relu6", "elu", "celu", "selu", "leaky_relu", "silu", "mish", "hardtanh", "hardswish", "hardsigmoid", "rrelu"]


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_is_the_same_and_has_the_same_gradient(name: str) -> None:
    function = getattr(F, name)
    a = RNG.normal(size=6) * 3
    x, again = T.tensor(a, requires_grad=True), T.tensor(a, requires_grad=True)
    expected = function(x)
    inner = again * 1
    assert function(inner, inplace=True) is inner
    np.testing.assert_array_equal(inner.detach().numpy(), expected.detach().numpy())
    for y in (expected, inner):
        y.square().sum().backward()
    np.testing.assert_allclose(again.grad.numpy(), x.grad.numpy(), rtol=1e-12)


def test_in_place_by_position_and_by_name() -> None:
    x = T.tensor([-1.0, 2.0])
    assert F.relu(x, True) is x
    assert x.tolist() == [0, 2]
    assert F.threshold_(x, 1.0, 5.0) is x
    assert x.tolist() == [5, 2]
    assert nn.Dropout(0.0, inplace=True)(x) is x
    with pytest.raises(RuntimeError, match="relu_: a leaf tensor that requires grad"):
        F.relu_(T.ones(1, requires_grad=True))


# --- refused ---------------------------------------------------------------------------------------------------------

X = T.zeros(2, 3)
Y = T.tensor([0, 2])


@pytest.mark.parametrize(
    "call, error, text",
    [
        (
            lambda: F.mse_loss(X, X, reduction="avg"),
            ValueError,
            "mse_loss: expected reduction 'mean', 'sum' or 'none', got 'avg'",
        ),
        (
            lambda: F.l1_loss(X, X, weight=T.ones(3)),
            ValueError,
            r"l1_loss: expected weights of the losses' shape \[2, 3\], got \[3\]",
        ),
        (lambda: F.huber_loss(X, X, delta=0), RuntimeError, "huber_loss: expected a delta above 0, got 0"),
        (lambda: F.multi_margin_loss(X, Y, p=3), ValueError, "expected p 1 or 2, got 3"),
        (lambda: F.multi_margin_loss(X, T.tensor([0, 3])), RuntimeError, "expected classes from 0 to 2, got 0 to 3"),
        (
            lambda: F.multi_margin_loss(X, T.tensor([0])),
            RuntimeError,
            r"expected scores \[n, classes\] or \[classes\] and targets for them",
        ),
        (lambda: F.multilabel_margin_loss(X, Y), RuntimeError, "expected targets of the scores' shape"),
        (lambda: F.triplet_margin_with_distance_loss(X, X, X, margin=0), ValueError, "expected a margin above 0"),
        (lambda: nn.TripletMarginLoss(margin=-1), ValueError, "expected a margin above 0"),
        (lambda: nn.MultiMarginLoss(p=3), ValueError, "expected p 1 or 2"),
        (lambda: F.ctc_loss(X, Y, [2, 2], [1]), RuntimeError, "expected 1 input_lengths and target_lengths, got 2 and 1"),
        (lambda: F.ctc_loss(X, Y, [3], [1]), RuntimeError, "input_lengths up to 2"),
        (lambda: F.ctc_loss(X, T.tensor([3]), [2], [1]), RuntimeError, "expected labels below 3, got 3 to 3"),
        (lambda: F.pdist(T.ones(3)), RuntimeError, "pdist: expected a matrix"),
        (lambda: F.pdist(X, -1.0), RuntimeError, "length: expected p of at least 0"),
        (lambda: F.embedding(T.tensor([3]), X), IndexError, "embedding: expected indices below 2, got 3 to 3"),
        (lambda: F.embedding(X, X), RuntimeError, "embedding: expected integers and a table"),
        (lambda: F.embedding(Y[:1], X, padding_idx=5), RuntimeError, "expected a padding_idx within 2 rows, got 5"),
        (lambda: F.embedding_bag(Y[:1], X), ValueError, "expected a matrix of indices, or a vector with a vector of offsets"),
        (lambda: F.embedding_bag(Y[:1], X, T.tensor([1])), ValueError, "expected offsets that rise from 0"),
        (lambda: F.embedding_bag(Y[:1], X, T.tensor([0]), mode="min"), ValueError, "expected mode 'sum', 'mean' or 'max'"),
        (
            lambda: F.embedding_bag(Y[:1], X, T.tensor([0]), per_sample_weights=T.ones(1)),
            ValueError,
            "expected per_sample_weights",
        ),
        (lambda: nn.EmbeddingBag(3, 2, mode="min"), ValueError, "EmbeddingBag: expected mode"),
        (lambda: nn.Embedding(3, 2, _weight=X), ValueError, r"expected vectors of shape \[3, 2\]"),
        (lambda: nn.Embedding.from_pretrained(T.ones(3)), ValueError, r"expected vectors \[num_embeddings, embedding_dim\]"),
        (lambda: F.one_hot(T.tensor([0, 3]), 3), RuntimeError, "expected classes from 0 to 2, got 0 to 3"),
        (lambda: F.one_hot(T.zeros(0, dtype=T.int64)), RuntimeError, "one_hot: expected integers"),
        (lambda: F.dropout2d(T.ones(2)), RuntimeError, "dropout2d: expected an input of 3 or 4 dimensions"),
        (lambda: F.dropout(X, 2.0), ValueError, "dropout: expected a probability"),
        (lambda: F.feature_alpha_dropout(T.ones(2), training=True), RuntimeError, r"expected an input \[n, channels, ...\]"),
        (lambda: F.rrelu(X, 0.5, 0.1), RuntimeError, "rrelu: expected lower <= upper"),
        (lambda: F.layer_norm(X, (2,)), RuntimeError, r"layer_norm: expected an input of shape \[..., 2\], got \[2, 3\]"),
        (lambda: F.group_norm(X, 2), RuntimeError, "group_norm: expected channels divisible by 2 groups"),
        (
            lambda: F.batch_norm(X[:1], None, None, training=True),
            ValueError,
            "batch_norm: expected more than one value per channel",
        ),
        (lambda: F.batch_norm(X, None, None), RuntimeError, "batch_norm: expected running_mean and running_var"),
        (lambda: F.instance_norm(X), ValueError, "instance_norm: expected more than one element per channel"),
        (lambda: F.local_response_norm(X, 2), ValueError, "local_response_norm: expected an input of at least 3"),
        (lambda: nn.Softmax2d()(X), ValueError, "Softmax2d: expected images"),
        (lambda: nn.InstanceNorm1d(4)(T.ones(2, 3, 5)), ValueError, r"InstanceNorm1d: expected \[n, 4, ...\]"),
    ],
)
def test_refused(call: Any, error: type[Exception], text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match=text):
            call()


# --- adaptive softmax ------------------------------------------------------------------------------------------------


def test_adaptive_softmax_is_one_softmax_over_clusters() -> None:
    layer = nn.AdaptiveLogSoftmaxWithLoss(6, 12, cutoffs=[3, 8], div_value=2.0, head_bias=True).double()
    assert list(layer.state_dict()) == ["head.weight", "head.bias", *(f"tail.{i}.{j}.weight" for i in (0, 1) for j in (0, 1))]
    assert [tuple(w.shape) for w in layer.tail[1].parameters()] == [(1, 6), (4, 1)]
    x, target = T.tensor(RNG.normal(size=(5, 6)), requires_grad=True), T.tensor([0, 11, 4, 7, 2])
    whole = layer.log_prob(x)
    np.testing.assert_allclose(whole.exp().sum(1).detach().numpy(), 1, rtol=1e-12)
    output, loss = layer(x, target)
    np.testing.assert_allclose(
        output.detach().numpy(), whole.gather(1, target.unsqueeze(1)).squeeze(1).detach().numpy(), rtol=1e-12
    )
    assert loss.item() == pytest.approx(-output.mean().item())
    assert (layer.predict(x) == whole.argmax(1)).all()
    assert layer(x[0], target[0]).output.shape == ()
    assert T.autograd.gradcheck(lambda x, *p: layer(x, target).loss, (x, *layer.parameters()))
    with pytest.raises(RuntimeError, match="expected targets below 12, got 12 to 12"):
        layer(x[:1], T.tensor([12]))
    with pytest.raises(RuntimeError, match=r"expected inputs \[n, 6\] and targets \[n\], got \[5, 6\] and \[1\]"):
        layer(x, T.tensor([1]))
    with pytest.raises(ValueError, match=r"expected cutoffs that rise from above 0 to below 5, got \[3, 2\]"):
        nn.AdaptiveLogSoftmaxWithLoss(6, 5, cutoffs=[3, 2])
