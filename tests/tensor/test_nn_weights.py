"""Weights both ways: PyTorch's state in a safetensors file loads unchanged, computes the same, and is written back the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tensor as T

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("record_nn_goldens", ROOT / "scripts/record_nn_goldens.py")
goldens = importlib.util.module_from_spec(spec)
spec.loader.exec_module(goldens)

KEPT = load_file(goldens.TARGET)
NAMES = list(goldens.NETWORKS)


def kept(name, part):
    """A network's recorded arrays of one kind, by the rest of their names."""
    start = f"{name}/{part}/"
    return {key.removeprefix(start): array for key, array in KEPT.items() if key.startswith(start)}


def close(found, expected):
    np.testing.assert_allclose(found.detach().cpu().numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_pytorchs_weights_give_pytorchs_outputs_and_gradients(name, device):
    network = goldens.NETWORKS[name][0](T.nn)
    assert network.load_state_dict(kept(name, "weight")) == ([], [])
    network.to(device)
    inputs = [T.tensor(x, device=device, requires_grad=True) for x in goldens.inputs_of(name)]
    outputs = goldens.tensors_in(network(*inputs))
    expected = kept(name, "output")
    assert len(outputs) == len(expected)
    for i, y in enumerate(outputs):
        close(y, expected[str(i)])
    goldens.weighted_sum(outputs, lambda w: T.tensor(w, device=device)).backward()
    for i, x in enumerate(inputs):
        close(x.grad, kept(name, "input gradient")[str(i)])
    gradients = kept(name, "gradient")
    assert {key for key, _ in network.named_parameters()} == set(gradients)
    for key, p in network.named_parameters():
        close(p.grad, gradients[key])


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_ours_is_pytorchs_file(name, tmp_path):
    network = goldens.NETWORKS[name][0](T.nn)
    network.load_state_dict(kept(name, "weight"))
    save_file({key: t.numpy() for key, t in network.state_dict().items()}, tmp_path / "state.safetensors")
    written, expected = load_file(tmp_path / "state.safetensors"), kept(name, "weight")
    assert set(written) == set(expected)
    for key, array in expected.items():
        assert written[key].dtype == array.dtype
        np.testing.assert_array_equal(written[key], array, strict=True)
