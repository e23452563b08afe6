"""What a person asks of a training, and the data that it means: which images are trained on, which choose, which score."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detection.data.build import concatenate
from detection.data.check import Report, check
from detection.data.dataset import DetectionData
from detection.data.ids import read_ids
from detection.data.open import open_data, open_pair
from detection.data.pseudo_labels import add_pseudo_labels, unlabelled
from detection.errors import BadDataError
from detection.train.config import TrainConfig

KEEP, IGNORE = 0.5, 0.25  # scores of pseudo-labels: targets from the first on, ignored from the second on


@dataclass(frozen=True)
class Evaluation:
    """What `Request.on_evaluate` hears of. step: of the optimiser; images: seen so far; numbers: the twelve of COCO by name,
    of the averaged weights, empty where no images choose; best: no better ones before; folder: the run's."""

    step: int
    images: int
    numbers: Mapping[str, float]
    best: bool
    folder: Path


@dataclass
class Request:
    """What a person asks for. None: not said; a resumed run then keeps what it began with.

    data: a path that `open_data` knows ("" for a resumed run: the one it began with, as for
    all that says what the data are). val: a split or path; None: found by looking.
    extra: further data sets or folders of images to train on; classes that they do not annotate are unknown there.
    pseudo_labels: COCO files (`mobilessd pseudo-label`) whose boxes of score `keep_pseudo_labels` (None: 0.5) and more are
    targets where nothing is annotated, down to `ignore_pseudo_labels` (None: 0.25) regions of which nothing is known.
    select: the share of the training images that chooses the best weights; None: the validation data do where there
    are any, else 0.15. select_ids: a file with the ids of the images that choose, in the place of a share.
    time_budget: seconds, from `began` (time.monotonic(); None: when the training is called) to its end. class_map: data's
    class -> weights' class. unknown: classes that the data do not annotate. on_evaluate: called after each evaluation, in the
    process that writes; True ends the run there, with its report. at_batch: the config with another batch, asked for the
    largest that the memory takes (`memory`) when a run begins; None: the batch is that of `config`."""

    data: str
    config: TrainConfig
    output: Path
    val: str | None = None
    split: str | None = None
    format: str | None = None
    images: str | None = None
    val_images: str | None = None
    extra: list[str] = field(default_factory=list)
    pseudo_labels: list[str] = field(default_factory=list)
    keep_pseudo_labels: float | None = None
    ignore_pseudo_labels: float | None = None
    select: float | None = None
    select_ids: str | None = None
    classes: list[str] | None = None
    class_map: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    device: str = "auto"
    threads: int | None = None
    time_budget: float | None = None
    resume: bool = False
    quiet: bool = False
    began: float | None = None
    on_evaluate: Callable[[Evaluation], bool | None] | None = None
    at_batch: Callable[[int], TrainConfig] | None = None


@dataclass
class Data:
    """The three parts: trained on, choosing the best weights, and scored once at the end (None where there is none)."""

    train: DetectionData
    select: DetectionData | None
    final: DetectionData | None
    report: Report


def open_parts(request: Request) -> Data:
    """Reads, checks and repairs the data, and says which part does what. Raises BadDataError, one line."""
    form = request.format or "auto"
    data, val = open_pair(
        request.data, request.split, request.val, form, request.classes, request.images, request.val_images
    )
    if request.unknown:
        data = data.declare_unknown(request.unknown)
    report = check(data, val, content=len(data) <= 20_000)
    data, val = report.data, report.val
    shared = {name for how in ("same file", "same content") for name in report.shared.get(how, ())}
    if val is not None and len(shared) >= len(val):
        raise BadDataError(f"{request.data}: every validation image is in training; give another set with --val")
    rest, held = _hold_back(data, request, val is not None)
    rest = with_extras(rest, request)
    if held is None and request.select is None and request.select_ids is None:
        return Data(rest, val, None, report)
    return Data(rest, held, val, report)


def _hold_back(data: DetectionData, request: Request, has_val: bool) -> tuple[DetectionData, DetectionData | None]:
    """(the rest, the images that choose the best weights), before anything is mixed in."""
    if request.select_ids is not None:
        named = read_ids(request.select_ids)
        chosen = np.array([str(identity) in named for identity in data.image_ids])
        if not chosen.any() or chosen.all():
            raise BadDataError(
                f"{request.select_ids}: names {'all' if chosen.any() else 'none'} of the {len(data)} images"
            )
        return data.subset(~chosen), data.subset(chosen)
    if request.select is None and has_val:
        return data, None
    share = 0.15 if request.select is None else request.select
    if share == 0:
        return data, None
    if len(data) * share < 1:
        raise BadDataError(f"{data.origin}: {len(data)} images are too few to keep {share:.0%} back; use --select 0")
    return data.split(share, request.config.seed)


def with_extras(data: DetectionData, request: Request) -> DetectionData:
    """The training images with further data sets, folders of images without labels, and pseudo-labels."""
    parts = [data]
    for path in request.extra:
        try:
            parts.append(check(open_data(path, "all"), content=False).data)
        except BadDataError:
            if not os.path.isdir(path):
                raise
            parts.append(unlabelled(path, data.class_names))
    if len(parts) > 1:
        data = concatenate(*parts, class_names=data.class_names)
    keep = KEEP if request.keep_pseudo_labels is None else request.keep_pseudo_labels
    ignore = IGNORE if request.ignore_pseudo_labels is None else request.ignore_pseudo_labels
    for path in request.pseudo_labels:
        data = add_pseudo_labels(data, open_data(path), keep, ignore)
    return data
