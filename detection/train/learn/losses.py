"""The losses of SSD, vectorised over the batch: classification with or without hard-negative mining, and boxes.

Everything is computed in float32. What is masked out is multiplied by zero and not skipped, so that a prediction that is
not finite makes the loss not finite, wherever it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import ops

from detection.boxes.class_names import ClassNames
from detection.boxes.geometry import BoxCoder
from detection.train.config_parts import LossConfig
from detection.train.distributed import global_positives
from detection.train.learn.targets import Targets

_CODER = BoxCoder()
BALANCED = (0.1, 10.0)  # the least and the largest weight of a class


@dataclass(frozen=True)
class Losses:
    """Scalars, weighted and divided: `total` is the sum of the parts. positives: of this batch, undivided.
    distillation: None without a teacher."""

    total: Tensor
    classification: Tensor
    localization: Tensor
    positives: Tensor
    distillation: Tensor | None = None

    def with_distillation(self, value: Tensor) -> Losses:
        """The same with the loss from a teacher added."""
        return replace(self, total=self.total + value, distillation=value)

    def parts(self) -> dict[str, Tensor]:
        """What a progress line shows, by name, detached."""
        found = {"loss": self.total, "classification": self.classification, "localization": self.localization}
        if self.distillation is not None:
            found["distillation"] = self.distillation
        return {name: value.detach() for name, value in found.items()}


def detection_losses(
    encodings: Tensor,
    logits: Tensor,
    targets: Targets,
    config: LossConfig,
    anchors: Tensor | None = None,
    normaliser: Tensor | None = None,
    *,
    coder: BoxCoder = _CODER,
    class_weights: Tensor | None = None,
) -> Losses:
    """The losses of raw predictions: encodings [N, A, 4], logits [N, A, K] with K = C + 1, background in column 0.

    config: `LossConfig.for_scores` has settled "auto". anchors [A, 4] cxcywh in fractions: needed for the IoU losses
    and for TF's miner. normaliser: positives of the global batch (`global_positives`); None: of this batch and process.

    class_weights float32 [C] (`class_weights_of`): factors of the classification loss where an anchor is positive.

    Boxes with a score below 1 (pseudo-labels, mixup) ask their class column for that score, the background for the rest,
    and count that much in the box loss.
    """
    encodings, logits = encodings.float(), logits.float()
    loss = CLASSIFICATION[config.classification]
    per_anchor = loss.of_anchors(logits, targets, config)
    kept = ~targets.ignore
    if config.mining_nms > 0 and loss.background:
        kept &= survivors(encodings, per_anchor, kept, _needed(anchors), coder, config.mining_nms)
    positive = targets.positive & kept
    chosen = kept
    if loss.background:
        negative = kept & ~targets.positive
        chosen = positive | hardest(per_anchor, negative, positive.sum(1), config.negatives, config.minimum_negatives)
    boxes = box_loss(encodings, targets, config, anchors, coder)

    if class_weights is not None:  # behind the mining, which ranks backgrounds: their factor is 1
        per_anchor = per_anchor * F.pad(class_weights, (1, 0), value=1.0)[targets.classes + 1]
    divisor = global_positives(targets.positives) if normaliser is None else normaliser
    classification = config.classification_weight * (per_anchor * chosen).sum() / divisor
    localization = config.localization_weight * (boxes * (targets.scores * positive)).sum() / divisor
    return Losses(classification + localization, classification, localization, targets.positives)


def class_weights_of(
    config: LossConfig, class_names: Sequence[str], counts: Sequence[int], device: str = "cpu"
) -> Tensor | None:
    """`LossConfig.class_weights` as float32 [C]; None where all are 1. counts: boxes of each class in the training data.
    Raises MobileSSDError, one line, for a class that the data do not have."""
    wanted = config.class_weights
    if wanted == "none" or not wanted:
        return None
    weights = torch.ones(len(class_names))
    if isinstance(wanted, str):
        number = torch.tensor(counts, dtype=torch.float32)
        mean = number.sum() / (number > 0).sum().clamp(min=1)
        weights = torch.where(number > 0, (mean / number).clamp(*BALANCED), 1.0)
    else:
        for name, weight in wanted.items():
            weights[ClassNames(class_names).choose(name, "loss.class_weights")] = weight
    return weights.to(device)


def softmax_loss(logits: Tensor, targets: Targets, config: LossConfig) -> Tensor:
    """Cross-entropy of the softmax [N, A] (Liu et al., torchvision): -s log p_class - (1 - s) log p_background.

    Unknown classes are left out of the softmax, except where the anchor's own target is one of them.
    """
    column = (targets.classes + 1)[..., None]
    own = logits.gather(2, column)[..., 0]
    background = logits[..., 0]
    if targets.unknown is None:
        total = logits.logsumexp(2)
    else:
        hidden = _columns(targets.unknown)
        total = (logits + torch.where(hidden, -torch.inf, 0.0)[:, None]).logsumexp(2)
        own_hidden = hidden.gather(1, column[..., 0])
        total = torch.where(own_hidden, torch.logaddexp(total, own), total)
    return total - targets.scores * own - (1 - targets.scores) * background


def sigmoid_loss(logits: Tensor, targets: Targets, config: LossConfig) -> Tensor:
    """Binary cross-entropy summed over all columns [N, A], background trained like a class (TF's weighted_sigmoid):
    1 at an unmatched anchor, 0 at a matched one (1 - s for a target of score s)."""
    column = (targets.classes + 1)[..., None]
    own = logits.gather(2, column)[..., 0]
    every = F.softplus(logits)  # of the cross-entropy softplus(x) - target * x, what needs all columns
    if targets.unknown is not None:
        every = every * _counted(targets, column)
    return every.sum(2) - targets.scores * own - (1 - targets.scores) * logits[..., 0]


def focal_loss(logits: Tensor, targets: Targets, config: LossConfig) -> Tensor:
    """Sigmoid focal loss summed over all columns [N, A]; a background anchor's target is all zeros, and the background
    column's always 0 (Lin et al. 2017; TF's encode_background_as_zeros).

    |target - p| ** gamma stands for (1 - p_t) ** gamma: the same for targets of score 1 (torchvision.ops.sigmoid_focal_loss),
    and for others smallest at p = target, which theirs is not (quality focal loss, Li et al. 2020).
    """
    column = (targets.classes + 1)[..., None]
    wanted = torch.zeros_like(logits).scatter_(2, column, targets.scores[..., None])
    entropy = F.softplus(logits) - wanted * logits
    balance = (1 - config.alpha) + (2 * config.alpha - 1) * wanted
    loss = balance * (wanted - logits.sigmoid()).abs().pow(config.gamma) * entropy
    if targets.unknown is not None:
        loss = loss * _counted(targets, column)
    return loss.sum(2)


@dataclass(frozen=True)
class ClassificationLoss:
    """of_anchors: the loss of each anchor [N, A], before mining. background: column 0 is trained as a class of its own,
    and hard negatives are mined; without it a loss learns from every anchor, and column 0 means nothing."""

    of_anchors: Callable[[Tensor, Targets, LossConfig], Tensor]
    background: bool = True


# By the names that `LossConfig.classification` lists.
CLASSIFICATION = {
    "softmax": ClassificationLoss(softmax_loss),
    "sigmoid": ClassificationLoss(sigmoid_loss),
    "focal": ClassificationLoss(focal_loss, background=False),
}


def box_loss(
    encodings: Tensor, targets: Targets, config: LossConfig, anchors: Tensor | None, coder: BoxCoder
) -> Tensor:
    """The box loss of every anchor [N, A]; only the positive ones mean anything.

    "smooth_l1": Huber of the four codes, summed (and a quarter of it with `code_size`); "giou", "diou", "ciou": of the
    decoded boxes in fractions of the input (torchvision.ops).
    """
    if config.localization == "smooth_l1":
        loss = F.smooth_l1_loss(encodings, targets.encodings, reduction="none", beta=config.beta).sum(2)
        return loss / 4 if config.code_size else loss
    functions = {
        "giou": ops.generalized_box_iou_loss,
        "diou": ops.distance_box_iou_loss,
        "ciou": ops.complete_box_iou_loss,
    }
    here, whole = targets.positive[..., None], encodings.new_tensor([0.0, 0.0, 1.0, 1.0])
    codes = torch.where(here, encodings, 0.0)  # what other anchors say may be too far out to be decoded
    found = torch.where(here, coder.decode(codes, _needed(anchors).expand_as(codes)), whole)
    return functions[config.localization](found, torch.where(here, targets.boxes, whole)) + 0 * encodings.sum(2)


@torch.no_grad()
def hardest(loss: Tensor, negative: Tensor, positives: Tensor, ratio: float = 3.0, minimum: int = 0) -> Tensor:
    """Hard-negative mining of each image: bool [N, A], the negatives with the highest loss.

    loss [N, A]; negative bool [N, A]: those that may be chosen; positives [N]. An image gives `ratio` a positive, at
    least `minimum` (TF's V2 configs 3; Liu, torchvision, TF's V1 configs 0: an image without objects teaches nothing).
    Ranked by the classification loss itself, which for a background anchor of a softmax is -log p_background: the rule
    of Caffe (MAX_NEGATIVE), torchvision and TensorFlow. Equal losses: the lower anchor first.
    """
    ranked = loss.masked_fill(~negative, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(ranked)
    rank.scatter_(1, ranked, torch.arange(loss.shape[1], device=loss.device).expand_as(ranked))
    wanted = (ratio * positives).floor().clamp(min=minimum)
    return negative & (rank < wanted[:, None])


@torch.no_grad()
def survivors(
    encodings: Tensor, loss: Tensor, kept: Tensor, anchors: Tensor, coder: BoxCoder, iou: float = 0.99
) -> Tensor:
    """What TF's HardExampleMiner lets through: bool [N, A], after non-maximum suppression of the decoded boxes by loss.

    A box that overlaps one of a higher loss in the same image by more than `iou` is left out, a positive too (it is
    still counted in the normaliser, as in TensorFlow). TF's further limit of 3000 boxes an image is left out: it is
    above the number of anchors of its networks, and far above what mining chooses in others.
    """
    boxes = coder.decode(encodings, anchors.expand_as(encodings))
    image, anchor = kept.nonzero(as_tuple=True)
    chosen = ops.batched_nms(boxes[image, anchor], loss[image, anchor], image, iou)
    result = torch.zeros_like(kept)
    result[image[chosen], anchor[chosen]] = True
    return result


def _columns(unknown: Tensor) -> Tensor:
    """Unknown classes [N, C] -> unknown columns [N, C + 1]: the background is always known."""
    return F.pad(unknown, (1, 0))


def _counted(targets: Targets, column: Tensor) -> Tensor:
    """Weights [N, A, K]: 0 for unknown classes, 1 for the others and for an anchor's own target."""
    assert targets.unknown is not None
    weights = (~_columns(targets.unknown)).float()[:, None].repeat(1, column.shape[1], 1)
    return weights.scatter_(2, column, 1.0)


def _needed(anchors: Tensor | None) -> Tensor:
    if anchors is None:
        raise ValueError("this loss decodes boxes and needs the anchors")
    return anchors
