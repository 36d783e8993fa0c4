"""Dynamic-graph tensors: arrays that record what is done with them, on NumPy and CuPy, with PyTorch's public names."""

import warnings as _warnings

from tensor import autograd, dtypes
from tensor.autograd.formatting import set_printoptions
from tensor.autograd.modes import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from tensor.autograd.tensor import Size, Tensor, tensor
from tensor.device import device
from tensor.dtypes import *  # noqa: F403
from tensor.dtypes import dtype

# As in PyTorch, log(0) is -inf and 0 / 0 is nan without a word. Only warnings raised inside this package are meant.
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"tensor\.")

# ruff: noqa: E402, A004
from tensor import cuda, nn, ops, optim
from tensor.ops.activation import celu, dropout, prelu, selu, threshold
from tensor.ops.binary import *  # noqa: F403
from tensor.ops.conv import *  # noqa: F403
from tensor.ops.create import *  # noqa: F403
from tensor.ops.index import *  # noqa: F403
from tensor.ops.matmul import *  # noqa: F403
from tensor.ops.random import *  # noqa: F403
from tensor.ops.reduce import *  # noqa: F403
from tensor.ops.shape import *  # noqa: F403
from tensor.ops.sort import *  # noqa: F403
from tensor.ops.special import *  # noqa: F403
from tensor.ops.statistics import *  # noqa: F403
from tensor.ops.unary import *  # noqa: F403
