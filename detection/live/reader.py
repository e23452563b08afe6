"""The process that reads one camera or stream, and nothing else: it may hang or crash without taking anybody with it.

A read inside OpenCV cannot be cancelled by a thread, and a broken stream can crash its decoder; a process can be killed
(opencv issues 22677, 24393, jetson-utils 43). The parent writes one line of JSON to its standard input (the address;
not as an argument, where other users of the machine would read the password) and gets messages on its standard output.
When the parent goes away, so does the process. Imports OpenCV and numpy; run as `python -c "...reader import main..."`.
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
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

from detection.errors import MobileSSDError
from detection.images.addresses import HTTP
from detection.images.cameras import camera_of, open_camera
from detection.live.frame_limit import check_frame, limit_memory
from detection.live.gate_spec import Point
from detection.live.mailbox import Mailbox
from detection.live.motion import Region, Sieve, reduced
from detection.live.motion_jpeg import frames, open_motion_jpeg
from detection.live.source_names import is_pipeline

HELLO, MOVED, FRAME, ERROR, END = b"H", b"M", b"F", b"E", b"Z"
_HEAD = struct.Struct("<cIIQddQ")  # kind, height, width, index, arrived, seconds, length of what follows
_LARGEST = 1 << 30
MOTION_JPEG_RATE = 25.0  # frames a second; nothing says how many it has, and FFmpeg takes it for so many
SNAPSHOT_PAUSE = 0.2  # seconds at least between two requests for a still image
SNAPSHOT_TRIES = 3  # in a row that may fail
SNAPSHOT_LARGEST = 64 << 20
DECODERS = (
    ("/dev/dri", "/dev/nvidia0") if sys.platform.startswith("linux") else (os.sep,)
)  # what may decode by hardware
_ROOT = Path(__file__).resolve().parents[2]


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


def main() -> None:
    """The process: opens what standard input names, and writes messages until the source or the parent ends."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a library that prints must not write between two frames
    _enlarge(out)
    wish = json.loads(sys.stdin.buffer.readline() or b"{}")
    if not wish:
        return
    sieve = Sieve(wish["masks"], wish["motion"])
    threading.Thread(target=_obey, args=(sieve,), daemon=True).start()
    limit_memory()
    lock = threading.Lock()

    def send(kind: bytes, payload: bytes | memoryview = b"", frame: _Frame | None = None) -> None:
        height, width = frame.image.shape[:2] if frame else (0, 0)
        numbers = (frame.number, frame.arrived, frame.seconds) if frame else (0, 0.0, math.nan)
        with lock:
            if frame and frame.moved is not None:
                where = json.dumps(frame.moved).encode()
                _write(out, _HEAD.pack(MOVED, 0, 0, 0, 0.0, math.nan, len(where)))
                _write(out, where)
            _write(out, _HEAD.pack(kind, height, width, *numbers, len(payload)))
            _write(out, payload)

    try:
        _pump(wish["address"], wish["size"], send, wish["hardware"], sieve)
    except OSError:  # the parent has gone
        pass
    except Exception as error:
        send(ERROR, (" ".join(str(error).split())[:300] or type(error).__name__).encode())
    os._exit(0)  # without OpenCV's own tidying, which may wait for the network


class _Frame(NamedTuple):
    """image: uint8 RGB [H, W, 3]; moved: as of `Captured`; the others: see `Message`."""

    image: Any
    number: int
    arrived: float
    seconds: float = math.nan
    moved: list[Region] | None = None


def _pump(
    address: str,
    size: list[int] | None,
    send: Callable[..., None],
    hardware: bool = True,
    sieve: Sieve | None = None,
) -> None:
    from detection.images.frame_times import FrameTimes
    from detection.images.video import frame_size, rate_and_count

    web, sieve = address.startswith(HTTP), sieve or Sieve([], False)
    if web and (answer := open_motion_jpeg(address)) is not None and _play(answer, sieve, send):
        return
    try:
        capture = _open(address, size, hardware)
    except CannotOpen as error:
        if not web:
            raise
        if (problem := _no_snapshot(address)) is not None:
            raise CannotOpen(f"{error}{f' ({problem})' if problem else ''}") from None
        return _poll(address, send)
    check_frame(*frame_size(capture))
    fps, count = rate_and_count(capture)
    if web and count == 1 and _no_snapshot(address) is None:
        return _poll(address, send)
    times = FrameTimes(fps, count)
    send(HELLO, json.dumps({"fps": fps, "count": count}).encode())
    box: Mailbox[_Frame] = Mailbox()
    sender = threading.Thread(target=_forward, args=(box, send), daemon=True)
    sender.start()
    try:
        for frame in _frames(capture, times, sieve):
            # A stream with an end is a file far away: no frame of it is dropped.
            if not box.put(frame, wait=bool(count)):
                break
    finally:
        box.close()
        sender.join()
    if count:
        send(END, times.problem(None, False)[0].encode())
    elif web and times.frames == 1 and _no_snapshot(address) is None:
        _poll(address, send)
    else:
        send(ERROR, b"the stream ended" if times.frames else b"it opens, but no frame can be read")


def _play(answer: Any, sieve: Sieve, send: Callable[..., None]) -> bool:
    """Motion JPEG until it ends; False where it is for FFmpeg, as its frames are none that OpenCV decodes."""
    box: Mailbox[_Frame] = Mailbox()
    sender = threading.Thread(target=_forward, args=(box, send), daemon=True)
    number = 0
    try:
        with answer:
            for image, arrived, moved in frames(answer, sieve):
                if not number:
                    send(HELLO, json.dumps({"fps": MOTION_JPEG_RATE, "count": 0}).encode())
                    sender.start()
                box.put(_Frame(image, number, arrived, moved=moved))
                number += 1
    except (OSError, ValueError, HTTPException):
        pass
    finally:
        box.close()
        if number:
            sender.join()
    if number:
        send(ERROR, b"the stream ended")
    return number > 0


def _frames(capture: Any, times: Any, sieve: Sieve) -> Iterator[_Frame]:
    import cv2

    from detection.images.video import frame_size

    while True:
        ok = capture.grab()
        arrived = time.monotonic()
        if not ok:
            if not times.count or not times.again():
                return
            continue
        check_frame(*frame_size(capture))
        if not times.count and not sieve.wants(arrived):
            continue
        ok, bgr = capture.retrieve()
        if not ok:
            continue
        moved = None
        if not times.count and sieve.on:
            keep, moved = sieve.keeps(reduced(bgr), bgr.shape, arrived)
            if not keep:
                continue
        image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        if not times.count:  # a stream has no numbers: whatever comes is the newest
            times.frames += 1
            yield _Frame(image, times.frames - 1, arrived, moved=moved)
        elif (place := times.next(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)) is not None:
            yield _Frame(image, place[0], arrived, place[1])


def _no_snapshot(address: str) -> str | None:
    """None where a web address gives one still image for each request; else why it does not."""
    from detection.images.web import open_web

    try:
        with open_web(address, timeout=8, trusting=True) as answer:
            kind = answer.headers.get_content_maintype()
            if kind == "image":
                return None
            # Some cameras say nothing, or that it is a text.
            start = b"" if kind in ("multipart", "video") else answer.read(16)
            return None if start.startswith((b"\xff\xd8\xff", b"\x89PNG")) else ""
    except OSError as error:
        return str(error)


def _poll(address: str, send: Callable[..., None]) -> None:
    """Asks for a still image again and again, as fast as it comes, at most every SNAPSHOT_PAUSE."""
    from detection.images.decode import decode_image
    from detection.images.web import open_web

    index = failed = 0
    while True:
        began = time.monotonic()
        try:
            # As FFmpeg does with streams: cameras make their certificates themselves.
            with open_web(address, timeout=8, trusting=True) as answer:
                data = answer.read(SNAPSHOT_LARGEST)
            frame = _Frame(decode_image(data, "the snapshot"), index, time.monotonic())
        except (OSError, MobileSSDError) as error:
            failed += 1
            if failed == SNAPSHOT_TRIES:
                raise CannotOpen(f"no snapshot: {error}") from None
            time.sleep(0.5)
            continue
        if not index:
            send(HELLO, json.dumps({"fps": 1 / max(SNAPSHOT_PAUSE, frame.arrived - began), "count": 0}).encode())
        send(FRAME, memoryview(frame.image).cast("B"), frame)
        index, failed = index + 1, 0
        time.sleep(max(0.0, began + SNAPSHOT_PAUSE - time.monotonic()))


def _forward(box: Mailbox[_Frame], send: Callable[..., None]) -> None:
    try:
        while (frame := box.take()) is not None:
            send(FRAME, memoryview(frame.image).cast("B"), frame)
    except OSError:  # the parent has gone
        os._exit(0)


def _open(address: str, size: list[int] | None, hardware: bool = True) -> Any:
    import cv2

    camera = camera_of(address)
    if camera is not None:
        return open_camera(camera, size)
    if is_pipeline(address):
        capture = cv2.VideoCapture(address, cv2.CAP_GSTREAMER)
        if not capture.isOpened():
            raise CannotOpen(
                "the pipeline does not start: try it with gst-launch-1.0, ending in ! videoconvert ! appsink"
            )
        return capture
    # TCP: over UDP a busy network gives torn images. One thread: each further one delays by a frame.
    # No buffer for cameras; of a file behind http, FFmpeg then loses a frame.
    options = "rtsp_transport;tcp" + ("" if address.startswith("http") else "|fflags;nobuffer")
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", options)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 10_000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 10_000]
    software = [*limits, cv2.CAP_PROP_N_THREADS, 1]
    if hardware and any(map(os.path.exists, DECODERS)):
        # FFmpeg falls back by itself where no device decodes this codec; a driver that refuses more than that does not.
        faster = [*software, cv2.CAP_PROP_HW_ACCELERATION, cv2.VIDEO_ACCELERATION_ANY]
        capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, faster)
        if capture.isOpened():
            return capture
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, software)
    if not capture.isOpened():
        raise CannotOpen("cannot be opened as a stream: check the address, and that it plays there")
    return capture


class CannotOpen(Exception):
    """Why a source cannot be opened, without its name, which the parent puts before it."""


def _obey(sieve: Sieve) -> None:
    """Does what the parent says, and leaves with it."""
    for line in sys.stdin.buffer:
        sieve.on = json.loads(line)["motion"]
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
