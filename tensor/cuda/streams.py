"""Queues of work on a device, and marks in them."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from tensor.cuda.backend import cupy
from tensor.cuda.devices import device, index_of

__all__ = ["Event", "Stream", "current_stream", "default_stream", "stream"]


class Stream:
    """A queue of work that runs beside other queues; ``with stream:`` puts what is asked for inside into it."""

    __slots__ = ("_entered", "_raw", "device_index")

    def __init__(self, device: Any = None, priority: int = 0, *, raw: Any = None) -> None:
        self.device_index = index_of(device)
        self._entered: list[Any] = []
        if raw is None:
            with cupy().cuda.Device(self.device_index):
                raw = cupy().cuda.Stream(non_blocking=True, priority=priority)
        self._raw = raw

    def __enter__(self) -> Stream:
        block = device(self.device_index)
        block.__enter__()
        self._raw.__enter__()
        self._entered.append(block)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._raw.__exit__(kind, error, trace)
        self._entered.pop().__exit__(kind, error, trace)

    @property
    def cuda_stream(self) -> int:
        """The address of the CUDA stream, for other libraries."""
        return int(self._raw.ptr)

    def synchronize(self) -> None:
        """Wait until the queue is empty."""
        self._raw.synchronize()

    def query(self) -> bool:
        """Whether the queue is empty."""
        return bool(self._raw.done)

    def record_event(self, event: Event | None = None) -> Event:
        """Put a mark at the end of the queue."""
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Let what is asked for from now on wait for a mark in another queue."""
        self._raw.wait_event(event._raw)

    def wait_stream(self, other: Stream) -> None:
        """Let what is asked for from now on wait for all that another queue holds now."""
        self.wait_event(other.record_event())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.cuda_stream == other.cuda_stream and self.device_index == other.device_index

    def __hash__(self) -> int:
        return hash((self.cuda_stream, self.device_index))

    def __repr__(self) -> str:
        return f"<tensor.cuda.Stream device=cuda:{self.device_index} cuda_stream={self.cuda_stream:#x}>"


class Event:
    """A mark in a queue of work: to wait for, or to take the time between two."""

    __slots__ = ("_raw",)

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        self._raw = cupy().cuda.Event(block=blocking, disable_timing=not enable_timing, interprocess=interprocess)

    def record(self, stream: Stream | None = None) -> None:
        """Put the mark at the end of a queue, the current one when none is named."""
        self._raw.record((stream or current_stream())._raw)

    def wait(self, stream: Stream | None = None) -> None:
        """Let a queue wait for this mark."""
        (stream or current_stream()).wait_event(self)

    def query(self) -> bool:
        """Whether the work before the mark is done."""
        return bool(self._raw.done)

    def synchronize(self) -> None:
        """Wait until the work before the mark is done."""
        self._raw.synchronize()

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds from this mark to another; both made with ``enable_timing=True``."""
        return float(cupy().cuda.get_elapsed_time(self._raw, end._raw))


def current_stream(device: Any = None) -> Stream:
    """The queue that work goes into now."""
    index = index_of(device)
    return Stream(index, raw=cupy().cuda.get_current_stream(index))


def default_stream(device: Any = None) -> Stream:
    """The queue that work goes into unless another is chosen."""
    return Stream(device, raw=cupy().cuda.Stream.null)


def stream(s: Stream | None) -> Any:
    """``with stream(s):`` is ``with s:``; None changes nothing."""
    return device(None) if s is None else s
