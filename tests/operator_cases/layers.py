"""Convolution, pooling, resampling, sampling, embedding, distances, noise, and losses with a margin."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import scipy.special as sp
from scipy.spatial.distance import pdist

import tensor as T
from operator_cases.case import Case, Composite, p, u
from operator_cases.case import distinct as x
from tensor.nn import functional as F
from tensor.ops.convolve import Geometry
from tensor.ops.ctc import _paths
from tensor.ops.resample import bins

# --- references: loops that say what is meant -----------------------------------------------------------------------


def _links(x_shape: Any, w_shape: Any, how: Geometry) -> Any:
    """Every product of a convolution: (place of the padded input, place of the weight, place of the output), without the batch."""
    out, depth, *kernel = w_shape
    size = [n + 2 * q for n, q in zip(x_shape[2:], how.padding, strict=True)]
    places = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(size, kernel, how.stride, how.dilation, strict=True)]
    for o, c, *rest in itertools.product(range(out), range(depth), *map(range, kernel), *map(range, places)):
        offset, place = rest[: len(kernel)], rest[len(kernel) :]
        at = [q * s + k * d for q, k, s, d in zip(place, offset, how.stride, how.dilation, strict=True)]
        yield (o // (out // how.groups) * depth + c, *at), (o, c, *offset), (o, *place)


def _padded(a: Any, how: Geometry) -> Any:
    return np.pad(a, [(0, 0), (0, 0), *((q, q) for q in how.padding)])


def _convolved(a: Any, w: Any, b: Any, how: Geometry) -> Any:
    links = list(_links(a.shape, w.shape, how))
    y = np.zeros((len(a), *(1 + np.max([o for *_, o in links], 0))))
    for i, k, o in links:
        y[(slice(None), *o)] += _padded(a, how)[(slice(None), *i)] * w[k]
    return y + b.reshape(-1, *(1,) * (a.ndim - 2))


def _spread_back(g: Any, w: Any, b: Any, size: Any, how: Geometry) -> Any:
    shape = (len(g), w.shape[1] * how.groups, *size)
    y = _padded(np.zeros(shape), how)
    for i, k, o in _links(shape, w.shape, how):
        if all(q < n for q, n in zip(o, g.shape[1:], strict=True)):
            y[(slice(None), *i)] += g[(slice(None), *o)] * w[k]
    inside = tuple(slice(q, q + n) for q, n in zip(how.padding, size, strict=True))
    return y[(..., *inside)] + b.reshape(-1, *(1,) * len(size))


def _weighed(g: Any, a: Any, kernel: Any, how: Geometry) -> Any:
    w = np.zeros((g.shape[1], a.shape[1] // how.groups, *kernel))
    for i, k, o in _links(a.shape, w.shape, how):
        w[k] += (_padded(a, how)[(slice(None), *i)] * g[(slice(None), *o)]).sum()
    return w


def _spread(g: Any, shape: Any, kernel: Any, stride: Any) -> Any:
    r = np.zeros(shape)
    for i, j in np.ndindex(*g.shape):
        r[i * stride[0] : i * stride[0] + kernel[0], j * stride[1] : j * stride[1] + kernel[1]] += g[i, j]
    return r


def _put(g: Any, which: Any, shape: Any, *_: Any) -> Any:
    r = np.zeros(shape)
    for i, j in np.ndindex(*g.shape):
        r[i, 2 * j + which[i, j]] += g[i, j]
    return r


def _all_alignments(log_probs: Any, paths: Any) -> Any:
    """Over every string of classes that collapses to the target."""
    frames, batch, classes = log_probs.shape
    totals = np.zeros(batch)
    for n, path in itertools.product(range(batch), itertools.product(range(classes), repeat=frames)):
        path = path[: paths.frames[n]]
        labels = [c for i, c in enumerate(path) if c and (not i or path[i - 1] != c)]
        if labels == TARGETS[n] and len(path) == paths.frames[n]:
            totals[n] += np.exp(sum(log_probs[t, n, c] for t, c in enumerate(path))) / classes ** (frames - len(path))
    return -np.log(totals)


def _standardised(a: Any, dims: Any, eps: float) -> Any:
    r = 1 / np.sqrt(a.var(dims, keepdims=True) + eps)
    return np.concatenate([((a - a.mean(dims, keepdims=True)) * r).ravel(), r.ravel()])


HOW = Geometry((2,), (1,), (2,), 2)
FLAT = Geometry((1, 2), (1, 0), (1, 1), 1)
WHICH = np.array([[0, 2], [1, 0]])
TARGETS = [[1, 1], [2]]
PATHS = _paths(np.array([[1, 1], [2, 0]]), np.array([4, 3]), np.array([2, 1]), 0)

RULED: dict[str, Case] = {
    "convolve": Case(u(-2, 2, 2, 4, 6), u(-2, 2, 4, 2, 2), u(-2, 2, 4), HOW, ref=_convolved),
    "convolve_back": Case(u(-2, 2, 2, 2, 2, 2), u(-2, 2, 2, 1, 2, 2), u(-2, 2, 1), (1, 5), FLAT, ref=_spread_back),
    "convolve_weight": Case(u(-2, 2, 2, 4, 3), u(-2, 2, 2, 4, 6), (2,), HOW, ref=_weighed),
    "window_max": Case(u(-2, 2, 2, 5), (2,), (2,), (2,), ref=lambda a, *_: np.stack([a[:, [0, 2]].max(1), a[:, [2, 4]].max(1)], 1)),
    "window_sum": Case(u(-2, 2, 3, 4), (2, 3), (1, 1), ref=lambda a, *_: np.array([[a[i : i + 2, j : j + 3].sum() for j in (0, 1)] for i in (0, 1)])),
    "window_spread": Case(u(-2, 2, 2, 2), (3, 6), (2, 3), (1, 2), ref=_spread),
    "window_pick": Case(u(-2, 2, 2, 5), WHICH, (3,), (2,), (1,), ref=lambda a, w, *_: np.array([[a[0, 0], a[0, 4]], [a[1, 1], a[1, 2]]])),
    "window_put": Case(u(-2, 2, 2, 2), WHICH, (2, 5), (3,), (2,), (1,), ref=_put),
    "resample": Case(u(-2, 2, 2, 5), -1, bins(5, 3), ref=lambda a, *_: np.stack([a[:, 0:2].mean(1), a[:, 1:4].mean(1), a[:, 3:5].mean(1)], 1)),
    "constant_in": Case(u(-2, 2, 3), u(-2, 2, 2), ref=lambda a, b: a),
    "length": Case(u(-2, 2, 2, 3), 3.0, ref=lambda a, q: np.linalg.norm(a, q, 1)),
    "standardise_back": Case(u(-2, 2, 2, 3), u(-2, 2, 2, 3), u(0.5, 2, 2, 1), (1,), ref=lambda g, y, r, _: r * (g - g.mean(1, keepdims=True) - y * (y * g).mean(1, keepdims=True))),
    "standardise": Case(u(-2, 2, 2, 3), (1,), 0.1, ref=_standardised),
    "ctc_nll": Case(sp.log_softmax(u(-2, 2, 4, 2, 3), 2), PATHS, ref=_all_alignments, second=False),
}  # fmt: skip


# --- composites -----------------------------------------------------------------------------------------------------


def _seeded(function: Any, *args: Any, **kwargs: Any) -> Any:
    """The same noise at every call."""

    def run(a: Any) -> Any:
        T.manual_seed(3)
        return function(a, *args, **kwargs)

    return run


BAG, STARTS, CLASSES = T.tensor([0, 2, 2, 1]), T.tensor([0, 1]), T.tensor([2, 0])
LISTS = T.tensor([[1, -1, 0], [0, 2, -1]])
PLACES = T.tensor([[[1, 4]]])
CORNERS = np.array([[[[-0.62, 0.41], [0.3, -1.17]]]])
SAMPLES = T.tensor([[[0.3, 0.7]]])


def _repeat2(a: Any) -> Any:
    return a.repeat(2, -1)


COMPOSITES: dict[str, Composite] = {
    "conv_tbc": (lambda a, w, b: T.conv_tbc(a, w, b, 1), [x(3, 1, 2), x(2, 2, 1), x(1)]),
    "nn.functional.fold": (lambda a: F.fold(a, (2, 3), 2), [x(1, 4, 2)]),
    "nn.functional.lp_pool1d": (lambda a: F.lp_pool1d(a, 3.0, 2), [p(1, 2, 4)], lambda a: (a**3).reshape(1, 2, 2, 2).sum(-1) ** (1 / 3)),
    "nn.functional.lp_pool2d": (lambda a: F.lp_pool2d(a, 2.0, (1, 2)), [p(1, 1, 4)]), "nn.functional.lp_pool3d": (lambda a: F.lp_pool3d(a, 2.0, 2), [p(1, 2, 2, 2)]),
    "nn.functional.max_unpool1d": (lambda a: F.max_unpool1d(a, PLACES, 3), [x(1, 1, 2)], lambda a: np.array([[[0, a[0, 0, 0], 0, 0, a[0, 0, 1], 0]]])),
    "nn.functional.max_unpool2d": (lambda a: F.max_unpool2d(a, T.tensor([[[3]]]), 2), [x(1, 1, 1)]), "nn.functional.max_unpool3d": (lambda a: F.max_unpool3d(a, T.tensor([[[[3]]]]), 2), [x(1, 1, 1, 1)]),
    "nn.functional.interpolate": (lambda a: F.interpolate(a, scale_factor=2), [x(1, 1, 3)], _repeat2),
    "nn.functional.adaptive_avg_pool1d": (lambda a: F.adaptive_avg_pool1d(a, 2), [x(1, 1, 3)], lambda a: np.stack([a[..., :2].mean(-1), a[..., 1:].mean(-1)], -1)),
    "nn.functional.adaptive_avg_pool2d": (lambda a: F.adaptive_avg_pool2d(a, (1, None)), [x(1, 2, 3)], lambda a: a.mean(1, keepdims=True)), "nn.functional.adaptive_avg_pool3d": (lambda a: F.adaptive_avg_pool3d(a, 1), [x(1, 2, 1, 3)]),
    "nn.functional.adaptive_max_pool1d": (lambda a: F.adaptive_max_pool1d(a, 2), [x(1, 1, 3)], lambda a: np.stack([a[..., :2].max(-1), a[..., 1:].max(-1)], -1)),
    "nn.functional.adaptive_max_pool2d": (lambda a: F.adaptive_max_pool2d(a, (2, 1)), [x(1, 3, 2)]), "nn.functional.adaptive_max_pool3d": (lambda a: F.adaptive_max_pool3d(a, 1), [x(1, 2, 1, 3)]),
    "nn.functional.fractional_max_pool2d": (lambda a: F.fractional_max_pool2d(a, 2, 2, _random_samples=SAMPLES), [x(1, 1, 4, 5)]),
    "nn.functional.fractional_max_pool3d": (lambda a: F.fractional_max_pool3d(a, 1, 1, _random_samples=T.tensor([[[0.1, 0.5, 0.9]]])), [x(1, 1, 2, 2, 2)]),
    "nn.functional.grid_sample": (F.grid_sample, [x(1, 2, 3, 3), CORNERS]), "grid_sampler": (lambda a, g: T.grid_sampler(a, g, 2, 2, True), [x(1, 1, 3, 3), CORNERS]),
    "grid_sampler_2d": (lambda a, g: T.grid_sampler_2d(a, g, 1, 1, False), [x(1, 1, 3, 3), CORNERS]), "grid_sampler_3d": (lambda a: T.grid_sampler_3d(a, a.new_zeros((1, 1, 1, 1, 3)), 0, 0, False), [x(1, 1, 2, 1, 2)], lambda a: a.mean((2, 3, 4), keepdims=True)),
    "nn.functional.affine_grid": (lambda a: F.affine_grid(a, (1, 1, 2, 3)), [x(1, 2, 3)]),
    "nn.functional.embedding_bag": (lambda w: F.embedding_bag(BAG, w, STARTS), [x(3, 2)], lambda w: np.stack([w[0], (2 * w[2] + w[1]) / 3])),
    "nn.functional.pdist": (F.pdist, [x(3, 2)], pdist),
    "nn.functional.dropout1d": (_seeded(F.dropout1d), [x(2, 3, 2)]), "nn.functional.dropout2d": (_seeded(F.dropout2d), [x(2, 2, 1, 2)]), "nn.functional.dropout3d": (lambda a: F.dropout3d(a, 0.5, False), [x(1, 1, 1, 1, 2)], lambda a: a),
    "nn.functional.alpha_dropout": (_seeded(F.alpha_dropout, training=True), [x(5)]), "nn.functional.feature_alpha_dropout": (_seeded(F.feature_alpha_dropout, training=True), [x(2, 3, 1)]),
    "nn.functional.rrelu": (_seeded(F.rrelu, training=True), [x(5)]), "nn.functional.gumbel_softmax": (_seeded(F.gumbel_softmax), [x(2, 3)]),
    "nn.functional.multi_margin_loss": (lambda a: F.multi_margin_loss(a, CLASSES, p=2), [x(2, 3)]), "nn.functional.multilabel_margin_loss": (lambda a: F.multilabel_margin_loss(a, LISTS), [x(2, 3)]),
    "nn.functional.triplet_margin_with_distance_loss": (lambda *a: F.triplet_margin_with_distance_loss(*a, margin=9.0, swap=True), [x(2, 2), x(2, 2), x(2, 2)]),
}  # fmt: skip
