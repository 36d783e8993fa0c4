"""Every layer: how it prints, what its state is called, its gradients, what it refuses."""

import numpy as np
import pytest

import tensor as T
from tensor import nn

RNG = np.random.default_rng(0)
VECTORS, ROWS, IMAGES = (3, 4), (2, 4, 7), (2, 4, 6, 6)

# (how it is made, the shape it takes, PyTorch 2.13's repr where it is not the source, names in its state)
LAYERS = [
    ("Linear(4, 3)", VECTORS, "Linear(in_features=4, out_features=3, bias=True)", "weight bias"),
    ("Linear(4, 3, bias=False)", (2, 5, 4), "Linear(in_features=4, out_features=3, bias=False)", "weight"),
    ("Identity()", VECTORS, None, ""),
    ("ReLU()", VECTORS, None, ""),
    ("ReLU6()", VECTORS, None, ""),
    ("SiLU()", VECTORS, None, ""),
    ("Mish()", VECTORS, None, ""),
    ("SELU()", VECTORS, None, ""),
    ("Hardsigmoid()", VECTORS, None, ""),
    ("Hardswish()", VECTORS, None, ""),
    ("Tanh()", VECTORS, None, ""),
    ("Sigmoid()", VECTORS, None, ""),
    ("LogSigmoid()", VECTORS, None, ""),
    ("Softsign()", VECTORS, None, ""),
    ("Tanhshrink()", VECTORS, None, ""),
    ("LeakyReLU(negative_slope=0.2, inplace=True)", VECTORS, None, ""),
    ("ELU(alpha=0.7)", VECTORS, None, ""),
    ("CELU(alpha=0.7)", VECTORS, None, ""),
    ("GELU(approximate='none')", VECTORS, None, ""),
    ("GELU(approximate='tanh')", VECTORS, None, ""),
    ("Hardtanh(min_val=-0.5, max_val=0.7)", VECTORS, None, ""),
    ("Softplus(beta=2.0, threshold=3.0)", VECTORS, None, ""),
    ("Hardshrink(0.5)", VECTORS, None, ""),
    ("Softshrink(0.3)", VECTORS, None, ""),
    ("Threshold(threshold=0.1, value=20.0)", VECTORS, None, ""),
    ("Softmax(dim=1)", VECTORS, None, ""),
    ("LogSoftmax(dim=-1)", VECTORS, None, ""),
    ("Softmin(dim=0)", VECTORS, None, ""),
    ("GLU(dim=-1)", VECTORS, None, ""),
    ("PReLU(num_parameters=4)", IMAGES, None, "weight"),
    ("LayerNorm(4)", VECTORS, "LayerNorm((4,), eps=1e-05, elementwise_affine=True, bias=True)", "weight bias"),
    ("RMSNorm((6, 6), eps=1e-3)", IMAGES, "RMSNorm((6, 6), eps=0.001, elementwise_affine=True)", "weight"),
    ("GroupNorm(2, 4)", IMAGES, "GroupNorm(2, 4, eps=1e-05, affine=True, bias=True)", "weight bias"),
    (
        "BatchNorm1d(4)",
        VECTORS,
        "BatchNorm1d(4, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)",
        "weight bias running_mean running_var num_batches_tracked",
    ),
    (
        "BatchNorm2d(4, affine=False, track_running_stats=False)",
        IMAGES,
        "BatchNorm2d(4, eps=1e-05, momentum=0.1, affine=False, bias=False, track_running_stats=False)",
        "",
    ),
    ("Dropout(p=0.0, inplace=False)", VECTORS, None, ""),
    ("Conv1d(4, 6, 3)", ROWS, "Conv1d(4, 6, kernel_size=(3,), stride=(1,))", "weight bias"),
    (
        "Conv2d(4, 6, (3, 2), stride=2, padding=(1, 0), dilation=(1, 2), groups=2, bias=False)",
        IMAGES,
        "Conv2d(4, 6, kernel_size=(3, 2), stride=(2, 2), padding=(1, 0), dilation=(1, 2), groups=2, bias=False)",
        "weight",
    ),
    (
        "Conv2d(4, 2, 3, padding='same', padding_mode='reflect')",
        IMAGES,
        "Conv2d(4, 2, kernel_size=(3, 3), stride=(1, 1), padding=same, padding_mode=reflect)",
        "weight bias",
    ),
    ("MaxPool2d(2)", IMAGES, "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)", ""),
    ("AvgPool2d(3, 2, 1)", IMAGES, "AvgPool2d(kernel_size=3, stride=2, padding=1)", ""),
    ("Flatten()", IMAGES, "Flatten(start_dim=1, end_dim=-1)", ""),
    ("Unflatten(1, (2, 2))", IMAGES, "Unflatten(dim=1, unflattened_size=(2, 2))", ""),
]


@pytest.mark.parametrize("source, shape, shown, names", LAYERS, ids=[row[0] for row in LAYERS])
def test_layer(source, shape, shown, names):
    layer = eval(f"nn.{source}")
    assert repr(layer) == (shown or source)
    assert list(layer.state_dict()) == names.split()
    layer.double()
    small = shape if len(shape) < 4 else (2, 4, 6, 6)
    x = T.tensor(RNG.normal(size=small) * 0.7, requires_grad=True)
    for t in layer.buffers():
        t.zero_()
    # A weighted sum: one output row of the finite differences in place of one for each element.
    weights = T.tensor(RNG.normal(size=layer(x.clone()).shape))
    assert T.autograd.gradcheck(lambda x, *p: (layer(x.clone()) * weights).sum(), (x, *layer.parameters()), atol=1e-4)


def test_embedding():
    layer = nn.Embedding(5, 3, padding_idx=-1)
    assert repr(layer) == "Embedding(5, 3, padding_idx=4)"
    assert (layer.weight[4] == 0).all()
    layer(T.tensor([[0, 4], [0, 1]])).sum().backward()
    assert layer.weight.grad[:, 0].tolist() == [2, 1, 0, 0, 0]
    frozen = nn.Embedding.from_pretrained(T.ones(2, 3))
    assert not frozen.weight.requires_grad
    assert frozen(T.tensor([1])).tolist() == [[1, 1, 1]]


def test_bilinear():
    layer = nn.Bilinear(2, 3, 4).double()
    assert repr(layer) == "Bilinear(in1_features=2, in2_features=3, out_features=4, bias=True)"
    a, b = (T.tensor(RNG.normal(size=(2, n)), requires_grad=True) for n in (2, 3))
    assert T.autograd.gradcheck(lambda a, b, *p: layer(a, b), (a, b, *layer.parameters()))


def test_dropout_is_noise_only_while_training():
    layer = nn.Dropout(0.25)
    x = T.ones(1000)
    assert set(layer(x).unique().tolist()) == {0.0, np.float32(1 / 0.75).item()}
    assert 0.15 < (layer(x) == 0).float().mean().item() < 0.35
    assert layer.eval()(x) is x


def test_batch_norm_follows_the_batches():
    layer = nn.BatchNorm1d(2, momentum=None)
    first, second = (T.tensor(RNG.normal(size=(8, 2)).astype("f")) for _ in range(2))
    layer(first)
    layer(second)
    np.testing.assert_allclose(layer.running_mean.numpy(), ((first + second) / 2).mean(0).numpy(), rtol=1e-5)
    assert layer.num_batches_tracked.item() == 2
    layer.eval()(first)
    assert layer.num_batches_tracked.item() == 2


LOGITS, CLASSES = [[1.0, 2.0, 0.5], [0.1, -1.0, 0.3]], [2, 0]


@pytest.mark.parametrize(
    "loss, target, expected",
    [  # PyTorch's values
        (nn.MSELoss(), [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], 0.391667),
        (nn.L1Loss(reduction="sum"), [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], 2.9),
        (nn.SmoothL1Loss(beta=0.5), [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], 0.308333),
        (nn.HuberLoss(delta=0.5), [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], 0.154167),
        (nn.CrossEntropyLoss(), CLASSES, 1.451068),
        (nn.NLLLoss(reduction="sum"), CLASSES, -0.6),
        (nn.BCEWithLogitsLoss(), [[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], 0.671047),
    ],
)
def test_loss(loss, target, expected):
    assert loss(T.tensor(LOGITS), T.tensor(target)).item() == pytest.approx(expected, abs=2e-6)


def test_loss_options():
    x, y = T.tensor(LOGITS), T.tensor(CLASSES)
    weighted = nn.CrossEntropyLoss(weight=T.tensor([1.0, 2.0, 3.0]), label_smoothing=0.1, ignore_index=0)
    assert list(weighted.state_dict()) == ["weight"]
    assert weighted(x, y).item() > 0
    p = x.sigmoid()
    assert nn.BCELoss()(p, (x > 0).float()).item() == pytest.approx(nn.BCEWithLogitsLoss()(x, (x > 0).float()).item(), rel=1e-5)
    q = x.softmax(-1)
    assert nn.KLDivLoss("batchmean")(q.log(), q).item() == pytest.approx(0, abs=1e-6)
    assert nn.KLDivLoss("sum", log_target=True)(q.log(), q.log()).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: nn.Linear(2, 2)(T.ones(1, 3)), RuntimeError, r"expected an input of shape \[..., 2\]"),
        (
            lambda: nn.Conv2d(3, 4, 3, groups=2),
            ValueError,
            "Conv2d: expected channels divisible by 2 groups, got 3 in and 4",
        ),
        (
            lambda: nn.Conv2d(3, 4, 3, padding="sam"),
            ValueError,
            "expected padding numbers, 'same' or 'valid', got 'sam'",
        ),
        (lambda: nn.Conv2d(3, 4, 3, padding="same", stride=2), ValueError, "padding='same' needs stride 1"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="x"), ValueError, "expected padding_mode to be one of 'zeros', 'reflect'"),
        (lambda: nn.Conv1d(3, 4, (3, 3)), ValueError, r"Conv1d: expected kernel_size to be a number or 1 numbers, got \(3, 3\)"),
        (lambda: nn.GroupNorm(2, 3), ValueError, "divisible by 2 groups, got 3"),
        (lambda: nn.BatchNorm1d(2)(T.ones(1, 2)), ValueError, "more than one value per channel"),
        (
            lambda: nn.BatchNorm2d(2)(T.ones(4, 2)),
            ValueError,
            r"expected \[n, 2, ...\] with 4 dimensions, got \[4, 2\]",
        ),
        (lambda: nn.Dropout(1.5), ValueError, "Dropout: expected a probability"),
        (lambda: nn.Embedding(3, 1, padding_idx=3), ValueError, "padding_idx 3 is out of range"),
        (lambda: nn.MSELoss("avg"), ValueError, "MSELoss: expected reduction"),
        (lambda: nn.GELU("x"), ValueError, "GELU: expected approximate"),
        (lambda: nn.Hardtanh(1, 0), ValueError, "expected min_val < max_val"),
        (lambda: nn.CELU(0), ValueError, "alpha must not be 0"),
        (lambda: nn.Softshrink(-1), ValueError, "expected lambd >= 0"),
    ],
)
def test_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()
