"""Soft labels: a stronger detector looks at pictures plain, mirrored and zoomed, and writes what it sees.

The outcome is COCO ground truth whose boxes carry a `score`; `detection.data.soft.add_soft_labels` mixes it with real
labels. Imports numpy, OpenCV, floors 1 and 4.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detection.core.boxes import iou_matrix
from detection.core.errors import BadPictureError, BadWeightsError
from detection.core.files import write_text
from detection.core.labels import COCO_80
from detection.core.preprocess import read_image

log = logging.getLogger("mobilessd.train")

FLOOR = 0.05  # boxes below are noise, also when several views agree
SAME = 0.55  # IoU from which two views mean one object
ZOOM = 0.6  # side of a zoomed window; four of them cover the picture and overlap
SAVE_EVERY = 200
VIEWS = ("plain", "mirror", "zoom")

# RGB picture -> [n, 6]: label 0..C-1, score, xyxy in fractions of the picture
Teacher = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class View:
    """A way of looking at a picture: its window `xyxy` in fractions, and whether it is mirrored."""

    window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    mirrored: bool = False

    def of(self, picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        x1, y1, x2, y2 = (round(v) for v in np.multiply(self.window, [width, height, width, height]))
        part = picture[y1:y2, x1:x2]
        return np.ascontiguousarray(part[:, ::-1] if self.mirrored else part)

    def to_picture(self, found: np.ndarray) -> np.ndarray:
        """Rows of this view in fractions of the picture; boxes that an inner border of a zoom cuts are left out."""
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
    """plain, mirror, zoom -> the views. Raises ValueError for another name."""
    far = 1 - ZOOM
    known = {
        "plain": [View()],
        "mirror": [View(mirrored=True)],
        "zoom": [View((x, y, x + ZOOM, y + ZOOM)) for y in (0.0, far) for x in (0.0, far)],
    }
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown view {unknown[0]!r}; there are {', '.join(known)}")
    return [view for name in names for view in known[name]]


def look(teacher: Teacher, picture: np.ndarray, views: Sequence[View]) -> np.ndarray:
    """What a teacher sees in a picture, all views merged: [n, 6] as `Teacher`, best first.

    Boxes of one class that overlap become one, its place the mean weighted by score. Its score is the sum over the
    views divided by the views in which it lies whole: what one view of several believes is believed less.
    """
    seen = [view.to_picture(teacher(view.of(picture))) for view in views]
    rows = np.concatenate(seen)
    owner = np.repeat(np.arange(len(views)), [len(part) for part in seen])
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
    found = found[found[:, 1] > FLOOR]
    return found[np.argsort(-found[:, 1], kind="stable")]


def onnx_teacher(path: str | Path, threads: int = 2) -> Teacher:
    """A detector of the DEIM, D-FINE, RT-DETR family in ONNX form: inputs `images` [1, 3, S, S] (RGB, 0..1, stretched)
    and `orig_target_sizes`; outputs `labels` 0..79, `boxes` xyxy, `scores`. Raises BadWeightsError for another one."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base
        raise BadWeightsError(f"{path}: onnxruntime cannot read it ({str(error).splitlines()[0][:120]})") from None
    inputs, outputs = [i.name for i in session.get_inputs()], [o.name for o in session.get_outputs()]
    if len(inputs) != 2 or not {"labels", "boxes", "scores"} <= set(outputs):
        raise BadWeightsError(f"{path}: no detector of the DEIM family (inputs {inputs}, outputs {outputs})")
    size = int(session.get_inputs()[0].shape[-1])

    def teacher(picture: np.ndarray) -> np.ndarray:
        small = cv2.resize(picture, (size, size)).transpose(2, 0, 1)[None].astype(np.float32) / 255
        unit = np.ones((1, 2), np.int64)
        found = session.run(["labels", "boxes", "scores"], {inputs[0]: small, inputs[1]: unit})
        labels, boxes, scores = (np.asarray(part)[0] for part in found)
        return np.column_stack([labels, scores, boxes])[scores > FLOOR]

    return teacher


def write_soft_labels(
    teacher: Teacher,
    pictures: Iterable[str | Path],
    output: str | Path,
    views: Sequence[View],
    names: dict[int, str] = COCO_80,
) -> int:
    """Looks at every picture and writes COCO ground truth with scores to `output`, atomically, every so often: a
    stopped run goes on where it was. names: category id -> name, in the order of the teacher's labels. Returns the
    number of new pictures."""
    output = Path(output)
    data: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": n} for i, n in names.items()],
    }
    if output.exists():
        data = json.loads(output.read_text(encoding="utf-8"))
    done, ids = {image["file_name"] for image in data["images"]}, list(names)
    left = [path for path in map(str, pictures) if path not in done]
    for number, path in enumerate(left, start=1):
        try:
            picture = read_image(path)
        except BadPictureError as error:
            log.warning("%s; left out", error)
            continue
        height, width = picture.shape[:2]
        image_id = len(data["images"]) + 1
        data["images"].append({"id": image_id, "file_name": path, "height": height, "width": width})
        for label, score, x1, y1, x2, y2 in look(teacher, picture, views).tolist():
            box = [x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height]
            row: dict[str, Any] = {
                "id": len(data["annotations"]) + 1,
                "image_id": image_id,
                "category_id": ids[int(label)],
                "iscrowd": 0,
            }
            row |= {"bbox": [round(v, 2) for v in box], "area": round(box[2] * box[3], 1), "score": round(score, 4)}
            data["annotations"].append(row)
        if number % SAVE_EVERY == 0 or number == len(left):
            write_text(output, json.dumps(data))
            log.info("%d of %d pictures", number, len(left))
    return len(left)
