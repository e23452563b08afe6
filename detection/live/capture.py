"""Frames from a webcam, a stream or a video file, read by a thread of their own. OpenCV; knows nothing of detectors.

A live source never makes anybody wait for an old picture: its thread reads on, and the frame that lies in the one-slot
mailbox is always the newest. A file loses no frame: its thread waits until the frame was taken.
"""

from __future__ import annotations

import glob
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Generic, TypeVar

import cv2
import numpy as np

from detection.core.errors import MobileSSDError
from detection.core.media import Video

OPEN_TIMEOUT = 15.0  # seconds
FRAME_TIMEOUT = 10.0  # seconds without a frame after which a live source counts as lost

T = TypeVar("T")


@dataclass(frozen=True)
class Captured:
    """A frame. image: uint8 RGB [H, W, 3]; index: counts what the source delivered, so that gaps show dropped frames;
    time: seconds since the first frame; arrived: `time.monotonic()` when it came out of the source.
    """

    image: np.ndarray
    index: int
    time: float
    arrived: float


class Mailbox(Generic[T]):
    """One slot between two threads. dropped: how many items nobody took."""

    def __init__(self) -> None:
        self.dropped = 0
        self._item: T | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T, wait: bool = False) -> bool:
        """Lays `item` in, over an older one, or (`wait`) once the older one was taken. False: the box is closed."""
        with self._changed:
            while wait and self._item is not None and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify_all()
            return True

    def take(self, timeout: float | None = None) -> T | None:
        """The item, as soon as there is one; None once the box is closed and empty. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._item is not None or self._closed, timeout):
                raise TimeoutError
            item, self._item = self._item, None
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """No more items: `put` refuses, `take` gives what is left and then None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Capture:
    """Iterates over the frames of `source`: a camera's number, /dev/videoN, a URL, or a video file.

    live: whether old frames are dropped for new ones (cameras, endless streams). fps: what the source says, 25 if it
    does not. dropped: frames that were never taken. Closing is safe at any time: the thread that opened the source is
    the only one that touches it, because OpenCV may crash when one thread releases what another one reads.

    Raises MobileSSDError, one line, if the source cannot be opened, or delivers nothing for `FRAME_TIMEOUT` seconds.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.live = False
        self.fps = 25.0
        self._box: Mailbox[Captured] = Mailbox()
        self._error: Exception | None = None
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"capture {source}", daemon=True)
        self._thread.start()
        if not self._opened.wait(OPEN_TIMEOUT):
            self._box.close()
            raise MobileSSDError(f"{source}: does not answer within {OPEN_TIMEOUT:g} s: check the address and network")
        if self._error:
            raise self._error

    @property
    def dropped(self) -> int:
        return self._box.dropped

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[Captured]:
        self._box.dropped = 0  # what came while the network was being loaded was nobody's loss
        while True:
            try:
                captured = self._box.take(FRAME_TIMEOUT if self.live else None)
            except TimeoutError:
                raise MobileSSDError(f"{self.source}: no frame for {FRAME_TIMEOUT:g} s: is it still there?") from None
            if captured is None:
                if self._error:
                    raise self._error
                return
            # What waited for us in a file has not grown old; a live frame has.
            yield captured if self.live else replace(captured, arrived=time.monotonic())

    def close(self) -> None:
        """Stops reading. A thread that hangs inside a driver is left to itself (it is a daemon)."""
        self._box.close()
        self._thread.join(timeout=2)

    def _read(self) -> None:
        try:
            with open_source(self.source) as video:
                self.fps = video.fps
                self.live = isinstance(video, Stream) and not video.count
                self._opened.set()
                start = None
                for frame in video:
                    arrived = time.monotonic()
                    start = arrived if start is None else start
                    since = arrived - start if self.live else frame.time
                    if not self._box.put(Captured(frame.image, frame.index, since, arrived), wait=not self.live):
                        break
        except Exception as error:  # told to whoever iterates
            self._error = error
        finally:
            self._opened.set()
            self._box.close()


class Stream(Video):
    """A camera or URL, with the face of a `Video`; `count` is 0 where it has no end."""

    def __init__(self, source: str) -> None:
        self.path = source
        if (number := camera_number(source)) is not None:
            capture = cv2.VideoCapture(number)
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        else:
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 10_000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 10_000]
            capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
        self._begin(capture)

    def _refuse(self) -> None:
        if camera_number(self.path) is None:
            raise MobileSSDError(
                f"{self.path}: cannot be opened as a stream: check the address, and that it plays there"
            )
        here = ", ".join(sorted(glob.glob("/dev/video*")))
        hint = f"cameras here: {here}" if here else "plug one in, or name a video file or URL"
        raise MobileSSDError(f"camera {self.path}: cannot be opened (absent, in use, or no permission): {hint}")


def open_source(source: str) -> Video:
    """Opens what a person named. Raises MobileSSDError."""
    if camera_number(source) is not None or "://" in source:
        return Stream(source)
    if os.path.isdir(source):
        raise MobileSSDError(f"{source}: is a folder: use `mobilessd detect` for folders, or name a video in it")
    return Video(source)


def camera_number(source: str) -> int | None:
    """2 for "2" and "/dev/video2" (unless there is a file of that name), else None."""
    number = source.removeprefix("/dev/video")
    is_number = number.isascii() and number.isdecimal() and not os.path.isfile(source)
    return int(number) if is_number else None
