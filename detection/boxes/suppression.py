"""Class-wise non-maximum suppression, and the overlaps of pairs of boxes that it and box voting need. numpy alone."""

from __future__ import annotations

import math

import numpy as np

CHUNK = 320  # candidates that are suppressed at a time: most images need no more for 100 detections
FEW = 40  # boxes of which all pairs of one class are looked at: finding out which are near takes longer


def suppress(boxes: np.ndarray, class_ids: np.ndarray, iou: float, at_most: int) -> np.ndarray:
    """Greedy class-wise non-maximum suppression: the indices of the boxes kept, best first, at most `at_most`.

    boxes [n, 4] `xyxy`, class_ids [n], both sorted by falling score. A box goes if a better one of its class overlaps
    it by strictly more than `iou` (as TensorFlow, torchvision and Caffe have it).

    All classes are walked together in the order of the scores, a chunk at a time: once `at_most` boxes stand, no later
    candidate can enter, so thousands of weak candidates cost nothing. The outcome equals class-by-class suppression.
    """
    kept: np.ndarray = np.zeros(0, np.int64)
    corners, areas = cornered(boxes)
    for start in range(0, len(boxes), CHUNK):
        pool = np.arange(start, min(start + CHUNK, len(boxes)))
        pool = np.concatenate([kept, pool]) if start else pool
        one, other = _near(boxes.take(pool, 0), class_ids[pool], iou)
        inter, union = overlaps(corners.take(pool, 0), areas[pool], one, other)
        union *= iou
        rivals = np.flatnonzero(inter > union)
        one, other = one[rivals], other[rivals]
        kept = pool[~_dead(np.minimum(one, other), np.maximum(one, other), len(pool))]
        if len(kept) >= at_most:
            break
    return kept[:at_most]


def _near(boxes: np.ndarray, class_ids: np.ndarray, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of boxes of one class that may overlap by more than `iou`: two arrays of indices, each pair once.

    An IoU of t takes widths that share t of what they cover together, so the centres lie no further apart than
    (1 - t) / 2t of either width. Sorted by class and centre, those are a short run behind each box.
    """
    extent = float(np.fmax.reduce(np.abs(boxes), None)) if len(boxes) > FEW else math.inf
    if not math.isfinite(extent):
        one, other = np.divmod(np.flatnonzero(class_ids[:, None] == class_ids), len(boxes))
        once = one < other
        return one[once], other[once]
    left, right = boxes[:, 0], boxes[:, 2]
    reach = (right - left) * ((1 - iou) / (2 * max(iou, 1e-12)) * 1.001) + 1e-4 * extent  # more than float32 rounds off
    key = class_ids * (8.0 * extent + 1) + (left + right) / 2
    order = np.argsort(key, kind="stable")
    key, reach = key[order], np.fmin(reach, 3 * extent)[order]
    places = np.arange(1, len(order) + 1)
    count = np.maximum(np.searchsorted(key, key + reach, "right") - places, 0)
    ends = np.cumsum(count)
    one = np.repeat(order, count)
    other = order[np.arange(ends[-1]) + np.repeat(places - ends + count, count)]
    return one, other


def _dead(strong: np.ndarray, weak: np.ndarray, number: int) -> np.ndarray:
    """bool [number]: which go, where each of the pairs says that `weak` goes if `strong` stays.

    In rounds: whoever is in no pair as the weak one stays, so its rivals go, and all pairs with them are settled. There are
    as many rounds as the longest chain has links, three to six in images."""
    dead: np.ndarray = np.zeros(number, bool)
    while len(weak):
        doubtful = np.zeros(number, bool)
        doubtful[weak] = True
        dead[weak[~doubtful[strong]]] = True
        left = np.flatnonzero(~(dead[strong] | dead[weak]))
        strong, weak = strong[left], weak[left]
    return dead


def cornered(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`xyxy` boxes [n, 4] -> (x1, y1, -x2, -y2) [n, 4], of which the larger of two are the corners of their intersection,
    and areas [n]."""
    corners = np.ascontiguousarray(boxes)
    x1, y1, x2, y2 = boxes.T
    return corners * np.array([1, 1, -1, -1], boxes.dtype), (x2 - x1) * (y2 - y1)


def overlaps(
    corners: np.ndarray, areas: np.ndarray, some: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Areas of intersection and union [m] of the pairs of boxes `some` [m] and `others` [m], indices of `cornered` boxes."""
    inner = corners.take(some, 0)
    np.maximum(inner, corners.take(others, 0), out=inner)
    width, height = inner[:, 0] + inner[:, 2], inner[:, 1] + inner[:, 3]  # both negative where the boxes overlap
    inter = np.minimum(width, 0, out=width)
    inter *= np.minimum(height, 0, out=height)
    union = areas[some] + areas[others]
    union -= inter
    return inter, union
