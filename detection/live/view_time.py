"""Views of moving images: as many of each frame as its time allows, or one tile a frame in turn.

Both are functions as `pipeline.timed` makes them: uint8 RGB image -> (detections, seconds of the network, of the rest).
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from detection.boxes.detections import Detections
from detection.errors import MobileSSDError
from detection.live.pipeline import Detect, timed
from detection.views import TURN, parse

SHARE = 0.8  # of a frame's time that the network may take: the rest is for decoding, drawing, sending
LATE = 0.95  # share from which on there are too many views
WINDOW = 45  # frames whose median is looked at
PAUSE = 600  # frames until views that proved too many are tried again
# Sides of the further scales, as multiples of the network's own: what gains most AP for its time (docs/detect.md).
SCALES = ((), (1.427,), (1.707,), (1.427, 2.0))
GRIDS = ("1", "1+2x2", "1+3x3")  # for a file of one input size


@dataclass(frozen=True)
class Choice:
    """text: as for `--views`. cost: passes of the network's own size."""

    text: str
    cost: float


def choices(detector: Any) -> list[Choice]:
    """What `auto` chooses from, the cheapest first: scales, or grids of tiles for weights that have one input size."""
    height, width = detector.input_size
    if height == width:
        sizes = [[height, *(round(scale * height / 4) * 4 for scale in scales)] for scales in SCALES]
        found = [Choice(",".join(map(str, some)), sum(one**2 for one in some) / height**2) for some in sizes]
        try:
            detector.with_views(found[1].text)
            return [Choice("1", 1.0), *found[1:]]
        except MobileSSDError:
            pass
    return [Choice(text, float(len(parse(text).views((1000, 1000), (height, width))))) for text in GRIDS]


class AutoViews:
    """Chooses the views by the time that a frame has, says so in one line, and chooses anew when they take longer or leave
    more time than they did. rate: frames a second of all sources together."""

    def __init__(self, detector: Any, rate: Callable[[], float], say: Callable[[str], object]) -> None:
        self._detector, self._rate, self._say = detector, rate, say
        self._choices = choices(detector)
        self._now = 0
        self._detect: Detect | None = None
        self._spans: deque[float] = deque(maxlen=WINDOW)
        self._frames = 0
        self._barred: dict[int, int] = {}  # choice -> the frame from which on it may be tried again

    def __call__(self, image: np.ndarray) -> tuple[Detections, float, float]:
        if self._detect is None:
            self._begin(image)
        assert self._detect is not None
        found, network, post = self._detect(image)
        self._spans.append(network + post)
        self._frames += 1
        if len(self._spans) == WINDOW:
            self._reconsider()
        return found, network, post

    @property
    def views(self) -> str:
        """Those of now, as for `--views`."""
        return self._choices[self._now].text

    def _begin(self, image: np.ndarray) -> None:
        """Measures one pass, opens what should fit, and measures that too."""
        self._take(0)
        once = self._measure(image)
        budget = SHARE / self._rate()
        took, chosen = once, 0
        for k in range(len(self._choices) - 1, 0, -1):
            if once * self._choices[k].cost <= budget:
                self._take(k)
                took, chosen = self._measure(image), k
                if took <= budget:
                    break
                self._take(0)
                took, chosen = once, 0
        self._tell(took, f"one pass takes {once * 1e3:.1f} ms" if chosen else "")

    def _measure(self, image: np.ndarray) -> float:
        assert self._detect is not None
        spans = []
        for _ in range(5):  # the first ones are slower
            begin = time.perf_counter()
            self._detect(image)
            spans.append(time.perf_counter() - begin)
        return statistics.median(spans[1:])

    def _reconsider(self) -> None:
        took, whole = statistics.median(self._spans), 1 / self._rate()
        cost = self._choices[self._now].cost
        self._spans.clear()
        if took > LATE * whole and self._now:
            self._barred[self._now] = self._frames + PAUSE
            self._take(self._now - 1)
            self._tell(took, "they took too long")
        elif self._now + 1 < len(self._choices) and self._barred.get(self._now + 1, 0) <= self._frames:
            expected = took * self._choices[self._now + 1].cost / cost
            if expected < SHARE * whole:
                self._take(self._now + 1)
                self._tell(expected, "there is time for more")

    def _take(self, k: int) -> None:
        self._now = k
        self._detect = timed(self._detector.with_views(self._choices[k].text))

    def _tell(self, took: float, why: str) -> None:
        words = f"views {self.views}: {took * 1e3:.0f} of the {1e3 / self._rate():.0f} ms that a frame has"
        self._say(f"{words} ({why})" if why else words)


class Room:
    """Detects as it is told, and says once for how many views there would be time."""

    def __init__(self, detect: Detect, rate: Callable[[], float], say: Callable[[str], object]) -> None:
        self._detect, self._rate, self._say = detect, rate, say
        self._spans: list[float] | None = []

    def __call__(self, image: np.ndarray) -> tuple[Detections, float, float]:
        found, network, post = self._detect(image)
        if self._spans is not None:
            self._spans.append(network + post)
            if len(self._spans) == WINDOW:
                took, self._spans = statistics.median(self._spans), None
                if (views := int(SHARE / self._rate() / max(took, 1e-6))) >= 3:
                    self._say(
                        f"there is time for {views} views of each frame: --views auto takes it for smaller objects"
                    )
        return found, network, post


class InTurn:
    """The whole image in each frame, and one of the tiles in turn. What a tile showed counts until its next turn, so there
    is one of these for each source."""

    def __init__(self, detector: Any, text: str) -> None:
        self._detector = detector.with_views(text)
        if not any(term.kind == "tiles" for term in parse(text).terms):
            raise MobileSSDError(f"views {TURN}{text}: there are no tiles that could take turns; as in {TURN}2x2")
        self._size: tuple[int, ...] = ()
        self._last: dict[int, Any] = {}
        self._turn = 0

    def __call__(self, image: np.ndarray) -> tuple[Detections, float, float]:
        begin = time.perf_counter()
        if image.shape[:2] != self._size:
            self._size, self._last, self._turn = image.shape[:2], {}, 0
        height, width = self._size
        views = self._detector.plan.views((height, width), self._detector.input_size)
        whole = [view for view in views if view.region == (0, 0, width, height)]
        tiles = [view for view in views if view not in whole]
        now = [*whole, *(tiles[self._turn : self._turn + 1])]
        (raw,) = self._detector.compute([[(view, view.pixels(image)[None]) for view in now]])
        middle = time.perf_counter()
        if tiles:
            self._last[self._turn] = next(one for one in raw if one[0] not in whole)
            self._turn = (self._turn + 1) % len(tiles)
        looked = [*(one for one in raw if one[0] in whole), *self._last.values()]
        return self._detector.conclude(looked, self._size), middle - begin, time.perf_counter() - middle
