"""The process that reads one camera or stream, and nothing else: it may hang or crash without taking anybody with it.

A read inside OpenCV cannot be cancelled by a thread, and a broken stream can crash its decoder; a process can be killed
(opencv issues 22677, 24393, jetson-utils 43). The parent writes one line of JSON to its standard input (the address;
not as an argument, where other users of the machine would read the password) and gets messages on its standard output.
When the parent goes away, so does the process. Imports OpenCV and numpy; run as `python -c "...reader import main..."`.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

from detection.live.mailbox import Mailbox
from detection.live.source_names import camera_number

HELLO, FRAME, ERROR, END = b"H", b"F", b"E", b"Z"
_HEAD = struct.Struct("<cIIQdQ")  # kind, height, width, index, arrived, length of what follows
_LARGEST = 1 << 30
_ROOT = Path(__file__).resolve().parents[2]


class Message(NamedTuple):
    """kind: HELLO (payload: JSON {fps, count}), FRAME (payload: RGB pixels), ERROR (payload: one line), END.
    arrived: `time.monotonic()`, which all processes of a machine share."""

    kind: bytes
    height: int
    width: int
    number: int
    arrived: float
    payload: bytearray


def start_reader(address: str, size: tuple[int, int] | None = None) -> subprocess.Popen[bytes]:
    """Starts the process for a camera's number or a URL. size: (width, height) to ask a camera for."""
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
    assert process.stdin
    with contextlib.suppress(OSError):  # it died at once; whoever reads its output will see
        process.stdin.write(json.dumps({"address": address, "size": size}).encode() + b"\n")
    return process


def read_message(stream: IO[bytes]) -> Message | None:
    """The next message; None where the process has ended."""
    head = _read(stream, _HEAD.size)
    if head is None:
        return None
    kind, height, width, index, arrived, length = _HEAD.unpack(head)
    payload = _read(stream, length) if length <= _LARGEST else None
    return None if payload is None else Message(kind, height, width, index, arrived, payload)


def _read(stream: IO[bytes], length: int) -> bytearray | None:
    data = bytearray(length)
    view, have = memoryview(data), 0
    while have < length:
        got = stream.readinto(view[have:])  # type: ignore[attr-defined]
        if not got:
            return None
        have += got
    return data


def main() -> None:
    """The process: opens what standard input names, and writes messages until the source or the parent ends."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a library that prints must not write between two frames
    _enlarge(out)
    wish = json.loads(sys.stdin.buffer.readline() or b"{}")
    if not wish:
        return
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    lock = threading.Lock()

    def send(kind: bytes, payload: bytes | memoryview = b"", shape: tuple = (0, 0), index: int = 0, at: float = 0):
        with lock:
            _write(out, _HEAD.pack(kind, *shape[:2], index, at, len(payload)))
            _write(out, payload)

    try:
        _pump(wish["address"], wish["size"], send)
    except OSError:  # the parent has gone
        pass
    except Exception as error:
        send(ERROR, str(error).encode())
    os._exit(0)  # without OpenCV's own tidying, which may wait for the network


def _pump(address: str, size: list[int] | None, send: Callable[..., None]) -> None:
    import cv2

    capture = _open(address, size)
    fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    fps = fps if 0 < fps <= 1000 else 0.0
    count = int(count) if 0 < count < 1e9 else 0
    send(HELLO, json.dumps({"fps": fps, "count": count}).encode())
    box: Mailbox[tuple] = Mailbox()
    sender = threading.Thread(target=_forward, args=(box, send), daemon=True)
    sender.start()
    index = 0
    while capture.grab():
        arrived = time.monotonic()
        ok, bgr = capture.retrieve()
        if not ok:
            continue
        # A stream with an end is a file far away: no frame of it is dropped.
        if not box.put((cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), index, arrived), wait=bool(count)):
            break
        index += 1
    box.close()
    sender.join()
    if count:
        send(END)
    else:
        send(ERROR, b"the stream ended" if index else b"it opens, but no frame can be read")


def _forward(box, send: Callable[..., None]) -> None:
    try:
        while (item := box.take()) is not None:
            image, index, arrived = item
            send(FRAME, memoryview(image).cast("B"), image.shape, index, arrived)
    except OSError:  # the parent has gone
        os._exit(0)


def _open(address: str, size: list[int] | None):
    import cv2

    number = camera_number(address)
    if number is None:
        # TCP: over UDP a busy network gives torn images. One thread: each further one delays by a frame.
        # No buffer for cameras; of a file behind http, FFmpeg then loses a frame.
        options = "rtsp_transport;tcp" + ("" if address.startswith("http") else "|fflags;nobuffer")
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", options)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 10_000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 10_000]
        capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, [*limits, cv2.CAP_PROP_N_THREADS, 1])
        if not capture.isOpened():
            raise CannotOpen("cannot be opened as a stream: check the address, and that it plays there")
        return capture
    capture = cv2.VideoCapture(number)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    if size:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    if not capture.isOpened():
        here = ", ".join(sorted(glob.glob("/dev/video*")))
        hint = f"cameras here: {here}" if here else "plug one in, or name a video file or URL"
        raise CannotOpen(f"cannot be opened (absent, in use, or no permission): {hint}")
    return capture


class CannotOpen(Exception):
    """Why a source cannot be opened, without its name, which the parent puts before it."""


def _leave_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def _write(out: BinaryIO, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while len(view):
        view = view[out.write(view) :]


def _enlarge(out: BinaryIO) -> None:
    """A pipe of 1 MB in the place of 64 kB: fewer changes between the two processes for each frame."""
    try:
        import fcntl

        fcntl.fcntl(out.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)
    except (ImportError, AttributeError, OSError):
        pass
