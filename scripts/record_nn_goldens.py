"""Record networks of PyTorch, for `tests/tensor/test_nn_weights.py`: weights, inputs, outputs, gradients.

Run with a Python that has PyTorch and safetensors: ``python scripts/record_nn_goldens.py``.
Writes ``tests/tensor/goldens/nn.safetensors``. The test calls the functions in `NETWORKS` with our ``nn``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TARGET = Path(__file__).parent.parent / "tests/tensor/goldens/nn.safetensors"


def convnet(nn: Any) -> Any:
    """Convolution, both kinds of norm, and a perceptron."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 3, 2, groups=1, bias=False),
        nn.Flatten(),
        nn.Linear(12, 6),
        nn.LayerNorm(6),
        nn.GELU(),
        nn.Linear(6, 2),
    )


#: By name: how to make the network, and the shapes of its inputs.
NETWORKS: dict[str, tuple[Callable[[Any], Any], list[tuple[int, ...]]]] = {
    "convnet": (convnet, [(5, 2, 6, 6)]),
    "rnn": (lambda nn: nn.RNN(3, 4, nonlinearity="relu", bidirectional=True), [(5, 2, 3), (2, 2, 4)]),
    "lstm": (lambda nn: nn.LSTM(3, 5, num_layers=2, batch_first=True, bidirectional=True, proj_size=4), [(2, 6, 3)]),
    "gru": (lambda nn: nn.GRU(3, 4, num_layers=2), [(5, 2, 3), (2, 2, 4)]),
    "lstm cell": (lambda nn: nn.LSTMCell(3, 4), [(2, 3)]),
    "attention": (
        lambda nn: nn.MultiheadAttention(8, 2, add_bias_kv=True, kdim=5, vdim=3),
        [(4, 2, 8), (6, 2, 5), (6, 2, 3)],
    ),
    "encoder": (
        lambda nn: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True, norm_first=True), 2),
        [(2, 5, 8)],
    ),
    "transformer": (lambda nn: nn.Transformer(8, 4, 1, 1, 12, 0.0, "gelu"), [(5, 2, 8), (4, 2, 8)]),
    "weight norm": (lambda nn: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), [(2, 4)]),
    "spectral norm": (lambda nn: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)).eval(), [(2, 4)]),
    "old weight norm": (lambda nn: nn.utils.weight_norm(nn.Linear(4, 3), dim=None), [(2, 4)]),
    "old spectral norm": (lambda nn: nn.utils.spectral_norm(nn.Linear(4, 3)).eval(), [(2, 4)]),
}


def inputs_of(name: str) -> list[np.ndarray]:
    """A network's inputs."""
    shapes = NETWORKS[name][1]
    return [np.sin(np.arange(np.prod(s)) * 1.3 + i).reshape(s).astype(np.float32) for i, s in enumerate(shapes)]


def tensors_in(output: Any) -> list[Any]:
    """All tensors in nested tuples."""
    return [t for part in output for t in tensors_in(part)] if isinstance(output, (tuple, list)) else [output]


def weighted_sum(outputs: list[Any], make: Callable[[np.ndarray], Any]) -> Any:
    """A number that depends on every element of the outputs differently: what is differentiated."""
    weights = [np.cos(np.arange(np.prod(tuple(y.shape))) * 0.7).reshape(tuple(y.shape)).astype(np.float32) for y in outputs]
    return sum((y * make(w)).sum() for y, w in zip(outputs, weights, strict=True))


if __name__ == "__main__":
    import torch
    from safetensors.numpy import save_file

    torch.manual_seed(0)
    kept: dict[str, np.ndarray] = {}
    for name, (build, _) in NETWORKS.items():
        network = build(torch.nn)
        for key, t in network.state_dict().items():
            kept[f"{name}/weight/{key}"] = t.numpy().copy()
        inputs = [torch.tensor(x, requires_grad=True) for x in inputs_of(name)]
        outputs = tensors_in(network(*inputs))
        weighted_sum(outputs, torch.tensor).backward()
        for i, y in enumerate(outputs):
            kept[f"{name}/output/{i}"] = y.detach().numpy()
        for i, x in enumerate(inputs):
            kept[f"{name}/input gradient/{i}"] = x.grad.numpy()
        for key, p in network.named_parameters():
            kept[f"{name}/gradient/{key}"] = p.grad.numpy()
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: array.copy(order="C") for key, array in kept.items()}, TARGET, {"torch": torch.__version__})
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")
