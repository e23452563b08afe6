"""The learning rate of each step, as pure functions.

`resolve` turns a config's lengths (steps, epochs or images, meant for the recipe's batch) into steps of the run at
hand; `learning_rate` knows nothing but those numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from detection.train.config_parts import RunConfig


@dataclass(frozen=True)
class Schedule:
    """A schedule in steps of the optimiser; the meaning of the fields is that of `config.ScheduleConfig`.

    lr: the base rate, scaled for the batch of the run. total: steps of the run. hold: steps over which the rate stays.
    """

    kind: str
    lr: float
    total: int
    warmup: int = 0
    warmup_lr: float = 0.0
    warmup_mode: str = "before"
    final: float = 0.0
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    decay_every: float = 0.0
    hold: float = 0.0


def resolve(config: RunConfig, images: int, total: int | None = None) -> Schedule:
    """The schedule of a run on a data set of `images` images.

    With `rescale_lr`, a batch other than the recipe's scales the rates in proportion (Goyal et al. 2017) and the
    warm-up inversely, so that it sees as many images. total: steps of a run that another length was chosen for (a
    time budget): milestones and decays move along, the warm-up shrinks with a shorter run and does not grow.
    """
    ratio = config.batch / (config.recipe_batch or config.batch) if config.rescale_lr else 1.0
    epoch = images / config.batch
    step = {"steps": 1.0, "epochs": epoch, "samples": 1 / config.batch}[config.unit]
    planned = max(1, math.ceil(config.length * step - 1e-6))
    steps = planned if total is None else total
    stretch = steps / planned
    own = config.schedule
    return Schedule(
        kind=own.kind,
        lr=config.optimizer.lr * ratio,
        total=steps,
        warmup=min(round(own.warmup / ratio * min(1.0, stretch)), steps),
        warmup_lr=own.warmup_lr * ratio,
        warmup_mode=own.warmup_mode,
        final=own.final,
        milestones=tuple(milestone * step * stretch for milestone in own.milestones),
        gamma=own.gamma,
        decay_every=own.decay_every * step * stretch,
        hold=own.hold * epoch * stretch,
    )


def learning_rate(schedule: Schedule, step: int) -> float:
    """The rate of optimiser step `step`, counted from 0.

    Warm-up is linear from warmup_lr to lr. "before": TensorFlow's cosine_decay_with_warmup (learning_schedules.py): the
    half cosine runs from the end of the warm-up to `total`, behind which the rate is 0 (or final * lr). "over":
    torchvision's and mmdet's: the schedule runs from step 0, the warm-up multiplies it. The other kinds count from
    step 0 in both modes.
    """
    s = schedule
    warming = step < s.warmup
    if warming and s.warmup_mode == "before":
        return s.warmup_lr + (s.lr - s.warmup_lr) * step / s.warmup
    held = math.floor(step / s.hold + 1e-9) * s.hold if s.hold > 0 else step
    rate = s.lr * _share(s, held)
    if warming and s.lr > 0:
        start = s.warmup_lr / s.lr
        rate *= start + (1 - start) * step / s.warmup
    return rate


def _share(s: Schedule, step: float) -> float:
    if s.kind == "cosine":
        begin = s.warmup if s.warmup_mode == "before" else 0
        done = (step - begin) / max(s.total - begin, 1)
        return s.final if done > 1 else s.final + (1 - s.final) * (1 + math.cos(math.pi * max(done, 0.0))) / 2
    if s.kind == "multistep":
        return s.gamma ** sum(step >= milestone - 1e-6 for milestone in s.milestones)
    if s.kind == "exponential":
        return s.gamma ** math.floor(step / s.decay_every + 1e-9)
    return 1.0
