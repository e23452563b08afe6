"""Writing pseudo-labels: a stronger detector looks at images plain, mirrored and zoomed, and writes what it sees.

The outcome is COCO ground truth whose boxes carry a `score`; `detection.data.pseudo_labels.add_pseudo_labels` mixes it
with real labels.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detection.boxes.class_names import COCO_80
from detection.boxes.geometry import iou_matrix
from detection.errors import BadImageError, MobileSSDError
from detection.files import write_text
from detection.images.decode import read_image
from detection.stream import in_order

log = logging.getLogger("mobilessd.train")

VIEW_THRESHOLD = 0.01  # score below which the boxes of one view are left out
SCORE_THRESHOLD = 0.05  # and merged boxes: they are noise, also where several views agree
SAME = 0.55  # IoU from which two views mean one object
ZOOM = 0.6  # side of a zoomed window; four of them cover the image and overlap
SAVE_EVERY = 200

# RGB image -> [n, 6]: label 0..C-1, score, xyxy in fractions of the image
Labeler = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class View:
    """A way of looking at an image: its window `xyxy` in fractions, and whether it is mirrored."""

    window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    mirrored: bool = False

    def of(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        x1, y1, x2, y2 = (round(v) for v in np.multiply(self.window, [width, height, width, height]))
        part = image[y1:y2, x1:x2]
        return np.ascontiguousarray(part[:, ::-1] if self.mirrored else part)

    def to_image(self, found: np.ndarray) -> np.ndarray:
        """Rows of this view in fractions of the image; boxes that an inner border of a zoom cuts are left out."""
        boxes = found[:, 2:]
        if self.mirrored:
            boxes = boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [1, 0, 1, 0]
        inner = np.array([self.window[0] > 0, self.window[1] > 0, self.window[2] < 1, self.window[3] < 1])
        cut = (np.column_stack([boxes[:, :2] < 0.02, boxes[:, 2:] > 0.98]) & inner).any(1)
        corner, size = np.array(self.window[:2]), np.subtract(self.window[2:], self.window[:2])
        return np.column_stack([found[:, :2], boxes * np.tile(size, 2) + np.tile(corner, 2)])[~cut]

    def holds(self, box: np.ndarray) -> bool:
        """Whether a box lies wholly inside the window."""
        near, far = np.array(self.window[:2]) - 1e-3, np.array(self.window[2:]) + 1e-3
        return bool((box[:2] >= near).all() and (box[2:] <= far).all())


def views_named(names: Sequence[str]) -> list[View]:
    """plain, mirror, zoom -> the views. Raises MobileSSDError for another name."""
    far = 1 - ZOOM
    known = {
        "plain": [View()],
        "mirror": [View(mirrored=True)],
        "zoom": [View((x, y, x + ZOOM, y + ZOOM)) for y in (0.0, far) for x in (0.0, far)],
    }
    if unknown := [name for name in names if name not in known]:
        raise MobileSSDError(f"unknown view {unknown[0]!r}; there are {', '.join(known)}")
    return [view for name in names for view in known[name]]


def look(teachers: Sequence[Labeler], image: np.ndarray, views: Sequence[View]) -> np.ndarray:
    """What teachers see in an image, all their views merged: [n, 6] as from a `Labeler`, best first."""
    return merge(
        [view.to_image(teacher(view.of(image))) for view in views for teacher in teachers],
        [view for view in views for _ in teachers],
    )


def merge(seen: Sequence[np.ndarray], views: Sequence[View]) -> np.ndarray:
    """What was seen in several views of an image, [n, 6] each as from a `Labeler` in fractions of the image, as one.

    Boxes of one class that overlap become one, its place the mean weighted by score. Its score is the sum over the
    views divided by the views in which it lies whole: what one view of several believes is believed less.
    """
    rows = np.concatenate(seen)
    owner = np.repeat(np.arange(len(views)), [len(part) for part in seen])
    clear = (rows[:, 1] > VIEW_THRESHOLD) & (rows[:, 4:] > rows[:, 2:4]).all(
        1
    )  # a box without area overlaps not even itself
    rows, owner = rows[clear], owner[clear]
    merged = []
    for label in np.unique(rows[:, 0]):
        mine = np.flatnonzero(rows[:, 0] == label)
        left = mine[np.argsort(-rows[mine, 1], kind="stable")]
        while len(left):
            together = iou_matrix(rows[left[:1], 2:], rows[left, 2:])[0] > SAME
            group, left = left[together], left[~together]
            best = group[np.unique(owner[group], return_index=True)[1]]  # sorted by score: the best of each view
            box = np.average(rows[best, 2:], 0, rows[best, 1])
            able = sum(view.holds(box) for view in views)
            merged.append([label, rows[best, 1].sum() / max(able, len(best)), *box])
    found = np.array(merged, np.float32).reshape(-1, 6)
    found = found[found[:, 1] > SCORE_THRESHOLD]
    return found[np.argsort(-found[:, 1], kind="stable")]


def write_pseudo_labels(
    teachers: Sequence[Labeler],
    images: Iterable[str | Path],
    output: str | Path,
    views: Sequence[View],
    names: dict[int, str] = COCO_80,
    threads: int = 1,
) -> int:
    """Looks at every image and writes COCO ground truth with scores to `output`, atomically, every so often: a
    stopped run goes on where it was. names: category id -> name, in the order of the teachers' labels. threads: images
    looked at at once. Returns the number of new images."""
    output = Path(output)
    data: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": n} for i, n in names.items()],
    }
    if output.exists():
        data = json.loads(output.read_text(encoding="utf-8"))
    done, ids = {image["file_name"] for image in data["images"]}, list(names)
    left = [path for path in map(str, images) if path not in done]

    def seen(path: str) -> tuple[tuple[int, ...], np.ndarray] | BadImageError:
        try:
            image = read_image(path)
        except BadImageError as error:
            return error
        return image.shape[:2], look(teachers, image, views)

    looked = in_order(seen, left, threads)
    try:
        for number, (path, found) in enumerate(zip(left, looked), start=1):
            if isinstance(found, BadImageError):
                log.warning("%s; left out", found)
            else:
                _add(data, path, *found, ids)
            if number % SAVE_EVERY == 0:
                write_text(output, json.dumps(data))
                log.info("%d of %d images", number, len(left))
    finally:  # after Ctrl-C too
        looked.close()
        write_text(output, json.dumps(data))
    return len(left)


def _add(data: dict[str, Any], path: str, size: tuple[int, ...], found: np.ndarray, ids: list[int]) -> None:
    """An image and its boxes, into COCO ground truth."""
    height, width = size
    image_id = len(data["images"]) + 1
    data["images"].append({"id": image_id, "file_name": path, "height": height, "width": width})
    for label, score, x1, y1, x2, y2 in found.tolist():
        box = [x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height]
        row: dict[str, Any] = {"id": len(data["annotations"]) + 1, "image_id": image_id, "iscrowd": 0}
        row |= {"category_id": ids[int(label)], "bbox": [round(v, 2) for v in box]}
        data["annotations"].append(row | {"area": round(box[2] * box[3], 1), "score": round(score, 4)})
