"""The contract of `import tensor`: what it loads, what it exports, what it says where CUDA is missing."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import types
import warnings
from typing import Any

import pytest

import tensor as T
from tensor.device import as_device


def modules_after(code: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_import_loads_nothing_heavy() -> None:
    loaded = modules_after("import tensor")
    assert not loaded & {"scipy", "cupy", "llvmlite", "gymnasium", "torch", "rlcore", "rich"}
    assert "numpy" in loaded


def test_scipy_is_loaded_when_a_special_function_runs() -> None:
    assert "scipy.special" in modules_after("import tensor\ntensor.ones(1).erf()")


def test_floating_point_warnings_of_the_package_are_silent_elsewhere_they_are_not() -> None:
    code = "import warnings, numpy as np, tensor as T\nwith warnings.catch_warnings(record=True) as seen:\n T.tensor([0.0]).log(); T.zeros(1) / T.zeros(1)\nassert not seen\n"
    code += "with warnings.catch_warnings(record=True) as seen:\n np.log(np.zeros(1))\nassert seen"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_is_complete_and_sorted() -> None:
    public = {
        n for n in dir(T) if not n.startswith("_") and not (isinstance(getattr(T, n), types.ModuleType) and n in ("random",))
    }
    submodules = {m.name for m in pkgutil.iter_modules(T.__path__)}
    exported = set(T.__all__)
    assert len(T.__all__) == len(exported)
    assert public - submodules <= exported
    assert exported <= public

    def natural(n: str) -> Any:
        kind = 0 if n.isupper() else 1 if n[0].isupper() else 2
        return kind, [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", n)]

    assert sorted(T.__all__, key=natural) == T.__all__


@pytest.mark.parametrize("name", [m.name for m in pkgutil.walk_packages(T.__path__, "tensor.")])
def test_every_module_keeps_its_word(name: str) -> None:
    """`__all__` names what is there, and the examples in docstrings are true."""
    module = importlib.import_module(name)
    assert set(getattr(module, "__all__", ())) <= set(dir(module))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_every_operator_says_what_it_does() -> None:
    assert [n for n, op in T.ops.OPERATORS.items() if not (op.function.__doc__ or "").strip()] == []
    assert [n for n, op in T.ops.OPERATORS.items() if op.name not in T.ops.OPERATORS] == []


# --- devices ---------------------------------------------------------------------------------------------------------


def test_devices() -> None:
    assert repr(T.device("cuda:1")) == "device(type='cuda', index=1)"
    assert T.device("cuda", 1) == T.device("cuda:1") == as_device(1)
    assert str(T.device("cuda:1")) == "cuda:1"
    assert T.device(T.device("cpu")) == T.device("cpu")
    assert T.device("cpu") != "cpu"
    assert len({T.device("cpu"), T.device("cpu")}) == 1
    assert T.ones(1).device == T.device("cpu")
    assert not T.ones(1).is_cuda
    for bad in ("gpu", "cuda:x", "cpu0"):
        with pytest.raises(RuntimeError, match=f"expected a device such as 'cpu' or 'cuda:0', got '{bad}'"):
            T.device(bad)


@pytest.mark.skipif(T.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize(
    "run",
    [
        lambda: T.ones(1).cuda(),
        lambda: T.ones(1).to("cuda"),
        lambda: T.zeros(1, device="cuda:0"),
        lambda: T.tensor(1, device="cuda"),
    ],
)
def test_cuda_without_cupy_says_the_pip_command(run: Any) -> None:
    with pytest.raises(
        RuntimeError, match=r"CUDA tensors need CuPy: pip install 'rlcore\[cuda\]'|CuPy is installed but finds no CUDA device"
    ):
        run()
    assert T.cuda.device_count() == 0


@pytest.mark.cuda
@pytest.mark.skipif(not T.cuda.is_available(), reason="no CUDA device")
def test_a_step_on_cuda() -> None:
    x = T.ones(3, requires_grad=True)
    y = (x.cuda() * 2).sum()
    assert y.device == T.device("cuda", 0)
    y.backward()
    assert x.grad is not None
    assert x.grad.device == T.device("cpu")
    assert x.grad.tolist() == [2, 2, 2]
