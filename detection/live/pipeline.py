"""Frames in, frames with detections out, and how long that took. Standard library and the floors below."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from detection.core.detections import Detections
from detection.live.capture import Captured

Detect = Callable[[np.ndarray], Detections]


@dataclass(frozen=True)
class Result:
    """A frame and what was found in it. seconds: what the network and its pre- and post-processing took."""

    frame: Captured
    detections: Detections
    seconds: float


class Meter:
    """Speed and delay over the last `window` results.

    fps: results a second. delay: seconds from a frame's arrival to now, the median; delay_p95: 95 of 100 were faster.
    """

    def __init__(self, window: int = 60) -> None:
        self.count = 0
        self.started = time.monotonic()
        self._ends: deque[float] = deque(maxlen=window)
        self._delays: deque[float] = deque(maxlen=window)

    def add(self, frame: Captured) -> None:
        """To be called when `frame` has been shown, recorded or printed."""
        now = time.monotonic()
        self.count += 1
        self._ends.append(now)
        self._delays.append(now - frame.arrived)

    @property
    def fps(self) -> float:
        if len(self._ends) < 2 or self._ends[-1] == self._ends[0]:
            return 0.0
        return (len(self._ends) - 1) / (self._ends[-1] - self._ends[0])

    @property
    def delay(self) -> float:
        return statistics.median(self._delays) if self._delays else 0.0

    @property
    def delay_p95(self) -> float:
        return sorted(self._delays)[int(0.95 * (len(self._delays) - 1))] if self._delays else 0.0


def detect_frames(frames: Iterable[Captured], detect: Detect) -> Iterator[Result]:
    """Runs `detect` on each frame, in order, one at a time. The frames' own thread reads on meanwhile."""
    for frame in frames:
        begin = time.perf_counter()
        detections = detect(frame.image)
        yield Result(frame, detections, time.perf_counter() - begin)


def paced(results: Iterable[Result], sleep: Callable[[float], None] = time.sleep) -> Iterator[Result]:
    """Holds each result back until its time in the video has come, so that a file plays at its own speed.

    Where detection is slower than the video, it plays slower, and does not hurry afterwards.
    """
    start: float | None = None
    for result in results:
        now = time.monotonic()
        start = now - result.frame.time if start is None else start
        wait = start + result.frame.time - now
        if wait > 0:
            sleep(wait)
            frame = replace(result.frame, arrived=result.frame.arrived + wait)  # held back on purpose is no delay
            yield replace(result, frame=frame)
        else:
            start -= wait
            yield result
