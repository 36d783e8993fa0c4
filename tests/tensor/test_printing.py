"""How tensors print, against what PyTorch 2.13 prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tensor as T
from tensor.autograd import formatting

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "printing.json").read_text())


@pytest.fixture
def options() -> Iterator[None]:
    before = dict(formatting._options)
    yield
    formatting._options.update(before)


@pytest.mark.parametrize("expression", list(GOLDEN))
def test_prints_as_pytorch(expression: str) -> None:
    assert repr(T.tensor(eval(expression, {"np": np}))) == GOLDEN[expression]


def test_notes() -> None:
    x = T.tensor([1.0, 2.0], requires_grad=True)
    assert repr(x) == "tensor([1., 2.], requires_grad=True)"
    assert repr(x * 2) == "tensor([2., 4.], grad_fn=<MulBackward>)"
    assert repr(x.detach()) == "tensor([1., 2.])"
    wide = T.ones(16, requires_grad=True)
    assert repr(wide).endswith("1., 1., 1., 1.],\n       requires_grad=True)")


def test_the_default_dtype_is_not_printed() -> None:
    T.set_default_dtype(T.float64)
    assert repr(T.tensor(0.5)) == "tensor(0.5000)"
    assert repr(T.tensor(0.5, dtype=T.float32)) == "tensor(0.5000, dtype=tensor.float32)"


@pytest.mark.usefixtures("options")
def test_options() -> None:
    T.set_printoptions(precision=2, threshold=5, edgeitems=1, linewidth=20)
    assert repr(T.tensor([0.125, 1.5])) == "tensor([0.12, 1.50])"
    assert repr(T.arange(6)) == "tensor([0,  ..., 5])"


@pytest.mark.usefixtures("options")
def test_scientific_and_profiles() -> None:
    T.set_printoptions(sci_mode=True)
    assert repr(T.tensor([1.5, 20.0])) == "tensor([1.5000e+00, 2.0000e+01])"
    T.set_printoptions(sci_mode=False)
    assert repr(T.tensor([1e-3, 2e3])) == "tensor([   0.0010, 2000.0000])"
    T.set_printoptions(profile="full")
    assert "..." not in repr(T.arange(1500))
    T.set_printoptions(profile="short")
    assert repr(T.tensor([1e-3, 2e3])) == "tensor([1.00e-03, 2.00e+03])"
    with pytest.raises(ValueError, match="expected a profile of 'default', 'short', 'full', got 'tall'"):
        T.set_printoptions(profile="tall")


def test_shapes_formats_and_strings() -> None:
    assert repr(T.zeros(2, 3).shape) == "tensor.Size([2, 3])"
    assert T.zeros(2, 3).shape == (2, 3)
    assert T.zeros(2, 3).shape.numel() == 6
    assert f"{T.tensor(3.14159):.2f}" == "3.14"
    assert f"{T.tensor([1])}" == "tensor([1])"
    assert str(T.tensor([True])) == "tensor([True])"
