"""Numbers that stay with objects from frame to frame: ByteTrack of the package `trackers`, behind one method.

ByteTrack (Zhang et al., 2022, https://arxiv.org/abs/2110.06864) gives weak boxes a second chance to continue a track,
so the detector's score threshold should lie below the score at which boxes are shown. The package is imported where it is used.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from detection.boxes.detections import Detections
from detection.errors import need

MEMORY = 2.0  # seconds that an object may be out of sight and come back with its number
RATE = 30.0  # frames a second that the motion model reckons in; real times are given to it


class Tracker:
    """Tracks the objects of one source. One class never takes over the number of another.

    score: from which on a box may begin a track. Raises MissingPackageError if `trackers` is not installed.
    """

    def __init__(self, score: float) -> None:
        need_trackers()
        import trackers  # takes seconds: now, and not with the first frame  # noqa: F401

        self._score = score
        self._trackers: dict[int, Any] = {}
        self._numbers: dict[
            tuple[int, int], list[float]
        ] = {}  # (class, its tracker's number) -> [our number, last seen]
        self._next = 1
        self._time = -np.inf

    def update(self, detections: Detections, time: float) -> Detections:
        """The same detections with `track_ids`: 1, 2, ...; -1 for those that are not tracked, or not yet.

        time: seconds, of the frame; never less than the last one.
        """
        import supervision

        self._time = time = max(time, self._time + 1e-3)
        tracks = np.full(len(detections), -1, np.int64)
        for class_id in {*map(int, detections.class_ids), *self._trackers}:
            which = np.flatnonzero(detections.class_ids == class_id)
            tracker = self._trackers.get(class_id)
            if tracker is None:
                tracker = self._trackers[class_id] = self._new()
            given = supervision.Detections(
                xyxy=detections.boxes[which].astype(np.float64),
                confidence=detections.scores[which],
                data={"index": which},
            )
            found = tracker.update(given, timestamp=time)
            for index, local in zip(found.data.get("index", ()), found.tracker_id):
                if local >= 0:
                    tracks[index] = self._number(class_id, int(local), time)
            if not tracker.tracks and not len(which):
                del self._trackers[class_id]  # nothing left of this class
                self._numbers = {key: value for key, value in self._numbers.items() if key[0] != class_id}
        self._forget(time)
        return replace(detections, track_ids=tracks)

    def _number(self, class_id: int, local: int, time: float) -> int:
        entry = self._numbers.get((class_id, local))
        if entry is None:
            entry = self._numbers[class_id, local] = [self._next, time]
            self._next += 1
        entry[1] = time
        return int(entry[0])

    def _forget(self, time: float) -> None:
        if len(self._numbers) > 500:
            self._numbers = {key: value for key, value in self._numbers.items() if time - value[1] < 2 * MEMORY}

    def _new(self) -> Any:
        from trackers import ByteTrackTracker

        return ByteTrackTracker(
            lost_track_buffer=round(30 * MEMORY),
            frame_rate=RATE,
            track_activation_threshold=self._score,
            high_conf_det_threshold=self._score,
            minimum_consecutive_frames=2,
        )


def need_trackers() -> None:
    """Raises MissingPackageError, one line, where tracking is not installed."""
    need("tracking", "trackers", "supervision")
