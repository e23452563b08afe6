"""Cameras and streams: always their newest frame, from a process that can be killed, for as long as the program runs.

A live source never makes anybody wait for an old image: the frame in its mailbox is always the newest. It is read by
a process of its own (reader.py); when no frame comes for `deadline` seconds the process is killed and another one
tries, after growing pauses. numpy and the standard library.
"""

from __future__ import annotations

import json
import os
import random
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import IO
from urllib.parse import urlsplit

import cv2
import numpy as np

from detection.errors import BadImageError, MobileSSDError
from detection.images.cameras import camera_of, is_present
from detection.live.capture import FAILED, LIVE, LOST, Capture, Captured, FileCapture, Masks
from detection.live.motion import Region
from detection.live.reader_messages import ERROR, FRAME, HELLO, MOVED, ask, read_message, start_reader
from detection.live.source_names import SourceName, is_pipeline

OPEN_TIMEOUT = 20.0  # seconds until the first frame of a stream that has never been open
REOPEN_TIMEOUT = 5.0  # of one that has been, or twice what it then took: half-open connections wait for ever
FRAME_TIMEOUT = 10.0  # seconds without a frame after which a live source counts as lost
LONGEST_PAUSE = 3.0  # seconds between two tries; with the above, a source that is back is seen within 10 s
WAIT_TOLD, TOLD_AGAIN = 2.0, 5.0  # seconds of opening after which it is said, and said again
STEADY = 10.0  # seconds of frames after which the pauses begin small again


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
        masks: Masks = (),
        motion: bool = False,
    ) -> None:
        self.deadline, self._size, self._tell = deadline, size, tell
        self._hardware = True
        self._process: subprocess.Popen[bytes] | None = None
        self._first: float | None = None
        self._index = -1
        self._opening: float | None = None  # seconds that it took to open
        self._missing = ""  # of a file far away that came to its end
        super().__init__(source, True, masks, motion)

    @property
    def motion(self) -> bool:
        return self._motion

    @motion.setter
    def motion(self, on: bool) -> None:
        self._motion = on
        if self._process is not None:
            ask(self._process, motion=on)

    def _read(self) -> None:
        pause = 0.0
        while not self._closing.is_set():
            began = time.monotonic()
            frames_before = self._index
            problem = "does not answer" if pause and not _answers(self.source.address) else self._watch_reader()
            if self._closing.is_set():
                return
            if problem is None:
                if self._missing:
                    raise BadImageError(f"{self.name}: {self._missing}: fetch it again, or the connection broke off")
                return
            self._lost(problem)
            steady = self._index > frames_before and self.arrived - began > STEADY
            pause = 0.5 if steady or not pause else min(2 * pause, LONGEST_PAUSE)
            self._closing.wait(pause * random.uniform(0.8, 1.0))

    def _lost(self, problem: str) -> None:
        if self.state == LIVE:
            self._tell(f"{self.name}: {problem}; trying again")
        self._become(LOST, problem)
        self.reconnects += 1
        self._settled.set()

    def _watch_reader(self) -> str | None:
        """Runs one reader until it ends or is overdue. What went wrong; None at the end of what has an end."""
        began = time.monotonic()
        self._due = began + (OPEN_TIMEOUT if self._opening is None else max(REOPEN_TIMEOUT, 2 * self._opening))
        process = start_reader(self.source.address, self._size, self._hardware, self._motion, self.masks)
        self._process, frames_before = process, self._index
        outcome: list[str | None] = ["the reader stopped (a crash of the decoder?)"]
        assert process.stdout
        arguments = process.stdout, outcome, began
        pump = threading.Thread(target=self._pump, args=arguments, name=f"pump {self.name}", daemon=True)
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
            self._process = None
            if self._index == frames_before:
                self._hardware = False  # a driver that hangs or crashes gives no frame: its work is done without it
            process.kill()
            process.wait()
            pump.join()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()
        return outcome[0]

    def _pump(self, stream: IO[bytes], outcome: list[str | None], began: float) -> None:
        base, back = self._index + 1, self.state == LOST
        moved: tuple[Region, ...] | None = None
        while (message := read_message(stream)) is not None:
            if message.kind == HELLO:
                said = json.loads(message.payload)
                self.fps = said["fps"] or self.fps
                self.live = not said["count"]
            elif message.kind == MOVED:
                moved = tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in json.loads(message.payload))
            elif message.kind == FRAME:
                image = np.frombuffer(message.payload, np.uint8).reshape(message.height, message.width, 3)
                self._first = message.arrived if self._first is None else self._first
                since = message.arrived - self._first if self.live else message.seconds
                self._index = base + message.number
                if message.number == 0:
                    self._opening = message.arrived - began
                if back:
                    self._tell(f"{self.name}: is back")
                    back = False
                frame = Captured(image, self._index, since, message.arrived, moved if self._motion else None)
                moved = None
                if not self._deliver(frame, wait=not self.live):
                    return
                self._due = time.monotonic() + self.deadline
            elif message.kind == ERROR:
                outcome[0] = message.payload.decode("utf-8", "replace")
            else:
                outcome[0], self._missing = None, message.payload.decode()
                return


def open_capture(
    source: SourceName,
    loop: bool = False,
    size: tuple[int, int] | None = None,
    deadline: float = FRAME_TIMEOUT,
    tell: Callable[[str], object] = lambda line: None,
    masks: Masks = (),
    motion: bool = False,
) -> Capture:
    """Begins to read what a person named. Files that are not there raise MobileSSDError at once; cameras and streams
    say so in `state` and `message`, and are tried again."""
    if is_pipeline(source.address) and not re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()):
        raise MobileSSDError(
            f"{source.name}: this OpenCV is built without GStreamer, as that of pip is: give the camera's address (rtsp://...)"
        )
    if source.live:
        return StreamCapture(source, deadline, size, tell, masks, motion)
    return FileCapture(source, loop, tell, masks, motion)


def wait_for_sources(
    captures: list[Capture],
    closing: Callable[[], bool] = lambda: False,
    tell: Callable[[str], object] = lambda line: None,
) -> None:
    """Waits until each is open or has failed once; what takes its time is told. Raises the error of a file, or
    MobileSSDError if not one of them can be opened."""
    began, said = time.monotonic(), 0.0
    for capture in captures:
        while not capture.settled(0.1) and not closing():
            waited = time.monotonic() - began
            if waited - said > (WAIT_TOLD if not said else TOLD_AGAIN):
                said = waited
                tell(f"{capture.name}: opening, {waited:.0f} s (given up after {OPEN_TIMEOUT:g} s without an image)")
        if capture.error:
            raise capture.error
    if captures and all(capture.state in (LOST, FAILED) for capture in captures):
        raise MobileSSDError("; ".join(f"{capture.name}: {capture.message}" for capture in captures))


def _answers(address: str) -> bool:
    """Whether there is anything at an address: much cheaper than starting a reader in vain, for weeks."""
    if (camera := camera_of(address)) is not None:
        return is_present(camera)
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
