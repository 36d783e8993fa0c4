"""Dtypes and promotion, against a table recorded from PyTorch."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensor as T
from tensor.dtypes import as_dtype, result_dtype

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "promotion.json").read_text())
SCALARS: dict[str, Any] = {"bool": True, "int": 2, "float": 2.5, "complex": 1j}


def operand(text: str) -> Any:
    tier, name = text.split(":")
    return SCALARS[name] if tier == "s" else np.zeros(2 if tier == "t" else (), name)


def named(name: str) -> T.dtype:
    return as_dtype(np.dtype(name))


def test_promote_types() -> None:
    known = {k: v for k, v in GOLDEN["promote_types"].items() if v is not None}
    assert len(known) > 140
    assert {k: T.promote_types(*map(named, k.split())).name for k in known} == known


def test_promotion_between_tensors_0d_tensors_and_numbers() -> None:
    # The complex type with halves as parts has no NumPy counterpart; complex64 stands in for it.
    known = {k: v.replace("complex32", "complex64") for k, v in GOLDEN["result_type"].items() if v is not None}
    assert len(known) > 800
    assert {k: result_dtype(tuple(map(operand, k.split()))).name for k in known} == known


@pytest.mark.parametrize("kind", ["t", "z", "s"])
@pytest.mark.parametrize("name", ["bool", "uint8", "int32", "int64", "float16", "float32", "float64", "complex64"])
def test_operators_promote_by_the_table(name: str, kind: str) -> None:
    """Addition and multiplication of tensors really have the dtype that the table says."""
    for other in ("bool", "uint8", "int64", "float32", "float64"):
        right = f"{kind}:{ {'int64': 'int', 'float32': 'float'}.get(other, other) if kind == 's' else other }"
        expected = GOLDEN["result_type"].get(f"t:{name} {right}")
        if expected is None:
            continue
        b = operand(right)
        a, b = T.zeros(2, dtype=named(name)), b if kind == "s" else T.tensor(b)
        assert (a + b).dtype.name == (b + a).dtype.name == (a * b).dtype.name == expected


def test_division_of_integers_is_float() -> None:
    assert (T.tensor([1, 2]) / T.tensor([2, 2])).dtype is T.float32
    assert (T.tensor([3]) // 2).dtype is T.int64
    T.set_default_dtype(T.float64)
    assert (T.tensor([1]) / 2).dtype is T.float64


def test_dtype_objects() -> None:
    assert repr(T.float32) == "tensor.float32"
    assert T.float is T.float32
    assert T.double is T.float64
    assert T.long is T.int64
    assert T.int is T.int32
    assert T.half is T.float16
    assert T.float32.is_floating_point
    assert not T.int8.is_floating_point
    assert T.complex64.is_complex
    assert T.uint8.is_signed is False
    assert T.float64.itemsize == 8
    assert T.complex64.to_real() is T.float32
    assert T.float64.to_complex() is T.complex128
    assert pickle.loads(pickle.dumps(T.float32)) is T.float32
    assert copy.deepcopy(T.float16) is T.float16


@pytest.mark.parametrize("d", T.DTYPES.values(), ids=lambda d: d.name)
def test_every_dtype_pickles_to_itself(d: T.dtype) -> None:
    assert pickle.loads(pickle.dumps(d)) is d


@pytest.mark.parametrize(
    "given, expected", [(float, "float32"), (int, "int64"), (bool, "bool"), (np.float16, "float16"), ("int8", "int8")]
)
def test_as_dtype(given: Any, expected: str) -> None:
    assert as_dtype(given).name == expected


def test_unknown_dtypes_are_named() -> None:
    with pytest.raises(TypeError, match=r"expected a dtype such as tensor.float32, got 'quaternion'"):
        T.zeros(2, dtype="quaternion")
    with pytest.raises(TypeError, match=r"expected a floating dtype, got tensor\.int64"):
        T.set_default_dtype(T.int64)


def test_can_cast_never_goes_down_the_kinds() -> None:
    assert T.can_cast(T.int64, T.float16)
    assert T.can_cast(T.float64, T.float32)
    assert not T.can_cast(T.float32, T.int64)
    assert not T.can_cast(T.complex64, T.float64)
    with pytest.raises(
        RuntimeError, match=r"mul_: the result has dtype tensor.float32, which cannot be written into tensor.int64"
    ):
        T.tensor([1, 2]).mul_(1.5)
