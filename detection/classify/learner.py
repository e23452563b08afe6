"""What decides a step of a classifier's training, and how it is kept for a resumption."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from detection.classify.config import ClassifierConfig, SoftTargets
from detection.classify.images import ImageSet
from detection.classify.network import Beginning, OpenedClassifier
from detection.classify.score import columns_of
from detection.errors import MobileSSDError
from detection.train.distributed import World
from detection.train.learn.ema import EMA
from detection.train.state import RunState, pack, restore_rng, unpack_optimizer, write_state
from detection.weights.classifier import ClassifierCard


@dataclass
class Progress:
    """What changes. best: the highest top-1 so far; loss, counted: the sum over the log interval under way."""

    step: int = 0
    seconds: float = 0.0
    best: float = -1.0
    loss: float = 0.0
    counted: int = 0


@dataclass
class Learner:
    """Everything that decides what a step does."""

    config: ClassifierConfig
    images: ImageSet
    val: ImageSet
    begun: Beginning
    here: World
    device: str
    precision: str
    folder: Path
    optimizer: torch.optim.Optimizer
    ema: EMA
    origin: dict[str, Any]
    teacher: Teacher | None = None

    @property
    def card(self) -> ClassifierCard:
        return self.begun.card


class Teacher:
    """Soft targets of a classifier that knows all our classes by name."""

    def __init__(self, opened: OpenedClassifier, names: tuple[str, ...], config: SoftTargets, device: str) -> None:
        self.columns, self.config = torch.tensor(columns_of(names, opened.card.class_names)), config
        self.network, self.size = opened.network.to(device), opened.card.input_size

    def blend(self, loss: Tensor, logits: Tensor, images: Tensor) -> Tensor:
        """(1 - share) * loss + share * T^2 * KL(teacher || student), both softened by T."""
        heat = self.config.temperature
        with torch.no_grad():
            seen = images.float()
            if seen.shape[-1] != self.size:
                seen = F.interpolate(seen, (self.size, self.size), mode="bilinear", antialias=True)
            wanted = (self.network(seen)[:, self.columns] / heat).softmax(1)
        soft = F.kl_div((logits / heat).log_softmax(1), wanted, reduction="batchmean") * heat**2
        return (1 - self.config.share) * loss + self.config.share * soft


def save(learner: Learner, progress: Progress) -> None:
    """Writes the state of the run into its folder."""
    meta = {"step": progress.step, "progress": asdict(progress), "origin": learner.origin}
    meta["precision"] = learner.precision
    network = learner.begun.network
    write_state(learner.folder, pack(meta, learner.optimizer, model=network.state_dict(), ema=learner.ema.state_dict()))


def load(learner: Learner, state: RunState) -> Progress:
    """Makes the learner what it was when the state was saved, and says how far it was."""
    learner.begun.network.load_state_dict(state.part("model"))
    learner.ema.load_state_dict(state.part("ema"))
    unpack_optimizer(state, learner.optimizer)
    restore_rng(state)
    learner.precision = state.meta.get("precision", learner.precision)
    return Progress(**state.meta["progress"])


def check_unchanged(config: ClassifierConfig, state: RunState, folder: Path) -> None:
    """Raises MobileSSDError where a resumed run would not be the one that began."""
    began, now = state.meta["origin"].get("config", {}), config.to_dict()
    different = [key for key in now if now[key] != began.get(key)]
    if now.get("precision") == state.meta.get("precision") and began.get("precision") == "auto":
        different = [key for key in different if key != "precision"]  # config.yaml says what "auto" came to
    if different:
        raise MobileSSDError(f"{folder}: this run began with another {different[0]}; resume it with the options it had")


def fingerprint(images: ImageSet, val: ImageSet) -> str:
    """Names, sizes and classes of all images, as one hash."""
    digest = hashlib.sha256()
    for path, label in (*images.samples, *val.samples):
        digest.update(f"{Path(path).name} {os.path.getsize(path)} {label}\n".encode())
    return digest.hexdigest()
