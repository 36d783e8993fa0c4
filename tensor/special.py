"""Special functions under the names of ``torch.special``."""

from tensor.ops import special as _special
from tensor.ops.reduce import log_softmax, logsumexp, softmax
from tensor.ops.special import *  # noqa: F403
from tensor.ops.unary import exp2, expm1, log1p, round, sinc

__all__ = [*_special.__all__, "exp2", "expm1", "log1p", "log_softmax", "logsumexp", "round", "sinc", "softmax"]
