"""Lines that tracked objects cross and zones that they enter: counting. numpy and OpenCV.

What counts of an object is the middle of its box's lower edge: where it stands. It has crossed when it has been clearly
on one side and then is clearly on the other, so that a box that trembles on the line is counted once or not at all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from detection.boxes.detections import Detections
from detection.live.gate_spec import GateSpec, Point

MARGIN = 0.01  # of the image's diagonal: nearer than this to a line is neither side
FORGET = 10.0  # seconds after which a track that was not seen is forgotten


@dataclass(frozen=True)
class Passage:
    """what: "in" or "out" over a line; "entered" or "left" a zone. index: which of the detections."""

    gate: Gate
    what: str
    index: int


class Gate:
    """A line or zone at work on one source. totals: how many passed, by Passage.what; by_class: the same, by (what,
    class name). inside: how many are in a zone now. number, version: of gate_book.Numbered, for the page.

    `spec` may be another one at any time, from any thread: what was counted stays.
    """

    def __init__(self, spec: GateSpec, number: int = 0, version: int = 1) -> None:
        self.spec, self.number, self.version = spec, number, version
        self.points = np.zeros((0, 2))
        self.totals: Counter[str] = Counter()
        self.by_class: Counter[tuple[str, str]] = Counter()
        self.inside = 0
        self._size = (0, 0)
        self._fitted: GateSpec | None = None
        self._margin = 0.0
        self._tracks: dict[int, _Place] = {}

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def kind(self) -> str:
        return self.spec.kind

    def update(self, detections: Detections, time: float) -> list[Passage]:
        """What has passed with this frame; detections with track_ids, time in seconds."""
        self._fit(detections.image_size)
        passages = []
        tracks = detections.track_ids if detections.track_ids is not None else np.full(len(detections), -1)
        for index in np.flatnonzero(tracks >= 0):
            x1, _, x2, y2 = (float(value) for value in detections.boxes[index])
            what = self._move(int(tracks[index]), ((x1 + x2) / 2, y2), time)
            if what:
                self.totals[what] += 1
                self.by_class[what, detections.names[index]] += 1
                passages.append(Passage(self, what, int(index)))
        self._tracks = {track: place for track, place in self._tracks.items() if time - place.seen < FORGET}
        self.inside = sum(place.side > 0 and time - place.seen < 1 for place in self._tracks.values())
        return passages

    @property
    def counts(self) -> str:
        """`3 in, 1 out`; `2 inside, 5 entered`."""
        if self.kind == "line":
            return f"{self.totals['in']} in, {self.totals['out']} out"
        return f"{self.inside} inside, {self.totals['entered']} entered"

    def to_dict(self, size: tuple[int, int]) -> dict[str, Any]:
        """What the page draws and lists, for an image of `size` (height, width)."""
        spec = self.spec
        return {
            "id": self.number,
            "version": self.version,
            "kind": spec.kind,
            "name": spec.name,
            "every": not spec.source,
            "points": [[round(x, 1), round(y, 1)] for x, y in spec.pixels(size)],
            "counts": self.counts,
        }

    def forget_tracks(self) -> None:
        """To be called where the numbers of tracks begin anew, or some frames were not looked at."""
        self._tracks = {}

    def _fit(self, size: tuple[int, int]) -> None:
        spec = self.spec
        if size == self._size and spec is self._fitted:
            return
        self.points = np.array(spec.pixels(size), np.float64)
        self._margin = MARGIN * math.hypot(*size)
        if size != self._size:
            self._tracks = {}
        elif self._fitted is not None and spec.points != self._fitted.points:
            # It has moved, not they: who is on its other side now has not passed.
            for place in self._tracks.values():
                place.side = self._side(place.now)
                place.point = place.now
        self._size, self._fitted = size, spec

    def _move(self, track: int, point: Point, time: float) -> str:
        side = self._side(point)
        place = self._tracks.get(track)
        if place is None:
            # Who is first seen within the margin has no side yet; who is first seen in a zone has entered unseen.
            self._tracks[track] = _Place(side, point, time, point)
            return "entered" if side > 0 and self.kind == "zone" else ""
        before, last = place.side, place.point
        place.seen, place.now = time, point
        if side == 0:
            return ""
        place.side, place.point = side, point
        if before in (0, side):
            return "entered" if before == 0 and side > 0 and self.kind == "zone" else ""
        if self.kind == "zone":
            return "entered" if side > 0 else "left"
        if not _crosses(last, point, self.points[0], self.points[1]):
            return ""  # around the line's end
        return "in" if side > 0 else "out"

    def _side(self, point: Point) -> int:
        """1: right of the line as one looks along it, or in the zone; -1: the other side; 0: too near to tell."""
        if self.kind == "zone":
            distance = cv2.pointPolygonTest(self.points.astype(np.float32), point, True)
        else:
            (x1, y1), (x2, y2) = self.points
            distance = ((x2 - x1) * (point[1] - y1) - (y2 - y1) * (point[0] - x1)) / math.hypot(x2 - x1, y2 - y1)
        return 0 if abs(distance) < self._margin else 1 if distance > 0 else -1


@dataclass
class _Place:
    side: int
    point: Point  # where it was last clearly on that side
    seen: float
    now: Point  # where it was last


def _crosses(a: Point, b: Point, c: Sequence[float], d: Sequence[float]) -> bool:
    """Whether the way from a to b meets the segment from c to d."""

    def turn(p: Sequence[float], q: Sequence[float], r: Sequence[float]) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return turn(c, d, a) * turn(c, d, b) <= 0 and turn(a, b, c) * turn(a, b, d) <= 0
