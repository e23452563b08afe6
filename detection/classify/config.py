"""What the training of a classifier is: dataclasses whose fields are the keys of configs/classify/*.yaml. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from msgspec import Meta

from detection.config import BatchSize, Count, NotNegative, Positive, Share, Workers, build, check, plain
from detection.errors import MobileSSDError, nearest
from detection.files import expanded
from detection.train.config_parts import EMAConfig, OptimizerConfig, ScheduleConfig
from detection.train.recipes import CONFIGS, put
from detection.yaml_reader import read_yaml

FINETUNE = "finetune"


@dataclass(frozen=True)
class SoftTargets:
    """Learning from another classifier (Hinton et al. 2015, arXiv 1503.02531).

    teacher: name or file; None: labels alone. share: of the soft targets in the loss, the labels have the rest.
    temperature: softens both, and its square keeps the gradient's size.
    """

    teacher: str | None = None
    share: Share = 0.5
    temperature: Annotated[float, Meta(ge=0.1)] = 2.0


@dataclass(frozen=True)
class ClassifierConfig:
    """One run. The defaults are the recipe for a few hundred to a few thousand images, from ImageNet weights.

    model, options: a backbone and its options (alpha ...); None: the network of `weights`. weights: a classifier, or
    whatever has a backbone; None: from scratch. input_size: pixels of a side; None: that of the weights, else 224.
    batch: images of one step, over all processes. epochs | steps: the length, exactly one. recipe_batch, rescale_lr, clip_norm,
    freeze, norms, precision: as in `TrainConfig`. label_smoothing: Szegedy et al. 2015. dropout: None is the
    network's own. least_area: of a random crop, as a share of the image. jitter: of brightness, contrast, saturation.
    crop: what evaluation looks at. evaluate_every: epochs; 0 for once, at the end.
    """

    model: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    input_size: Annotated[int, Meta(ge=32, le=1024)] | None = None
    batch: BatchSize = 32
    epochs: Annotated[float, Meta(ge=1e-9)] | None = None
    steps: Positive | None = None
    recipe_batch: BatchSize | None = None
    rescale_lr: bool = True
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-3, weight_decay=0.01, backbone_lr=0.3)
    schedule: ScheduleConfig = ScheduleConfig(warmup=50)
    ema: EMAConfig = EMAConfig(decay=0.99)
    label_smoothing: Share = 0.1
    dropout: Share | None = None
    least_area: Share = 0.35
    flip: bool = True
    jitter: Share = 0.2
    crop: Share = 0.875
    distillation: SoftTargets = SoftTargets()
    freeze: Count | tuple[str, ...] = 0
    norms: Literal["train", "frozen"] = "train"
    clip_norm: NotNegative = 10.0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    evaluate_every: NotNegative = 1
    seed: Annotated[int, Meta(ge=0, le=2**62)] = 0
    workers: Workers = 1

    def __post_init__(self) -> None:
        """Raises MobileSSDError, which names the key, for what cannot be, each value alone or together."""
        check(self)
        if self.epochs is None and self.steps is None:
            object.__setattr__(self, "epochs", 10.0)
        if self.epochs is not None and self.steps is not None:
            raise MobileSSDError("epochs and steps: only one can be the length of a run")
        if self.schedule.kind == "exponential" and self.schedule.decay_every <= 0:
            raise MobileSSDError("schedule.decay_every: an exponential schedule needs a length above 0")

    @property
    def unit(self) -> Literal["steps", "epochs"]:
        """The unit of all lengths of this run."""
        return "steps" if self.steps is not None else "epochs"

    @property
    def length(self) -> float:
        """The length of the run, in `unit`."""
        return getattr(self, self.unit)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for YAML and states; `from_dict` reads it back."""
        return plain(dataclasses.asdict(self))

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    @staticmethod
    def from_dict(data: Mapping[str, Any], name: str = "") -> ClassifierConfig:
        """The inverse of `to_dict`. Raises MobileSSDError, one line, for unknown keys and wrong values."""
        return build(ClassifierConfig, dict(data), name)


def load_classifier_config(name: str, overrides: Mapping[str, Any]) -> ClassifierConfig:
    """A recipe of configs/classify by its bare name, or a YAML file; "finetune" is the defaults.

    overrides: values by dotted key, which win; another length takes the place of the file's. "lr" is the rate for the
    batch of the run. Raises MobileSSDError, one line.
    """
    path = _config_path(name)
    data: dict[str, Any] = read_yaml(path) if path is not None else {}
    own = ClassifierConfig.from_dict(data, name)
    data.setdefault("recipe_batch", own.batch)
    if "epochs" in overrides or "steps" in overrides:
        data = {key: value for key, value in data.items() if key not in ("epochs", "steps")}
    for key, value in overrides.items():
        if key != "lr":
            put(data, key, value)
    if "lr" in overrides:
        put(data, "optimizer.lr", overrides["lr"])
        data["rescale_lr"] = False
    return ClassifierConfig.from_dict(data, name)


def recipes() -> list[str]:
    """The names of configs/classify."""
    return sorted(path.stem for path in (CONFIGS / "classify").glob("*.yaml"))


def _config_path(name: str) -> Path | None:
    path = expanded(name)
    if path.is_file():
        return path
    inside = CONFIGS / "classify" / f"{name}.yaml"
    if inside.is_file():
        return inside
    if name == FINETUNE:
        return None
    near = nearest(name, recipes(), 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join([FINETUNE, *recipes()])}, or a YAML file"
    raise MobileSSDError(f"{name}: no such recipe for a classifier; {hint}")
