"""From raw encodings and logits to detections: score threshold, decode, class-wise NMS, the best of all classes.

The one post-processing: evaluation, detection, live and every runtime go through `select`, and the script of a bundle
holds its source, so that what is measured is what runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from detection.boxes.candidates import candidates
from detection.boxes.detections import Detections
from detection.boxes.geometry import BoxCoder
from detection.boxes.suppression import cornered, overlaps, suppress

DEFAULT_CODER = BoxCoder()
VOTERS = (
    0.7  # overlap from which on a box of its class votes on a kept box: with 0.65 to 0.8 AP is less than 0.002 lower
)
SHARE = 0.5  # of a kept box's score that a voter needs: all weaker ones too cost 0.0005 of AP
VOTING = 200  # candidates of one view that may vote: measured, 800 give the same AP in thrice the time
SIGMA = 0.5  # of soft suppression, the paper's
HEAD = 4  # candidates looked at first, for each detection wanted: mostly enough, see `select`; 3, 5 and 6 take longer


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
    most = max(HEAD * settings.max_detections, VOTING)
    voting = settings.merge == "vote"
    lowest = settings.score * SHARE if voting else settings.score
    while True:
        anchor_ids, class_ids, scores, cut = candidates(logits, settings.activation, settings.classes, lowest, most)
        if settings.class_scores is not None and not voting:
            high = _high(scores, class_ids, settings)
            anchor_ids, class_ids, scores = anchor_ids[high], class_ids[high], scores[high]
        if settings.per_class is not None:
            order = _best_of_each_class(class_ids, settings.per_class)
            anchor_ids, class_ids, scores = anchor_ids[order], class_ids[order], scores[order]
        taken = encodings.take(anchor_ids, 0).astype(np.float32, copy=False)
        boxes = coder.decode(taken, anchors.take(anchor_ids, 0)).clip(0, 1)
        found = merged(boxes, scores, class_ids, settings, VOTING)
        if not cut or len(found[0]) >= settings.max_detections and found[1][-1] >= scores[-1]:
            return found
        most *= 4


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
    voter = voters[columns]
    inter, union = overlaps(*cornered(boxes), kept[places], voter)
    votes = np.flatnonzero(inter > VOTERS * union)
    places, voter = places[votes], voter[votes]
    own, theirs = scores[kept].astype(np.float64), scores[voter].astype(np.float64)
    total = own + np.bincount(places, theirs, len(kept))
    sides = zip(boxes[kept].T, boxes[voter].T)
    sums = [own * mine + np.bincount(places, theirs * other, len(kept)) for mine, other in sides]
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


def _best_of_each_class(class_ids: np.ndarray, limit: int) -> np.ndarray:
    """Of candidates by falling score: the indices of the first `limit` of each class, in order."""
    by_class = np.argsort(class_ids, kind="stable")
    classes = class_ids[by_class]
    within = np.arange(len(classes)) - np.searchsorted(classes, classes) < limit
    return np.sort(by_class[within])
