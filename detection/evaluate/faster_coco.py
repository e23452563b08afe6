"""faster-coco-eval's evaluation, its overlaps computed for all images and classes at once. Imports faster_coco_eval.

The library's C++ matches and counts; before that it asks for the overlaps of each of the pairs of an image and a class, of
which COCO has 400,000, in Python. The outcome equals the library's to the last bit.
"""

from __future__ import annotations

import copy

import faster_coco_eval.faster_eval_api_cpp as cpp
import numpy as np
from faster_coco_eval import COCOeval_faster

from detection.evaluate.results import Results
from detection.evaluate.truth import GroundTruth


class ArrayEval(COCOeval_faster):
    """`COCOeval_faster` for boxes, class by class, of `truth` and `results`, whose indices + 1 are the ids of `cocos`."""

    def __init__(self, cocos: tuple, truth: GroundTruth, results: Results) -> None:
        super().__init__(*cocos, "bbox")
        self._truth, self._results = truth, results

    def evaluate(self) -> None:
        """As COCOeval_faster has it."""
        self._prepare()
        self._paramsEval, p = copy.deepcopy(self.params), self.params
        overlaps = overlaps_of(self._truth, self._results, p.maxDets[-1])
        self.eval = cpp.COCOevalEvaluateAccumulate(
            self._paramsEval, overlaps, self.gt_dataset, self.dt_dataset, p.imgIds, p.catIds, True
        )


def overlaps_of(truth: GroundTruth, results: Results, most: int) -> list[list[list[list[float]]]]:
    """Of each image and class [N][C]: the overlap of each of its best `most` results, best first, with each of its objects, as
    COCO has it (of a crowd: the share of the result); [] where there are no objects or no results."""
    classes = len(truth.category_ids)
    objects = np.argsort(truth.image * classes + truth.category, kind="stable")
    keys = (truth.image * classes + truth.category)[objects]
    found = np.lexsort((-results.scores, results.image * classes + results.category))
    cells = (results.image * classes + results.category)[found]
    found, cells = (part[_place(cells) < most] for part in (found, cells))
    first, behind = np.searchsorted(keys, cells), np.searchsorted(keys, cells, side="right")
    number = behind - first
    left = np.repeat(found, number)
    right = objects[np.arange(len(left)) - np.repeat(np.cumsum(number) - number - first, number)]
    flat = box_overlaps(results.boxes[left], truth.boxes[right], truth.crowd[right]).tolist()
    empty: list[list[float]] = []
    rows = [[empty] * classes for _ in range(len(truth.image_ids))]
    start = 0
    for cell, count in zip(cells[number > 0].tolist(), number[number > 0].tolist()):
        image, category = divmod(cell, classes)
        row = rows[image]
        if row[category] is empty:
            row[category] = []
        row[category].append(flat[start : start + count])
        start += count
    return rows


def box_overlaps(found: np.ndarray, objects: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """`xywh` float64 [n, 4], [n, 4] and bool [n] -> overlaps [n], operation by operation as maskApi.c (bbIou) has it."""
    low = np.maximum(found[:, :2], objects[:, :2])
    sides = np.minimum(found[:, 2:] + found[:, :2], objects[:, 2:] + objects[:, :2]) - low
    inter = np.where((sides > 0).all(1), sides[:, 0] * sides[:, 1], 0.0)
    own, theirs = found[:, 2] * found[:, 3], objects[:, 2] * objects[:, 3]
    union = np.where(crowd, own, own + theirs - inter)
    return np.divide(inter, union, out=np.zeros_like(inter), where=inter > 0)


def _place(cells: np.ndarray) -> np.ndarray:
    """Of sorted numbers: the how manieth of its kind each is, from 0."""
    begins = np.flatnonzero(np.r_[True, cells[1:] != cells[:-1]]) if len(cells) else np.zeros(0, np.int64)
    return np.arange(len(cells)) - np.repeat(begins, np.diff(np.r_[begins, len(cells)]))
