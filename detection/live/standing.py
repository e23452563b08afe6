"""When the network looks at a source of which it is known what moves, and which boxes stay while it does not.

A box stays where it was seen for as long as nothing moves there. Where something moves, the network decides. Every so many
seconds it looks all the same: what it then finds anew, or no more, is looked at again a few times before it is believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from detection.boxes.detections import Detections
from detection.boxes.geometry import iou_matrix
from detection.live.motion import Region

SAME = 0.5  # IoU of a box with the one that was there before
CONFIRMED = 3  # looks that have seen a box until it may stay without being seen
GIVEN_UP = 5  # looks in a row that have not seen it until it goes
MORE = 6  # looks at most at what has changed though nothing moved


@dataclass
class _Box:
    """A box of the last result. row: of it; seen: looks that have seen it; missed: looks in a row that have not."""

    row: int
    seen: int = 1
    missed: int = 0


class Standing:
    """The boxes of one source. every: seconds after which the network looks though nothing has moved. score: of boxes
    that count; weaker ones are those of the last look."""

    def __init__(self, every: float, score: float = 0.0) -> None:
        self._every, self._score = every, score
        self._last: Detections | None = None
        self._boxes: list[_Box] = []
        self._looked = -np.inf
        self._more = 0
        self._regions: list[Region] = []  # of frames since the last look

    def wants(self, moved: Sequence[Region], size: tuple[int, ...], time: float) -> bool:
        """Whether the network is to look at a frame of `size` (height, width). To be called for each frame, in order.

        moved: where something moves in it, `xyxy` in pixels; time: seconds of the source."""
        if self._last is None or self._last.image_size != tuple(size[:2]) or time < self._looked:
            self._last, self._boxes, self._more = None, [], MORE + 1
            return True
        self._regions += moved
        if time - self._looked >= self._every:
            self._more = MORE
            return True
        return bool(self._regions) or (self._more > 0 and any(b.missed or b.seen < CONFIRMED for b in self._boxes))

    def still(self) -> Detections:
        """The detections of a frame that the network does not look at."""
        assert self._last is not None
        return self._last

    def looked(self, found: Detections, time: float) -> Detections:
        """What the network has found in a frame -> that and what stays."""
        self._more = MORE if self._regions else self._more - 1
        before, boxes = self._last, self._boxes
        self._looked, regions = time, np.array(self._regions, np.float32).reshape(-1, 4)
        self._regions = []
        strong = np.flatnonzero(found.scores >= self._score)
        now = [_Box(int(row)) for row in strong]
        stays: list[_Box] = []
        if before is not None and boxes:
            rows = [box.row for box in boxes]
            overlap = iou_matrix(before.boxes[rows], found.boxes[strong])
            overlap *= before.class_ids[rows][:, None] == found.class_ids[strong][None]
            touched = _touched(before.boxes[rows], regions)
            for k, box in enumerate(boxes):
                match = int(overlap[k].argmax()) if len(strong) else -1
                if match >= 0 and overlap[k, match] >= SAME:
                    now[match].seen = max(now[match].seen, box.seen + 1)
                elif not touched[k] and box.seen >= CONFIRMED and box.missed + 1 < GIVEN_UP:
                    stays.append(_Box(box.row, box.seen, box.missed + 1))
        if stays and before is not None:
            found, now = _joined(found, before, now, stays)
        self._last, self._boxes = found, now
        return found


def _touched(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Which boxes [n, 4] have something of the regions [m, 4] in them: bool [n]."""
    if not len(regions):
        return np.zeros(len(boxes), bool)
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    return np.asarray((high > low).all(-1).any(-1))


def _joined(
    found: Detections, before: Detections, now: Sequence[_Box], stays: Sequence[_Box]
) -> tuple[Detections, list[_Box]]:
    """Found and what stays of before, best score first."""
    rows = [box.row for box in stays]
    scores = np.concatenate([found.scores, before.scores[rows]])
    order = np.argsort(-scores, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    joined = replace(
        found,
        boxes=np.concatenate([found.boxes, before.boxes[rows]])[order],
        scores=scores[order],
        class_ids=np.concatenate([found.class_ids, before.class_ids[rows]])[order],
    )
    moved = [replace(box, row=int(place[box.row])) for box in now]
    return joined, moved + [replace(b, row=int(place[len(found) + k])) for k, b in enumerate(stays)]
