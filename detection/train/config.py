"""What a training run is, in plain numbers: dataclasses whose fields are the keys of configs/*.yaml.

Imports no torch. Lengths (`milestones`, `decay_every`, `evaluate_every`, `keep_every`) are in the unit in which the
length of the run is given: whichever one of `steps`, `epochs` and `samples` is set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from detection import config as strict
from detection.errors import MobileSSDError
from detection.train.input.augment import PRESETS, Augmentation
from detection.train.limits import check

OLD_NAMES = {"pict" + "ures": "samples"}  # keys of runs and recipes that were written before 0.2
Unit = Literal["steps", "epochs", "samples"]
Scheme = Literal["default", "normal", "truncated_normal", "xavier"]


@dataclass(frozen=True)
class OptimizerConfig:
    """kind: "sgd" (momentum), "adamw", or "rmsprop" as TensorFlow computes it (`optim.RMSpropTF`).

    lr: the highest learning rate, for a total batch of `TrainConfig.recipe_batch`. betas: AdamW's. decay, epsilon:
    RMSProp's. weight_decay: L2 for SGD and RMSProp (added to the gradient), decoupled for AdamW.
    decay_on: which parameters decay: "weights" (no norms, no biases), "slim" (nor the depthwise weights of the body:
    TF-OD on slim's MobileNets), "all" (torchvision, mmdet). backbone_lr, bias_lr: factors (Caffe: biases at 2).
    """

    kind: Literal["sgd", "adamw", "rmsprop"] = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    decay: float = 0.9
    epsilon: float = 1.0
    weight_decay: float = 0.01
    decay_on: Literal["weights", "slim", "all"] = "weights"
    backbone_lr: float = 1.0
    bias_lr: float = 1.0


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate goes: linearly up from `warmup_lr` over `warmup` steps, then as `kind` says.

    warmup_mode: "before" (TensorFlow: the cosine begins behind the warm-up) or "over" (torchvision, mmdet: it begins at
    step 0, and the warm-up is a factor upon it). final: where a cosine ends, as a share of lr. milestones, gamma:
    "multistep" multiplies by gamma at each; "exponential" at each `decay_every`. hold: epochs over which the rate stays
    as it is (0: every step has its own; torchvision steps its schedule once an epoch).
    """

    kind: Literal["cosine", "multistep", "exponential", "constant"] = "cosine"
    warmup: int = 100
    warmup_lr: float = 1e-4
    warmup_mode: Literal["before", "over"] = "before"
    final: float = 0.0
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    decay_every: float = 0.0
    hold: float = 0.0


@dataclass(frozen=True)
class LossConfig:
    """matcher, match_iou: `targets.build_targets`. classification: "softmax" (cross-entropy), "sigmoid" (cross-entropy
    of every column, background included: TF's classic configs), "focal" (sigmoid focal, background all zeros: TF's sync
    configs), or "auto": what the scores of the network are.

    Softmax and sigmoid mine hard negatives: `negatives` a positive, at least `minimum_negatives` an image;
    `mining_nms` above 0 is TF's miner (boxes that overlap a higher loss by more than this are left out; TF has 0.99).
    localisation: "smooth_l1" of the encodings (`beta`, summed over the four; `code_size` divides by 4) or an IoU loss
    of the decoded boxes. Both are divided by the positives of the whole batch.
    """

    matcher: Literal["tf", "liu", "torchvision"] = "tf"
    match_iou: float = 0.5
    classification: Literal["auto", "softmax", "sigmoid", "focal"] = "auto"
    negatives: float = 3.0
    minimum_negatives: int = 3
    mining_nms: float = 0.0
    alpha: float = 0.75
    gamma: float = 2.0
    localisation: Literal["smooth_l1", "giou", "diou", "ciou"] = "smooth_l1"
    beta: float = 1.0
    code_size: bool = False
    classification_weight: float = 1.0
    localisation_weight: float = 1.0

    def for_scores(self, scores: str) -> LossConfig:
        """The same with "auto" settled for a network whose `SSDSpec.scores` are these. Raises MobileSSDError where the
        chosen loss would train other scores than the network gives."""
        chosen = scores if self.classification == "auto" else self.classification
        if (chosen == "softmax") != (scores == "softmax"):
            raise MobileSSDError(f"loss.classification: {chosen} does not fit this network, whose scores are {scores}")
        return dataclasses.replace(self, classification=chosen)  # type: ignore[arg-type]


@dataclass(frozen=True)
class DistillationConfig:
    """Learning from another network with the same anchors and classes (`distill.distillation_loss`).

    teacher: name or file; None: no distillation. scores, boxes: weights of the two parts. temperature: softens both
    score tables. An anchor counts `floor + (1 - floor) * confidence ** power`, its teacher's best object score.
    """

    teacher: str | None = None
    scores: float = 1.0
    boxes: float = 1.0
    temperature: float = 1.0
    floor: float = 0.1
    power: float = 1.0


@dataclass(frozen=True)
class InitialConfig:
    """First weights of what no checkpoint fills (`initial.initialise_network`). "default" leaves them as built.

    backbone, extras (a pyramid too), heads: a scheme and its standard deviation. class_bias: start of the class biases;
    -4.6 where a focal loss needs every score to begin at 0.01 (Lin et al. 2017).
    """

    backbone: Scheme = "default"
    backbone_std: float = 0.03
    extras: Scheme = "default"
    extras_std: float = 0.03
    heads: Scheme = "default"
    heads_std: float = 0.03
    class_bias: float = 0.0


@dataclass(frozen=True)
class EMAConfig:
    """Moving average of the weights, which is what is evaluated and kept. decay 0: none. ramp: early steps decay less,
    min(decay, (1 + step) / (10 + step)), as TensorFlow's ExponentialMovingAverage(num_updates)."""

    decay: float = 0.998
    ramp: bool = True


@dataclass(frozen=True)
class TrainConfig:
    """One run. The defaults are configs/finetune.yaml: a small data set, from COCO weights, on a laptop.

    model, options: zoo name and its options (alpha, layout ...); None: the network of `weights`, whose one option is
    aspect_ratios. weights: name or file of a detector or of an ImageNet body; None: from scratch. input_size: pixels,
    one number or [height, width]; None: the model's own.
    batch: images of one step of the optimiser, over all processes. accumulate: parts in which a process computes its
    share. steps | epochs | samples (images seen): the length of the run, exactly one of them. recipe_batch: the batch
    that lr and warm-up are meant for (None: `batch`); with rescale_lr another batch scales lr with it and the warm-up
    against it.
    norm_momentum: of the batch norms, PyTorch's sense (TF's decay is 1 minus it); None: the model's. norms: "train" or
    "frozen". freeze: that many stages of the backbone (`freeze.stages`), or prefixes of module names.
    crowd, difficult: what becomes of such boxes: "ignore" (no target, no background), "drop" or "train".
    clip_norm: largest norm of the gradient, 0 for none. precision: "auto" asks the processor. compile: "auto" measures.
    round_to_int8: the network computes as an int8 file would, for `mobilessd quantize` afterwards (`rounding`).
    evaluate_every: 0 for once, at the end. keep_every: weights that stay beside the best and the last, 0 for none.
    log_every: steps. patience: evaluations without a better mAP before the run ends, 0 for never.
    workers: processes that load images. cache_mb: memory for decoded images.
    """

    model: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    input_size: int | tuple[int, int] | None = None
    initial: InitialConfig = InitialConfig()
    batch: int = 16
    accumulate: int = 1
    steps: int | None = None
    epochs: float | None = None
    samples: int | None = None
    recipe_batch: int | None = None
    rescale_lr: bool = True
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    distillation: DistillationConfig = DistillationConfig()
    augmentation: Augmentation = Augmentation(crop="tf", expand=0.25, photometric="torchvision")
    ema: EMAConfig = EMAConfig()
    norms: Literal["train", "frozen"] = "train"
    norm_momentum: float | None = None
    freeze: int | tuple[str, ...] = 0
    crowd: Literal["ignore", "drop", "train"] = "ignore"
    difficult: Literal["ignore", "drop", "train"] = "ignore"
    clip_norm: float = 10.0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    round_to_int8: bool = False
    compile: Literal["auto"] | bool = "auto"
    evaluate_every: float = 1000
    keep_every: float = 0
    log_every: int = 20
    patience: int = 0
    seed: int = 0
    workers: int | Literal["auto"] = "auto"
    cache_mb: float = 1024

    def __post_init__(self) -> None:
        if all(getattr(self, unit) is None for unit in ("steps", "epochs", "samples")):
            object.__setattr__(self, "samples", 10_000)
        check(self)

    @property
    def unit(self) -> Unit:
        """The unit of all lengths of this run."""
        return "steps" if self.steps is not None else "epochs" if self.epochs is not None else "samples"

    @property
    def length(self) -> float:
        """The length of the run, in `unit`."""
        return getattr(self, self.unit)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for YAML, JSON and cards; `from_dict` reads it back."""
        return _plain(dataclasses.asdict(self))

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    @staticmethod
    def from_dict(data: Mapping[str, Any], name: str = "") -> TrainConfig:
        """The inverse of `to_dict`. Raises MobileSSDError, one line, for unknown keys and wrong values."""
        data = {OLD_NAMES.get(key, key): value for key, value in data.items()}
        return strict.build(TrainConfig, data, name, {Augmentation: _augmentation})


def _augmentation(value: Any, where: str) -> Augmentation:
    """A preset's name, or keys and values upon one (`preset`; without it upon Augmentation's own defaults)."""
    value = {"preset": value} if isinstance(value, str) else value
    if not isinstance(value, dict):
        raise MobileSSDError(f"{where}: expected keys and values or a preset, found {value!r}")
    rest = dict(value)
    preset = rest.pop("preset", None)
    if preset is not None and preset not in PRESETS:
        raise MobileSSDError(f"{where}: unknown preset {preset!r}; there are {', '.join(PRESETS)}")
    changed = strict.build(_Nested, {"augmentation": rest}).augmentation
    return dataclasses.replace(PRESETS[preset], **{key: getattr(changed, key) for key in rest}) if preset else changed


@dataclass(frozen=True)
class _Nested:
    augmentation: Augmentation


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value
