"""How fast and how late: speed, delays of each stage, frames passed over. Standard library only."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any

from detection.live.pipeline import Result

STAGES = ("capture", "network", "post", "total")
WINDOW = 300  # results that the percentiles look back on
MEANING = {
    "capture": "from the camera until the network begins",
    "network": "resizing and the network itself",
    "post": "decoding and suppression of boxes",
    "total": "from the camera until shown, sent or recorded",
}


class Stats:
    """Speed and delays of one source over its last results. Written by one thread, read by any.

    results: how many were given out. dropped: frames of a live source passed over because a newer one had come.
    still: results that the network has not looked at, as nothing moved.
    seen: how many boxes of each class there were, in all frames together.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self.results = 0
        self.dropped = 0
        self.still = 0
        self.seen: Counter[str] = Counter()
        self.started = time.monotonic()
        self._lock = threading.Lock()
        self._ends: deque[float] = deque(maxlen=60)
        self._seconds = {stage: deque[float](maxlen=window) for stage in STAGES}
        self._index: int | None = None

    def add(self, result: Result, classes: Iterable[str] = (), live: bool = True) -> None:
        """To be called when the result has been shown, sent or recorded. classes: the name of each box that counts.
        live: a gap in the frames' numbers is frames passed over; in a file it is a damaged spot."""
        now = time.monotonic()
        timing, frame = result.timing, result.frame
        with self._lock:
            self.results += 1
            self.seen.update(classes)
            if self._index is not None and live:
                self.dropped += max(frame.index - self._index - 1, 0)
            self._index = frame.index
            self._ends.append(now)
            if not timing.looked:
                self.still += 1
                return
            for stage, seconds in zip(STAGES, (timing.waited, timing.network, timing.post, now - frame.arrived)):
                self._seconds[stage].append(seconds)

    @property
    def fps(self) -> float:
        """Results a second over the last ones; falls to 0 when none come any more."""
        with self._lock:
            ends = list(self._ends)
        if len(ends) < 2 or ends[-1] <= ends[0]:
            return 0.0
        rate = (len(ends) - 1) / (ends[-1] - ends[0])
        silent = time.monotonic() - ends[-1]
        return rate if silent * rate < 3 else (0.0 if silent > 3 else 1 / silent)

    def percentiles(self, stage: str) -> tuple[float, float]:
        """(p50, p95) of a stage, in seconds; zeros before the first result."""
        with self._lock:
            values = sorted(self._seconds[stage])
        return percentile(values, 0.5), percentile(values, 0.95)

    def stages(self) -> list[tuple[str, tuple[float, float]]]:
        """(stage, (p50, p95) in seconds) of each stage."""
        return [(stage, self.percentiles(stage)) for stage in STAGES]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, times in milliseconds: {fps, results, dropped, capture: [p50, p95], network: ..., ...}."""
        stages = {stage: [round(1000 * value, 1) for value in values] for stage, values in self.stages()}
        counts = {"results": self.results, "dropped": self.dropped, "still": self.still}
        return {"fps": round(self.fps, 1), **counts, **stages}

    def line(self) -> str:
        """`24.0 fps, delay 31 ms (p95 44)`, and the frames passed over, if there are any."""
        p50, p95 = self.percentiles("total")
        text = f"{self.fps:.1f} fps, delay {p50 * 1000:.0f} ms (p95 {p95 * 1000:.0f})"
        return f"{text}, {self.dropped} dropped" if self.dropped else text

    def table(self) -> list[str]:
        """A line for each stage: `network   p50 18.2 ms   p95 24.9 ms`."""
        return [f"{stage:<8} p50 {p50 * 1e3:6.1f} ms   p95 {p95 * 1e3:6.1f} ms" for stage, (p50, p95) in self.stages()]


def percentile(values: Sequence[float], part: float) -> float:
    """The value that `part` of the sorted values do not exceed (nearest rank); 0 of none."""
    return values[max(math.ceil(part * len(values)) - 1, 0)] if values else 0.0
