"""Records what PyTorch promotes and prints: `python tests/tensor/goldens/record.py`, where PyTorch 2.13 is installed.

The tests read the JSON beside this file and never need PyTorch.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

DTYPES = [
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
]
SCALARS: dict[str, Any] = {"bool": True, "int": 2, "float": 2.5, "complex": 1j}

#: Python expressions over NumPy (`np`), each an array to print.
PRINTED = [
    "np.float32(3.0)", "np.float32(0.1)", "np.int64(7)", "np.bool_(True)", "np.float64(2.5)", "np.int32(-1)", "np.float32(np.nan)",
    "np.zeros(0, 'float32')", "np.zeros((2, 0), 'float32')", "np.zeros(0, 'int64')",
    "np.array([1.0, 2.0, 3.0], 'float32')", "np.array([1.5, 2.25, -3.0], 'float32')", "np.array([1, -20, 300])",
    "np.array([True, False])", "np.array([[1.0, 0.5], [100.25, 3.0]], 'float32')", "np.array([1e-6, 1.0], 'float32')",
    "np.array([1e9, 1.0], 'float32')", "np.array([1e5, 12.5], 'float32')", "np.array([0.001, 0.002], 'float32')",
    "np.array([np.inf, -np.inf, np.nan, 1.0], 'float32')", "np.array([np.nan, 1.5], 'float32')", "np.array([0.0, -0.0], 'float32')",
    "np.array([1.0, 2.0], 'float64')", "np.array([1, 2], 'uint8')", "np.array([0.5], 'float16')",
    "np.arange(24, dtype='float32').reshape(2, 3, 4)", "np.arange(2000, dtype='float32')", "np.arange(2000).reshape(40, 50)",
    "np.arange(40, dtype='float32')", "np.linspace(0, 1, 11, dtype='float32')", "np.array([[True, False], [False, False]])",
    "np.array([123456789, 1])", "np.array([1e8, 2e8], 'float32')", "np.array([-1.0, 10.0, -100.0], 'float32')",
    "np.array([1 + 2j, -0.5 - 3.25j])", "np.complex64(1j)", "np.array([1000.5 - 1j, 2], 'complex64')",
    "np.array([[0.1], [-0.2]], 'float32')", "np.array([99999.0, 0.5], 'float32')", "np.array([1e-5, 1e-5], 'float32')",
]  # fmt: skip


def promotion() -> dict[str, Any]:
    """`promote_types` of every pair, and `result_type` of every pair of tiers: t (1-d), z (0-d), s (a Python number)."""
    import torch

    def name(f: Any, *args: Any) -> str | None:
        try:
            return str(f(*args)).removeprefix("torch.")
        except RuntimeError:  # PyTorch has no answer for some pairs of unsigned integers
            return None

    ds = {d: getattr(torch, d) for d in DTYPES}
    types = {f"{a} {b}": name(torch.promote_types, ds[a], ds[b]) for a, b in itertools.product(DTYPES, repeat=2)}
    operands: list[tuple[str, Any]] = []
    for d, t in ds.items():
        operands += [(f"t:{d}", torch.zeros(2, dtype=t)), (f"z:{d}", torch.zeros((), dtype=t))]
    operands += [(f"s:{k}", v) for k, v in SCALARS.items()]
    results = {
        f"{a} {b}": name(torch.result_type, x, y)
        for (a, x), (b, y) in itertools.product(operands, repeat=2)
        if not (a.startswith("s") and b.startswith("s"))
    }
    return {"promote_types": types, "result_type": results}


def printing() -> dict[str, str]:
    """What `repr` gives for each expression, with our name for the dtypes."""
    import numpy as np
    import torch

    return {e: repr(torch.tensor(eval(e, {"np": np}))).replace("torch.", "tensor.") for e in PRINTED}


if __name__ == "__main__":
    for file, content in (("promotion.json", promotion()), ("printing.json", printing())):
        (HERE / file).write_text(json.dumps(content, indent=0) + "\n")
