"""`run-agent record`, `replay` and `keys`: sensor streams to files and back, and who may hear them."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from rlcore.cli.parsing import Directory, File, Flag, Recording, Seconds, Text, Uri, key_flags, parse, read_keys
from rlcore.errors import ConfigError, UsageError
from rlcore.registry import load_object

__all__ = ["keys_command", "record_command", "replay_command"]


_SILENCE = 3.0  # seconds, after which a recorder that hears nothing says so


def _streams(name: str) -> Any:
    """`rlcore` never imports `envs`; it reaches it through this name only."""
    return load_object(f"envs.streams:{name}")


@dataclass(frozen=True)
class RecordOptions:
    """What to record, and where to."""

    uri: Uri = None
    """The stream: zmq+tcp://host:port, can://interface/channel, a file."""

    out: File = None
    """The MCAP file."""

    topics: Text = None
    """Which ones, with commas between them; all by default."""

    timeout: Seconds = None
    """Seconds of silence that end the recording; without them it goes on until interrupted."""

    limit: Annotated[int | None, tyro.conf.arg(metavar="FRAMES", help_behavior_hint="")] = None
    """How many frames to record."""

    dbc: File = None
    """The database that describes the signals of a CAN bus."""

    key: File = None
    """Our secret key file, where the publisher wants keys."""

    server: File = None
    """The publisher's public key file."""

    insecure: Flag = False
    """Listen to another machine without keys."""

    overwrite: Flag = False
    """Replace the file where there is one."""

    json: Flag = False
    """Print one JSON object, on the last line of stdout."""

    debug: Flag = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            message = f"limit: expected at least 1, got {self.limit}"
            raise ConfigError(message)


@dataclass(frozen=True)
class ReplayOptions:
    """What to send again, where to, and how fast."""

    file: Recording = None
    """A recording of `run-agent record`."""

    to: Text = None
    """Where to send it: zmq+tcp://127.0.0.1:5556."""

    speed: float = 1.0
    """Times as fast as it was recorded; inf: at once."""

    wait: float = 10.0
    """Seconds to wait for a subscriber; what is sent before one is there is lost."""

    drop: Flag = False
    """Let slow subscribers lose frames, as a sensor would; by default they are waited for."""

    key: File = None
    """Our secret key file: only those with a key of --allow are admitted."""

    allow: Directory = None
    """The folder with the public keys of those who are admitted."""

    insecure: Flag = False
    """Send to other machines without keys."""

    json: Flag = False
    """Print one JSON object, on the last line of stdout."""

    debug: Flag = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        if not self.speed > 0:
            message = f"speed: expected more than 0, got {self.speed}"
            raise ConfigError(message)


@dataclass(frozen=True)
class KeysOptions:
    """Whose keys, and where to."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Who the keys are for, such as car or learner."""

    out: Path = Path("keys")
    """The folder to write NAME.key and NAME.key_secret to."""

    debug: Flag = False
    """Show the traceback of an error."""


def record_command(arguments: list[str]) -> int:
    """Record until the stream ends or somebody interrupts; returns the exit code."""
    options = parse(RecordOptions(), arguments, command="record", description="Record a stream as an MCAP file.")
    if options.uri is None or options.out is None:
        message = "record needs a stream and a file, for example: run-agent record zmq+tcp://127.0.0.1:5556 --out drive.mcap"
        raise UsageError(message)
    if options.out.exists() and not options.overwrite:
        message = f"{options.out}: expected no such file, or --overwrite"
        raise UsageError(message)
    if options.out.suffix != ".mcap" or not options.out.parent.is_dir():
        message = f"--out: expected a file that ends with .mcap, in a directory that is there, got {options.out}"
        raise UsageError(message)
    given: dict[str, Any] = {"insecure": True} if options.insecure else {}
    curve = read_keys(options.key, server=options.server)
    if curve is not None:
        given["curve"] = curve
    if options.dbc is not None:
        given["dbc"] = options.dbc
    topics = [] if options.topics is None else options.topics.split(",")
    for number in (signal.SIGINT, signal.SIGTERM):  # the first, too: a shell's background jobs inherit it as ignored
        signal.signal(number, signal.default_int_handler)
    count = 0

    def written(so_far: int) -> None:
        nonlocal count
        count = so_far

    def ask() -> None:
        if not count:
            asked = f" with the topics {', '.join(map(repr, topics))}" if topics else ""
            print(f"nothing{asked} has come in {_SILENCE:g} s: does somebody publish there?", file=sys.stderr, flush=True)

    open_stream, record = _streams("open_stream"), _streams("record")  # importing is no silence
    silence = threading.Timer(_SILENCE, ask)
    silence.daemon = True
    silence.start()
    with key_flags(), contextlib.ExitStack() as stack:
        stack.callback(silence.cancel)
        stream = stack.enter_context(open_stream(options.uri, topics=topics, timeout=options.timeout, **given))
        print(f"recording {options.uri} to {options.out}, until Ctrl-C", file=sys.stderr, flush=True)
        with contextlib.suppress(KeyboardInterrupt):  # it is how a recording ends
            record(stream, options.out, limit=options.limit, written=written)
        lost = sum(tracker.lost for tracker in stream.trackers.values())
        done = {
            "frames": count, "topics": sorted(stream.trackers), "lost": lost, "rejected": stream.rejected,
            "disconnects": stream.disconnects,
        }  # fmt: skip
        last_error = stream.last_error
    if options.json:
        print(json.dumps(done))
    else:
        print(f"{options.out}: {count:,} frames of {len(stream.trackers)} topics; lost {lost:,}, rejected {stream.rejected:,}")
        if last_error is not None:
            print(f"the last one rejected: {last_error}")
    return 0


def replay_command(arguments: list[str]) -> int:
    """Send a recording again; returns the exit code."""
    options = parse(ReplayOptions(), arguments, command="replay", description="Send a recording again, byte for byte.")
    if options.file is None or options.to is None:
        message = (
            "replay needs a recording and an address, for example: run-agent replay drive.mcap --to zmq+tcp://127.0.0.1:5556"
        )
        raise UsageError(message)
    if not options.file.is_file():
        message = f"no such file: {options.file}"
        raise UsageError(message)
    curve = read_keys(options.key, allow=options.allow)
    with key_flags():
        opened = _streams("publish")(options.to, block=not options.drop, curve=curve, insecure=options.insecure)
    with opened as publisher:
        print(f"replaying {options.file} to {publisher.uri}", file=sys.stderr, flush=True)
        if not publisher.wait_for_subscriber(options.wait):
            refused = f"; {publisher.refused} with a wrong key were refused" if publisher.refused else ""
            message = f"{publisher.uri}: nobody listened within {options.wait:g} s{refused}"
            raise UsageError(message)
        count = _streams("replay")(options.file, publisher, speed=options.speed)
        publisher.drain()
    print(json.dumps({"frames": count}) if options.json else f"{count:,} frames sent")
    return 0


def keys_command(arguments: list[str]) -> int:
    """Write a pair of keys; returns the exit code."""
    options = parse(KeysOptions(), arguments, command="keys", description="Make the two keys of one end of a stream.")
    if options.name is None:
        message = "keys needs a name, for example: run-agent keys car --out keys"
        raise UsageError(message)
    try:
        public, secret = _streams("create_keys")(options.out, options.name)
    except FileExistsError as error:
        message = f"{error.filename}: there are such keys already; nothing was written"
        raise UsageError(message) from None
    print(f"{secret}: keep it secret, on the machine of {options.name!r} (--key)")
    print(f"{public}: give it to the others: --server for those who listen, in the folder of --allow for those who publish")
    return 0
