"""The scalar expression of a record says the same as its forward."""

import math

import numpy as np
import pytest

import tensor as T

FUNCTIONS = {
    n: getattr(math, n)
    for n in [
        "sin",
        "cos",
        "tan",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "exp",
        "expm1",
        "log",
        "log1p",
        "sqrt",
        "erf",
        "fabs",
        "floor",
        "ceil",
        "trunc",
        "fmod",
        "pow",
    ]
}
FUNCTIONS |= {"fmax": max, "fmin": min}
RECORDS = {op.name: op for op in T.ops.OPERATORS.values() if op.lowering}
POINTS = [0.25, 0.75, 1.5]


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_lowering_agrees_with_the_forward(name):
    op = RECORDS[name]
    operands = ["x"] if len(op.inputs) == 1 else ["a", "b"]
    for first in POINTS:
        for second in POINTS:
            values = dict(zip(operands, (first, second), strict=False))
            expected = eval(op.lowering, {"__builtins__": {}}, {**FUNCTIONS, **values})
            result = op.forward(*(np.array([v]) for v in values.values()))
            np.testing.assert_allclose(
                np.asarray(result, float)[0], float(expected), rtol=1e-12, err_msg=f"{op.lowering} at {values}"
            )


def test_there_are_enough_to_compile():
    assert len(RECORDS) > 40


def test_onnx_names_are_in_camel_case():
    for op in T.ops.OPERATORS.values():
        assert op.onnx is None or (op.onnx[0].isupper() and op.onnx.isalnum()), op.name
