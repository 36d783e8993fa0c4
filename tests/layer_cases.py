"""Layers and functions with inputs, for PyTorch (`scripts/record_layer_goldens.py`) and for us (`test_nn_goldens.py`).

A case is an expression of ``nn``, ``F`` and ``T`` that gives something to call, and expressions of the functions below that give
its inputs. All numbers follow from formulas, so that both sides make the same ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {1: (2, 4, 9), 2: (2, 4, 7, 8), 3: (1, 4, 6, 5, 6)}


def wave(*shape: int, phase: float = 0.0) -> Any:
    """Numbers in (-1, 1) without ties."""
    return np.sin(1.3 * np.arange(1, int(np.prod(shape)) + 1) + phase).reshape(shape)


def share(*shape: int, phase: float = 0.0) -> Any:
    """Probabilities."""
    return 0.5 + 0.45 * wave(*shape, phase=phase)


def signs(*shape: int) -> Any:
    return np.where(wave(*shape, phase=0.4) > 0, 1.0, -1.0)


def whole(high: int, *shape: int) -> Any:
    """Integers from 0 to high - 1."""
    return (np.arange(int(np.prod(shape))) * 7 % 11 % high).reshape(shape)


def project(a: Any) -> list[float]:
    """Two numbers that an array's values can hardly agree in by chance."""
    flat = np.asarray(a, np.float64).reshape(-1)
    steps = np.arange(flat.size)
    return [float((flat * np.cos(0.7 * steps)).sum()), float((flat * np.sin(1.9 * steps + 1)).sum())]


def fill(name: str, k: int, shape: Any) -> Any:
    """The value of the k-th entry of a module's state."""
    return 0.4 * wave(*shape, phase=k) + (1.0 if "var" in name else 0.0)


def filled(source: str, name: str, value: Any) -> bool:
    """Whether an entry of a module's state is replaced: the numbers, but not the weights given to a loss."""
    return bool(value.is_floating_point()) and "Loss" not in source


def _sized(n: int) -> list[tuple[str, list[str]]]:
    """The layers that come for one, two and three dimensions."""
    x = [f"wave{SIZES[n]}"]
    alone = [f"wave{SIZES[n][1:]}"]
    d = f"{n}d"
    return [
        (f"nn.Conv{d}(4, 6, 3)", x),
        (f"nn.Conv{d}(4, 6, 3)", alone),
        (f"nn.Conv{d}(4, 6, 2, stride=2, padding=1, dilation=2, groups=2, bias=False)", x),
        (f"nn.Conv{d}(4, 4, 2, padding='same', groups=4)", x),
        (f"nn.Conv{d}(4, 2, 3, padding=1, padding_mode='reflect')", x),
        (f"nn.Conv{d}(4, 2, 2, padding='same', padding_mode='circular')", x),
        (f"nn.Conv{d}(4, 5, 1)", x),
        (f"nn.ConvTranspose{d}(4, 6, 3)", x),
        (f"nn.ConvTranspose{d}(4, 6, 1)", alone),
        (f"nn.ConvTranspose{d}(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)", x),
        (f"nn.ConvTranspose{d}(4, 2, 2, stride=3, dilation=2, bias=False)", x),
        (f"nn.MaxPool{d}(2)", x),
        (f"nn.MaxPool{d}(3, 2, 1, ceil_mode=True)", alone),
        (f"nn.MaxPool{d}(2, 1, dilation=2, return_indices=True)", x),
        (f"nn.AvgPool{d}(2)", x),
        (f"nn.AvgPool{d}(3, 2, 1, ceil_mode=True)", x),
        (f"nn.AvgPool{d}(3, 2, 1, count_include_pad=False)", alone),
        (f"nn.LPPool{d}(2, 3, stride=2)", [f"share{SIZES[n]}"]),
        (f"nn.AdaptiveAvgPool{d}(1)", x),
        (f"nn.AdaptiveAvgPool{d}(4)", alone),
        (f"nn.AdaptiveMaxPool{d}(1)", x),
        (f"nn.AdaptiveMaxPool{d}(4, return_indices=True)", x),
        (f"nn.BatchNorm{d}(4)", x),
        (f"nn.BatchNorm{d}(4, momentum=None, affine=False)", x),
        (f"nn.BatchNorm{d}(4).eval()", x),
        (f"nn.BatchNorm{d}(4, track_running_stats=False)", x),
        (f"nn.InstanceNorm{d}(4)", alone),
        (f"nn.InstanceNorm{d}(4, affine=True, track_running_stats=True)", x),
        (f"nn.InstanceNorm{d}(4, track_running_stats=True).eval()", x),
        (f"nn.Dropout{d}().eval()", x),
        (f"nn.ConstantPad{d}(1, 2.5)", x),
        (f"nn.ZeroPad{d}({tuple(range(2 * n))})", x),
        (f"nn.ReflectionPad{d}(2)", x),
        (f"nn.ReplicationPad{d}({(1, 2) * n})", alone),
        (f"nn.CircularPad{d}(1)", x),
        ("lambda x: F.interpolate(x, scale_factor=1.7)", x),
        (f"lambda x: F.interpolate(x, size={(5, 3, 4)[:n]}, mode='nearest-exact')", x),
        (f"lambda x: F.interpolate(x, size={(5, 3, 4)[:n]}, mode='area')", x),
        (f"lambda x: F.interpolate(x, scale_factor=0.6, mode='{('linear', 'bilinear', 'trilinear')[n - 1]}')", x),
        (f"lambda x: F.interpolate(x, size=9, mode='{('linear', 'bilinear', 'trilinear')[n - 1]}', align_corners=True)", x),
        (f"lambda x: F.max_unpool{d}(*F.max_pool{d}(x, 2, return_indices=True), 2, output_size=x.shape)", x),
    ]


VECTORS, IMAGES = ["wave(3, 4)"], ["wave(2, 4, 6, 6)"]
GRID, CUBE = "1.2 * wave(2, 3, 3, 2, phase=1)", "1.2 * wave(1, 2, 2, 2, 3, phase=1)"
PAIR, ROWS = ["wave(3, 4)", "wave(3, 4, phase=2)"], ["wave(3, 4)", "whole(4, 3)"]
SPEECH = ["wave(6, 2, 4)", "1 + whole(2, 2, 3)", "np.array([6, 5])", "np.array([3, 2])"]

CASES: list[tuple[str, list[str]]] = [
    *(row for n in SIZES for row in _sized(n)),
    *(
        (f"nn.{source}", IMAGES)
        for source in (
            "Upsample(scale_factor=2)",
            "Upsample(size=(5, 9), mode='bilinear', align_corners=True)",
            "Upsample(scale_factor=(1.5, 2.0), mode='bicubic')",
            "UpsamplingNearest2d(scale_factor=2)",
            "UpsamplingBilinear2d(size=5)",
            "Unfold(2, stride=2)",
            "Unfold((2, 3), dilation=2, padding=1)",
            "PixelShuffle(2)",
            "PixelUnshuffle(2)",
            "ChannelShuffle(2)",
            "Flatten()",
            "Unflatten(1, (2, 2))",
            "LocalResponseNorm(3)",
            "GroupNorm(2, 4)",
            "LayerNorm((6, 6))",
            "Softmax2d()",
            "PReLU(4)",
            "AlphaDropout(0.3).eval()",
            "FeatureAlphaDropout(0.3).eval()",
        )
    ),
    *(
        (f"nn.{source}", VECTORS)
        for source in (
            "LayerNorm(4, elementwise_affine=False)",
            "RMSNorm(4)",
            "RReLU().eval()",
            "Hardtanh()",
            "Threshold(0.1, 2.0)",
            "Softplus(2.0)",
            "ELU()",
            "GLU()",
            "Hardswish()",
            "Mish()",
            "ReLU()",
            "SELU()",
            "Softmin(1)",
            "LogSoftmax(1)",
            "Hardshrink()",
            "Softshrink()",
            "Tanhshrink()",
        )
    ),
    ("nn.Fold((4, 5), 2)", ["wave(2, 8, 12)"]),
    ("nn.Fold((4, 5), (2, 3), padding=1, stride=2)", ["wave(12, 9)"]),
    ("nn.Embedding(5, 3, padding_idx=2, max_norm=0.5)", ["whole(5, 2, 4)"]),
    ("nn.EmbeddingBag(5, 3)", ["whole(5, 2, 4)"]),
    ("nn.EmbeddingBag(5, 3, max_norm=0.5, mode='sum', padding_idx=3)", ["whole(5, 8)", "np.array([0, 3, 3, 5])"]),
    ("nn.EmbeddingBag(5, 3, mode='max', include_last_offset=True)", ["whole(5, 8)", "np.array([0, 3, 8])"]),
    ("lambda x: F.interpolate(x, size=(4, 9), mode='bicubic', align_corners=True)", IMAGES),
    ("lambda x: F.interpolate(x, size=(4, 3), mode='bicubic', antialias=True)", IMAGES),
    ("lambda x: F.interpolate(x, scale_factor=0.4, mode='bilinear', antialias=True, align_corners=True)", IMAGES),
    *(
        (f"lambda x, g: F.grid_sample(x, g, '{mode}', '{padding}', {corners})", ["wave(2, 2, 4, 5)", GRID])
        for mode in ("bilinear", "nearest", "bicubic")
        for padding in ("zeros", "border", "reflection")
        for corners in (False, True)
    ),
    ("lambda x, g: F.grid_sample(x, g, 'bilinear', 'reflection', False)", ["wave(1, 2, 3, 4, 3)", CUBE]),
    ("lambda t: F.affine_grid(t, (2, 1, 3, 2), align_corners=True)", ["wave(2, 2, 3)"]),
    ("lambda t: F.affine_grid(t, (1, 1, 2, 3, 2), align_corners=False)", ["wave(1, 3, 4)"]),
    (
        "lambda x, r: F.fractional_max_pool2d(x, (2, 3), (3, 2), _random_samples=r, return_indices=True)",
        ["wave(2, 2, 7, 8)", "share(2, 2, 2)"],
    ),
    (
        "lambda x, r: F.fractional_max_pool3d(x, 2, output_ratio=0.5, _random_samples=r)",
        ["wave(1, 2, 6, 5, 7)", "share(1, 2, 3)"],
    ),
    *((f"lambda x: F.pdist(x, {q})", ["wave(4, 3)"]) for q in ("0.0", "0.5", "1.0", "2.0", "3.0", "float('inf')")),
    ("nn.CosineSimilarity()", PAIR),
    ("nn.PairwiseDistance(keepdim=True)", PAIR),
    *(
        (f"nn.{loss}", PAIR)
        for loss in (
            "MSELoss()",
            "L1Loss(reduction='sum')",
            "SmoothL1Loss(beta=0.3)",
            "HuberLoss(delta=0.3)",
            "PoissonNLLLoss(full=True)",
        )
    ),
    *(
        (f"nn.{loss}", ["share(3, 4)", "share(3, 4, phase=2)"])
        for loss in ("BCELoss()", "KLDivLoss(reduction='batchmean')", "MultiLabelSoftMarginLoss()")
    ),
    *((f"nn.{loss}", ["wave(5)", "signs(5)"]) for loss in ("SoftMarginLoss()", "HingeEmbeddingLoss(margin=0.3)")),
    *(
        (f"nn.{loss}", ROWS)
        for loss in (
            "CrossEntropyLoss(label_smoothing=0.1, ignore_index=1)",
            "CrossEntropyLoss(reduction='none')",
            "NLLLoss()",
            "MultiMarginLoss(p=2, margin=0.5)",
        )
    ),
    ("nn.CrossEntropyLoss(weight=T.tensor([0.5, 1.0, 2.0, 0.1]))", ["wave(2, 4, 3)", "whole(4, 2, 3)"]),
    ("nn.CrossEntropyLoss(label_smoothing=0.2)", ["wave(3, 4)", "share(3, 4)"]),
    ("nn.BCEWithLogitsLoss(pos_weight=T.tensor([2.0, 1.0, 0.5, 3.0]))", ["wave(3, 4)", "share(3, 4)"]),
    ("nn.GaussianNLLLoss(full=True)", [*PAIR, "share(3, 4)"]),
    ("nn.MultiLabelMarginLoss()", ["wave(2, 4)", "np.array([[1, 3, -1, 0], [2, -1, 1, 1]])"]),
    ("nn.MarginRankingLoss(margin=0.3)", ["wave(5)", "wave(5, phase=2)", "signs(5)"]),
    ("nn.CosineEmbeddingLoss(margin=0.1)", [*PAIR, "signs(3)"]),
    *(
        (f"nn.{loss}", [*PAIR, "wave(3, 4, phase=4)"])
        for loss in (
            "TripletMarginLoss(swap=True)",
            "TripletMarginLoss(p=1.0, margin=0.2, reduction='none')",
            "TripletMarginWithDistanceLoss(margin=0.5)",
        )
    ),
    *(
        (f"lambda x, *rest: nn.CTCLoss({options})(x.log_softmax(2), *rest)", SPEECH)
        for options in ("", "reduction='sum'", "blank=3, reduction='none', zero_infinity=True")
    ),
]
