"""What a network consists of, by name: looked up once for all that an edit asks."""

from __future__ import annotations

from tensor.autograd.tensor import Tensor
from tensor.nn.module import Module

__all__ = ["Listing"]


class Listing:
    """The modules, parameters and buffers of ``net``, each once, by their dotted names."""

    def __init__(self, net: Module) -> None:
        self.net = net
        self.modules: dict[str, Module] = dict(net.named_modules())
        self.parameters: dict[str, Tensor] = {}
        buffers: dict[str, Tensor] = {}
        seen = set()
        for path, module in self.modules.items():
            start = f"{path}." if path else ""
            for found, registered in ((self.parameters, module._parameters), (buffers, module._buffers)):
                for name, t in registered.items():
                    if t is not None and id(t) not in seen:
                        seen.add(id(t))
                        found[start + name] = t
        self.tensors = self.parameters | buffers  #: parameters first
