"""Numbers that stay with objects from frame to frame: ByteTrack, with a motion model that knows real times.

ByteTrack (Zhang et al., 2022, https://arxiv.org/abs/2110.06864) gives weak boxes a second chance to continue a track,
so the detector's score threshold should lie below the score at which boxes are shown. Each edge of a box moves with its own
speed (a Kalman filter of constant velocity); tracks and boxes are matched by overlap, best in sum.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from detection.boxes.detections import Detections
from detection.boxes.geometry import iou_matrix
from detection.errors import need

MEMORY = 2.0  # seconds that an object may be out of sight and come back with its number
RATE = 30.0  # frames a second that the noise below is given for
LEAST_OVERLAP = 0.1  # IoU of a box with where its track is expected
CONFIRMED = 2  # frames in a row until a track has a number
MEASURED, DRIFT = (
    0.1,
    0.01,
)  # variances, in square pixels: of a box's edge as detected, and of its motion within a frame
JITTER = 0.004 * RATE  # frames that a camera may be early or late and still keep its rate


@dataclass
class _Track:
    """An object. edges: x1, y1, x2, y2 [4] as expected now; speed: theirs [4], pixels a frame; a, b, c: the covariance
    [[a, b], [b, c]] of an edge and its speed, the same for all four; number: 0 until it is confirmed; unseen: seconds."""

    edges: np.ndarray
    speed: np.ndarray = field(default_factory=lambda: np.zeros(4))
    a: float = 1.0
    b: float = 0.0
    c: float = 1.0
    number: int = 0
    in_a_row: int = 1
    unseen: float = 0.0
    missed: bool = False

    def predict(self, step: float) -> None:
        """Moves it on by `step` frames."""
        self.edges = self.edges + step * self.speed
        self.a += step * (2 * self.b + step * self.c)
        self.b += step * self.c
        if abs(step - 1) <= JITTER:
            self.a += DRIFT
            self.c += DRIFT
        else:  # accelerations that are not known, over a longer or shorter while
            self.a += DRIFT * step**4 / 4
            self.b += DRIFT * step**3 / 2
            self.c += DRIFT * step**2
        self.unseen += step / RATE
        self.in_a_row = 0 if self.missed else self.in_a_row
        self.missed = True

    def see(self, box: np.ndarray) -> None:
        """Corrects it by the box [4] that it was found in."""
        surprise = box - self.edges
        for_edge, for_speed = self.a / (self.a + MEASURED), self.b / (self.a + MEASURED)
        self.edges = self.edges + for_edge * surprise
        self.speed = self.speed + for_speed * surprise
        self.c -= for_speed * self.b
        self.b *= 1 - for_edge
        self.a *= 1 - for_edge
        self.in_a_row += 1
        self.unseen, self.missed = 0.0, False


class Tracker:
    """Tracks the objects of one source. One class never takes over the number of another.

    score: from which on a box may begin a track. Raises MissingPackageError if scipy is not installed.
    """

    def __init__(self, score: float) -> None:
        need_trackers()
        import scipy.optimize  # takes a moment: now, and not with the first frame  # noqa: F401

        self._score = score
        self._tracks: dict[int, list[_Track]] = {}  # by class
        self._next = 1
        self._time = -np.inf

    def update(self, detections: Detections, time: float) -> Detections:
        """The same detections with `track_ids`: 1, 2, ...; -1 for those that are not tracked, or not yet.

        time: seconds, of the frame; never less than the last one.
        """
        time = max(time, self._time + 1e-3)
        step = RATE * (time - self._time) if np.isfinite(self._time) else 1.0
        self._time = time
        numbers = np.full(len(detections), -1, np.int64)
        for class_id in {*map(int, detections.class_ids), *self._tracks}:
            which = np.flatnonzero(detections.class_ids == class_id)
            boxes = detections.boxes[which].astype(np.float64)
            numbers[which] = self._update(class_id, boxes, detections.scores[which], step)
        return replace(detections, track_ids=numbers)

    def _update(self, class_id: int, boxes: np.ndarray, scores: np.ndarray, step: float) -> np.ndarray:
        """The numbers [n] of a class's boxes [n, 4]."""
        tracks = self._tracks.get(class_id, [])
        for track in tracks:
            track.predict(step)
        tracks = [track for track in tracks if track.unseen <= MEMORY]
        numbers = np.full(len(boxes), -1, np.int64)
        strong, weak = np.flatnonzero(scores >= self._score), np.flatnonzero(scores < self._score)
        free, begin = tracks, strong
        for some in (strong, weak):
            pairs = _matched(free, boxes[some])
            for row, column in pairs:
                free[row].see(boxes[some[column]])
                numbers[some[column]] = self._number(free[row])
            free = [track for row, track in enumerate(free) if row not in {row for row, _ in pairs}]
            if some is strong:
                begin = np.delete(strong, [column for _, column in pairs])
        # One that was seen but once is forgotten when it is missed.
        tracks = [track for track in tracks if track.number or not track.missed]
        tracks += [_Track(boxes[index]) for index in begin]
        if tracks:
            self._tracks[class_id] = tracks
        else:
            self._tracks.pop(class_id, None)
        return numbers

    def _number(self, track: _Track) -> int:
        if not track.number and track.in_a_row >= CONFIRMED:
            track.number, self._next = self._next, self._next + 1
        return track.number or -1


def _matched(tracks: list[_Track], boxes: np.ndarray) -> list[tuple[int, int]]:
    """(track, box) of those that belong together: the greatest sum of overlaps, none of them below LEAST_OVERLAP."""
    from scipy.optimize import linear_sum_assignment

    if not tracks or not len(boxes):
        return []
    overlap = iou_matrix(np.array([track.edges for track in tracks]), boxes)
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return [(int(row), int(col)) for row, col in zip(rows, columns) if overlap[row, col] >= LEAST_OVERLAP]


def need_trackers() -> None:
    """Raises MissingPackageError, one line, where tracking is not installed."""
    need("tracking", "scipy", extra="track")
