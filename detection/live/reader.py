"""The process that reads one camera or stream, and nothing else: it may hang or crash without taking anybody with it.

A read inside OpenCV cannot be cancelled by a thread, and a broken stream can crash its decoder; a process can be killed
(opencv issues 22677, 24393, jetson-utils 43). The parent writes one line of JSON to its standard input (the address;
not as an argument, where other users of the machine would read the password) and gets messages on its standard output.
When the parent goes away, so does the process. Imports OpenCV and numpy; run as `python -c "...reader import main..."`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any, BinaryIO

from detection.images.addresses import HTTP
from detection.images.cameras import camera_of, open_camera
from detection.live.frame_limit import check_frame, limit_memory
from detection.live.mailbox import Mailbox
from detection.live.motion import Sieve, reduced
from detection.live.motion_jpeg import frames, open_motion_jpeg
from detection.live.reader_messages import END, ERROR, FRAME, HELLO, CannotOpen, Frame, Send, Sender
from detection.live.snapshots import no_snapshot, poll
from detection.live.source_names import is_pipeline

MOTION_JPEG_RATE = 25.0  # frames a second; nothing says how many it has, and FFmpeg takes it for so many
DECODERS = (
    ("/dev/dri", "/dev/nvidia0") if sys.platform.startswith("linux") else (os.sep,)
)  # what may decode by hardware


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
    send = Sender(out)
    try:
        _pump(wish["address"], wish["size"], send, wish["hardware"], sieve)
    except OSError:  # the parent has gone
        pass
    except Exception as error:
        send(ERROR, (" ".join(str(error).split())[:300] or type(error).__name__).encode())
    os._exit(0)  # without OpenCV's own tidying, which may wait for the network


def _pump(
    address: str,
    size: list[int] | None,
    send: Send,
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
        if (problem := no_snapshot(address)) is not None:
            raise CannotOpen(f"{error}{f' ({problem})' if problem else ''}") from None
        return poll(address, sieve, send)
    check_frame(*frame_size(capture))
    fps, count = rate_and_count(capture)
    if web and count == 1 and no_snapshot(address) is None:
        return poll(address, sieve, send)
    times = FrameTimes(fps, count)
    send(HELLO, json.dumps({"fps": fps, "count": count}).encode())
    box: Mailbox[Frame] = Mailbox()
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
    elif web and times.frames == 1 and no_snapshot(address) is None:
        poll(address, sieve, send)
    else:
        send(ERROR, b"the stream ended" if times.frames else b"it opens, but no frame can be read")


def _play(answer: Any, sieve: Sieve, send: Send) -> bool:
    """Motion JPEG until it ends; False where it is for FFmpeg, as its frames are none that OpenCV decodes."""
    box: Mailbox[Frame] = Mailbox()
    sender = threading.Thread(target=_forward, args=(box, send), daemon=True)
    number = 0
    try:
        with answer:
            for image, arrived, moved in frames(answer, sieve):
                if not number:
                    send(HELLO, json.dumps({"fps": MOTION_JPEG_RATE, "count": 0}).encode())
                    sender.start()
                box.put(Frame(image, number, arrived, moved=moved))
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


def _frames(capture: Any, times: Any, sieve: Sieve) -> Iterator[Frame]:
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
            yield Frame(image, times.frames - 1, arrived, moved=moved)
        elif (place := times.next(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)) is not None:
            yield Frame(image, place[0], arrived, place[1])


def _forward(box: Mailbox[Frame], send: Send) -> None:
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


def _obey(sieve: Sieve) -> None:
    """Does what the parent says, and leaves with it."""
    for line in sys.stdin.buffer:
        sieve.on = json.loads(line)["motion"]
    os._exit(0)


def _enlarge(out: BinaryIO) -> None:
    """A pipe of 1 MB in the place of 64 kB: fewer changes between the two processes for each frame."""
    try:
        import fcntl

        fcntl.fcntl(out.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)
    except (ImportError, AttributeError, OSError):
        pass
