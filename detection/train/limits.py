"""What the types of a training config cannot say: ranges, and which keys go together. Imports detection.errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detection.errors import MobileSSDError

if TYPE_CHECKING:
    from detection.train.config import TrainConfig

ANY = float("inf")
RANGES: tuple[tuple[str, float, float], ...] = (
    ("batch", 1, ANY),
    ("accumulate", 1, ANY),
    ("recipe_batch", 1, ANY),
    ("steps", 1, ANY),
    ("epochs", 1e-9, ANY),
    ("samples", 1, ANY),
    ("input_size", 1, ANY),
    ("freeze", 0, ANY),
    ("clip_norm", 0, ANY),
    ("norm_momentum", 0, 1),
    ("evaluate_every", 0, ANY),
    ("keep_every", 0, ANY),
    ("patience", 0, ANY),
    ("log_every", 1, ANY),
    ("seed", 0, 2**63 - 1),
    ("workers", 0, ANY),
    ("cache_mb", 0, ANY),
    ("optimizer.lr", 0, ANY),
    ("optimizer.weight_decay", 0, ANY),
    ("optimizer.momentum", 0, 1),
    ("optimizer.decay", 0, 1),
    ("optimizer.betas", 0, 1),
    ("optimizer.epsilon", 0, ANY),
    ("optimizer.backbone_lr", 0, ANY),
    ("optimizer.bias_lr", 0, ANY),
    ("schedule.warmup", 0, ANY),
    ("schedule.warmup_lr", 0, ANY),
    ("schedule.final", 0, 1),
    ("schedule.milestones", 0, ANY),
    ("schedule.gamma", 0, ANY),
    ("schedule.hold", 0, ANY),
    ("loss.match_iou", 0, 1),
    ("loss.negatives", 0, ANY),
    ("loss.minimum_negatives", 0, ANY),
    ("loss.mining_nms", 0, 1),
    ("loss.alpha", 0, 1),
    ("loss.gamma", 0, ANY),
    ("loss.beta", 0, ANY),
    ("ema.decay", 0, 1),
    ("distillation.scores", 0, ANY),
    ("distillation.boxes", 0, ANY),
    ("distillation.temperature", 1e-3, ANY),
    ("distillation.floor", 0, 1),
    ("distillation.power", 0, ANY),
    ("initial.backbone_std", 0, ANY),
    ("initial.extras_std", 0, ANY),
    ("initial.heads_std", 0, ANY),
    ("loss.classification_weight", 0, ANY),
    ("loss.localisation_weight", 0, ANY),
)


def check(config: TrainConfig) -> None:
    """What the types cannot say. Raises MobileSSDError that names the key."""
    lengths = [unit for unit in ("steps", "epochs", "samples") if getattr(config, unit) is not None]
    if len(lengths) > 1:
        raise MobileSSDError(f"{' and '.join(lengths)}: only one can be the length of a run")
    for key, least, most in RANGES:
        section, _, name = key.rpartition(".")
        value = getattr(getattr(config, section) if section else config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, (int, float)) and not least <= number <= most:
                limits = f"at least {least:g}" if most == ANY else f"from {least:g} to {most:g}"
                raise MobileSSDError(f"{key}: {number:g} is not {limits}")
    if config.schedule.kind == "exponential" and config.schedule.decay_every <= 0:
        raise MobileSSDError("schedule.decay_every: an exponential schedule needs a length above 0")
    if list(config.schedule.milestones) != sorted(config.schedule.milestones):
        raise MobileSSDError("schedule.milestones: they must rise")
    if config.batch % config.accumulate:
        raise MobileSSDError(f"accumulate: a batch of {config.batch} has no {config.accumulate} equal parts")
    if 0 < config.loss.gamma < 1:
        raise MobileSSDError("loss.gamma: between 0 and 1 its gradient is infinite; 0, or at least 1")
