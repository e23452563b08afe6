"""Boxes that a teacher wrote, and images that nobody labelled.

A teacher's boxes come as a data set of their own: any format whose boxes carry a score (COCO JSON with `score`, YOLO
with a sixth number, `build(..., scores=...)`). Real labels win where they exist; the teacher fills what is not
annotated.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detection.boxes.geometry import intersection_matrix, iou_matrix
from detection.data.build import build
from detection.data.dataset import IGNORE, UNKNOWN_LABEL, DetectionData
from detection.data.folders import find_images, is_image
from detection.errors import BadDataError


def unlabelled(folder: str | os.PathLike, class_names: Sequence[str]) -> DetectionData:
    """All images below a folder (or one image), with every class unknown, for a teacher to fill."""
    path = Path(folder)
    found = [path] if path.is_file() and is_image(path.name) else find_images(path)
    if not found:
        raise BadDataError(f"{folder}: no images in it")
    data = build(class_names, found, [], [], [], unknown_classes=class_names, source="images", origin=str(folder))
    return data


def add_pseudo_labels(
    data: DetectionData,
    pseudo: DetectionData,
    keep: float = 0.5,
    ignore: float = 0.25,
    overlap: float = 0.5,
    fill_annotated: bool = False,
) -> DetectionData:
    """`data` with a teacher's boxes where it has no labels of its own.

    Images are matched by file name (without its extension), classes by name. Of the teacher's boxes, those of a class
    that `data` annotates in that image are left out (`fill_annotated` takes them too), and those that overlap a real
    box by `overlap`, or lie in a flagged one. Of the rest, a score >= `keep` makes a target with that score, one >=
    `ignore` an IGNORE region, one below nothing. The teacher's classes are then no longer unknown in the images it
    has seen.
    """
    pseudo = pseudo.with_classes(data.class_names)
    teachers_classes = ~pseudo.unknown.all(0)
    rows = {_stem(path): i for i, path in enumerate(pseudo.paths)}
    if len(rows) < len(pseudo):
        raise BadDataError(
            f"{pseudo.origin}: two of its images have the same file name; boxes cannot be matched to images"
        )
    seen = np.zeros(len(data), bool)
    owners, boxes, labels, scores, flags = [], [], [], [], []
    for i, path in enumerate(data.paths):
        row = rows.get(_stem(path))
        if row is None:
            continue
        seen[i] = True
        mine, theirs = data.image(i), pseudo.image(row)
        shift = _scale(theirs.size, mine.size)
        candidates = theirs.boxes * shift
        wanted = (theirs.labels >= 0) & (theirs.scores >= ignore) & (theirs.flags == 0)
        wanted &= fill_annotated | mine.unknown[theirs.labels]
        wanted &= ~_explained(candidates, theirs.labels, mine.boxes, mine.labels, mine.flags, overlap)
        sure = theirs.scores[wanted] >= keep
        owners.append(np.full(int(wanted.sum()), i))
        boxes.append(candidates[wanted])
        labels.append(np.where(sure, theirs.labels[wanted], UNKNOWN_LABEL))
        scores.append(np.where(sure, theirs.scores[wanted], 1.0))
        flags.append(np.where(sure, 0, IGNORE))
    if not seen.any():
        raise BadDataError(f"{pseudo.origin}: none of its images is in {data.origin} (matched by file name)")
    new_boxes = np.concatenate(boxes)
    joined = build(
        data.class_names,
        data.paths,
        np.concatenate([data.owners(), *owners]),
        np.concatenate([data.boxes, new_boxes]),
        np.concatenate([data.labels, *labels]),
        sizes=data.sizes,
        image_ids=data.image_ids,
        scores=np.concatenate([data.scores, *scores]),
        areas=np.concatenate([data.areas, (new_boxes[:, 2:] - new_boxes[:, :2]).prod(1)]),
        flags=np.concatenate([data.flags, *flags]),
        category_ids=data.category_ids,
        source=data.source,
        origin=f"{data.origin} with pseudo-labels of {pseudo.origin}",
        faults=data.faults,
    )
    groups = data.groups.astype(np.int32)
    used, place = np.unique(groups[seen], return_inverse=True)  # only those: else each teacher would double the rows
    groups[seen] = len(data.unknown) + place
    settled = data.unknown[used] & ~teachers_classes
    return replace(joined, unknown=np.concatenate([data.unknown, settled]), groups=groups)


def _explained(
    boxes: np.ndarray,
    labels: np.ndarray,
    real: np.ndarray,
    real_labels: np.ndarray,
    real_flags: np.ndarray,
    overlap: float,
) -> np.ndarray:
    """bool [n]: which boxes a real box of their class overlaps, or a flagged region covers by half."""
    if not len(real) or not len(boxes):
        return np.zeros(len(boxes), bool)
    same = (iou_matrix(boxes, real) >= overlap) & (labels[:, None] == real_labels[None])
    inside = intersection_matrix(boxes, real) >= 0.5 * (boxes[:, 2:] - boxes[:, :2]).prod(1)[:, None]
    return (same | (inside & (real_flags != 0)[None])).any(1)


def _scale(theirs: tuple[int, int], mine: tuple[int, int]) -> np.ndarray:
    """Factors [4] from boxes in the teacher's copy of an image to ours; 1 where a size is not known."""
    if not all(theirs) or not all(mine):
        return np.ones(4, np.float32)
    height, width = mine[0] / theirs[0], mine[1] / theirs[1]
    return np.array([width, height, width, height], np.float32)


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]
