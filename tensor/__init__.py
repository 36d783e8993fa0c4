"""Dynamic-graph tensors: arrays that record what is done with them, on NumPy and CuPy, with PyTorch's public names."""

import warnings as _warnings

from tensor import autograd, dtypes
from tensor.autograd.formatting import set_printoptions
from tensor.autograd.modes import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from tensor.autograd.tensor import Size, Tensor, tensor
from tensor.device import device
from tensor.dtypes import *
from tensor.dtypes import dtype

# As in PyTorch, log(0) is -inf and 0 / 0 is nan without a word. Only warnings raised inside this package are meant.
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"tensor\.")

from tensor import cuda, nn, ops, optim, special
from tensor.ops.activation import celu, dropout, prelu, selu, threshold
from tensor.ops.binary import *
from tensor.ops.conv import *
from tensor.ops.create import *
from tensor.ops.index import *
from tensor.ops.matmul import *
from tensor.ops.random import *
from tensor.ops.reduce import *
from tensor.ops.shape import *
from tensor.ops.sort import *
from tensor.ops.special import digamma, erf, erfc, erfinv, i0, lgamma, logit, mvlgamma, polygamma
from tensor.ops.statistics import *
from tensor.ops.unary import *
