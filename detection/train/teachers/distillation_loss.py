"""The loss of distillation: a student's raw predictions against those of a teacher with the same anchors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from detection.train.config_parts import DistillationConfig


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
    trusted: Tensor | None = None,
) -> Tensor:
    """How far a student is from its teacher, a scalar: 0 for a perfect copy. Gradients flow to the student alone.

    encodings [N, A, 4] and logits [N, A, K] of both, with the same anchors, variances and classes. scores: what the
    student's columns are: for "sigmoid" the cross-entropy of every column, for "softmax" that of the row, both less the
    teacher's own entropy (so they are Kullback-Leibler divergences), times temperature squared so that the gradients
    keep their size (Hinton et al. 2015). teacher_scores: the teacher's, if it is of the other kind. background False
    leaves column 0 out of the sigmoid form, for a teacher whose background was never trained (focal).

    Anchors where the teacher sees something count more: minimum + (1 - minimum) * confidence ** power. The boxes are
    compared by smooth L1, each anchor weighted by the teacher's confidence. Both are divided by `normaliser`; None: the
    sum of the teacher's confidences on this process, at least 1 (over processes: `distributed.global_positives` of it).

    trusted bool [N, A] or None: where the teacher's box has a size that is learned from. Elsewhere an anchor counts the
    less the surer the teacher is: what it says of background stays.
    """
    kind = teacher_scores or scores
    with torch.no_grad():
        sure = confidence(teacher_logits, kind)
        weights = config.minimum + (1 - config.minimum) * sure**config.power
        if trusted is not None:
            weights, sure = torch.where(trusted, weights, weights * (1 - sure)), sure * trusted
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
