"""`tensor` with tensors made on the CUDA device, for replaying recorded cases there: `run_ops.py --module conformance_cuda`."""

from __future__ import annotations

from typing import Any

import tensor as T


def tensor(data: Any, **kwargs: Any) -> T.Tensor:
    """A tensor on the device."""
    return T.tensor(data, **kwargs).cuda()


def __getattr__(name: str) -> Any:
    return getattr(T, name)


_on_host = T.Tensor.numpy
T.Tensor.numpy = lambda self, *args, **kwargs: _on_host(self.cpu(), *args, **kwargs)
