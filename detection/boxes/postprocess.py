"""From raw encodings and logits to detections: score threshold, decode, class-wise NMS, the best of all classes.

The one post-processing: evaluation, detection, live and every runtime go through `select`, and the script of a bundle
holds its source, so that what is measured is what runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from detection.boxes.detections import Detections
from detection.boxes.geometry import BoxCoder

CHUNK = 128  # candidates whose overlaps are computed at a time: measured, 256 costs a fifth more
DEFAULT_CODER = BoxCoder()
VOTERS = (
    0.7  # overlap from which on a box of its class votes on a kept box: with 0.65 to 0.8 AP is less than 0.002 lower
)
SHARE = 0.5  # of a kept box's score that a voter needs: all weaker ones too cost 0.0005 of AP
VOTING = 200  # candidates of one view that may vote: measured, 800 give the same AP in thrice the time
SIGMA = 0.5  # of soft suppression, the paper's
HEAD = 8  # candidates looked at first, for each detection wanted: nearly always enough, see `select`


Merge = Literal["nms", "vote", "soft"]
MERGES: tuple[Merge, ...] = ("nms", "vote", "soft")
DEFAULT_MERGE: Merge = "vote"  # of networks whose card names none: AP 0.2077 on the 552 held-out images, "nms" 0.2054


@dataclass(frozen=True)
class PostSettings:
    """The rules of post-processing.

    score: only candidates with a score above this.  iou: of two boxes of one class that overlap by more, the better is
    kept.  max_detections: the best so many of all classes.  per_class: at most so many candidates of a class enter the
    suppression (None: all).  classes: only these class ids (None: all).  activation: "sigmoid" or "softmax".
    class_scores: a lowest score for each class of its own, above `score` (None: `score` for all).  merge: what overlapping
    boxes of one class become, see `merged`; what a person gets who asks for nothing is `DEFAULT_MERGE`.
    """

    score: float = 0.01
    iou: float = 0.6
    max_detections: int = 100
    per_class: int | None = None
    classes: tuple[int, ...] | None = None
    activation: str = "sigmoid"
    class_scores: tuple[float, ...] | None = None
    merge: Merge = "nms"


def postprocess(
    encodings: np.ndarray,
    logits: np.ndarray,
    anchors: np.ndarray,
    image_size: tuple[int, int],
    class_names: tuple[str, ...],
    settings: PostSettings = PostSettings(),
    coder: BoxCoder = DEFAULT_CODER,
    category_ids: tuple[int, ...] | None = None,
) -> Detections:
    """What one image's raw outputs say.

    image_size: (height, width) of the image, whose pixels the boxes are given in, cut to its borders. Otherwise as
    `select`.
    """
    boxes, scores, class_ids = select(encodings, logits, anchors, settings, coder)
    return Detections(in_pixels(boxes, image_size), scores, class_ids, class_names, image_size, category_ids)


def select(
    encodings: np.ndarray, logits: np.ndarray, anchors: np.ndarray, settings: PostSettings, coder: BoxCoder
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What one image's raw outputs say, best first: boxes float32 [n, 4] `xyxy` in fractions of the image (0..1), scores
    float32 [n] and class ids int64 [n].

    encodings [A, 4] (tx, ty, tw, th); logits [A, 1 + C], background in column 0; anchors [A, 4] `cxcywh` fractions of
    the input.
    """
    # At a score threshold of 0.01 a network with sigmoid scores gives tens of thousands of candidates, of which 100 are wanted:
    # only the best are sorted and decoded, and more of them only if too few survive. The outcome equals that of all.
    most = HEAD * max(settings.max_detections, VOTING // HEAD)
    voting = settings.merge == "vote"
    reach = replace(settings, score=settings.score * SHARE) if voting else settings
    while True:
        anchor_ids, class_ids, scores, cut = _candidates(logits, reach, most)
        if settings.class_scores is not None and not voting:
            high = _high(scores, class_ids, settings)
            anchor_ids, class_ids, scores = anchor_ids[high], class_ids[high], scores[high]
        if settings.per_class is not None:
            order = _best_of_each_class(class_ids, settings.per_class)
            anchor_ids, class_ids, scores = anchor_ids[order], class_ids[order], scores[order]
        boxes = coder.decode(encodings[anchor_ids].astype(np.float32), anchors[anchor_ids]).clip(0, 1)
        found = merged(boxes, scores, class_ids, settings, VOTING)
        if not cut or len(found[0]) >= settings.max_detections and found[1][-1] >= scores[-1]:
            return found
        most *= 8


def merged(
    boxes: np.ndarray, scores: np.ndarray, class_ids: np.ndarray, settings: PostSettings, voting: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What candidates of one image, from one view of it or several, become: boxes [n, 4], scores, class ids, best first.

    boxes [m, 4] `xyxy`, scores [m] and class_ids [m], sorted by falling score. "nms": `suppress`. "vote": the same boxes
    are kept, and each becomes the mean of itself and of its voters, weighted by their scores (after Gidaris and Komodakis
    2015, arXiv 1505.01749); scores stay. The voters are boxes of its class that were not kept, overlap it by more than
    `VOTERS`, have at least `SHARE` of its score (below the score threshold, too, so that a box does not move with it), and
    are among the best `voting` (None: all). "soft": Gaussian soft-NMS (Bodla et al. 2017, arXiv 1704.04503), which lowers
    the scores of what overlaps in the place of dropping it.
    """
    if settings.merge == "soft":
        return _soften(boxes, scores, class_ids, settings)
    if settings.merge == "nms":
        kept = suppress(boxes, class_ids, settings.iou, settings.max_detections)
        return boxes[kept], scores[kept], class_ids[kept]
    high = np.flatnonzero(_high(scores, class_ids, settings))
    kept = high[suppress(boxes[high], class_ids[high], settings.iou, settings.max_detections)]
    return _vote(boxes, scores, class_ids, kept, voting), scores[kept], class_ids[kept]


def _high(scores: np.ndarray, class_ids: np.ndarray, settings: PostSettings) -> np.ndarray:
    """Which are above the threshold of their class: bool [n]."""
    if settings.class_scores is None:
        return scores > settings.score
    return scores > np.asarray(settings.class_scores, np.float32)[class_ids]


def _vote(
    boxes: np.ndarray, scores: np.ndarray, class_ids: np.ndarray, kept: np.ndarray, voting: int | None
) -> np.ndarray:
    """The kept boxes [n, 4], each the mean of itself and of its voters; see `merged`."""
    able: np.ndarray = np.ones(len(boxes[:voting]), bool)
    able[kept[kept < len(able)]] = False
    voters = np.flatnonzero(able)
    match = class_ids[kept][:, None] == class_ids[voters]
    match &= scores[voters] >= (SHARE * scores[kept])[:, None]
    places, columns = np.divmod(np.flatnonzero(match), max(len(voters), 1))
    winner, voter = kept[places], voters[columns]
    sides = np.ascontiguousarray(boxes.T)
    x1, y1, x2, y2 = sides
    inter = np.maximum(np.minimum(x2[winner], x2[voter]) - np.maximum(x1[winner], x1[voter]), 0)
    inter *= np.maximum(np.minimum(y2[winner], y2[voter]) - np.maximum(y1[winner], y1[voter]), 0)
    areas = (x2 - x1) * (y2 - y1)
    votes = np.flatnonzero(inter > VOTERS * (areas[winner] + areas[voter] - inter))
    places, voter = places[votes], voter[votes]
    own, theirs = scores[kept].astype(np.float64), scores[voter].astype(np.float64)
    total = own + np.bincount(places, theirs, len(kept))
    sums = [own * side[kept] + np.bincount(places, theirs * side[voter], len(kept)) for side in sides]
    return (np.stack(sums, 1) / np.maximum(total, 1e-30)[:, None]).astype(np.float32)


def _soften(
    boxes: np.ndarray, scores: np.ndarray, class_ids: np.ndarray, settings: PostSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Takes the best candidate again and again, and multiplies the scores of the others of its class by
    exp(-IoU^2 / SIGMA); ends where none is above the threshold."""
    left = scores.astype(np.float32)
    order: list[int] = []
    values: list[np.float32] = []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    while len(order) < settings.max_detections and len(left):
        best = int(left.argmax())
        if not left[best] > settings.score:
            break
        order.append(best)
        values.append(left[best])
        mine = np.flatnonzero(class_ids == class_ids[best])
        low, high = np.maximum(boxes[best, :2], boxes[mine, :2]), np.minimum(boxes[best, 2:], boxes[mine, 2:])
        inter = np.maximum(high - low, 0).prod(1)
        overlap = inter / np.maximum(areas[best] + areas[mine] - inter, 1e-12)
        left[mine] *= np.exp(-np.square(overlap) / SIGMA)
        left[best] = -1
    chosen, softened = np.array(order, np.int64), np.array(values, np.float32)
    high = _high(softened, class_ids[chosen], settings)  # each class's own threshold, too
    return boxes[chosen[high]], softened[high], class_ids[chosen[high]]


def in_pixels(boxes: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """`xyxy` boxes [n, 4] in fractions of an image of (height, width) -> in its pixels."""
    height, width = image_size
    return boxes * np.array([width, height, width, height], np.float32)


def suppress(boxes: np.ndarray, class_ids: np.ndarray, iou: float, at_most: int) -> np.ndarray:
    """Greedy class-wise non-maximum suppression: the indices of the boxes kept, best first, at most `at_most`.

    boxes [n, 4] `xyxy`, class_ids [n], both sorted by falling score. A box goes if a better one of its class overlaps
    it by strictly more than `iou` (as TensorFlow, torchvision and Caffe have it).

    All classes are walked together in the order of the scores, a chunk at a time: once `at_most` boxes stand, no later
    candidate can enter, so thousands of weak candidates cost nothing. The outcome equals class-by-class suppression.
    """
    kept: np.ndarray = np.zeros(0, np.int64)
    sides = np.ascontiguousarray(boxes.T)
    for start in range(0, len(boxes), CHUNK):
        part = np.arange(start, min(start + CHUNK, len(boxes)))
        if len(kept):
            part = part[~_rivals(sides, class_ids, kept, part, iou).any(0)]
            if not len(part):
                continue
        rivals = _rivals(sides, class_ids, part, part, iou)
        dead: np.ndarray = np.zeros(len(part), bool)
        contested = rivals.sum(1) > 1  # each box is its own rival
        chosen = []
        for i in range(len(part)):
            if not dead[i]:
                chosen.append(i)
                if contested[i]:
                    dead |= rivals[i]
        kept = np.concatenate([kept, part[chosen]])
        if len(kept) >= at_most:
            break
    return kept[:at_most]


def _rivals(sides: np.ndarray, class_ids: np.ndarray, some: np.ndarray, others: np.ndarray, iou: float) -> np.ndarray:
    """Whether boxes [n] and [m] are of one class and overlap by more than `iou`: bool [n, m]. sides: [4, all]."""
    x1, y1, x2, y2 = sides[:, some, None]
    u1, v1, u2, v2 = sides[:, None, others]
    width = np.minimum(x2, u2)
    width -= np.maximum(x1, u1)
    np.maximum(width, 0, out=width)
    height = np.minimum(y2, v2)
    height -= np.maximum(y1, v1)
    np.maximum(height, 0, out=height)
    inter = np.multiply(width, height, out=width)
    union = np.add((x2 - x1) * (y2 - y1), (u2 - u1) * (v2 - v1), out=height)
    union -= inter
    union *= iou
    over = inter > union
    over &= class_ids[some][:, None] == class_ids[others][None, :]
    return over


def _candidates(
    logits: np.ndarray, settings: PostSettings, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """The best (anchor, class) pairs whose score is above the threshold, by falling score (equal ones by anchor and class):
    anchor ids, class ids, scores, and whether there are more. About `most` of them, and then all those that are equal
    to the last.

    Found on the logits: few need an exponential at all.
    """
    classes = np.arange(logits.shape[1] - 1)
    objects = logits[:, 1:]
    if settings.classes is not None:
        classes = classes[np.isin(classes, settings.classes)]
        objects = objects[:, classes]
    if not objects.size:
        nothing: np.ndarray = np.zeros(0, np.int64)
        return nothing, nothing, np.zeros(0, np.float32), False
    if settings.activation == "sigmoid":
        lowest, cut = _logit(settings.score), False
        above = objects > lowest
        if np.count_nonzero(above) > 4 * most:
            least = _lower_bound(objects, most)
            if least > lowest:
                above, cut = objects >= least, True
        found = np.flatnonzero(above)
        values = objects[np.divmod(found, len(classes))]
    else:
        lowest, cut = math.log(settings.score) if settings.score > 0 else -np.inf, False
        peak = logits.max(1, keepdims=True)
        found = np.flatnonzero(objects - peak > lowest)  # a superset: the sum in the softmax is at least exp(peak)
        rows, where = np.unique(found // len(classes), return_inverse=True)
        total = np.exp(logits[rows].astype(np.float32) - peak[rows]).sum(1)
        values = np.exp((objects - peak).reshape(-1)[found].astype(np.float32)) / total[where]
        above = values > settings.score
        found, values = found[above], values[above]
    if len(values) > most:
        best = values >= _largest(values, most)
        cut = cut or not best.all()
        found, values = found[best], values[best]
    order = np.argsort(-values, kind="stable")
    anchor_ids, columns = np.divmod(found[order], len(classes))
    scores = values[order].astype(np.float32)
    if settings.activation == "sigmoid":
        scores = (1 / (1 + np.exp(-scores))).astype(np.float32)
    return anchor_ids, classes[columns], scores, bool(cut)


def _lower_bound(values: np.ndarray, rank: int) -> float:
    """Something not above the `rank`-th largest of values [n, m], cheaper than a sort: the `rank`-th largest of the
    maxima of small groups, each of a column in rows far from each other (neighbours are often large together)."""
    parts = -(-3 * rank // values.shape[1])
    rows = len(values) // parts
    if rows < 2:
        return -math.inf
    return _largest(values[: rows * parts].reshape(rows, parts, -1).max(0).reshape(-1), rank)


def _largest(values: np.ndarray, rank: int) -> float:
    """The `rank`-th largest of values [n]; -inf where there are fewer."""
    return float(np.partition(values, -rank)[-rank]) if len(values) >= rank else -math.inf


def _best_of_each_class(class_ids: np.ndarray, limit: int) -> np.ndarray:
    """Of candidates by falling score: the indices of the first `limit` of each class, in order."""
    by_class = np.argsort(class_ids, kind="stable")
    classes = class_ids[by_class]
    within = np.arange(len(classes)) - np.searchsorted(classes, classes) < limit
    return np.sort(by_class[within])


def _logit(score: float) -> float:
    if score <= 0:
        return -math.inf
    return math.log(score / (1 - score)) if score < 1 else math.inf
