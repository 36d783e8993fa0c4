"""Operators written in terms of others: the families that were there first."""

from __future__ import annotations

import numpy as np
import scipy.special as sp
from scipy.spatial.distance import cdist

import tensor as T
from operator_cases.case import Composite, p
from operator_cases.case import distinct as x
from tensor.nn import functional as F
from tensor.ops import special as S

I01 = T.tensor([0, 1, 1])
ROWS = T.tensor([[0, 1, 1], [2, 0, 1]])
MASK = T.tensor([[True, False, True], [False, True, True]])
CLASSES = T.tensor([2, 0])
SIGNS = T.tensor([1.0, -1.0], dtype=T.float64)

COMPOSITES: dict[str, Composite] = {
    # special functions and activations
    "polygamma": (lambda a: S.polygamma(1, a), [x(3, low=1, high=3)], lambda a: sp.polygamma(1, a)),
    "mvlgamma": (lambda a: T.mvlgamma(a, 2), [x(3, low=1, high=3)], lambda a: sp.multigammaln(a[0], 2) if a.ndim == 0 else np.array([sp.multigammaln(v, 2) for v in a])),
    "logit": (lambda a: T.logit(a, 1e-3), [p(4)], sp.logit), "xlog1py": (S.xlog1py, [x(4), p(4)], sp.xlog1py),
    "nn.functional.elu": (F.elu, [x(4)], lambda a: np.where(a > 0, a, np.expm1(a))),
    "nn.functional.celu": (lambda a: F.celu(a, 1.5), [x(4)], lambda a: np.where(a > 0, a, 1.5 * np.expm1(a / 1.5))),
    "nn.functional.selu": (F.selu, [x(4)]),
    "nn.functional.mish": (F.mish, [x(4)], lambda a: a * np.tanh(np.log1p(np.exp(a)))),
    "nn.functional.gelu": (F.gelu, [x(4)], lambda a: a * sp.ndtr(a)), "nn.functional.relu6": (F.relu6, [x(4, high=9)], lambda a: np.clip(a, 0, 6)),
    "nn.functional.hardsigmoid": (F.hardsigmoid, [x(4)], lambda a: a / 6 + 0.5), "nn.functional.softsign": (F.softsign, [x(4)], lambda a: a / (1 + abs(a))),
    "nn.functional.tanhshrink": (F.tanhshrink, [x(4)], lambda a: a - np.tanh(a)), "nn.functional.prelu": (F.prelu, [x(2, 3), x(3)], lambda a, w: np.where(a > 0, a, w * a)),
    "nn.functional.glu": (F.glu, [x(2, 4)], lambda a: a[:, :2] * sp.expit(a[:, 2:])), "nn.functional.softmin": (lambda a: F.softmin(a, 1), [x(2, 3)], lambda a: sp.softmax(-a, 1)),
    "nn.functional.dropout": (lambda a: F.dropout(a, 0.5, training=False), [x(4)], lambda a: a),
    # arithmetic
    "add": (lambda a, b: T.add(a, b, alpha=2), [x(2, 1), x(3)], lambda a, b: a + 2 * b), "sub": (lambda a, b: T.sub(a, b, alpha=2), [x(2, 1), x(3)], lambda a, b: a - 2 * b),
    "div": (T.div, [x(2, 1), p(3)], np.divide), "rsub": (T.rsub, [x(2, 1), x(3)], lambda a, b: b - a), "true_divide": (T.true_divide, [x(3), p(3)], np.divide),
    "float_power": (T.float_power, [p(3), x(3)], np.float_power), "xlogy": (T.xlogy, [x(3), p(3)], sp.xlogy),
    "addcmul": (lambda a, b, c: T.addcmul(a, b, c, value=0.5), [x(3), x(3), x(3)], lambda a, b, c: a + 0.5 * b * c),
    "addcdiv": (lambda a, b, c: T.addcdiv(a, b, c, value=0.5), [x(3), x(3), p(3)], lambda a, b, c: a + 0.5 * b / c),
    "clamp": (lambda a: T.clamp(a, -1, 1.1), [x(5)], lambda a: np.clip(a, -1, 1.1)), "clamp_min": (lambda a: T.clamp_min(a, 0.3), [x(5)], lambda a: np.maximum(a, 0.3)),
    "clamp_max": (lambda a: T.clamp_max(a, 0.3), [x(5)], lambda a: np.minimum(a, 0.3)), "where": (lambda a, b: T.where(MASK, a, b), [x(2, 3), x(3)], lambda a, b: np.where(MASK.numpy(), a, b)),
    # windows
    "nn.functional.pad": (lambda a: F.pad(a, (1, 2), mode="reflect"), [x(1, 2, 4)], lambda a: np.pad(a, [(0, 0), (0, 0), (1, 2)], mode="reflect")),
    "nn.functional.conv1d": (F.conv1d, [x(1, 2, 5), x(3, 2, 2), x(3)]),
    "nn.functional.conv2d": (lambda a, w, b: F.conv2d(a, w, b, stride=2, padding=1, dilation=(1, 2), groups=2), [x(1, 2, 4, 5), x(2, 1, 2, 2), x(2)]),
    "nn.functional.conv3d": (F.conv3d, [x(1, 1, 2, 2, 3), x(1, 1, 2, 1, 2)]),
    "nn.functional.conv_transpose1d": (lambda a, w: F.conv_transpose1d(a, w, stride=2, padding=1, output_padding=1), [x(1, 2, 3), x(2, 1, 2)]),
    "nn.functional.conv_transpose2d": (F.conv_transpose2d, [x(1, 1, 2, 2), x(1, 1, 2, 2)]), "nn.functional.conv_transpose3d": (F.conv_transpose3d, [x(1, 1, 1, 2, 2), x(1, 1, 1, 2, 2)]),
    "nn.functional.avg_pool1d": (lambda a: F.avg_pool1d(a, 2, padding=1), [x(1, 1, 4)]), "nn.functional.avg_pool2d": (lambda a: F.avg_pool2d(a, 2, 1), [x(1, 3, 3)]),
    "nn.functional.avg_pool3d": (lambda a: F.avg_pool3d(a, 2), [x(1, 2, 2, 4)]), "nn.functional.max_pool1d": (lambda a: F.max_pool1d(a, 2, 1), [x(1, 5)]),
    "nn.functional.max_pool2d": (lambda a: F.max_pool2d(a, 2, padding=1), [x(1, 3, 3)]), "nn.functional.max_pool3d": (lambda a: F.max_pool3d(a, 2), [x(1, 2, 2, 2)]),
    "nn.functional.unfold": (lambda a: F.unfold(a, 2), [x(1, 1, 3, 3)]),
    # reductions and scans
    "nanmean": (lambda a: T.nanmean(a, 1), [x(2, 3)], lambda a: a.mean(1)), "max": (lambda a: T.max(a, 1), [x(2, 3)], lambda a: a.max(1)), "min": (lambda a: T.min(a, 1), [x(2, 3)], lambda a: a.min(1)),
    "aminmax": (lambda a: T.aminmax(a, dim=1), [x(2, 3)], lambda a: a.min(1)), "median": (lambda a: T.median(a, 1), [x(2, 3)], lambda a: np.median(a, 1)),
    "var": (lambda a: T.var(a, 1), [x(2, 3)], lambda a: a.var(1, ddof=1)), "std": (lambda a: T.std(a, 1), [x(2, 3)], lambda a: a.std(1, ddof=1)),
    "var_mean": (lambda a: T.var_mean(a, 1), [x(2, 3)], lambda a: a.var(1, ddof=1)), "std_mean": (lambda a: T.std_mean(a, 1), [x(2, 3)], lambda a: a.std(1, ddof=1)),
    "norm": (lambda a: T.norm(a, 3, 1), [x(2, 3)], lambda a: np.linalg.norm(a, 3, 1)), "logcumsumexp": (lambda a: T.logcumsumexp(a, 1), [x(2, 3)], lambda a: np.logaddexp.accumulate(a, 1)),
    "cummax": (lambda a: T.cummax(a, 1), [x(2, 3)], lambda a: np.maximum.accumulate(a, 1)), "cummin": (lambda a: T.cummin(a, 1), [x(2, 3)], lambda a: np.minimum.accumulate(a, 1)),
    "diff": (lambda a: T.diff(a, 2), [x(2, 4)], lambda a: np.diff(a, 2)),
    # shapes
    "t": (T.t, [x(2, 3)], np.transpose), "movedim": (lambda a: T.movedim(a, (0, 1), (-1, 0)), [x(2, 3, 2)], lambda a: np.moveaxis(a, (0, 1), (-1, 0))),
    "flatten": (lambda a: T.flatten(a, 1), [x(2, 3, 2)], lambda a: a.reshape(2, 6)), "unflatten": (lambda a: T.unflatten(a, 1, (2, -1)), [x(2, 6)], lambda a: a.reshape(2, 2, 3)),
    "ravel": (T.ravel, [x(2, 3)], np.ravel), "broadcast_to": (lambda a: T.broadcast_to(a, (2, 3)), [x(3)], lambda a: np.broadcast_to(a, (2, 3))), "expand_as": (lambda a: T.expand_as(a, MASK), [x(3)], lambda a: np.broadcast_to(a, (2, 3))),
    "broadcast_tensors": (T.broadcast_tensors, [x(2, 1), x(3)], lambda a, b: np.broadcast_to(a, (2, 3))), "meshgrid": (T.meshgrid, [x(2), x(3)], lambda a, b: np.meshgrid(a, b, indexing="ij")[0]),
    "select": (lambda a: T.select(a, 1, -1), [x(2, 3)], lambda a: a[:, -1]), "diag_embed": (lambda a: T.diag_embed(a, 1), [x(2)], lambda a: np.diag(a, 1)), "diag": (T.diag, [x(3, 2)], np.diag), "diagflat": (T.diagflat, [x(2)], np.diagflat),
    "fliplr": (T.fliplr, [x(2, 3)], np.fliplr), "flipud": (T.flipud, [x(2, 3)], np.flipud), "rot90": (T.rot90, [x(2, 3)], np.rot90), "repeat": (lambda a: a.repeat(2, 3), [x(2)], lambda a: np.tile(a, (2, 3))),
    "tile": (lambda a: T.tile(a, 2), [x(2, 2)], lambda a: np.tile(a, 2)), "repeat_interleave": (lambda a: T.repeat_interleave(a, 2, 1), [x(2, 2)], lambda a: np.repeat(a, 2, 1)), "vander": (lambda a: T.vander(a, 3), [x(2)], lambda a: np.vander(a, 3)),
    # indexing
    "index_put": (lambda a, v: T.index_put(a, (I01, I01), v, True), [x(2, 2), x(3)]), "scatter": (lambda a, b: T.scatter(a, 0, ROWS[:, :2], b), [x(3, 3), x(2, 2)]),
    "scatter_reduce": (lambda a, b: T.scatter_reduce(a, 0, ROWS, b, "mean"), [x(3, 3), x(2, 3)]), "index_add": (lambda a, b: T.index_add(a, 0, I01, b, alpha=2), [x(2, 2), x(3, 2)]),
    "index_copy": (lambda a, b: T.index_copy(a, 0, T.tensor([1, 0]), b), [x(3, 2), x(2, 2)]), "index_fill": (lambda a: T.index_fill(a, 0, I01, 0.5), [x(3, 2)]),
    "index_reduce": (lambda a, b: a.index_reduce(0, I01, b, "amax"), [x(2, 2), x(3, 2, low=-3, high=3)]), "masked_select": (lambda a: T.masked_select(a, MASK), [x(3)], lambda a: np.broadcast_to(a, (2, 3))[MASK.numpy()]),
    "masked_scatter": (lambda a, b: T.masked_scatter(a, MASK, b), [x(2, 3), x(5)]), "take": (lambda a: T.take(a, ROWS), [x(2, 2)], lambda a: np.take(a, ROWS.numpy())), "put": (lambda a, b: T.put(a, T.tensor([3, 0]), b), [x(2, 2), x(2)]),
    "take_along_dim": (lambda a: T.take_along_dim(a, ROWS, 0), [x(3, 3)], lambda a: np.take_along_axis(a, ROWS.numpy(), 0)), "select_scatter": (lambda a, b: T.select_scatter(a, b, 0, 1), [x(2, 3), x(3)]),
    "slice_scatter": (lambda a, b: T.slice_scatter(a, b, 1, 0, 3, 2), [x(2, 3), x(2, 2)]), "diagonal_scatter": (T.diagonal_scatter, [x(3, 3), x(3)]),
    # joining and splitting
    "hstack": (lambda a, b: T.hstack([a, b]), [x(2), x(2)], lambda a, b: np.hstack([a, b])), "vstack": (lambda a, b: T.vstack([a, b]), [x(2), x(2)], lambda a, b: np.vstack([a, b])),
    "dstack": (lambda a, b: T.dstack([a, b]), [x(2), x(2)], lambda a, b: np.dstack([a, b])), "column_stack": (lambda a, b: T.column_stack([a, b]), [x(2), x(2)], lambda a, b: np.column_stack([a, b])),
    "atleast_1d": (T.atleast_1d, [x()], np.atleast_1d), "atleast_2d": (T.atleast_2d, [x(2)], np.atleast_2d), "atleast_3d": (T.atleast_3d, [x(2)], np.atleast_3d),
    "split_with_sizes": (lambda a: T.split_with_sizes(a, [1, 2]), [x(3)], lambda a: a[:1]), "split": (lambda a: T.split(a, 2), [x(3)], lambda a: a[:2]), "chunk": (lambda a: T.chunk(a, 2), [x(3)], lambda a: a[:2]),
    "tensor_split": (lambda a: T.tensor_split(a, 2), [x(3)], lambda a: a[:2]), "hsplit": (lambda a: T.hsplit(a, 2), [x(2, 2)], lambda a: a[:, :1]), "vsplit": (lambda a: T.vsplit(a, 2), [x(2, 2)], lambda a: a[:1]),
    "dsplit": (lambda a: T.dsplit(a, 2), [x(1, 2, 2)], lambda a: a[:, :, :1]), "unbind": (lambda a: T.unbind(a, 1), [x(2, 2)], lambda a: a[:, 0]),
    # losses
    "nn.functional.mse_loss": (F.mse_loss, [x(3), x(3)], lambda a, b: ((a - b) ** 2).mean()), "nn.functional.l1_loss": (F.l1_loss, [x(3), x(3)], lambda a, b: abs(a - b).mean()), "nn.functional.smooth_l1_loss": (F.smooth_l1_loss, [x(3), x(3)]),
    "nn.functional.huber_loss": (lambda a, b: F.huber_loss(a, b, delta=0.7), [x(3), x(3)]), "nn.functional.binary_cross_entropy": (F.binary_cross_entropy, [p(3), p(3)], lambda a, b: -(b * np.log(a) + (1 - b) * np.log(1 - a)).mean()),
    "nn.functional.binary_cross_entropy_with_logits": (F.binary_cross_entropy_with_logits, [x(3), p(3)]), "nn.functional.nll_loss": (lambda a: F.nll_loss(a, CLASSES), [x(2, 3)], lambda a: -(a[0, 2] + a[1, 0]) / 2),
    "nn.functional.cross_entropy": (lambda a: F.cross_entropy(a, CLASSES, label_smoothing=0.1), [x(2, 3)]), "nn.functional.kl_div": (lambda a, b: F.kl_div(a, b, reduction="batchmean"), [x(2, 2), p(2, 2)], lambda a, b: (b * (np.log(b) - a)).sum() / 2),
    "nn.functional.gaussian_nll_loss": (F.gaussian_nll_loss, [x(3), x(3), p(3)]), "nn.functional.poisson_nll_loss": (F.poisson_nll_loss, [x(3), p(3)]), "nn.functional.hinge_embedding_loss": (lambda a: F.hinge_embedding_loss(a, SIGNS), [p(2)]),
    "nn.functional.soft_margin_loss": (lambda a: F.soft_margin_loss(a, SIGNS), [x(2)]), "nn.functional.multilabel_soft_margin_loss": (F.multilabel_soft_margin_loss, [x(2, 2), p(2, 2)]),
    "nn.functional.margin_ranking_loss": (lambda a, b: F.margin_ranking_loss(a, b, SIGNS, margin=0.3), [x(2), x(2)]), "nn.functional.cosine_similarity": (F.cosine_similarity, [x(2, 3), x(2, 3)]),
    "nn.functional.cosine_embedding_loss": (lambda a, b: F.cosine_embedding_loss(a, b, SIGNS, margin=-0.9), [x(2, 3), x(2, 3)]), "nn.functional.pairwise_distance": (F.pairwise_distance, [x(2, 3), x(2, 3)]),
    "nn.functional.triplet_margin_loss": (lambda *a: F.triplet_margin_loss(*a, margin=9.0), [x(2, 2), x(2, 2), x(2, 2)]),
    # products
    "mm": (T.mm, [x(2, 3), x(3, 2)], np.matmul), "bmm": (T.bmm, [x(2, 1, 3), x(2, 3, 1)], np.matmul), "mv": (T.mv, [x(2, 3), x(3)], np.matmul), "dot": (T.dot, [x(3), x(3)], np.dot), "vdot": (T.vdot, [x(3), x(3)], np.vdot), "outer": (T.outer, [x(2), x(3)], np.outer), "inner": (T.inner, [x(2, 3), x(3)], np.inner),
    "tensordot": (lambda a, b: T.tensordot(a, b, 1), [x(2, 3), x(3, 2)], lambda a, b: a @ b), "addmm": (lambda *a: T.addmm(*a, beta=2, alpha=3), [x(2, 2), x(2, 3), x(3, 2)], lambda c, a, b: 2 * c + 3 * (a @ b)), "addmv": (T.addmv, [x(2), x(2, 3), x(3)], lambda c, a, b: c + a @ b),
    "addr": (T.addr, [x(2, 3), x(2), x(3)], lambda c, a, b: c + np.outer(a, b)), "baddbmm": (T.baddbmm, [x(2, 1, 1), x(2, 1, 2), x(2, 2, 1)], lambda c, a, b: c + a @ b), "addbmm": (T.addbmm, [x(1, 1), x(2, 1, 2), x(2, 2, 1)], lambda c, a, b: c + (a @ b).sum(0)),
    "chain_matmul": (T.chain_matmul, [x(2, 2), x(2, 2), x(2, 2)], lambda a, b, c: a @ b @ c), "trace": (T.trace, [x(3, 3)], np.trace), "kron": (T.kron, [x(2, 2), x(1, 2)], np.kron), "cross": (T.cross, [x(2, 3), x(2, 3)], np.cross),
    "einsum": (lambda a, b: T.einsum("bij,jk->bk", a, b), [x(2, 2, 3), x(3, 2)], lambda a, b: np.einsum("bij,jk->bk", a, b)),
    # layers
    "nn.functional.layer_norm": (lambda a, w, b: F.layer_norm(a, (3,), w, b), [x(2, 3), x(3), x(3)]), "nn.functional.rms_norm": (lambda a, w: F.rms_norm(a, (3,), w), [x(2, 3), x(3)]), "nn.functional.group_norm": (lambda a: F.group_norm(a, 2), [x(1, 4, 2)]),
    "nn.functional.batch_norm": (lambda a: F.batch_norm(a, None, None, training=True), [x(3, 2)]), "nn.functional.instance_norm": (F.instance_norm, [x(1, 2, 3)]), "nn.functional.local_response_norm": (lambda a: F.local_response_norm(a, 2), [x(1, 3, 2)]),
    "nn.functional.normalize": (F.normalize, [x(2, 3)], lambda a: a / np.linalg.norm(a, axis=1, keepdims=True)), "nn.functional.embedding": (lambda w: F.embedding(ROWS, w), [x(3, 2)], lambda w: w[ROWS.numpy()]), "nn.functional.bilinear": (F.bilinear, [x(2, 2), x(2, 3), x(2, 2, 3), x(2)]),
    "nn.functional.pixel_shuffle": (lambda a: F.pixel_shuffle(a, 2), [x(1, 4, 1, 2)]), "nn.functional.pixel_unshuffle": (lambda a: F.pixel_unshuffle(a, 2), [x(1, 1, 2, 2)]), "nn.functional.channel_shuffle": (lambda a: F.channel_shuffle(a, 2), [x(1, 4, 2)]),
    "nn.functional.scaled_dot_product_attention": (lambda *a: F.scaled_dot_product_attention(*a, is_causal=True), [x(1, 2, 2), x(1, 2, 2), x(1, 2, 2)]),
    # order and statistics
    "sort": (lambda a: T.sort(a, descending=True), [x(4)], lambda a: -np.sort(-a)), "msort": (T.msort, [x(3, 2)], lambda a: np.sort(a, 0)), "topk": (lambda a: T.topk(a, 2), [x(4)], lambda a: -np.sort(-a)[:2]), "kthvalue": (lambda a: T.kthvalue(a, 2), [x(4)], lambda a: np.sort(a)[1]),
    "quantile": (lambda a: T.quantile(a, 0.3, 1), [x(2, 4)], lambda a: np.quantile(a, 0.3, 1)), "nanquantile": (lambda a: T.nanquantile(a, 0.3), [x(4)], lambda a: np.nanquantile(a, 0.3)), "cov": (T.cov, [x(2, 3)], np.cov), "corrcoef": (T.corrcoef, [x(2, 4)], np.corrcoef),
    "dist": (T.dist, [x(3), x(3)], lambda a, b: np.linalg.norm(a - b)), "cdist": (T.cdist, [x(2, 3), x(2, 3)], cdist), "renorm": (lambda a: T.renorm(a, 2, 0, 1.0), [x(2, 3)]),
    "trapezoid": (T.trapezoid, [x(4), x(4)], np.trapezoid), "cumulative_trapezoid": (T.cumulative_trapezoid, [x(4)]), "cartesian_prod": (T.cartesian_prod, [x(2), x(2)]), "combinations": (T.combinations, [x(3)]),
}  # fmt: skip

#: Their results are booleans, integers, numbers of Python, or made without a graph.
NO_GRADIENT = {
    "allclose", "argwhere", "bucketize", "equal", "isclose", "isin", "nn.functional.one_hot", "nonzero", "searchsorted", "unique",
    "unique_consecutive", "zeta",
}  # fmt: skip
