"""The frames of a video file. Cameras and streams do not end, and are the business of `detection.live`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from detection.errors import BadImageError, shown
from detection.images.addresses import is_address

USUAL_FPS = 25.0  # of a video that does not say


@dataclass(frozen=True)
class Frame:
    """One frame of a video. index: 0, 1, ...; time: seconds since its start; image: uint8 RGB [H, W, 3]."""

    index: int
    time: float
    image: np.ndarray


class Video:
    """The frames of a video file, in order; also an animated GIF.

    fps: frames a second (25 where the file does not say). count: how many frames it says it has, 0 if unknown; only an
    estimate in many formats. Use it in a `with` block, or let the iteration come to its end. Rotation notes of phones
    are applied by OpenCV.

    Raises BadImageError, one line, if the file cannot be opened as a video; iterating raises it if not one frame
    comes out.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)
        if is_address(self.path):
            raise BadImageError(f"{self.path}: a video is not read from an address: save it first")
        if not os.path.isfile(self.path):
            raise BadImageError(f"{shown(self.path)}: no such file: check the path")
        if not os.path.getsize(self.path):
            raise BadImageError(f"{shown(self.path)}: is empty (0 bytes): fetch it again")
        self._begin(cv2.VideoCapture(self.path))

    def _begin(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        if not capture.isOpened():
            self._refuse()
        fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = float(fps) if math.isfinite(fps) and 0 < fps <= 1000 else USUAL_FPS
        self.count = int(count) if math.isfinite(count) and 0 < count < 1e9 else 0

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        index, time = 0, -1.0
        while True:
            ok, bgr = self._capture.read()
            if not ok:
                break
            said = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            # Some files say nothing, or start anew; time must never run backwards.
            time = said if math.isfinite(said) and said > time else max(index / self.fps, time)
            yield Frame(index, time, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
            index += 1
        self._capture.release()
        if not index:
            self._refuse()

    def _refuse(self) -> None:
        raise BadImageError(
            f"{shown(self.path)}: no frame can be read: broken, cut short, or of a codec that this OpenCV lacks; "
            "convert it to mp4"
        )
