"""Writing pseudo-labels: stronger detectors look at images in several views (`detection.views`), and what they see is written.

The outcome is COCO ground truth whose boxes carry a `score`; `detection.data.pseudo_labels.add_pseudo_labels` mixes it
with real labels.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from detection.boxes.anchors import Size
from detection.boxes.class_names import COCO_80
from detection.boxes.geometry import iou_matrix
from detection.errors import MobileSSDError
from detection.files import write_text
from detection.stream import detect_stream
from detection.views import Plan

log = logging.getLogger("mobilessd.train")

VIEW_THRESHOLD = 0.01  # score below which the boxes of one view are left out
SCORE_THRESHOLD = 0.05  # and merged boxes: they are noise, also where several views agree
SAME = 0.55  # IoU from which two views mean one object
NEAR = 1e-3  # by which a box may lie outside of a view that holds it, as a share of the image
SAVE_EVERY = 200


@dataclass(frozen=True)
class Labeler:
    """A teacher. see: RGB image of any size -> [n, 6]: label 0..C-1, score, xyxy in fractions of the image; from several
    threads at once. size: (height, width) of its input."""

    see: Callable[[np.ndarray], np.ndarray]
    size: Size


class _Looks:
    """Teachers and their views as the stages of a stream (`detection.stream.Stages`), so many images at a time. In the place
    of `Detections` stands what `look` gives."""

    def __init__(self, teachers: Sequence[Labeler], plan: Plan, threads: int) -> None:
        self._teachers, self._plan, self._threads = teachers, plan, threads

    def streams(self) -> int:
        return self._threads

    def see(self, image: np.ndarray) -> np.ndarray:
        return image

    def compute(self, seen: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self.compute_alone(image) for image in seen]

    def compute_alone(self, seen: np.ndarray) -> np.ndarray:
        return look(self._teachers, seen, self._plan)

    def conclude(self, raw: np.ndarray, image_size: tuple[int, ...]) -> Any:
        return raw


def check_views(teachers: Sequence[Labeler], plan: Plan) -> None:
    """Raises MobileSSDError, one line, for views of other sizes than that of a teacher's input."""
    for teacher in teachers:
        if plan.sizes(teacher.size) != [teacher.size]:
            height, width = teacher.size
            raise MobileSSDError(
                f"views {plan.text}: a teacher has one input size, here {width}x{height}; take tiles, 2x2 or mirror"
            )


def look(teachers: Sequence[Labeler], image: np.ndarray, plan: Plan) -> np.ndarray:
    """What teachers see in an image, all their views merged: [n, 6] as from a `Labeler`, best first."""
    size = (image.shape[0], image.shape[1])
    seen, windows = [], []
    for teacher in teachers:
        for view in plan.views(size, teacher.size):
            rows = teacher.see(view.part(image))
            boxes, trusted = view.trusted(rows[:, 2:], size)
            seen.append(np.column_stack([rows[:, :2], boxes])[trusted])
            windows.append(view.window(size))
    return merge(seen, np.array(windows))


def merge(seen: Sequence[np.ndarray], windows: np.ndarray) -> np.ndarray:
    """What was seen in several views of an image, [n, 6] each as from a `Labeler` in fractions of the image, as one.
    windows: of the views, `xyxy` [V, 4] in fractions.

    Boxes of one class that overlap become one, its place the mean weighted by score. Its score is the sum over the
    views divided by the views in which it lies whole: what one view of several believes is believed less.
    """
    rows = np.concatenate(seen)
    owner = np.repeat(np.arange(len(windows)), [len(part) for part in seen])
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
            able = int(((box[:2] >= windows[:, :2] - NEAR) & (box[2:] <= windows[:, 2:] + NEAR)).all(1).sum())
            merged.append([label, rows[best, 1].sum() / max(able, len(best)), *box])
    found = np.array(merged, np.float32).reshape(-1, 6)
    found = found[found[:, 1] > SCORE_THRESHOLD]
    return found[np.argsort(-found[:, 1], kind="stable")]


def write_pseudo_labels(
    teachers: Sequence[Labeler],
    images: Iterable[str | Path],
    output: str | Path,
    plan: Plan,
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

    looked = detect_stream(_Looks(teachers, plan, threads), left, workers=threads)
    try:
        for number, found in enumerate(looked, start=1):
            if found.error is not None:
                log.warning("%s; left out", found.error)
            else:
                _add(data, found.item, found.size, cast(np.ndarray, found.detections), ids)
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
