"""What the process that reads a camera or stream (reader.py) and its parent say to each other, and how it is started.

The parent writes lines of JSON to its standard input: the first is the address (not as an argument, where other users of the
machine would read the password), each later one a wish. The process writes messages to its standard output.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

from detection.live.gate_spec import Point
from detection.live.motion import Region

HELLO, MOVED, FRAME, ERROR, END = b"H", b"M", b"F", b"E", b"Z"
_HEAD = struct.Struct("<cIIQddQ")  # kind, height, width, index, arrived, seconds, length of what follows
_LARGEST = 1 << 30
_ROOT = Path(__file__).resolve().parents[2]
Send = Callable[..., None]  # see Sender


class Message(NamedTuple):
    """kind: HELLO (payload: JSON {fps, count}), MOVED (payload: JSON, where something moves in the next frame, where that
    is looked for), FRAME (payload: RGB pixels), ERROR (payload: one line), END (payload: what is
    missing of a file far away, or nothing). arrived: `time.monotonic()`, which all processes of a machine share. seconds:
    of a frame of a file, since its beginning; else nan."""

    kind: bytes
    height: int
    width: int
    number: int
    arrived: float
    seconds: float
    payload: bytearray


class Frame(NamedTuple):
    """A frame on its way out. image: uint8 RGB [H, W, 3]; moved: as of `Captured`; the others: see `Message`."""

    image: Any
    number: int
    arrived: float
    seconds: float = math.nan
    moved: list[Region] | None = None


class CannotOpen(Exception):
    """Why a source cannot be opened, without its name, which the parent puts before it."""


class Sender:
    """Writes messages, whole, from any thread of the reader. Raises OSError where the parent has gone."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._lock = out, threading.Lock()

    def __call__(self, kind: bytes, payload: bytes | memoryview = b"", frame: Frame | None = None) -> None:
        height, width = frame.image.shape[:2] if frame else (0, 0)
        numbers = (frame.number, frame.arrived, frame.seconds) if frame else (0, 0.0, math.nan)
        with self._lock:
            if frame and frame.moved is not None:
                where = json.dumps(frame.moved).encode()
                self._write(_HEAD.pack(MOVED, 0, 0, 0, 0.0, math.nan, len(where)))
                self._write(where)
            self._write(_HEAD.pack(kind, height, width, *numbers, len(payload)))
            self._write(payload)

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while len(view):
            view = view[self._out.write(view) :]


def start_reader(
    address: str,
    size: tuple[int, int] | None = None,
    hardware: bool = True,
    motion: bool = False,
    masks: Sequence[Sequence[Point]] = (),
) -> subprocess.Popen[bytes]:
    """Starts the process for a camera, a URL or a pipeline. size: (width, height) to ask a camera for. hardware: whether a
    video may be decoded by it. motion: whether frames in which nothing moves are kept back, but for a few; `ask` changes
    that. masks: where motion does not count."""
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",  # numpy alone would start a thread for each core
    }
    process = subprocess.Popen(
        [sys.executable, "-c", "from detection.live.reader import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env=environment,
        start_new_session=True,  # Ctrl-C is for the parent, which then ends its readers
    )
    ask(process, address=address, size=size, hardware=hardware, motion=motion, masks=masks)
    return process


def ask(process: subprocess.Popen[bytes], **wish: Any) -> None:
    """A wish to a reader: a line of JSON."""
    assert process.stdin
    with contextlib.suppress(OSError, ValueError):  # it died; whoever reads its output will see
        process.stdin.write(json.dumps(wish).encode() + b"\n")


def read_message(stream: IO[bytes]) -> Message | None:
    """The next message; None where the process has ended."""
    head = _read(stream, _HEAD.size)
    if head is None:
        return None
    kind, height, width, index, arrived, seconds, length = _HEAD.unpack(head)
    payload = _read(stream, length) if length <= _LARGEST else None
    return None if payload is None else Message(kind, height, width, index, arrived, seconds, payload)


def _read(stream: IO[bytes], length: int) -> bytearray | None:
    data = bytearray(length)
    view, have = memoryview(data), 0
    while have < length:
        got = stream.readinto(view[have:])  # type: ignore[attr-defined]
        if not got:
            return None
        have += got
    return data
