"""What the parts of a training share: the job, its plan, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detection.ssd.network import SSD
from detection.train.config import LossConfig, TrainConfig
from detection.train.distributed import World
from detection.train.input.batch import Batch
from detection.train.input.loader import TrainLoader
from detection.train.learn.ema import EMA
from detection.train.learn.history import History
from detection.train.scales import Scale, Scales
from detection.train.teachers.teacher import Teacher
from detection.weights.card import Card


@dataclass
class Job:
    """What is trained, on what, how, and where to. origin: plain data about the beginning, kept in each checkpoint."""

    config: TrainConfig
    loss: LossConfig  # of `config`, with "auto" settled by the network's scores
    ssd: SSD
    card: Card
    loader: TrainLoader
    scales: Scales
    optimizer: torch.optim.Optimizer
    ema: EMA
    world: World
    device: str
    precision: str
    folder: Path
    history: History | None = None
    network: nn.Module | None = None  # what is called: `network_of`
    compiled: bool = False  # whether that is
    teacher: Teacher | None = None
    class_weights: Tensor | None = None  # float32 [C], of the classification loss
    origin: dict[str, Any] = field(default_factory=dict)

    def scale(self, batch: Batch) -> Scale:
        """The input size that a batch was made for."""
        return self.scales[tuple(batch.images.shape[1:3])]


@dataclass
class RunPlan:
    """Numbers fixed before the first step and kept in the checkpoint, so that a resumed run follows the same course.

    steps: optimiser steps in all. evaluate_every, save_every, keep_every: steps between evaluations, states, weights
    that stay (0: none). batch: images a step, all processes and accumulation together. compiled: whether the network
    runs compiled. precision: what it computes in ("": an older run, whose config says). evaluate_images: of those
    that choose, so many are looked at on the way (0: all).
    """

    steps: int
    evaluate_every: int
    save_every: int
    batch: int
    compiled: bool = False
    keep_every: int = 0
    precision: str = ""
    evaluate_images: int = 0


@dataclass
class RunProgress:
    """Where a run stands. best: the best AP so far and its step; waited: evaluations since then; seconds: time spent.
    sums, count: losses since the last row of the history, and of how many steps. scaler: the state of float16's."""

    step: int = 0
    best: float = -1.0
    best_step: int = 0
    waited: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0
    scaler: dict[str, Any] = field(default_factory=dict)
