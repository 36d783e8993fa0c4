"""What can go wrong with a stream.

::

    RlcoreError
    ├── UsageError
    │   └── StreamAddressError  an address that cannot be opened, or not safely
    └── RunError
        ├── FrameError          bytes that are no frame: cut short, garbage, another version, too large
        └── StaleError          a sensor is older than it may be
"""

from rlcore.errors import RunError, UsageError

__all__ = ["FrameError", "StaleError", "StreamAddressError"]


class StreamAddressError(UsageError):
    """An address that cannot be opened, or not safely."""


class FrameError(RunError):
    """Bytes that are no frame; a stream counts them and goes on."""


class StaleError(RunError):
    """A sensor is older than it may be."""
