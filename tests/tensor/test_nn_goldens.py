"""Layers and their functions against what PyTorch did; `scripts/record_layer_goldens.py` made the record."""

import json
from pathlib import Path

import layer_cases as cases
import numpy as np
import pytest

import tensor as T
from tensor import nn
from tensor.nn import functional as F

RECORD = json.loads((Path(__file__).parent / "goldens/layers.json").read_text())["cases"]


def test_the_record_has_all_cases():
    assert [(row["source"], row["inputs"]) for row in RECORD] == cases.CASES


@pytest.mark.parametrize("row", RECORD, ids=[f"{row['source']} {row['inputs'][0]}" for row in RECORD])
def test_agrees_with_pytorch(row, device):
    made = eval(row["source"], {"nn": nn, "F": F, "T": T})
    parameters = []
    if "repr" in row:
        made.double().to(device)
        assert repr(made) == row["repr"]
        state = made.state_dict()
        assert {name: list(value.shape) for name, value in state.items()} == row["state"]
        filled = {}
        for k, (name, value) in enumerate(state.items()):
            filled[name] = (
                T.tensor(cases.fill(name, k, value.shape), device=device) if cases.filled(row["source"], name, value) else value
            )
        made.load_state_dict(filled)
        parameters = list(made.parameters())
    args = [T.tensor(eval(text, {**vars(cases), "np": np}), device=device) for text in row["inputs"]]
    leaves = [a.requires_grad_() for a in args[:1] if a.is_floating_point()] + parameters
    result = made(*args)
    outputs = result if isinstance(result, tuple) else (result,)
    assert [list(y.shape) for y in outputs] == [y["shape"] for y in row["outputs"]]
    for y, expected in zip(outputs, row["outputs"], strict=True):
        np.testing.assert_allclose(cases.project(y.detach().cpu().numpy()), expected["project"], rtol=1e-6, atol=1e-7)
    weights = T.tensor(cases.wave(*outputs[0].shape, phase=3), device=device)
    grads = T.autograd.grad((outputs[0] * weights).sum(), leaves)
    for g, expected in zip(grads, row["grads"], strict=True):
        np.testing.assert_allclose(cases.project(g.cpu().numpy()), expected, rtol=1e-6, atol=1e-7)
