"""Signal processing under the names of ``torch.signal``."""

from tensor.signal import windows

__all__ = ["windows"]
