"""Recordings: MCAP files of the very bytes that came, readable up to the last message however the writer ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcap.writer import Writer

from envs.streams.sources import McapSource, pack
from envs.streams.stream import Publisher, Stream

__all__ = ["record", "replay"]

SECOND = 1_000_000_000


#: Kept in every recording, so that it can be read without this package.
FORMAT = b"""\
Each message: the number of parts, their lengths (little-endian, 8 bytes each), their bytes. The first part is a msgpack array:
version 1, schema, epoch, sequence, capture time, publish time (ns), [[name, NumPy dtype, shape], ...].
The others are those arrays."""


def record(
    stream: Stream, path: str | Path, *, limit: int | None = None, written: Callable[[int], None] = lambda count: None
) -> int:
    """Write the stream's frames to an MCAP file until it ends, or ``limit`` frames; how many were written.

    ``written`` is told the number after each one.

    Each message is flushed, without chunks: a process that is killed leaves all that it had received. What is no frame is counted
    in ``stream.rejected`` and not written; repeated frames are.
    """
    if not isinstance(stream, Stream):
        msg = f"record: expected a stream, as open_stream(...) gives, got {type(stream).__name__}"
        raise TypeError(msg)
    count = 0
    channels: dict[str, int] = {}
    with Path(path).open("wb") as file:
        writer = Writer(file, use_chunking=False)
        writer.start(profile="rlcore", library="rlcore")
        schema = writer.register_schema("rlcore.frame", "rlcore", FORMAT)
        try:
            for arrival in stream.arrivals():
                frame = stream.frame(arrival)
                if frame is None:
                    continue
                stream.admit(frame)
                topic, header, _ = frame
                channel = channels.get(topic)
                if channel is None:
                    channel = channels[topic] = writer.register_channel(topic, "rlcore", schema)
                writer.add_message(
                    channel,
                    arrival.receive_time,
                    pack(arrival.parts),
                    header.publish_time,
                    header.sequence & 0xFFFFFFFF,
                )
                file.flush()  # to the system, which outlives this process
                count += 1
                written(count)
                if count == limit:
                    break
        finally:
            writer.finish()  # type: ignore[no-untyped-call]
    return count


def replay(path: str | Path, publisher: Publisher, *, speed: float = 1.0) -> int:
    """Send a recording's frames again, byte for byte, ``speed`` times as fast (``inf``: at once); how many.

    Gaps of more than five seconds are not waited for.
    """
    anchor: tuple[int, float] | None = None
    count, last = 0, 0
    source = McapSource(Path(path))
    while (arrival := _next(source)) is not None:
        at, now = arrival.receive_time, time.monotonic()
        if anchor is None or not 0 <= at - last <= 5 * SECOND:
            anchor = (at, now)
        last = at
        due = anchor[1] + (at - anchor[0]) / SECOND / speed
        if due > now:
            time.sleep(due - now)
        publisher.send_parts(arrival.parts)
        count += 1
    return count


def _next(source: McapSource) -> Any:
    try:
        return source.receive(None)
    except EOFError:
        return None
