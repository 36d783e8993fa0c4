"""What all tests of `tensor` share: the devices, reproducible numbers, and hypothesis without a clock."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest

import tensor as T

# Shared machines make single examples slow now and then; the derandomised profile keeps a red run reproducible.
hypothesis.settings.register_profile("tensor", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("tensor")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> str:
    """Each device that tensors can live on; CUDA is left out where there is none."""
    if request.param == "cuda" and not T.cuda.is_available():
        pytest.skip("no CUDA device")
    return str(request.param)


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    """Every test starts from seed 0, and leaves the global switches as it found them."""
    T.manual_seed(0)
    default = T.get_default_dtype()
    yield
    T.set_default_dtype(default)
    T.set_grad_enabled(True)
