"""Record what PyTorch's layers do, for `tests/tensor/test_nn_goldens.py`.

Run with a Python that has PyTorch: ``PYTHONPATH=tests python scripts/record_layer_goldens.py``.
Writes ``tests/tensor/goldens/layers.json``: for each case of ``tests/layer_cases.py`` the repr and state of a module, two numbers
for each output, and two for the gradient of each input and parameter. Everything is computed in float64.
"""

import json
from pathlib import Path

import layer_cases as cases
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

GOLDENS = Path(__file__).parent.parent / "tests/tensor/goldens"


def record(source, inputs):
    made = eval(source, {"nn": nn, "F": F, "T": torch})
    row = {"source": source, "inputs": inputs}
    parameters = []
    if isinstance(made, nn.Module):
        made.double()
        row["repr"] = repr(made)
        state = made.state_dict()
        row["state"] = {name: list(value.shape) for name, value in state.items()}
        for k, (name, value) in enumerate(state.items()):
            if cases.filled(source, name, value):
                value.copy_(torch.tensor(cases.fill(name, k, value.shape)))
        parameters = list(made.parameters())
    args = [torch.tensor(eval(text, {**vars(cases), "np": np})) for text in inputs]
    leaves = [a.requires_grad_() for a in args[:1] if a.is_floating_point()] + parameters
    result = made(*args)
    outputs = result if isinstance(result, tuple) else (result,)
    row["outputs"] = [{"shape": list(y.shape), "project": cases.project(y.detach().numpy())} for y in outputs]
    weights = torch.tensor(cases.wave(*outputs[0].shape, phase=3))
    grads = torch.autograd.grad((outputs[0] * weights).sum(), leaves)
    row["grads"] = [cases.project(g.numpy()) for g in grads]
    return row


if __name__ == "__main__":
    rows = [record(*case) for case in cases.CASES]
    lines = ",\n".join(json.dumps(row) for row in rows)
    (GOLDENS / "layers.json").write_text(f'{{"torch": "{torch.__version__}", "cases": [\n{lines}\n]}}\n')
    print(len(rows), "cases")
