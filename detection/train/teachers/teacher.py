"""The teacher of a distillation: a frozen network that sees the student's images, its columns in the student's order.

On a CPU it runs in the runtime that detection would choose, which is faster than torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from detection.boxes.class_names import ClassNames
from detection.errors import MobileSSDError
from detection.runtimes.open import choose, open_runtime
from detection.runtimes.torch import fuse
from detection.ssd.network import SSD, Deployable, anchors_of, build
from detection.train.config import DistillationConfig
from detection.train.distributed import global_positives
from detection.train.input.batch import Batch
from detection.train.model import class_sources
from detection.train.speed import autocast, compile_network
from detection.train.teachers.distillation_loss import confidence, distillation_loss
from detection.weights.card import Card
from detection.weights.checkpoint import load_checkpoint, load_into
from detection.weights.resolve import Weights, open_weights

log = logging.getLogger("mobilessd.train")
Network = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class TeacherPrediction:
    """What a teacher says of one part of a batch; `normaliser`: its confidence over the whole global batch."""

    teacher: Teacher
    encodings: Tensor
    logits: Tensor
    normaliser: Tensor

    def loss(self, encodings: Tensor, logits: Tensor) -> Tensor:
        """How far the student's raw predictions are from it, divided by the confidence of the whole batch."""
        own = self.teacher
        return distillation_loss(
            encodings,
            logits,
            self.encodings,
            self.logits,
            own.config,
            scores=own.student_scores,
            teacher_scores=own.scores,
            background=own.background,
            normaliser=self.normaliser,
        )


@dataclass(frozen=True)
class Teacher:
    """network: uint8 images [N, H, W, 3] in, encodings and logits out, as the student's. columns: the teacher's column
    of each of the student's. background: whether its background column is comparable with the student's. scores,
    student_scores: "sigmoid" or "softmax"."""

    network: Network
    config: DistillationConfig
    columns: Tensor
    scores: str
    student_scores: str
    background: bool
    device: str

    def compiled(self) -> Teacher:
        """The same, its network through torch.compile where torch runs it."""
        return replace(self, network=compile_network(self.network)) if isinstance(self.network, nn.Module) else self

    @torch.no_grad()
    def predict(self, batches: list[Batch], precision: str) -> list[TeacherPrediction]:
        """What it says of the parts of a global batch (on its device)."""
        found = []
        for batch in batches:
            with autocast(precision, self.device):
                encodings, logits = self.network(batch.images)
            found.append((encodings, in_order(logits, self.columns, self.scores)))
        sure = global_positives(torch.stack([confidence(logits, self.scores).sum() for _, logits in found]).sum())
        return [TeacherPrediction(self, encodings, logits, sure) for encodings, logits in found]


def teacher_for(
    config: DistillationConfig, student: SSD, card: Card, class_map: dict[str, str], focal: bool, device: str
) -> Teacher:
    """The teacher that a config names, made to fit the student. focal: the student's loss trains no background column.

    Raises MobileSSDError, one line, where it has other anchors or lacks one of the student's classes.
    """
    assert config.teacher is not None
    weights = open_weights(config.teacher)
    if weights.exported:
        raise MobileSSDError(
            f"distillation.teacher: {config.teacher} is an exported file; name weights that torch can run"
        )
    ssd, theirs = load_checkpoint(weights.path)
    resized = ssd.spec.input.size != student.spec.input.size
    if resized:
        keep_pixels = student.spec.anchors.base is not None
        if not keep_pixels:  # a network knows sizes in pixels
            sizes = [f"{width}x{height}" for height, width in (ssd.spec.input.size, student.spec.input.size)]
            log.warning(
                "distillation.teacher: %s was made for %s; at %s all its boxes have the wrong size",
                config.teacher,
                *sizes,
            )
        spec = ssd.spec.with_input_size(student.spec.input.size, keep_pixels=keep_pixels)
        if keep_pixels:  # runs from before centres followed the network go on as they were
            spec = replace(spec, anchors=replace(spec.anchors, centred_at=student.spec.anchors.centred_at))
        other = build(spec)
        load_into(other, ssd.state_dict())
        ssd = other
    own, others = anchors_of(student), anchors_of(ssd)
    if own.shape != others.shape or abs(own - others).max() > 1e-4 or ssd.spec.variances != student.spec.variances:
        raise MobileSSDError(
            f"distillation.teacher: {config.teacher} has {len(others)} anchors that are not the student's {len(own)}; "
            "choose a teacher of the same layout, or train on its pseudo-labels (mobilessd pseudo-label)"
        )
    known = ClassNames(theirs.class_names)
    renamed = {mine: name for mine, name in class_map.items() if known.find(name)}
    sources = class_sources(card.class_names, theirs.class_names, renamed)
    if missing := [name for name, source in zip(card.class_names, sources) if source is None]:
        raise MobileSSDError(
            f"distillation.teacher: {config.teacher} does not know {', '.join(missing[:6])}; see --class-map"
        )
    columns = torch.tensor([0, *(1 + source for source in sources if source is not None)], device=device)
    network = _by_runtime(weights) if device == "cpu" and not resized else None
    if network is None:
        network = Deployable(fuse(ssd.eval())).eval().requires_grad_(False).to(device)
        network = network.to(memory_format=torch.channels_last)
    scores, all_known = ssd.spec.scores, len(columns) == 1 + len(theirs.class_names)
    # A sigmoid background says "none of all my classes": of fewer classes it says nothing.
    background = not focal and (scores == "softmax" or all_known)
    return Teacher(network, config, columns, scores, student.spec.scores, background, device)


def _by_runtime(weights: Weights) -> Network | None:
    """The network in the runtime that detection would choose for it on this CPU; None where that is torch."""
    name = choose(weights, "cpu")
    if name == "torch":
        return None
    runtime = open_runtime(weights, name, "cpu", "float32", torch.get_num_threads())

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        encodings, logits = runtime(images.numpy())
        return torch.from_numpy(encodings), torch.from_numpy(logits)

    return run


def in_order(logits: Tensor, columns: Tensor, scores: str) -> Tensor:
    """A teacher's logits [N, A, K] with the student's columns. What a softmax gave to the classes that are left out is
    background to the student."""
    chosen = logits.float()[..., columns]
    if scores == "sigmoid" or len(columns) == logits.shape[-1]:
        return chosen
    left_out = torch.ones(logits.shape[-1], dtype=torch.bool, device=logits.device)
    left_out[columns[1:]] = False
    chosen[..., 0] = logits.float()[..., left_out].logsumexp(-1)
    return chosen
