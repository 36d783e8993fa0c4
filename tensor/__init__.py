"""Dynamic-graph tensors: arrays that record what is done with them, on NumPy and CuPy, with PyTorch's public names."""

import sys as _sys
import warnings as _warnings
from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from tensor import autograd, dtypes
from tensor.autograd.data import tensor
from tensor.autograd.formatting import set_printoptions
from tensor.autograd.interop import asarray, from_dlpack
from tensor.autograd.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from tensor.autograd.tensor import Size, Tensor
from tensor.device import device
from tensor.dtypes import *
from tensor.dtypes import dtype

# As in PyTorch, log(0) is -inf and 0 / 0 is nan without a word. Only warnings raised inside this package are meant.
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"tensor\.")

from tensor import cuda, data, fft, linalg, ops, signal, special
from tensor.legacy import *
from tensor.ops.activation import celu, celu_, hardshrink, prelu, relu_, selu, selu_, threshold, threshold_
from tensor.ops.adaptive import adaptive_avg_pool1d, adaptive_max_pool1d
from tensor.ops.binary import *
from tensor.ops.calculus import *
from tensor.ops.complex_numbers import *
from tensor.ops.conv import *
from tensor.ops.convert import *
from tensor.ops.create import *
from tensor.ops.ctc import ctc_loss
from tensor.ops.distance import cosine_similarity, pairwise_distance, pdist
from tensor.ops.dropout import alpha_dropout, dropout, feature_alpha_dropout, rrelu, rrelu_
from tensor.ops.embedding import embedding, embedding_bag
from tensor.ops.histogram import *
from tensor.ops.index import *
from tensor.ops.join import *
from tensor.ops.linalg.older import *
from tensor.ops.loss import binary_cross_entropy_with_logits, kl_div, poisson_nll_loss
from tensor.ops.margin_loss import cosine_embedding_loss, hinge_embedding_loss, margin_ranking_loss, triplet_margin_loss
from tensor.ops.matmul import *
from tensor.ops.normalization import batch_norm, bilinear, group_norm, instance_norm, layer_norm, rms_norm
from tensor.ops.padding import *
from tensor.ops.pooling import avg_pool1d, avg_pool2d, avg_pool3d, max_pool1d, max_pool2d, max_pool3d
from tensor.ops.query import *
from tensor.ops.random import *
from tensor.ops.rank import *
from tensor.ops.reduce import *
from tensor.ops.sampling import grid_sampler, grid_sampler_2d, grid_sampler_3d
from tensor.ops.scan import *
from tensor.ops.scatter import *
from tensor.ops.shape import *
from tensor.ops.shuffle import channel_shuffle, native_channel_shuffle, pixel_shuffle, pixel_unshuffle
from tensor.ops.signal_windows import bartlett_window, blackman_window, hamming_window, hann_window, kaiser_window
from tensor.ops.sort import *
from tensor.ops.special import digamma, erf, erfc, erfinv, i0, igamma, igammac, lgamma, logit, mvlgamma, polygamma
from tensor.ops.spectrogram import istft, stft
from tensor.ops.statistics import *
from tensor.ops.unary import *
from tensor.ops.variance import *

if _TYPE_CHECKING:
    from tensor import array_api, func, jit, nn, optim, serialization, structure, utils
    from tensor.func import vmap
    from tensor.jit import compile, lazy
    from tensor.serialization import load, save

__all__ = [
    "DTYPES", "BoolTensor", "ByteTensor", "CharTensor", "DoubleTensor", "FloatTensor", "Generator", "HalfTensor",
    "IntTensor", "LongTensor", "ShortTensor", "Size", "Tensor", "abs", "absolute", "acos", "acosh",
    "adaptive_avg_pool1d", "adaptive_max_pool1d", "add", "addbmm", "addcdiv", "addcmul", "addmm", "addmv", "addr",
    "adjoint", "all", "allclose", "alpha_dropout", "amax", "amin", "aminmax", "angle", "any", "arange", "arccos",
    "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "argmax", "argmin", "argsort", "argwhere",
    "array_api", "as_dtype", "as_strided", "as_strided_scatter", "as_tensor", "asarray", "asin", "asinh", "atan",
    "atan2", "atanh", "atleast_1d", "atleast_2d", "atleast_3d", "autograd", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "baddbmm", "bartlett_window", "batch_norm", "bernoulli", "bilinear", "binary_cross_entropy_with_logits", "bincount",
    "binomial", "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor",
    "blackman_window", "block_diag", "bmm", "bool", "broadcast_shapes", "broadcast_tensors", "broadcast_to",
    "bucketize", "can_cast", "cartesian_prod", "cat", "cdist", "cdouble", "ceil", "celu", "celu_", "cfloat",
    "chain_matmul", "channel_shuffle", "cholesky", "cholesky_inverse", "cholesky_solve", "chunk", "clamp", "clamp_max",
    "clamp_min", "clip", "clone", "column_stack", "combinations", "compile", "complex", "complex64", "complex128", "concat",
    "concatenate", "conj", "conj_physical", "constant_pad_nd", "conv1d", "conv2d", "conv3d", "conv_tbc",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "copysign", "corrcoef", "cos", "cosh",
    "cosine_embedding_loss", "cosine_similarity", "count_nonzero", "cov", "cross", "ctc_loss", "cuda", "cummax",
    "cummin", "cumprod", "cumsum", "cumulative_trapezoid", "data", "default_generator", "deg2rad", "det", "device",
    "diag", "diag_embed", "diagflat", "diagonal", "diagonal_scatter", "diff", "digamma", "dist", "div", "divide", "dot",
    "double", "dropout", "dsplit", "dstack", "dtype", "dtypes", "einsum", "embedding", "embedding_bag", "empty",
    "empty_like", "empty_strided", "enable_grad", "eq", "equal", "erf", "erfc", "erfinv", "exp", "exp2", "expand_as",
    "expm1", "eye", "feature_alpha_dropout", "fft", "fill", "finfo", "fix", "flatten", "flip", "fliplr", "flipud",
    "float", "float16", "float32", "float64", "float_power", "floor", "floor_divide", "fmax", "fmin", "fmod", "frac",
    "frexp", "frobenius_norm", "from_dlpack", "from_numpy", "frombuffer", "full", "full_like", "func", "gather", "gcd",
    "ge", "geqrf", "ger", "get_default_dtype", "get_device", "get_rng_state", "gradient", "greater", "greater_equal",
    "grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "group_norm", "gt", "half", "hamming_window", "hann_window",
    "hardshrink", "heaviside", "hinge_embedding_loss", "histc", "histogram", "histogramdd", "hsplit", "hstack", "hypot",
    "i0", "igamma", "igammac", "iinfo", "imag", "index_add", "index_copy", "index_fill", "index_put", "index_reduce",
    "index_select", "inference_mode", "initial_seed", "inner", "instance_norm", "int", "int8", "int16", "int32",
    "int64", "inverse", "is_complex", "is_conj", "is_floating_point", "is_grad_enabled", "is_inference_mode_enabled",
    "is_nonzero", "is_same_size", "is_signed", "is_tensor", "isclose", "isfinite", "isin", "isinf", "isnan", "isneginf",
    "isposinf", "isreal", "istft", "kaiser_window", "kl_div", "kron", "kthvalue", "layer_norm", "lazy", "lcm", "ldexp", "le",
    "lerp", "less", "less_equal", "lgamma", "linalg", "linear", "linspace", "load", "log", "log1p", "log2", "log10",
    "log_softmax", "logaddexp", "logaddexp2", "logcumsumexp", "logdet", "logical_and", "logical_not", "logical_or",
    "logical_xor", "logit", "logspace", "logsumexp", "long", "lt", "lu", "lu_solve", "lu_unpack", "manual_seed",
    "margin_ranking_loss", "masked_fill", "masked_scatter", "masked_select", "matmul", "matrix_exp", "matrix_power",
    "max", "max_pool1d", "max_pool2d", "max_pool3d", "maximum", "mean", "median", "meshgrid", "min", "minimum", "mm",
    "mode", "moveaxis", "movedim", "msort", "mul", "multinomial", "multiply", "mv", "mvlgamma", "nan_to_num", "nanmean",
    "nanmedian", "nanquantile", "nansum", "narrow", "native_channel_shuffle", "ne", "neg", "negative", "nextafter",
    "nn", "no_grad", "nonzero", "nonzero_static", "norm", "normal", "not_equal", "nuclear_norm", "numel", "numpy_dtype",
    "ones", "ones_like", "ops", "optim", "orgqr", "ormqr", "outer", "pad", "pairwise_distance", "pdist", "permute",
    "pinverse", "pixel_shuffle", "pixel_unshuffle", "poisson", "poisson_nll_loss", "polar", "polygamma", "positive",
    "pow", "prelu", "prod", "promote_types", "put", "qr", "quantile", "rad2deg", "rand", "rand_like", "randint",
    "randint_like", "randn", "randn_like", "randperm", "ravel", "real", "reciprocal", "relu", "relu_", "remainder",
    "renorm", "repeat_interleave", "reshape", "resolve_conj", "resolve_neg", "result_type", "rms_norm", "roll", "rot90",
    "round", "row_stack", "rrelu", "rrelu_", "rsqrt", "rsub", "save", "scalar_tensor", "scatter", "scatter_add",
    "scatter_reduce", "searchsorted", "seed", "select", "select_scatter", "selu", "selu_", "serialization",
    "set_default_dtype", "set_default_tensor_type", "set_grad_enabled", "set_printoptions", "set_rng_state", "sgn",
    "short", "sigmoid", "sign", "signal", "signbit", "sin", "sinc", "sinh", "slice_scatter", "slogdet", "softmax",
    "sort", "special", "split", "split_with_sizes", "sqrt", "square", "squeeze", "stack", "std", "std_mean", "stft",
    "structure", "sub", "subtract", "sum", "svd", "swapaxes", "swapdims", "t", "take", "take_along_dim", "tan", "tanh", "tensor",
    "tensor_split", "tensordot", "threshold", "threshold_", "tile", "topk", "trace", "transpose", "trapezoid", "trapz",
    "triangular_solve", "tril", "tril_indices", "triplet_margin_loss", "triu", "triu_indices", "true_divide", "trunc",
    "uint8", "uint16", "uint32", "uint64", "unbind", "unflatten", "unique", "unique_consecutive", "unravel_index",
    "unsqueeze", "utils", "vander", "var", "var_mean", "vdot", "view_as_complex", "view_as_real", "vmap", "vsplit",
    "vstack", "where", "xlogy", "zeros", "zeros_like",
]  # fmt: skip

#: Public names to the rooms they come from, imported when first asked for: a data loader's worker needs none of them.
_LATER = {
    "array_api": "array_api", "compile": "jit", "func": "func", "jit": "jit", "lazy": "jit", "load": "serialization", "nn": "nn",
    "optim": "optim", "save": "serialization", "serialization": "serialization", "structure": "structure", "utils": "utils",
    "vmap": "func",
}  # fmt: skip


#: What scripts for PyTorch may ask for, and what is to be done instead.
_ABSENT = {
    **dict.fromkeys(("amp", "autocast"), "there is no mixed precision"),
    **dict.fromkeys(("distributed", "onnx"), "not here yet"),
    **dict.fromkeys(("set_num_threads", "get_num_threads"), "set OPENBLAS_NUM_THREADS before NumPy is imported"),
    **dict.fromkeys(("sparse", "sparse_coo_tensor", "sparse_csr_tensor"), "there are no sparse tensors"),
    "backends": "there is no cuDNN and no MKL to be set up",
    "bfloat16": "there are float16, float32 and float64",
    "distributions": "not here yet; multinomial, normal and bernoulli draw, log_softmax gives log-probabilities",
    "hub": "nothing is fetched; load reads files",
    "profiler": "compile.explain says what a compiled function does",
    "set_default_device": "give device= to what makes a tensor",
    "use_deterministic_algorithms": "all results are deterministic as it is",
}


def __getattr__(name: str) -> _Any:
    room = _LATER.get(name)
    if name == "__version__":
        from importlib.metadata import version  # 20 ms that few need

        return version("rlcore")
    if room is None:
        why = _ABSENT.get(name)
        msg = f"module 'tensor' has no attribute {name!r}" + (f": {why}" if why else "")
        raise AttributeError(msg, name=name, obj=_sys.modules[__name__])  # Python then names the nearest
    module = _import_module(f"tensor.{room}")
    value = globals()[name] = module if room == name else getattr(module, name)
    return value


def _array_namespace(self: Tensor, /, *, api_version: str | None = None) -> _Any:
    """The array API standard's module for this tensor: `tensor.array_api`; ValueError for a revision that it does not know."""
    return _import_module("tensor.array_api")._of(api_version)


Tensor.__array_namespace__ = _array_namespace  # type: ignore[attr-defined]  # other libraries ask for it before that module is there


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
