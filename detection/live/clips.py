"""Clips of what happened, with some seconds before it. A step of the pipeline that keeps the last frames at hand.

Frames wait as JPEG (5 seconds at 640 x 480 and 30 fps are about 10 MB), and are drawn and written by a thread of their
own, so that a clip costs the camera nothing. OpenCV through the recorder.
"""

from __future__ import annotations

import queue
import re
import threading
import time as clock
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from detection.boxes.detections import Detections
from detection.boxes.drawing import encoded
from detection.errors import MobileSSDError
from detection.live.overlay import draw_tracked
from detection.live.pipeline import Result
from detection.outputs.leftovers import salvage
from detection.outputs.video import Recorder

LONGEST = 120.0  # seconds of one clip; an event that lasts gets a beginning, not a film
WAITING = 400  # frames on their way to the writer; beyond, frames are left out of the clip


class Kept(NamedTuple):
    """A frame as it waits."""

    jpeg: bytes
    detections: Detections
    time: float


class Clips:
    """before, after: seconds around the event. rate: frames a second of the source, asked for at each clip's start."""

    def __init__(
        self,
        folder: Path,
        key: str,
        score: float,
        rate: Callable[[], float],
        say: Callable[[str], object],
        before: float = 5.0,
        after: float = 5.0,
    ) -> None:
        self._folder, self._key, self._score, self._rate, self._say = folder, key, score, rate, say
        self._before, self._after = before, after
        self._kept: deque[Kept] = deque()
        self._writer: _Writer | None = None
        self._until = self._began = 0.0
        self._finishing: list[_Writer] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MobileSSDError(f"{folder}: clips cannot be written there: {error.strerror or error}") from None
        for line in salvage(folder, "", ".mp4"):
            say(line)

    def __call__(self, result: Result) -> Result:
        """A step: keeps the frame, and gives it to the clip that is being written, if there is one."""
        time = result.frame.time
        image = result.frame.image
        kept = Kept(encoded(image, ".jpg", 90), result.detections.above(self._score), time)
        self._kept.append(kept)
        while self._kept and time - self._kept[0].time > self._before:
            self._kept.popleft()
        if self._writer:
            self._writer.add(kept)
            if time > self._until or time - self._began > LONGEST:
                self._finish()
        return result

    def start(self, name: str, time: float) -> None:
        """Something has happened: a clip begins with the frames that are kept, or the one at hand goes on."""
        self.extend(time)
        if self._writer:
            return
        self._began = time
        stamp, word = clock.strftime("%Y%m%d-%H%M%S"), re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
        path = self._folder / f"{stamp}-{self._key}-{word}.mp4"
        self._writer = _Writer(path, self._rate(), self._say)
        for kept in self._kept:
            self._writer.add(kept)

    def extend(self, time: float) -> None:
        """It still goes on."""
        self._until = time + self._after

    def close(self) -> None:
        """Finishes what is being written."""
        self._finish()
        for writer in self._finishing:
            writer.thread.join(timeout=30)

    def _finish(self) -> None:
        self._finishing = [writer for writer in self._finishing if writer.thread.is_alive()]
        if self._writer:
            self._writer.end()
            self._finishing.append(self._writer)
            self._writer = None


class _Writer:
    """Writes one clip in a thread of its own."""

    def __init__(self, path: Path, rate: float, say: Callable[[str], object]) -> None:
        self.path, self._rate, self._say = path, rate, say
        self._queue: queue.Queue[Kept | None] = queue.Queue()
        self.thread = threading.Thread(target=self._run, name=f"clip {path.name}", daemon=True)
        self.thread.start()

    def add(self, kept: Kept) -> None:
        if self._queue.qsize() < WAITING:
            self._queue.put(kept)

    def end(self) -> None:
        self._queue.put(None)

    def _run(self) -> None:
        first: float | None = None
        try:
            with Recorder(self.path, self._rate) as recorder:
                while (kept := self._queue.get()) is not None:
                    first = kept.time if first is None else first
                    bgr = cv2.imdecode(np.frombuffer(kept.jpeg, np.uint8), cv2.IMREAD_COLOR)
                    image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
                    recorder.write(draw_tracked(image, kept.detections), kept.time - first)
            self._say(f"clip: {self.path}")
        except (MobileSSDError, OSError) as error:
            self._say(f"clip: {error}")
