"""The teacher of a distillation: a frozen network that sees the student's images, its columns in the student's order.

On a CPU it runs in the runtime that detection would choose, which is faster than torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from detection.boxes.anchors import Size
from detection.boxes.class_names import ClassNames
from detection.boxes.geometry import BoxCoder
from detection.errors import MobileSSDError
from detection.runtimes.open import choose, open_runtime
from detection.runtimes.resize import at_size
from detection.runtimes.torch import fuse
from detection.ssd.network import SSD, Deployable, anchors_at, build
from detection.train.config_parts import DistillationConfig
from detection.train.distributed import global_positives
from detection.train.input.batch import Batch
from detection.train.model import class_sources
from detection.train.scales import Scales
from detection.train.speed import autocast, compile_network
from detection.train.teachers.distillation_loss import confidence, distillation_loss
from detection.weights.card import Card
from detection.weights.checkpoint import load_checkpoint, load_into
from detection.weights.resolve import Weights, open_weights

log = logging.getLogger("mobilessd.train")
Network = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class TeacherPrediction:
    """What a teacher says of one part of a batch; `normaliser`: its confidence over the whole global batch. trusted: bool
    [N, A], where its box has a size that is learned from; None: everywhere."""

    teacher: Teacher
    encodings: Tensor
    logits: Tensor
    normaliser: Tensor
    trusted: Tensor | None = None

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
            trusted=self.trusted,
        )


@dataclass(frozen=True)
class Teacher:
    """network: uint8 images [N, H, W, 3] of the student's size in, encodings and logits out, as the student's. columns:
    the teacher's column of each of the student's. background: whether its background column is comparable with the
    student's. scores, student_scores: "sigmoid" or "softmax". at: the network for other sizes (height, width) of images.
    coder: what its boxes are coded by, as the student's."""

    network: Network
    config: DistillationConfig
    columns: Tensor
    scores: str
    student_scores: str
    background: bool
    device: str
    at: dict[Size, Network] = field(default_factory=dict)
    coder: BoxCoder = BoxCoder()

    def compiled(self, sizes: int = 1) -> Teacher:
        """The same, its networks through torch.compile where torch runs them; sizes: of images, in all."""
        compiled = {s: compile_network(n, sizes) for s, n in self.at.items() if isinstance(n, nn.Module)}
        if not compiled and not isinstance(self.network, nn.Module):
            return self
        own = compile_network(self.network, sizes) if isinstance(self.network, nn.Module) else self.network
        return replace(self, network=own, at=self.at | compiled)

    @torch.no_grad()
    def predict(self, batches: list[Batch], precision: str, scales: Scales) -> list[TeacherPrediction]:
        """What it says of the parts of a global batch (on its device), each of one of the sizes of `scales`."""
        found, sums = [], []
        for batch in batches:
            size: Size = tuple(batch.images.shape[1:3])  # type: ignore[assignment]
            with autocast(precision, self.device):
                encodings, logits = self.at.get(size, self.network)(batch.images)
            logits, scale = in_order(logits, self.columns, self.scores), scales[size]
            sure, trusted = confidence(logits, self.scores), None
            if scale.trusted is not None:
                trusted = scale.trusts(self.coder.decode(encodings.float(), scale.anchors.expand_as(encodings)))
                sure = sure * trusted
            found.append((encodings, logits, trusted))
            sums.append(sure.sum())
        whole = global_positives(torch.stack(sums).sum())
        return [TeacherPrediction(self, encodings, logits, whole, trusted) for encodings, logits, trusted in found]


def teacher_for(
    config: DistillationConfig,
    student: SSD,
    card: Card,
    class_map: dict[str, str],
    focal: bool,
    device: str,
    scales: Scales | None = None,
) -> Teacher:
    """The teacher that a config names, made to fit the student. focal: the student's loss trains no background column.
    scales: the sizes that the student learns at; None: its own alone.

    Raises MobileSSDError, one line, where it has other anchors or lacks one of the student's classes.
    """
    assert config.teacher is not None
    weights = open_weights(config.teacher)
    if weights.exported:
        raise MobileSSDError(
            f"distillation.teacher: {config.teacher} is an exported file; name weights that torch can run"
        )
    ssd, theirs = load_checkpoint(weights.path)
    known = ClassNames(theirs.class_names)
    renamed = {mine: name for mine, name in class_map.items() if known.find(name)}
    sources = class_sources(card.class_names, theirs.class_names, renamed)
    own = student.spec.input.size
    with torch.random.fork_rng(devices=[]):  # first weights are drawn only where the cache has no network of that size
        networks = {size: _fitted(ssd, weights, student, size, device) for size in {own: None} | dict(scales or {})}
    if missing := [name for name, source in zip(card.class_names, sources) if source is None]:
        raise MobileSSDError(
            f"distillation.teacher: {config.teacher} does not know {', '.join(missing[:6])}; see --class-map"
        )
    columns = torch.tensor([0, *(1 + source for source in sources if source is not None)], device=device)
    scores, all_known = ssd.spec.scores, len(columns) == 1 + len(theirs.class_names)
    # A sigmoid background says "none of all my classes": of fewer classes it says nothing.
    background = not focal and (scores == "softmax" or all_known)
    network = networks.pop(own)
    return Teacher(
        network, config, columns, scores, student.spec.scores, background, device, networks, student.spec.coder
    )


def _fitted(ssd: SSD, weights: Weights, student: SSD, size: Size, device: str) -> Network:
    """The teacher's network for images of `size`, with the anchors that the student has there. On a CPU it runs in the
    runtime that detection would choose for it."""
    spec, mine, own = ssd.spec, student.spec, student.spec.input.size
    keep_pixels = size != own or mine.anchors.base is not None
    if spec.input.size != size:
        if not keep_pixels:  # a network knows sizes in pixels
            sizes = [f"{width}x{height}" for height, width in (spec.input.size, size)]
            log.warning(
                "distillation.teacher: %s was made for %s; at %s all its boxes have the wrong size",
                weights.source,
                *sizes,
            )
        spec = spec.with_input_size(size, keep_pixels=keep_pixels)
        if size == own and keep_pixels:  # runs from before centres followed the network go on as they were
            spec = replace(spec, anchors=replace(spec.anchors, centred_at=mine.anchors.centred_at))
    wanted, others = anchors_at(mine, size), anchors_at(spec, size)
    if wanted.shape != others.shape or abs(wanted - others).max() > 1e-4 or spec.variances != mine.variances:
        raise MobileSSDError(
            f"distillation.teacher: {weights.source} has {len(others)} anchors that are not the student's {len(wanted)}; "
            "choose a teacher of the same layout, or train on its pseudo-labels (mobilessd pseudo-label)"
        )
    if device == "cpu" and spec == ssd.spec.resized(size):
        network = _by_runtime(at_size(weights, size) if choose(weights, "cpu") != "torch" else weights)
        if network is not None:
            return network
    other = build(spec)
    load_into(other, ssd.state_dict())
    deployed = Deployable(fuse(other.eval())).eval().requires_grad_(False).to(device)
    return deployed.to(memory_format=torch.channels_last)


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
