"""Sensors as datasets: one line of code for a socket, a recording, a table and arrays.

>>> import numpy as np
>>> from envs.streams import open_stream
>>> from tensor.data import DataLoader
>>> aligned = open_stream({"speed": np.arange(4.0)}, rates=10).align(rate=10)
>>> [batch["speed"].tolist() for batch in DataLoader(aligned, batch_size=2)]
[[0.0, 1.0], [2.0, 3.0]]
"""

from envs.streams.align import Aligned, Moment
from envs.streams.errors import FrameError, PeerRefusedError, StaleError, StreamAddressError, StreamKeysError
from envs.streams.frames import Frame, Header, decode, encode
from envs.streams.keys import Curve, create_keys
from envs.streams.recording import record, replay
from envs.streams.stream import Publisher, Sample, Stream, open_stream, publish

__all__ = [
    "Aligned",
    "Curve",
    "Frame",
    "FrameError",
    "Header",
    "Moment",
    "PeerRefusedError",
    "Publisher",
    "Sample",
    "StaleError",
    "Stream",
    "StreamAddressError",
    "StreamKeysError",
    "create_keys",
    "decode",
    "encode",
    "open_stream",
    "publish",
    "record",
    "replay",
]
