"""Which detection found which object, by COCO's rule, in flat arrays; and AP from them. numpy only.

What the threshold, the error split and the bootstrap are computed from: they need to know about each detection, which
the engines of coco.py do not tell, or slowly. Equal to pycocotools to the last bit, which tests check. Objects of all
sizes, at most 100 detections of a class in an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detection.evaluate.results import Results
from detection.evaluate.truth import GroundTruth

COCO_IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)  # the points at which COCO reads the precision off the curve
MOST_OF_A_CLASS = 100  # detections of one class in one image that count


@dataclass(frozen=True)
class Matches:
    """D detections at T overlaps, in the order of class, then falling score; ties stand as pycocotools has them.

    detection int64 [D]: index into the Results (those beyond 100 of a class in an image are gone).
    image, category int64 [D]; score float64 [D].
    object int64 [T, D]: the object of the GroundTruth that it is matched with, -1 for none.
    right bool [T, D]: it found an object that no better one had found.  ignored bool [T, D]: it lies on a crowd.
    positives int64 [C]: how many objects of each category there are to find.
    """

    ious: np.ndarray
    detection: np.ndarray
    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    object: np.ndarray
    right: np.ndarray
    ignored: np.ndarray
    positives: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        """bool [T, D]: false alarms."""
        return ~(self.right | self.ignored)

    def class_slices(self) -> list[slice]:
        """Where the detections of each category stand."""
        edges = np.searchsorted(self.category, np.arange(len(self.positives) + 1))
        return [slice(int(a), int(b)) for a, b in zip(edges[:-1], edges[1:])]


def match(truth: GroundTruth, results: Results, ious: Sequence[float] | np.ndarray = COCO_IOUS) -> Matches:
    """COCO's greedy matching at each of `ious`: detections by falling score, each takes the free object of its class in
    its image that it overlaps most; crowds only when nothing else fits, and each for any number of detections."""
    ious = np.asarray(ious, np.float64)
    cell = results.category * len(truth.image_ids) + results.image  # a class in an image
    order = np.lexsort((-results.scores, cell))
    rank = np.arange(len(order)) - np.searchsorted(cell[order], cell[order])
    order = order[rank < MOST_OF_A_CLASS]

    objects = np.lexsort((truth.crowd, truth.category * len(truth.image_ids) + truth.image))  # crowds last in a cell
    object_cell = (truth.category * len(truth.image_ids) + truth.image)[objects]
    found, sought = join(cell[order], object_cell)
    overlap = pair_ious(results.boxes[order[found]], truth.boxes[objects[sought]], truth.crowd[objects[sought]])
    matched = np.full((len(ious), len(order)), -1, np.int64)
    for t, least in enumerate(np.minimum(ious, 1 - 1e-10)):
        near = overlap >= least
        matched[t] = _greedy(len(order), found[near], objects[sought[near]], overlap[near], truth.crowd)

    by_score = np.lexsort((-results.scores[order], results.category[order]))  # stable: ties by image
    order, matched = order[by_score], matched[:, by_score]
    hit = matched >= 0
    on_crowd = hit & truth.crowd[matched] if len(truth.crowd) else hit
    return Matches(
        ious=ious,
        detection=order,
        image=results.image[order],
        category=results.category[order],
        score=results.scores[order],
        object=matched,
        right=hit & ~on_crowd,
        ignored=on_crowd,
        positives=truth.objects,
    )


def average_precision(right: np.ndarray, wrong: np.ndarray, positives: float) -> np.ndarray:
    """COCO's 101-point AP of one class: float64 [T].

    right, wrong: [T, n] in the order of falling score, what each detection counts as a hit and as a false alarm (0 or
    1; both 0 for one that is ignored; more for images that are drawn several times). positives: objects to find, > 0.
    The rule is that of pycocotools' accumulate(), to the last bit.
    """
    hits, alarms = np.cumsum(right, 1, dtype=np.float64), np.cumsum(wrong, 1, dtype=np.float64)
    if not hits.shape[1]:
        return np.zeros(len(hits))
    precision = hits / (alarms + hits + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    values = np.zeros(len(hits))
    for t, recall in enumerate(hits / positives):
        at = np.searchsorted(recall, RECALLS, side="left")
        values[t] = envelope[t, at[at < len(recall)]].sum() / len(RECALLS)
    return values


def join(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs with equal keys: int64 [P] indices into left, rising, and into right, rising within each.
    left int64 [n] in any order, right int64 [m] sorted."""
    first = np.searchsorted(right, left, side="left")
    count = np.searchsorted(right, left, side="right") - first
    of_left = np.repeat(np.arange(len(left)), count)
    offset = np.arange(len(of_left)) - np.repeat(np.cumsum(count) - count, count)
    return of_left, first[of_left] + offset


def pair_ious(found: np.ndarray, sought: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """float64 [P]: the overlap of pairs of boxes [P, 4] `xywh`. Of a crowd: the share of `found` that lies in it."""
    width, height = (
        np.minimum(found[:, k] + found[:, k + 2], sought[:, k] + sought[:, k + 2])
        - np.maximum(found[:, k], sought[:, k])
        for k in (0, 1)
    )
    inside = np.maximum(width, 0) * np.maximum(height, 0)
    area = found[:, 2] * found[:, 3]
    union = np.where(crowd, area, area + sought[:, 2] * sought[:, 3] - inside)
    return np.divide(inside, union, out=np.zeros_like(inside), where=inside > 0)


def _greedy(count: int, found: np.ndarray, sought: np.ndarray, overlap: np.ndarray, crowd: np.ndarray) -> list[int]:
    """The object of each of `count` detections, from pairs [P] in the order of the detections, crowds last in each."""
    matched, taken, is_crowd = [-1] * count, set(), crowd.tolist()
    best_overlap, last = 0.0, -1
    for detection, candidate, value in zip(found.tolist(), sought.tolist(), overlap.tolist()):
        if detection != last:
            if last >= 0 and matched[last] >= 0:
                taken.add(matched[last])
            last, best_overlap = detection, 0.0
        if candidate in taken and not is_crowd[candidate]:
            continue
        held = matched[detection]
        if held >= 0 and ((is_crowd[candidate] and not is_crowd[held]) or value < best_overlap):
            continue  # of equal overlaps the last wins, as in pycocotools
        matched[detection], best_overlap = candidate, value
    return matched
