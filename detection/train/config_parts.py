"""The parts of a run's config: optimiser, schedule, losses, distillation, first weights, moving average; no torch.

Lengths are in the unit of the run's own (`RunConfig.unit`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from msgspec import Meta

from detection.config import Count, NotNegative, Share
from detection.errors import MobileSSDError

Unit = Literal["steps", "epochs", "samples"]
Scheme = Literal["default", "normal", "truncated_normal", "xavier"]


@dataclass(frozen=True)
class OptimizerConfig:
    """kind: "sgd" (momentum), "adamw", or "rmsprop" as TensorFlow computes it (`optimizer.RMSpropTF`).

    lr: the highest learning rate, for a total batch of `TrainConfig.recipe_batch`. betas: AdamW's. decay, epsilon:
    RMSProp's. weight_decay: L2 for SGD and RMSProp (added to the gradient), decoupled for AdamW.
    decay_on: which parameters decay: "weights" (no norms, no biases), "slim" (nor the depthwise weights of the backbone:
    TF-OD on slim's MobileNets), "all" (torchvision, mmdet). backbone_lr, bias_lr: factors (Caffe: biases at 2).
    """

    kind: Literal["sgd", "adamw", "rmsprop"] = "adamw"
    lr: NotNegative = 1e-3
    momentum: Share = 0.9
    nesterov: bool = False
    betas: tuple[Share, Share] = (0.9, 0.999)
    decay: Share = 0.9
    epsilon: NotNegative = 1.0
    weight_decay: NotNegative = 0.01
    decay_on: Literal["weights", "slim", "all"] = "weights"
    backbone_lr: NotNegative = 1.0
    bias_lr: NotNegative = 1.0


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate goes: linearly up from `warmup_lr` over `warmup` steps, then as `kind` says.

    warmup_mode: "before" (TensorFlow: the cosine begins behind the warm-up) or "over" (torchvision, mmdet: it begins at
    step 0, and the warm-up is a factor upon it). final: where a cosine ends, as a share of lr. milestones, gamma:
    "multistep" multiplies by gamma at each; "exponential" at each `decay_every`. hold: epochs over which the rate stays
    as it is (0: every step has its own; torchvision steps its schedule once an epoch).
    """

    kind: Literal["cosine", "multistep", "exponential", "constant"] = "cosine"
    warmup: Count = 100
    warmup_lr: NotNegative = 1e-4
    warmup_mode: Literal["before", "over"] = "before"
    final: Share = 0.0
    milestones: tuple[NotNegative, ...] = ()
    gamma: NotNegative = 0.1
    decay_every: float = 0.0
    hold: NotNegative = 0.0


@dataclass(frozen=True)
class LossConfig:
    """matcher, match_iou: `targets.build_targets`. classification: "softmax" (cross-entropy), "sigmoid" (cross-entropy
    of every column, background included: TF's classic configs), "focal" (sigmoid focal, background all zeros: TF's sync
    configs), or "auto": what the scores of the network are.

    Softmax and sigmoid mine hard negatives: `negatives` a positive, at least `minimum_negatives` an image;
    `mining_nms` above 0 is TF's miner (boxes that overlap a higher loss by more than this are left out; TF has 0.99).
    localization: "smooth_l1" of the encodings (`beta`, summed over the four; `code_size` divides by 4) or an IoU loss
    of the decoded boxes. Both are divided by the positives of the whole batch.

    class_weights: how much the classification loss of a positive anchor counts, by class name, 1 where none is given;
    "balanced": the inverse of how many boxes the class has in the training data, 1 for the mean box, from 0.1 to 10.
    """

    matcher: Literal["tf", "liu", "torchvision"] = "tf"
    match_iou: Share = 0.5
    classification: Literal["auto", "softmax", "sigmoid", "focal"] = "auto"
    negatives: NotNegative = 3.0
    minimum_negatives: Count = 3
    mining_nms: Share = 0.0
    alpha: Share = 0.75
    gamma: NotNegative = 2.0
    localization: Literal["smooth_l1", "giou", "diou", "ciou"] = "smooth_l1"
    beta: NotNegative = 1.0
    code_size: bool = False
    classification_weight: NotNegative = 1.0
    localization_weight: NotNegative = 1.0
    class_weights: Literal["none", "balanced"] | dict[str, NotNegative] = "none"

    def for_scores(self, scores: str) -> LossConfig:
        """The same with "auto" settled for a network whose `SSDSpec.scores` are these. Raises MobileSSDError where the
        chosen loss would train other scores than the network gives."""
        chosen = scores if self.classification == "auto" else self.classification
        if (chosen == "softmax") != (scores == "softmax"):
            raise MobileSSDError(f"loss.classification: {chosen} does not fit this network, whose scores are {scores}")
        return dataclasses.replace(self, classification=chosen)  # type: ignore[arg-type]


@dataclass(frozen=True)
class DistillationConfig:
    """Learning from another network with the same anchors and classes (`teachers.distillation_loss`).

    teacher: name or file; None: no distillation. scores, boxes: weights of the two parts. temperature: softens both
    score tables. An anchor counts `minimum + (1 - minimum) * confidence ** power`, its teacher's best object score.
    """

    teacher: str | None = None
    scores: NotNegative = 1.0
    boxes: NotNegative = 1.0
    temperature: Annotated[float, Meta(ge=1e-3)] = 1.0
    minimum: Share = 0.1
    power: NotNegative = 1.0


@dataclass(frozen=True)
class InitialConfig:
    """First weights of what no checkpoint fills (`weight_init.initialise_network`). "default" leaves them as built.

    backbone, extras (a pyramid too), heads: a scheme and its standard deviation. class_bias: start of the class biases;
    -4.6 where a focal loss needs every score to begin at 0.01 (Lin et al. 2017).
    """

    backbone: Scheme = "default"
    backbone_std: NotNegative = 0.03
    extras: Scheme = "default"
    extras_std: NotNegative = 0.03
    heads: Scheme = "default"
    heads_std: NotNegative = 0.03
    class_bias: float = 0.0


@dataclass(frozen=True)
class EMAConfig:
    """Moving average of the weights, which is what is evaluated and kept. decay 0: none. ramp: early steps decay less,
    min(decay, (1 + step) / (10 + step)), as TensorFlow's ExponentialMovingAverage(num_updates)."""

    decay: Share = 0.998
    ramp: bool = True


class RunConfig(Protocol):
    """What optimiser, schedule and frozen parts ask of the config of a run, of a detector or of a classifier."""

    @property
    def batch(self) -> int: ...
    @property
    def recipe_batch(self) -> int | None: ...
    @property
    def rescale_lr(self) -> bool: ...
    @property
    def unit(self) -> Unit: ...
    @property
    def length(self) -> float: ...
    @property
    def optimizer(self) -> OptimizerConfig: ...
    @property
    def schedule(self) -> ScheduleConfig: ...
    @property
    def freeze(self) -> int | tuple[str, ...]: ...
    @property
    def norms(self) -> Literal["train", "frozen"]: ...
