"""Dynamic-graph tensors: arrays that record what is done with them, on NumPy and CuPy, with PyTorch's public names."""

import warnings as _warnings

from tensor import autograd, dtypes
from tensor.autograd.data import tensor
from tensor.autograd.formatting import set_printoptions
from tensor.autograd.modes import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from tensor.autograd.tensor import Size, Tensor
from tensor.device import device
from tensor.dtypes import *
from tensor.dtypes import dtype

# As in PyTorch, log(0) is -inf and 0 / 0 is nan without a word. Only warnings raised inside this package are meant.
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"tensor\.")

from tensor import cuda, nn, ops, optim, serialization, special
from tensor.legacy import *
from tensor.ops.activation import celu, dropout, prelu, selu, threshold
from tensor.ops.binary import *
from tensor.ops.conv import *
from tensor.ops.convert import *
from tensor.ops.create import *
from tensor.ops.index import *
from tensor.ops.join import *
from tensor.ops.matmul import *
from tensor.ops.random import *
from tensor.ops.reduce import *
from tensor.ops.shape import *
from tensor.ops.sort import *
from tensor.ops.special import digamma, erf, erfc, erfinv, i0, lgamma, logit, mvlgamma, polygamma
from tensor.ops.statistics import *
from tensor.ops.unary import *
from tensor.serialization import load, save

__all__ = [
    "DTYPES", "BoolTensor", "ByteTensor", "CharTensor", "DoubleTensor", "FloatTensor", "Generator", "HalfTensor",
    "IntTensor", "LongTensor", "ShortTensor", "Size", "Tensor", "abs", "absolute", "acos", "acosh", "add", "addbmm",
    "addcdiv", "addcmul", "addmm", "addmv", "addr", "adjoint", "all", "allclose", "amax", "amin", "aminmax", "angle", "any",
    "arange", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "argmax", "argmin", "argsort",
    "argwhere", "as_dtype", "as_strided", "as_tensor", "asin", "asinh", "atan", "atan2", "atanh", "atleast_1d",
    "atleast_2d", "atleast_3d", "autograd", "avg_pool1d", "avg_pool2d", "avg_pool3d", "baddbmm", "bernoulli", "bincount",
    "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "bmm", "bool",
    "broadcast_tensors", "broadcast_to", "bucketize", "can_cast", "cartesian_prod", "cat", "cdist", "cdouble", "ceil",
    "celu", "cfloat", "chain_matmul", "chunk", "clamp", "clamp_max", "clamp_min", "clip", "clone", "column_stack",
    "combinations", "complex", "complex64", "complex128", "concat", "concatenate", "conj", "constant_pad_nd", "conv1d",
    "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "copysign", "corrcoef", "cos", "cosh",
    "count_nonzero", "cov", "cross", "cuda", "cummax", "cummin", "cumprod", "cumsum", "cumulative_trapezoid",
    "default_generator", "deg2rad", "device", "diag", "diag_embed", "diagflat", "diagonal", "diagonal_scatter", "diff",
    "digamma", "dist", "div", "divide", "dot", "double", "dropout", "dsplit", "dstack", "dtype", "dtypes", "einsum",
    "empty", "empty_like", "enable_grad", "eq", "equal", "erf", "erfc", "erfinv", "exp", "exp2", "expand_as", "expm1",
    "eye", "fix", "flatten", "flip", "fliplr", "flipud", "float", "float16", "float32", "float64", "float_power", "floor",
    "floor_divide", "fmax", "fmin", "fmod", "frac", "from_numpy", "full", "full_like", "gather", "gcd", "ge", "ger",
    "get_default_dtype", "get_rng_state", "greater", "greater_equal", "gt", "half", "heaviside", "histc", "hsplit",
    "hstack", "hypot", "i0", "imag", "index_add", "index_copy", "index_fill", "index_put", "index_select", "initial_seed",
    "inner", "int", "int8", "int16", "int32", "int64", "is_grad_enabled", "isclose", "isfinite", "isin", "isinf", "isnan",
    "isneginf", "isposinf", "isreal", "kron", "kthvalue", "lcm", "ldexp", "le", "lerp", "less", "less_equal", "lgamma",
    "linear", "linspace", "load", "log", "log1p", "log2", "log10", "log_softmax", "logaddexp", "logaddexp2", "logcumsumexp",
    "logical_and", "logical_not", "logical_or", "logical_xor", "logit", "logspace", "logsumexp", "long", "lt",
    "manual_seed", "masked_fill", "masked_scatter", "masked_select", "matmul", "max", "max_pool1d", "max_pool2d",
    "max_pool3d", "maximum", "mean", "median", "meshgrid", "min", "minimum", "mm", "moveaxis", "movedim", "msort", "mul",
    "multinomial", "multiply", "mv", "mvlgamma", "nan_to_num", "nanmean", "nanquantile", "nansum", "narrow", "ne", "neg",
    "negative", "nextafter", "nn", "no_grad", "nonzero", "norm", "normal", "not_equal", "numpy_dtype", "ones", "ones_like",
    "ops", "optim", "outer", "pad", "permute", "polygamma", "positive", "pow", "prelu", "prod", "promote_types", "put",
    "quantile", "rad2deg", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm", "ravel",
    "real", "reciprocal", "relu", "remainder", "renorm", "repeat_interleave", "reshape", "roll", "rot90", "round",
    "row_stack", "rsqrt", "rsub", "save", "scalar_tensor", "scatter", "scatter_add", "scatter_reduce", "searchsorted",
    "seed", "select", "select_scatter", "selu", "serialization", "set_default_dtype", "set_default_tensor_type",
    "set_grad_enabled", "set_printoptions", "set_rng_state", "sgn", "short", "sigmoid", "sign", "signbit", "sin", "sinc",
    "sinh", "slice_scatter", "softmax", "sort", "special", "split", "split_with_sizes", "sqrt", "square", "squeeze",
    "stack", "std", "std_mean", "sub", "subtract", "sum", "swapaxes", "swapdims", "t", "take", "take_along_dim", "tan",
    "tanh", "tensor", "tensor_split", "tensordot", "threshold", "tile", "topk", "trace", "transpose", "trapezoid", "trapz",
    "tril", "tril_indices", "triu", "triu_indices", "true_divide", "trunc", "uint8", "uint16", "uint32", "uint64", "unbind",
    "unflatten", "unfold", "unfold_dim", "unique", "unique_consecutive", "unsqueeze", "vander", "var", "var_mean", "vdot",
    "view_as_complex", "view_as_real", "vsplit", "vstack", "where", "xlogy", "zeros", "zeros_like",
]  # fmt: skip
