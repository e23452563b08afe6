"""Numbers and times of the frames of a video that is being decoded, also where it is damaged; and what it lost.

Decoders skip what they cannot read. Counting what comes out would then give every frame behind the damage the number of
another one, so a frame behind a gap gets its number from its time.
"""

from __future__ import annotations

import math
import time as clock
from bisect import bisect_left
from collections.abc import Callable, Sequence

import numpy as np

MOST_TRIES = (
    20_000  # that a decoder is asked again at the end, at 1 to 100 microseconds each; files end with a failure, too
)
FEWEST_TRIES = 200
PATIENCE = 30.0  # seconds of that: a web server that does not answer takes its time each time
EVEN = 0.95  # of a video's intervals are alike: frames between others are missing, where they are not
STRAGGLERS = 50  # frames behind a damaged spot among which earlier ones may still come
REORDERED = 16  # of them at most, as H.264 and HEVC reorder no more; behind that, a clock begins anew
WRAPPED = 1.0  # seconds back: a clock that begins anew, as of two recordings in one file
LONGEST_JUMP = 60.0  # seconds forward, in a video that is shorter: a clock that is broken


class FrameTimes:
    """fps and count: as the file says; count is 0 if unknown. known: gives the times of all its frames in seconds, sorted,
    as far as they can be told without decoding; asked for at the first gap.

    frames: how many were read. last: the number of the last one. tries: how often reading failed and went on.
    """

    def __init__(self, fps: float, count: int, known: Callable[[], Sequence[float]] = lambda: ()) -> None:
        self.fps, self.count = fps, count
        self.frames = self.failures = 0
        self.last, self.time = -1, -math.inf
        self._known = known
        self._times: np.ndarray | None = None
        self._shift = 0.0
        self._failed = 0  # times in a row
        self._since = 0.0
        self._even = 0  # intervals
        self._torn = -STRAGGLERS  # the frame behind the last gap
        self._late = 0  # frames in a row that came too late

    def next(self, said: float) -> tuple[int, float] | None:
        """(number, seconds) of a frame that was read; said: its time by its file, in seconds. Numbers and times only
        rise: None for a frame that a decoder gives out late, behind the frames that follow a damaged spot."""
        step, before = 1 / self.fps, self.time
        failed, self._failed = self._failed > 0, 0
        if self.frames - self._torn < STRAGGLERS and said + self._shift < before - step / 2 and self._late < REORDERED:
            self._late += 1
            return None
        self._late = 0
        self.time = self._plausible(said, step)
        number = self.last + 1
        if failed or (self.frames and self.time - before > 1.5 * step):
            self.failures += failed
            self._torn = self.frames
            number = max(number, self._number(number))
        self._even += bool(self.frames) and abs(self.time - before - step) < step / 4
        self.frames += 1
        self.last = number
        return number, self.time

    def again(self) -> bool:
        """After a failure to read: whether to try again. A file's end is one, too."""
        self._failed += 1
        if self._failed == 1:
            self._since = clock.monotonic()
        if clock.monotonic() - self._since > PATIENCE:
            return False
        return self._failed <= min(max(self.count - self.frames, FEWEST_TRIES), MOST_TRIES)

    def problem(self, cut: bool | None, counted: bool) -> tuple[str, bool]:
        """After the end: what is missing, with both numbers, and whether that is certain; "" if nothing is.

        cut, counted: see `detection.images.container`. Where neither is known, a video that is much shorter than it says
        counts as cut; where it is known, sound may be longer than the images. Missing frames in a file that can be read
        are a gap in its times: damage, or a pause of who recorded it.
        """
        total = max(self.count, self.last + 1)
        lost = self.last + 1 - self.frames
        short = self.count / self.fps - self.time - 1 / self.fps
        numbers = f"{self.frames} of {total} frames can be read"
        if cut and self.frames < self.count:
            return f"{numbers}, it is cut short", True
        if cut and not self.count:
            return f"{self.frames} frames can be read, it is cut short", True
        if self.failures and self.frames < total and (lost or self.last + 1 < self.count):
            return f"{numbers}, it is damaged", True
        if counted and self.last + 2 < self.count:
            return f"{numbers}, it is damaged", True
        much = short > max(2 / self.fps, min(1.0, 0.05 * self.count / self.fps))
        if cut is None and much:
            return f"{numbers}, it is cut short or damaged", True
        if lost:
            return f"{self.frames} of about {self.last + 1} frames can be read, its times have a gap", False
        if much and 0 < len(self._packets()) < self.count - 1:  # a trimmed MP4 has more packets than frames
            return f"{self.frames} of about {total} frames can be read, its end is damaged or its sound goes on", False
        return "", True

    def _packets(self) -> np.ndarray:
        if self._times is None:
            self._times = np.asarray(self._known(), np.float64)
        return self._times

    def _plausible(self, said: float, step: float) -> float:
        """The time of the frame at hand: what its file says, without jumps of a broken clock."""
        if not self.frames:
            return max(said, 0.0) if math.isfinite(said) else 0.0
        if not math.isfinite(said):
            return self.time + step
        forward = said + self._shift - self.time
        if forward < -WRAPPED or forward > max(LONGEST_JUMP, self.count / self.fps):
            self._shift += step - forward
        return max(said + self._shift, self.time) if forward > 0 else self.time + step

    def _number(self, following: int) -> int:
        """The number of the frame at hand by its time; `following` where that does not tell."""
        times = self._packets()
        by_time = round(self.time * self.fps)
        if not len(times):
            return by_time if self._even >= EVEN * (self.frames - 1) else following
        complete = 0 < self.count <= len(times) + 1
        if not complete and np.mean(np.abs(np.diff(times) * self.fps - 1) < 0.25) >= EVEN:
            return by_time
        at = bisect_left(times, self.time - 0.002)
        found = at < len(times) and abs(times[at] - self.time) < 0.002
        return at if found else following
