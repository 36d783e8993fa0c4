"""Gradients and parameters as a whole, sequences of different lengths, and weights that are computed."""

from tensor.nn.utils import parametrizations, parametrize, rnn, stateless
from tensor.nn.utils.clip_grad import (
    clip_grad_norm,
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)
from tensor.nn.utils.convert_parameters import parameters_to_vector, vector_to_parameters
from tensor.nn.utils.init import skip_init
from tensor.nn.utils.weight_norm import remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm

__all__ = [
    "clip_grad_norm", "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm",
    "parameters_to_vector", "parametrizations", "parametrize", "remove_spectral_norm", "remove_weight_norm", "rnn",
    "skip_init", "spectral_norm", "stateless", "vector_to_parameters", "weight_norm",
]  # fmt: skip
