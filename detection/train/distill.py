"""Learning from a teacher: from a network with the same anchors, score by score, or from boxes that anything wrote.

Imports torch (inside the functions that need it) and numpy. `distillation_loss` compares raw predictions;
`merge_teacher_boxes` mixes boxes with the real labels of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detection.core.boxes import iou_matrix
from detection.train.config import DistillationConfig

if TYPE_CHECKING:
    from torch import Tensor


def confidence(logits: Tensor, scores: str) -> Tensor:
    """A teacher's best object score at each anchor [N, A], from logits [N, A, K]; scores: "sigmoid" or "softmax"."""
    probabilities = logits.float().sigmoid() if scores == "sigmoid" else logits.float().softmax(-1)
    return probabilities[..., 1:].amax(-1)


def distillation_loss(
    encodings: Tensor,
    logits: Tensor,
    teacher_encodings: Tensor,
    teacher_logits: Tensor,
    config: DistillationConfig,
    *,
    scores: str = "sigmoid",
    teacher_scores: str | None = None,
    background: bool = True,
    normaliser: Tensor | None = None,
) -> Tensor:
    """How far a student is from its teacher, a scalar: 0 for a perfect copy. Gradients flow to the student alone.

    encodings [N, A, 4] and logits [N, A, K] of both, with the same anchors, variances and classes. scores: what the
    student's columns are: for "sigmoid" the cross-entropy of every column, for "softmax" that of the row, both less the
    teacher's own entropy (so they are Kullback-Leibler divergences), times temperature squared so that the gradients
    keep their size (Hinton et al. 2015). teacher_scores: the teacher's, if it is of the other kind. background False
    leaves column 0 out of the sigmoid form, for a teacher whose background was never trained (focal).

    Anchors where the teacher sees something count more: floor + (1 - floor) * confidence ** power. The boxes are
    compared by smooth L1, each anchor weighted by the teacher's confidence. Both are divided by `normaliser`; None: the
    sum of the teacher's confidences on this process, at least 1 (over processes: `losses.global_positives` of it).
    """
    import torch
    import torch.nn.functional as F

    kind = teacher_scores or scores
    with torch.no_grad():
        sure = confidence(teacher_logits, kind)
        weights = config.floor + (1 - config.floor) * sure**config.power
        divisor = sure.sum().clamp(min=1) if normaliser is None else normaliser
        wanted = _softened(teacher_logits.float(), kind, config.temperature)
    own = logits.float() / config.temperature
    if scores == "sigmoid":
        first = 0 if background else 1
        own, wanted = own[..., first:], wanted[..., first:]
        entropy = -(torch.xlogy(wanted, wanted) + torch.xlogy(1 - wanted, 1 - wanted))
        table = F.binary_cross_entropy_with_logits(own, wanted, reduction="none") - entropy
    else:
        wanted = wanted / wanted.sum(-1, keepdim=True)
        table = torch.xlogy(wanted, wanted) - wanted * own.log_softmax(-1)
    by_anchor = table.sum(-1) * config.temperature**2
    boxes = F.smooth_l1_loss(encodings.float(), teacher_encodings.float().detach(), reduction="none").sum(-1)
    return (config.scores * (by_anchor * weights).sum() + config.boxes * (boxes * sure).sum()) / divisor


def _softened(logits: Tensor, scores: str, temperature: float) -> Tensor:
    softened = logits / temperature
    return softened.sigmoid() if scores == "sigmoid" else softened.softmax(-1)


@dataclass(frozen=True)
class Merged:
    """Real and taught boxes of a picture: boxes float32 [n, 4], labels int64 [n], scores float32 [n], ignore bool [n].

    The real ones stand first, in their order, unchanged.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    ignore: np.ndarray


def merge_teacher_boxes(
    boxes: np.ndarray,
    labels: np.ndarray,
    teacher_boxes: np.ndarray,
    teacher_labels: np.ndarray,
    teacher_scores: np.ndarray,
    *,
    scores: np.ndarray | None = None,
    ignore: np.ndarray | None = None,
    keep: float = 0.5,
    doubt: float = 0.2,
    iou: float = 0.5,
    annotated: np.ndarray | None = None,
) -> Merged:
    """The boxes of a picture with what a teacher adds: soft labels where it is sure, ignore regions where it is not.

    All boxes xyxy in the same unit, [n, 4] and [m, 4], labels 0..C-1. A teacher's box of score >= keep becomes a target
    with that score, one of doubt <= score < keep an ignore region, the rest are dropped. Real labels win: a teacher's
    box is dropped where it overlaps a real one of its class with IoU >= iou. annotated bool [C]: classes that the real
    labels hold completely, of which the teacher adds nothing; None: none is complete. A doubtful box that overlaps a
    real or kept box of any class with IoU >= iou is dropped too: something certain is known there.
    scores, ignore: of the real boxes (1 and False without them); a real ignore region stands in nobody's way.
    """
    count = len(labels)
    boxes, labels = np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(labels, np.int64).reshape(-1)
    own_scores = np.ones(count, np.float32) if scores is None else np.asarray(scores, np.float32)
    own_ignore = np.zeros(count, bool) if ignore is None else np.asarray(ignore, bool)
    taught = np.asarray(teacher_boxes, np.float32).reshape(-1, 4)
    taught_labels = np.asarray(teacher_labels, np.int64).reshape(-1)
    taught_scores = np.asarray(teacher_scores, np.float32).reshape(-1)

    real, real_labels = boxes[~own_ignore], labels[~own_ignore]
    overlap = iou_matrix(taught, real) >= iou
    welcome = ~(overlap & (taught_labels[:, None] == real_labels[None])).any(1)
    if annotated is not None:
        welcome &= ~np.asarray(annotated, bool)[taught_labels]
    sure = welcome & (taught_scores >= keep)
    doubtful = welcome & (taught_scores >= doubt) & ~sure & ~overlap.any(1)
    doubtful &= ~(iou_matrix(taught, taught[sure]) >= iou).any(1)

    def joined(own: np.ndarray, added: np.ndarray) -> np.ndarray:
        return np.concatenate([own, added[sure], added[doubtful]])

    return Merged(
        joined(boxes, taught),
        joined(labels, taught_labels),
        joined(own_scores, taught_scores),
        np.concatenate([own_ignore, np.zeros(int(sure.sum()), bool), np.ones(int(doubtful.sum()), bool)]),
    )
