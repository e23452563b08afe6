"""What a training run is, in plain numbers: dataclasses (`config_parts`) whose fields are the keys of configs/*.yaml.

No torch. Lengths (`milestones`, `decay_every`, `evaluate_every`, `keep_every`) are in the unit in which the
length of the run is given: whichever one of `steps`, `epochs` and `samples` is set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import yaml
from msgspec import Meta

from detection.config import BatchSize, Count, NotNegative, Positive, Share, Workers, build, check, plain
from detection.errors import MobileSSDError, quoted
from detection.train.config_parts import (
    DistillationConfig,
    EMAConfig,
    InitialConfig,
    LossConfig,
    OptimizerConfig,
    ScheduleConfig,
    Unit,
)
from detection.train.input.augment import PRESETS, Augmentation

OLD_NAMES = {  # keys of runs and recipes that were written before 0.2: the same under the names of today
    "pictures": "samples",
    "loss.localisation": "localization",
    "loss.localisation_weight": "localization_weight",
    "distillation.floor": "minimum",
}


@dataclass(frozen=True)
class TrainConfig:
    """One run. The defaults are configs/finetune.yaml: a small data set, from COCO weights, on a laptop.

    model, options: zoo name and its options (alpha, layout ...); None: the network of `weights`, whose options are
    aspect_ratios and stride8. weights: name or file of a detector or of an ImageNet backbone; None: from scratch.
    input_size: pixels, one number or [height, width]; None: the model's own.
    input_sizes: sizes to learn at, one a step in turn by chance, as often as each is named; () is input_size alone, which
    the result has and at which it is evaluated in any case. trusted_boxes: for each of them [least, most], the sides of
    boxes (square root of the area, pixels of that input) that are learned from; () is `scales.usual_range`.
    batch: images of one step of the optimiser, over all processes. accumulate: parts in which a process computes its
    share. steps | epochs | samples (images seen): the length of the run, exactly one of them. recipe_batch: the batch
    that lr and warm-up are meant for (None: `batch`); with rescale_lr another batch scales lr with it and the warm-up
    against it.
    replanned: [step, steps] pairs: from this step on the schedule was that of a run of so many steps in all, because the
    clock said so (`--time-budget`); a run of this config does the same.
    norm_momentum: of the batch norms, PyTorch's sense (TF's decay is 1 minus it); None: the model's. norms: "train" or
    "frozen". norm_images: on so many of the training images norms that were folded away are rebuilt. freeze: that many
    stages of the backbone (`freeze.stages`), or prefixes of module names.
    balanced_sampling: an image is drawn in proportion to (f / g) ** this, g being the share of images that show its rarest
    class and f that of the most frequent class; 0: all alike, 0.5: as LVIS (arXiv 1908.03195).
    crowd, difficult: what becomes of such boxes: "ignore" (no target, no background), "drop" or "train".
    clip_norm: largest norm of the gradient, 0 for none. precision, compile: "auto" measures.
    round_to_int8: the network computes as an int8 file would, for `mobilessd quantize` afterwards (`rounding`).
    evaluate_every: 0 for once, at the end. evaluation_share: of a run's time, for evaluations; fewer are made where it is
    not enough (`plan.evaluations`), 1 for as many as asked for. keep_every: weights that stay beside the best and the
    last, 0 for none.
    log_every: steps. log: where numbers go besides the run's own files (`loggers`), which must be installed then; None:
    TensorBoard where it is. patience: evaluations without a better mAP before the run ends, 0 for never.
    workers: processes that load images. cache_mb: memory for decoded images.
    """

    model: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    input_size: int | tuple[Positive, Positive] | None = None
    input_sizes: tuple[int | tuple[Positive, Positive], ...] = ()
    trusted_boxes: tuple[tuple[NotNegative, NotNegative], ...] = ()
    initial: InitialConfig = InitialConfig()
    batch: BatchSize = 16
    accumulate: BatchSize = 1
    steps: Positive | None = None
    epochs: Annotated[float, Meta(ge=1e-9)] | None = None
    samples: Positive | None = None
    replanned: tuple[tuple[int, int], ...] = ()
    recipe_batch: BatchSize | None = None
    rescale_lr: bool = True
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    distillation: DistillationConfig = DistillationConfig()
    augmentation: Augmentation = Augmentation(crop="tf", expand=0.25, photometric="torchvision")
    ema: EMAConfig = EMAConfig()
    norms: Literal["train", "frozen"] = "train"
    norm_momentum: Share | None = None
    norm_images: Positive = 256
    freeze: Count | tuple[str, ...] = 0
    balanced_sampling: Share = 0.0
    crowd: Literal["ignore", "drop", "train"] = "ignore"
    difficult: Literal["ignore", "drop", "train"] = "ignore"
    clip_norm: NotNegative = 10.0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    round_to_int8: bool = False
    compile: Literal["auto"] | bool = "auto"
    evaluate_every: NotNegative = 1000
    evaluation_share: Share = 0.1
    keep_every: NotNegative = 0
    log_every: Positive = 20
    log: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] | None = None
    patience: Count = 0
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    workers: Workers | Literal["auto"] = "auto"
    cache_mb: Annotated[float, Meta(ge=0, le=1e8)] = 1024

    def __post_init__(self) -> None:
        """Raises MobileSSDError, which names the key, for what cannot be, each value alone or together."""
        check(self)
        lengths = [unit for unit in ("steps", "epochs", "samples") if getattr(self, unit) is not None]
        if not lengths:
            object.__setattr__(self, "samples", 10_000)
        if len(lengths) > 1:
            raise MobileSSDError(f"{' and '.join(lengths)}: only one can be the length of a run")
        if isinstance(self.input_size, int) and self.input_size < 1:
            raise MobileSSDError(f"input_size: {quoted(self.input_size)} is not at least 1")
        sides = self.input_size if isinstance(self.input_size, tuple) else (self.input_size or 1,)
        if max(sides) > 16384:
            raise MobileSSDError(f"input_size: {quoted(max(sides))} is not at most 16384")
        if wrong := [size for size in self.input_sizes if isinstance(size, int) and not 1 <= size <= 16384]:
            raise MobileSSDError(f"input_sizes: {quoted(wrong[0])} is not from 1 to 16384")
        if self.trusted_boxes and len(self.trusted_boxes) != len(self.input_sizes):
            raise MobileSSDError(
                f"trusted_boxes: {len(self.trusted_boxes)} ranges for {len(self.input_sizes)} input_sizes; give one each"
            )
        if wrong_ranges := [pair for pair in self.trusted_boxes if pair[0] >= pair[1]]:
            raise MobileSSDError(f"trusted_boxes: {list(wrong_ranges[0])} is no [least, most]")
        if self.schedule.kind == "exponential" and self.schedule.decay_every <= 0:
            raise MobileSSDError("schedule.decay_every: an exponential schedule needs a length above 0")
        if list(self.schedule.milestones) != sorted(self.schedule.milestones):
            raise MobileSSDError("schedule.milestones: they must rise")
        if self.batch % self.accumulate:
            raise MobileSSDError(f"accumulate: a batch of {self.batch} has no {self.accumulate} equal parts")
        if 0 < self.loss.gamma < 1:
            raise MobileSSDError("loss.gamma: between 0 and 1 its gradient is infinite; 0, or at least 1")

    def steps_from(self, step: int, planned: int) -> int:
        """The length of the run in steps as it was known at `step`, where `planned` was the first plan."""
        return next((steps for begin, steps in reversed(self.replanned) if begin <= step), planned)

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
        return plain(dataclasses.asdict(self))

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    @staticmethod
    def from_dict(data: Mapping[str, Any], name: str = "") -> TrainConfig:
        """The inverse of `to_dict`. Raises MobileSSDError, one line, for unknown keys and wrong values."""
        data = _renamed(data)
        try:
            if "augmentation" in data:
                data["augmentation"] = _augmentation(data["augmentation"])
        except MobileSSDError as error:
            raise MobileSSDError(f"{name}: {error}" if name else str(error)) from None
        return build(TrainConfig, data, name)


def _renamed(data: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    return {
        OLD_NAMES.get(f"{section}{key}", key): _renamed(value, f"{key}.") if isinstance(value, dict) else value
        for key, value in data.items()
    }


def _augmentation(value: Any) -> Any:
    """The keys and values of an augmentation, those of its `preset` filled in; a preset's name alone means the preset."""
    value = {"preset": value} if isinstance(value, str) else value
    if not isinstance(value, dict) or "preset" not in value:
        return value
    preset = value["preset"]
    if preset not in PRESETS:
        raise MobileSSDError(f"augmentation: unknown preset {quoted(preset)}; there are {', '.join(PRESETS)}")
    return dataclasses.asdict(PRESETS[preset]) | {key: given for key, given in value.items() if key != "preset"}
