"""Frames into a video file that is whole when it appears. OpenCV; knows nothing of cameras or detectors."""

from __future__ import annotations

import os
import shutil
import time as clock
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detection.errors import MobileSSDError
from detection.files import atomic_write, locked
from detection.outputs.encoders import BROWSERS, ENCODERS, open_encoder
from detection.outputs.leftovers import note

RESERVE = 64 << 20  # bytes that stay free: the index at a file's end and everybody else need room as well
CHECK_EVERY = 1.0  # seconds
SILENT = 30.0  # seconds, and
SILENT_FRAMES = 3000  # frames, after which a file that has not grown is not being written; encoders hold some back
LONGEST_GAP = 5.0  # seconds; a source that was away for an hour does not fill an hour with one frame


class RecordingStopped(MobileSSDError):
    """The disk is full. The file has been closed, and holds what was recorded until then."""


class Recorder:
    """Writes frames to a video: .mp4, .m4v, .mov, .mkv, .webm or .avi, each by the first encoder for it that this machine
    has (see `encoders`); an odd last row or column is left out, as these need even sizes.

    The file appears under its name when the recorder is closed, also after an exception or Ctrl-C: what was recorded is
    kept. What a kill leaves under a hidden name `leftovers.salvage` makes a file of. Without a frame no file appears.
    Raises MobileSSDError, one line, for another ending or where nothing can be written; RecordingStopped from `write`
    when less than `reserve` bytes are free.

    quick: frames come from a camera and wait for nobody. longest_gap: seconds that a frame is shown at most while none
    comes. hint: once there are frames, what stands in the way of playing it in a browser, else "".
    """

    def __init__(
        self,
        path: str | os.PathLike,
        fps: float,
        reserve: int = RESERVE,
        quick: bool = True,
        longest_gap: float = LONGEST_GAP,
    ) -> None:
        self.path = Path(path)
        self._reserve, self._quick, self._longest_gap = reserve, quick, longest_gap
        self.fps = fps
        self.frames = 0
        self.hint = ""
        if self.path.suffix.lower() not in ENCODERS:
            raise MobileSSDError(f"{self.path}: cannot record this kind of file: name it .mp4 or .avi")
        if self.path.is_dir():
            raise MobileSSDError(f"{self.path}: is a folder: name a file in it, such as {self.path / 'out.mp4'}")
        self._files = ExitStack()
        self._writer: Any = None
        self._size = (0, 0)
        self._last: np.ndarray | None = None
        self._lost = 0.0  # seconds of gaps that were left out
        self._temporary = self.path
        self._checked = 0.0
        self._grown = (0, 0.0, 0)  # size of the file, when it was seen to have grown, and the frames until then

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, image: np.ndarray, time: float | None = None) -> None:
        """Adds a frame, uint8 RGB [H, W, 3]; the first one sets the size, later ones are stretched to it.

        time: seconds since the start, for sources whose frames may come unevenly: the frame before it is shown until
        then, or it is left out, so that things happen in the video when they happened. Within a frame's length it is
        taken as it comes, so that an even source loses and doubles none. None: every frame comes once.
        """
        self._check_disk()
        writer = self._writer or self._open(max(image.shape[1], 2), max(image.shape[0], 2))
        if (image.shape[1], image.shape[0]) != self._size:
            image = cv2.resize(image, self._size)
        last, self._last = self._last, cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        early = 0.0 if time is None else (time - self._lost) * self.fps - self.frames
        if last is not None and early <= -1:
            return
        if last is not None and early >= 1:
            repeats = round(early)
            if (more := repeats - max(self._longest_gap * self.fps, 1)) > 0:
                more = round(more)
                repeats -= more
                self._lost += more / self.fps
            for _ in range(repeats):
                writer.write(last)
            self.frames += repeats
        writer.write(self._last)
        self.frames += 1

    def close(self) -> None:
        """Finishes the file; a second call does nothing. Raises MobileSSDError if what is there does not play."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        # OpenCV tells nobody that a write failed.
        broken = MobileSSDError(f"{self.path}: the recording could not be written whole (disk full?) and is lost")
        if not cv2.VideoCapture(os.fspath(self._temporary)).grab():
            self._files.__exit__(type(broken), broken, None)
            raise broken
        try:
            self._files.close()
        except OSError as error:
            raise MobileSSDError(f"{self.path}: the recording is lost: {error.strerror or error}") from None

    def _check_disk(self) -> None:
        now = clock.monotonic()
        if now - self._checked < CHECK_EVERY:
            return
        self._checked = now
        folder = next(folder for folder in self.path.absolute().parents if folder.exists())
        free = shutil.disk_usage(folder).free
        if free < self._reserve:
            self._stop(f"only {free / 1e6:.0f} MB are free on its disk")
        if self._writer is not None:
            size = self._temporary.stat().st_size
            if size > self._grown[0]:
                self._grown = size, now, self.frames
            elif now - self._grown[1] > SILENT and self.frames - self._grown[2] > SILENT_FRAMES:
                self._stop("nothing more reaches the disk")

    def _stop(self, why: str) -> None:
        frames = self.frames
        self.close()
        kept = f"the {frames} frames until then are kept" if frames else "nothing was recorded"
        raise RecordingStopped(f"{self.path}: recording stopped, {why}; {kept}")

    def _open(self, width: int, height: int) -> Any:
        temporary = self._files.enter_context(atomic_write(self.path, note((width, height), self.fps)))
        self._files.enter_context(locked(temporary, f"{temporary}: is being written"))  # see `leftovers`
        opened = open_encoder(temporary, self.fps, (width, height), self._quick)
        if opened is None:
            error = MobileSSDError(f"{self.path}: this OpenCV cannot write such a video: try a name that ends in .avi")
            self._files.__exit__(type(error), error, None)
            raise error
        self._writer, encoder = opened
        if encoder not in BROWSERS and self.path.suffix.lower() != ".avi":
            self.hint = "no H.264 encoder here, so players such as VLC show it, browsers do not: install ffmpeg"
        self._size, self._temporary = (width, height), temporary
        self._grown = 0, clock.monotonic(), 0
        return self._writer
