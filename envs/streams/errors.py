"""What can go wrong with a stream.

::

    RlcoreError
    ├── UsageError
    │   └── StreamAddressError  an address that cannot be opened, or not safely
    │       └── StreamKeysError it needs keys (also a KeysNeededError)
    └── RunError
        ├── FrameError          bytes that are no frame: cut short, garbage, another version, too large
        ├── PeerRefusedError    the other end refuses our key, or wants keys, or has none
        └── StaleError          a sensor is older than it may be
"""

from rlcore.errors import KeysNeededError, RunError, UsageError

__all__ = ["FrameError", "PeerRefusedError", "StaleError", "StreamAddressError", "StreamKeysError"]


class StreamAddressError(UsageError):
    """An address that cannot be opened, or not safely."""


class StreamKeysError(StreamAddressError, KeysNeededError):
    """An address that other machines reach, without the keys for it."""


class FrameError(RunError):
    """Bytes that are no frame; a stream counts them and goes on."""


class PeerRefusedError(RunError):
    """The other end is there, and refuses us: an unlisted or a wrong key, or keys on one end alone."""


class StaleError(RunError):
    """A sensor is older than it may be."""
