"""The Python array API standard, revision 2025.12, on tensors (https://data-apis.org/array-api).

Code written for the standard takes this namespace, or asks a tensor for it, and its results carry gradients as all tensors do:

>>> import tensor as T
>>> x = T.tensor([3.0, 4.0], requires_grad=True)
>>> xp = x.__array_namespace__()
>>> xp.sqrt(xp.sum(x * x)).backward()
>>> x.grad
tensor([0.6000, 0.8000])

Python floats are float32 here as everywhere in the package (`set_default_dtype` changes it), ints and indices int64.
"""

# ruff: noqa: F403 (the public names)

import math
import sys
from typing import Any

from tensor.array_api import (
    creation,
    data_types,
    elementwise,
    fft,
    linalg,
    manipulation,
    products,
    searching,
    statistics,
)
from tensor.array_api.array import Array
from tensor.array_api.creation import *
from tensor.array_api.data_types import *
from tensor.array_api.elementwise import *
from tensor.array_api.info import __array_namespace_info__
from tensor.array_api.manipulation import *
from tensor.array_api.products import *
from tensor.array_api.searching import *
from tensor.array_api.statistics import *
from tensor.dtypes import bool_ as bool
from tensor.dtypes import complex64, complex128, float32, float64, int8, int16, int32, int64, uint8, uint16, uint32, uint64
from tensor.naming import quoted

__all__ = [
    "Array", "__array_api_version__", "__array_namespace_info__", "bool", "complex64", "complex128", "e", "fft", "float32",
    "float64", "inf", "int8", "int16", "int32", "int64", "linalg", "nan", "newaxis", "pi", "uint8", "uint16", "uint32", "uint64",
]  # fmt: skip
__all__ += creation.__all__
__all__ += data_types.__all__
__all__ += elementwise.__all__
__all__ += manipulation.__all__
__all__ += products.__all__
__all__ += searching.__all__
__all__ += statistics.__all__

__array_api_version__ = "2025.12"
_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12", "2025.12")

e, pi, inf, nan, newaxis = math.e, math.pi, math.inf, math.nan, None


def _of(api_version: str | None) -> Any:
    """This module, if it knows the revision of the standard; ValueError if not. What tensors give for ``__array_namespace__``."""
    if api_version is not None and api_version not in _VERSIONS:
        msg = f"__array_namespace__: expected a revision among {quoted(_VERSIONS)}, got {api_version!r}"
        raise ValueError(msg)
    return sys.modules[__name__]
