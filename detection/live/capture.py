"""Frames from cameras, streams, videos and folders, each read on its own, none of which can hold up another.

A live source never makes anybody wait for an old picture: the frame in its mailbox is always the newest. It is read by
a process of its own (reader.py); when no frame comes for `deadline` seconds the process is killed and another one
tries, after growing pauses, for as long as the program runs. A file loses no frame: its thread waits until the frame
was taken. OpenCV; knows nothing of detectors.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import numpy as np

from detection.core.errors import BadPictureError, MobileSSDError
from detection.core.media import Source, Video, find_sources
from detection.core.preprocess import read_image
from detection.live.mailbox import Mailbox
from detection.live.names import SourceName, camera_number
from detection.live.reader import ERROR, FRAME, HELLO, read_message, start_reader

OPEN_TIMEOUT = 20.0  # seconds until the first frame of a stream that has never been open
REOPEN_TIMEOUT = (
    5.0  # the same of one that has, or twice as long as it then took; a half-open connection waits for ever
)
FRAME_TIMEOUT = 10.0  # seconds without a frame after which a live source counts as lost
STALE_AFTER = 1.0  # seconds after which a live source's last frame is no longer what is there now
LONGEST_PAUSE = 3.0  # seconds between two tries; with the above, a source that is back is seen within 10 s
STEADY = 10.0  # seconds of frames after which the pauses begin small again
PICTURES_PER_SECOND = 1.0  # of a folder

# The life of a source. OPENING -> LIVE <-> LOST (it is being tried again) -> ENDED (a file's end) or FAILED (for good).
OPENING, LIVE, LOST, ENDED, FAILED = "opening", "live", "lost", "ended", "failed"


@dataclass(frozen=True)
class Captured:
    """A frame. image: uint8 RGB [H, W, 3]; index: counts what the source delivered, so that gaps show dropped frames;
    time: seconds since the source began; arrived: `time.monotonic()` when it came out of the source.
    """

    image: np.ndarray
    index: int
    time: float
    arrived: float


class Capture:
    """A source being read. Iterate over it, or look into `box`.

    live: whether old frames are dropped for new ones. fps: what the source says, 25 if it does not. state and message:
    how it is, for people. reconnects: how often a live source had to be opened again. arrived: `time.monotonic()` of
    the newest frame, 0 before the first.
    """

    def __init__(self, source: SourceName, live: bool) -> None:
        self.source, self.name, self.live = source, source.name, live
        self.fps = 25.0
        self.state, self.message = OPENING, ""
        self.reconnects = 0
        self.arrived = 0.0
        self.error: Exception | None = None
        self.box: Mailbox[Captured] = Mailbox()
        self._closing = threading.Event()
        self._settled = threading.Event()  # opened, or failed once
        self._thread = threading.Thread(target=self._run, name=f"capture {self.name}", daemon=True)
        self._thread.start()

    @property
    def stale(self) -> bool:
        """Whether its last frame is not what is there now."""
        if not self.live or self.state in (OPENING, ENDED):
            return False
        return self.state != LIVE or time.monotonic() - self.arrived > max(STALE_AFTER, 3 / self.fps)

    @property
    def age(self) -> float | None:
        """Seconds since its newest frame; None before the first."""
        return time.monotonic() - self.arrived if self.arrived else None

    def settled(self, timeout: float | None = None) -> bool:
        """Waits until it is open, or a first attempt has failed (`message` says why); False after `timeout` seconds."""
        return self._settled.wait(timeout)

    def fail(self, error: Exception) -> None:
        """Ends it because of an error, here or in what is done with its frames."""
        self.error, self.state, self.message = error, FAILED, str(error) or type(error).__name__
        self._closing.set()
        self._settled.set()
        self.box.close()

    def close(self) -> None:
        """Stops reading. Safe at any time, also twice."""
        self._closing.set()
        self.box.close()
        self._thread.join(timeout=5)

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Captured]:
        while (captured := self.box.take()) is not None:
            # What waited for us in a file has not grown old; a live frame has.
            yield captured if self.live else replace(captured, arrived=time.monotonic())
        if self.error:
            raise self.error

    def _deliver(self, captured: Captured, wait: bool) -> bool:
        self.arrived = captured.arrived
        if self.state != LIVE:
            self.state, self.message = LIVE, ""
        delivered = self.box.put(captured, wait)
        self._settled.set()
        return delivered

    def _run(self) -> None:
        try:
            self._read()
            if self.state != FAILED:
                self.state = ENDED
        except Exception as error:  # told to whoever iterates
            self.fail(error)
        finally:
            self._settled.set()
            self.box.close()

    def _read(self) -> None:
        raise NotImplementedError


class FileCapture(Capture):
    """The frames of a video file, or the pictures of a folder or pattern, in order, none left out.

    loop: begins again at the end. Raises MobileSSDError, one line, where there is nothing to be read.
    """

    def __init__(self, source: SourceName, loop: bool = False) -> None:
        self._sources = find_sources([source.address])
        self._loop = loop
        super().__init__(source, live=False)

    def _read(self) -> None:
        index, start = 0, 0.0
        while True:
            before = index
            for one in self._sources:
                for image, seconds, length in self._frames(one):
                    frame = Captured(image, index, start + seconds, time.monotonic())
                    if not self._deliver(frame, wait=True):
                        return
                    index += 1
                    end = start + seconds + length
                start = end if index > before else start
            if not self._loop or index == before:
                break
        if not index:
            raise BadPictureError(f"{self.source.address}: not one picture or frame can be read")

    def _frames(self, one: Source) -> Iterator[tuple[np.ndarray, float, float]]:
        """(image, seconds since its beginning, seconds that it lasts) of each frame."""
        if one.video:
            with Video(one.path) as video:
                self.fps = video.fps
                for frame in video:
                    yield frame.image, frame.time, 1 / video.fps
            return
        self.fps = PICTURES_PER_SECOND
        try:
            yield read_image(one.path), 0.0, 1 / PICTURES_PER_SECOND
        except BadPictureError as error:
            if one.named:
                raise
            self.message = str(error)


class StreamCapture(Capture):
    """A camera or URL, read by a process that is watched.

    deadline: seconds without a frame after which it is closed and opened again. size: (width, height) to ask a camera
    for. tell: called with a line for people when it is lost, and when it is back.
    """

    def __init__(
        self,
        source: SourceName,
        deadline: float = FRAME_TIMEOUT,
        size: tuple[int, int] | None = None,
        tell: Callable[[str], object] = lambda line: None,
    ) -> None:
        self.deadline, self._size, self._tell = deadline, size, tell
        self._first: float | None = None
        self._index = -1
        self._opening: float | None = None  # seconds that it took to open
        super().__init__(source, live=True)

    def _read(self) -> None:
        pause = 0.0
        while not self._closing.is_set():
            began = time.monotonic()
            frames_before = self._index
            problem = "does not answer" if pause and not _answers(self.source.address) else self._watch_reader()
            if problem is None or self._closing.is_set():
                return
            self._lost(problem)
            steady = self._index > frames_before and self.arrived - began > STEADY
            pause = 0.5 if steady or not pause else min(2 * pause, LONGEST_PAUSE)
            self._closing.wait(pause * random.uniform(0.8, 1.0))

    def _lost(self, problem: str) -> None:
        if self.state == LIVE:
            self._tell(f"{self.name}: {problem}; trying again")
        self.state, self.message = LOST, problem
        self.reconnects += 1
        self._settled.set()

    def _watch_reader(self) -> str | None:
        """Runs one reader until it ends or is overdue. What went wrong; None at the end of what has an end."""
        began = time.monotonic()
        self._due = began + (OPEN_TIMEOUT if self._opening is None else max(REOPEN_TIMEOUT, 2 * self._opening))
        process = start_reader(self.source.address, self._size)
        outcome: list[str | None] = ["the reader stopped (a crash of the decoder?)"]
        pump = threading.Thread(
            target=self._pump, args=(process, outcome, began), name=f"pump {self.name}", daemon=True
        )
        pump.start()
        try:
            while pump.is_alive():
                if self._closing.is_set():
                    break
                waiting = self.live or not self.box.full  # somebody far away may wait for us, if it has an end
                if waiting and time.monotonic() > self._due:
                    return f"no frame for {self.deadline:g} s" if self.state == LIVE else "does not answer"
                pump.join(0.1)
        finally:
            process.kill()
            process.wait()
            pump.join()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()
        return outcome[0]

    def _pump(self, process: subprocess.Popen, outcome: list[str | None], began: float) -> None:
        assert process.stdout
        base, back = self._index + 1, self.state == LOST
        while (message := read_message(process.stdout)) is not None:
            if message.kind == HELLO:
                said = json.loads(message.payload)
                self.fps = said["fps"] or self.fps
                self.live = not said["count"]
            elif message.kind == FRAME:
                image = np.frombuffer(message.payload, np.uint8).reshape(message.height, message.width, 3)
                self._first = message.arrived if self._first is None else self._first
                since = message.arrived - self._first if self.live else message.index / self.fps
                self._index = base + message.index
                if message.index == 0:
                    self._opening = message.arrived - began
                if back:
                    self._tell(f"{self.name}: is back")
                    back = False
                if not self._deliver(Captured(image, self._index, since, message.arrived), wait=not self.live):
                    return
                self._due = time.monotonic() + self.deadline
            elif message.kind == ERROR:
                outcome[0] = message.payload.decode("utf-8", "replace")
            else:
                outcome[0] = None
                return


def open_capture(
    source: SourceName,
    loop: bool = False,
    size: tuple[int, int] | None = None,
    deadline: float = FRAME_TIMEOUT,
    tell: Callable[[str], object] = lambda line: None,
) -> Capture:
    """Begins to read what a person named. Files that are not there raise MobileSSDError at once; cameras and streams
    say so in `state` and `message`, and are tried again."""
    if source.live:
        return StreamCapture(source, deadline, size, tell)
    return FileCapture(source, loop)


def wait_for_sources(captures: list[Capture], closing: Callable[[], bool] = lambda: False) -> None:
    """Waits until each is open or has failed once. Raises the error of a file, or MobileSSDError if not one of them can
    be opened."""
    for capture in captures:
        while not capture.settled(0.1) and not closing():
            pass
        if capture.error:
            raise capture.error
    if captures and all(capture.state in (LOST, FAILED) for capture in captures):
        raise MobileSSDError("; ".join(f"{capture.name}: {capture.message}" for capture in captures))


def _answers(address: str) -> bool:
    """Whether there is anything at an address: much cheaper than starting a reader in vain, for weeks."""
    if (number := camera_number(address)) is not None:
        return not sys.platform.startswith("linux") or os.path.exists(f"/dev/video{number}")
    try:
        parts = urlsplit(address)
        port = parts.port or {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935}[parts.scheme]
        if not parts.hostname or any(os.environ.get(key) for key in ("http_proxy", "https_proxy")):
            return True
    except (KeyError, ValueError):
        return True
    try:
        socket.create_connection((parts.hostname, port), timeout=3).close()
        return True
    except OSError:
        return False
