"""The detections of a whole data set in flat arrays; COCO results JSON in and out. numpy only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detection.errors import BadDataError
from detection.evaluate.truth import (
    GroundTruth,
    boxes_of,
    indices,
    indices_of,
    load_json,
    numbers_of,
    renumber,
    require_keys,
)
from detection.outputs.coco_json import write_rows


@dataclass(frozen=True)
class Results:
    """D detections. image, category: int64 [D], indices into a GroundTruth's image_ids and category_ids.
    boxes: float64 [D, 4] `xywh` in pixels of the image.  scores: float64 [D]."""

    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: np.ndarray) -> Results:
        """A part of them, by a boolean mask or indices."""
        return Results(self.image[which], self.category[which], self.boxes[which], self.scores[which])

    def select(self, truth: GroundTruth, images: Sequence[int] | None, categories: Sequence[int] | None) -> Results:
        """Those that belong to `truth.select(images, categories)`, with its indices. `truth` is the one before."""
        part = self
        if images is not None:
            index = renumber(indices(images, len(truth.image_ids)), len(truth.image_ids))
            part = Results(index[part.image], part.category, part.boxes, part.scores)[index[part.image] >= 0]
        if categories is not None:
            index = renumber(indices(categories, len(truth.category_ids)), len(truth.category_ids))
            part = Results(part.image, index[part.category], part.boxes, part.scores)[index[part.category] >= 0]
        return part


def no_results() -> Results:
    """Nothing found anywhere."""
    return Results(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0))


def read_results(path: str | os.PathLike, truth: GroundTruth) -> Results:
    """Reads COCO results, a JSON list of {image_id, category_id, bbox [x, y, width, height], score}; it may be empty.

    Raises BadDataError, one line: no JSON, no such list, missing keys (all named), image or category ids that
    `truth` does not know, broken boxes, scores that are no finite numbers.
    """
    rows = load_json(path)
    if isinstance(rows, dict):
        hint = " (it looks like ground truth: give that with --annotations)" if "images" in rows else ""
        raise BadDataError(f"{path}: not COCO results but an object; needs a list of detections{hint}")
    if not isinstance(rows, list):
        raise BadDataError(f"{path}: not COCO results; needs a list of detections")
    if not rows:
        return no_results()
    require_keys(path, "results", rows, ("image_id", "category_id", "bbox", "score"))
    image = indices_of(path, "results", "image_id", rows, truth.image_ids)
    category = indices_of(path, "results", "category_id", rows, truth.category_ids)
    boxes = boxes_of(path, "results", rows)
    return Results(image, category, boxes, numbers_of(path, "results", "score", rows, lambda _: np.nan))


def write_results(path: str | os.PathLike, results: Results, truth: GroundTruth) -> None:
    """Writes COCO results JSON, atomically, with the data set's ids. Not rounded: they score the same when read."""
    rows = [
        {"image_id": truth.image_ids[i], "category_id": truth.category_ids[c], "bbox": box, "score": score}
        for i, c, box, score in zip(
            results.image.tolist(), results.category.tolist(), results.boxes.tolist(), results.scores.tolist()
        )
    ]
    write_rows(path, rows)


def perfect_results(truth: GroundTruth) -> Results:
    """The ground truth fed back as detections with score 1, crowds left out: what the self-test evaluates."""
    real = ~truth.crowd
    return Results(truth.image[real], truth.category[real], truth.boxes[real], np.ones(int(real.sum())))


def concatenate(parts: Sequence[Results]) -> Results:
    """Several into one."""
    if not parts:
        return no_results()
    return Results(
        np.concatenate([part.image for part in parts]),
        np.concatenate([part.category for part in parts]),
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )
