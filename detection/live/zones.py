"""Lines that tracked objects cross and zones that they enter: reading them, and counting. numpy and OpenCV.

What counts of an object is the middle of its box's lower edge: where it stands. It has crossed when it has been clearly
on one side and then is clearly on the other, so that a box that trembles on the line is counted once or not at all.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from detection.boxes.detections import Detections
from detection.errors import MobileSSDError

MARGIN = 0.01  # of the image's diagonal: nearer than this to a line is neither side
FORGET = 10.0  # seconds after which a track that was not seen is forgotten

Point = tuple[float, float]


@dataclass(frozen=True)
class GateSpec:
    """kind: "line" or "zone". points: of the line or polygon, in pixels, or in fractions of the image if none is
    above 1. source: the name of the source that it is for; empty: every one."""

    kind: str
    name: str
    points: tuple[Point, ...]
    source: str = ""


@dataclass(frozen=True)
class Passage:
    """what: "in" or "out" over a line; "entered" or "left" a zone. index: which of the detections."""

    gate: Gate
    what: str
    index: int


def parse_gate(kind: str, text: str, number: int, sources: Sequence[str]) -> GateSpec:
    """`[SOURCE/][NAME=]x1,y1,x2,y2` for a line, three points or more for a zone. Raises MobileSSDError."""
    match = re.fullmatch(r"(?:(.+)/)?(?:([^=/]+)=)?([-+0-9., eE]+)", text.strip())
    example = "0.5,0,0.5,1" if kind == "line" else "0,0,0.5,0,0.5,1,0,1"
    try:
        if not match:
            raise ValueError
        values = [float(word) for word in match[3].split(",")]
        if (
            len(values) % 2
            or not all(map(math.isfinite, values))
            or (len(values) != 4 if kind == "line" else len(values) < 6)
        ):
            raise ValueError
    except ValueError:
        wanted = "two points" if kind == "line" else "three points or more"
        raise MobileSSDError(
            f"--{kind} {text!r} does not name {wanted}: write --{kind} {example}, in pixels or fractions of the image"
        ) from None
    source = match[1] or ""
    if source and source not in sources:
        raise MobileSSDError(f"--{kind} {text!r}: there is no source {source!r}, only {', '.join(sources)}")
    points = tuple(zip(values[::2], values[1::2]))
    if kind == "line" and points[0] == points[1]:
        raise MobileSSDError(f"--{kind} {text!r} begins where it ends")
    return GateSpec(kind, match[2] or f"{kind} {number}", points, source)


class Gate:
    """A line or zone at work on one source. totals: how many passed, by Passage.what; by_class: the same, by (what,
    class name). inside: how many are in a zone now."""

    def __init__(self, spec: GateSpec) -> None:
        self.spec, self.name, self.kind = spec, spec.name, spec.kind
        self.points = np.zeros((0, 2))
        self.totals: Counter[str] = Counter()
        self.by_class: Counter[tuple[str, str]] = Counter()
        self.inside = 0
        self._size = (0, 0)
        self._margin = 0.0
        self._tracks: dict[int, _Place] = {}

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

    def to_dict(self) -> dict[str, Any]:
        """What the page draws and lists."""
        points = [[round(float(value), 1) for value in point] for point in self.points]
        text = f"{self.name}: {self.counts}"
        return {"kind": self.kind, "name": self.name, "points": points, "text": text, "counts": self.counts}

    def _fit(self, size: tuple[int, int]) -> None:
        if size == self._size:
            return
        self._size, self._tracks = size, {}
        height, width = size
        points = np.array(self.spec.points, np.float64)
        self.points = points * (width, height) if points.max() <= 1 else points
        self._margin = MARGIN * math.hypot(height, width)

    def _move(self, track: int, point: Point, time: float) -> str:
        side = self._side(point)
        place = self._tracks.get(track)
        if place is None:
            # Who is first seen within the margin has no side yet; who is first seen in a zone has entered unseen.
            self._tracks[track] = _Place(side, point, time)
            return "entered" if side > 0 and self.kind == "zone" else ""
        before, last = place.side, place.point
        place.seen = time
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
    seen: float = field(default=0.0)


def _crosses(a: Point, b: Point, c: Sequence[float], d: Sequence[float]) -> bool:
    """Whether the way from a to b meets the segment from c to d."""

    def turn(p: Sequence[float], q: Sequence[float], r: Sequence[float]) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return turn(c, d, a) * turn(c, d, b) <= 0 and turn(a, b, c) * turn(a, b, d) <= 0
