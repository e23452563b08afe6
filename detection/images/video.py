"""The frames of a video file. Cameras and streams do not end, and are the business of `detection.live`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from detection.errors import BadImageError, shown
from detection.images.addresses import HTTP, is_address
from detection.images.container import counts_frames, cut_short
from detection.images.decode import check_pixels
from detection.images.frame_times import FEWEST_TRIES, FrameTimes

USUAL_FPS = 25.0  # of a video that does not say
UNEVEN = 0.1  # seconds that a frame may lie off an even row before it counts as uneven
FASTEST = 60.0  # frames a second of an even video made from an uneven one
TIMEOUT_MS = 20_000  # without a byte from a web server
MOST_PACKETS = 2_000_000  # whose times are looked at: 18 hours at 30 a second


@dataclass(frozen=True)
class Frame:
    """One frame of a video. index: 0, 1, ...; time: seconds since its start; image: uint8 RGB [H, W, 3]."""

    index: int
    time: float
    image: np.ndarray


class Video:
    """The frames of a video file, in order, or of one at a web address; also an animated GIF.

    fps: frames a second (25 where the file does not say). count: how many frames it says it has, 0 if unknown; only an
    estimate in many formats. problem: after the iteration, what is missing, "15 of 60 frames can be read, it is cut short";
    broken: whether that is certain. Behind a damaged spot reading goes on, and frames keep their numbers. Use it in a
    `with` block, or let the iteration come to its end. Rotation notes of phones are applied by OpenCV.

    Raises BadImageError, one line, if the file cannot be opened as a video; iterating raises it if not one frame
    comes out.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)
        self.problem, self.broken = "", False
        self._web = self.path.startswith(HTTP)
        if self._web:
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
            self._capture = cv2.VideoCapture(self.path, cv2.CAP_FFMPEG, limits)
        else:
            self._check_file()
            self._capture = cv2.VideoCapture(self.path)
        if not self._capture.isOpened():
            self._refuse()
        check_pixels(*frame_size(self._capture), self.path)
        self.fps, self.count = rate_and_count(self._capture)
        if self.path.lower().endswith(".gif"):
            self.count = 0  # what FFmpeg has counted, and not what the file says

    def _check_file(self) -> None:
        if is_address(self.path):
            raise BadImageError(f"{shown(self.path)}: a video is not read from an address but http: save it first")
        if not os.path.isfile(self.path):
            raise BadImageError(f"{shown(self.path)}: no such file: check the path")
        if not os.path.getsize(self.path):
            raise BadImageError(f"{shown(self.path)}: is empty (0 bytes): fetch it again")

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        times = FrameTimes(self.fps, self.count, self.times)  # which fetches what lies in the web once more, at a gap
        for bgr, index, time in read_frames(self._capture, times):
            yield Frame(index, time, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
        self._capture.release()
        if not times.frames:
            self._refuse()
        container = (None, False) if self._web else (cut_short(self.path), counts_frames(self.path))
        self.problem, self.broken = times.problem(*container)

    def times(self) -> list[float]:
        """The times of its frames in seconds, sorted, as its packets say without being decoded (some microseconds each);
        empty where they say nothing."""
        packets = cv2.VideoCapture(self.path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
        found: list[float] = []
        failed = 0
        while packets.isOpened() and failed < FEWEST_TRIES and len(found) < MOST_PACKETS:
            if packets.grab():
                found.append(packets.get(cv2.CAP_PROP_POS_MSEC) / 1000)
                failed = 0
            else:
                failed += 1
        packets.release()
        return sorted(found) if len(set(found)) > len(found) / 2 else []

    def even_rate(self) -> float:
        """Frames a second of a video with even intervals in which every frame of this one finds its place in time: `fps`
        where the frames come evenly; where they do not, the rate at which they come when they come fast."""
        times = np.array(self.times())
        if len(times) < 3:
            return self.fps
        times -= times[0]
        numbers = np.arange(len(times))
        late = times - numbers * (times[-1] / numbers[-1])
        if np.abs(late).max() <= max(UNEVEN, 1.5 / self.fps):
            return self.fps
        steps = np.diff(times)
        return float(np.clip(1 / np.percentile(steps[steps > 1e-4], 10), self.fps, FASTEST))

    def _refuse(self) -> None:
        if self._web:
            raise BadImageError(f"{shown(self.path)}: no frame can be read: check the address, or save the video first")
        raise BadImageError(
            f"{shown(self.path)}: no frame can be read: broken, cut short, or of a codec that this OpenCV lacks; "
            "convert it to mp4"
        )


def frame_size(capture: cv2.VideoCapture) -> tuple[float, float]:
    """(width, height) of an opened source's frames, as it says."""
    return capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)


def rate_and_count(capture: cv2.VideoCapture) -> tuple[float, int]:
    """(frames a second, number of frames) as an opened file says; 25 and 0 where it says nothing."""
    fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return (
        float(fps) if math.isfinite(fps) and 0 < fps <= 1000 else USUAL_FPS,
        int(count) if math.isfinite(count) and 0 < count < 1e9 else 0,
    )


def read_frames(capture: cv2.VideoCapture, times: FrameTimes) -> Iterator[tuple[np.ndarray, int, float]]:
    """(BGR pixels, number, seconds) of each frame that can be read, also behind damaged spots."""
    while True:
        ok, bgr = capture.read()
        if ok:
            if (place := times.next(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)) is not None:
                yield bgr, *place
        elif not times.again():
            return
