"""Writes a folder for another system, compared with its source before it appears: model, labels, README, and an image
with what must be found in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from detection.boxes.anchors import anchors_for
from detection.boxes.drawing import reduced, save_image
from detection.detector import Detector
from detection.errors import MobileSSDError, need
from detection.export.compare import UNMATCHED, compare, compare_detections, match, sample_images
from detection.export.staging import staged_folder
from detection.export.targets.base import PLAIN, Job, Options, Written
from detection.export.targets.table import COMMON, PARTS, Target
from detection.export.write import detector_of
from detection.runtimes.interfaces import INTERFACES
from detection.runtimes.open import open_runtime
from detection.weights.card_check import spec_of
from detection.weights.checkpoint import load_checkpoint
from detection.weights.resolve import Weights, open_weights

SURE, INT8_REACH, INT8_MISSING = 0.3, 0.05, 0.2  # int8 is another network: few images, of which some boxes are doubtful
CONVERTERS = ("torch", "litert_torch")  # what exported files do without
LONGEST = 1280  # pixels of the image that is put into the folder


def write_folder(
    source: Weights,
    target: Target,
    folder: Path,
    options: Options = PLAIN,
    compare_on: Path | None = None,
    threads: int | None = None,
) -> list[str]:
    """Writes `folder` for a system, if what it finds is what `source` finds, on images of `compare_on` (None: drawn ones);
    returns what to tell a person. An older folder of the kind is replaced.

    Raises MobileSSDError, one line, and leaves things as they were, where it finds something else, where the folder holds
    other files, and for options and weights that the system does not take.
    """
    _check(source, target, options)
    if target.calibrates and compare_on is None:
        raise MobileSSDError(
            f"--target {target.name}: int8 ranges are measured on images; give --images DIR, best 300 of them"
        )
    samples = sample_images(compare_on)
    with staged_folder(folder, PARTS) as place:
        job = _job(source, place, options, compare_on)
        written = target.load()(job)
        (place / "labels.txt").write_text(job.labels(written.background), encoding="utf-8")
        reference = detector_of(
            source, open_runtime(source, "auto" if source.exported else "torch", "cpu", threads=threads)
        )
        model = open_weights(place / written.model)
        exported = detector_of(model, open_runtime(model, threads=threads))
        said = _compared(folder, reference, exported, samples, written)
        if compare_on is not None:
            _write_expected(place, reference, samples)
        text = _readme(source, target, written, said, picture=compare_on is not None)
        (place / "README.md").write_text(text, encoding="utf-8")
        made = sorted(file.name for file in place.iterdir())
        assert set(made) <= {*COMMON, *target.files}, made
    return [f"{folder}: for {target.title}: {', '.join(made)}", said]


def _check(source: Weights, target: Target, options: Options) -> None:
    needed = [module for module in target.needs if module not in CONVERTERS or not source.exported]
    need(f"exporting for {target.title}", *needed, extra=target.extra)
    if source.exported and source.card.interface:
        raise MobileSSDError(f"{source.path}: made for another system already; export from the weights it was made of")
    if source.exported and source.format.name not in target.takes:
        took = f" or {' or '.join(target.takes)} files" if target.takes else ""
        raise MobileSSDError(f"{source.path}: an exported file already; for {target.title} name weights{took}")
    for name, given in (("gpu", options.gpu), ("opset", options.opset is not None)):
        if given and name not in target.options:
            raise MobileSSDError(f"--{name}: means nothing for --target {target.name}; leave it out")


def _job(source: Weights, place: Path, options: Options, calibration: Path | None) -> Job:
    spec = spec_of(source.card, source.source)
    anchors = anchors_for(spec.anchors, source.card.feature_maps, spec.input.size, source.card.anchor_grids)
    ssd = None if source.exported else load_checkpoint(source.path)[0]
    return Job(place, source, ssd, spec, np.asarray(anchors, np.float32), options, calibration)


def _compared(
    folder: Path, reference: Detector, exported: Detector, samples: list[np.ndarray], written: Written
) -> str:
    """One line: how far apart the two are. Raises MobileSSDError where it is too far."""
    precision = "float16" if exported.card.precision == "int8" else "float32"  # of the tolerances
    if precision == "float16" and reference.card.precision != "int8":
        return _agrees(folder, reference, exported, samples)
    interface = INTERFACES.get(exported.card.interface)
    if interface is None or interface.decode is None:
        # a file without a card is read with the rules of its own project, which may be another merge
        comparison = compare(reference, exported.with_rules(merge=reference.settings.merge), samples)
        comparison.check(str(folder), precision)
        return "; ".join(comparison.lines(precision))
    # what stands in such graphs is plain NMS, unless told otherwise
    most: dict[str, Any] = {"max_detections": written.max_detections, "merge": "nms"}
    usual = reference.with_rules(**most)
    rules = written.rules(usual.postprocessor) if written.rules else None
    # boxes by rules of the system's own are not suppressed once more
    theirs = exported.with_rules(**most, iou=1.0 if rules else None)
    found = compare_detections(usual, theirs, samples, rules)
    if found.unmatched > UNMATCHED[precision] * found.detections:
        raise MobileSSDError(
            f"{folder}: not written: {found.unmatched} of {found.detections} detections differ from those of the source"
        )
    return f"compared with the source on {len(samples)} images: {found.line()}"


def _agrees(folder: Path, reference: Detector, exported: Detector, samples: list[np.ndarray]) -> str:
    """One line: how many sure detections the int8 form of a float network still has. Raises MobileSSDError for too few."""
    total = missing = 0
    for image in samples:
        sure, lost, _ = match(reference(image).above(SURE), exported(image), INT8_REACH)
        total, missing = total + sure, missing + lost
    if missing > INT8_MISSING * total:
        raise MobileSSDError(f"{folder}: not written: {missing} of {total} detections above {SURE} are lost in int8")
    return f"compared with the source on {len(samples)} images: {total - missing} of {total} detections above {SURE} kept in int8"


def _write_expected(place: Path, reference: Detector, samples: list[np.ndarray]) -> None:
    """Of the samples the one with most boxes above the score threshold, plain and with these boxes drawn."""
    score = reference.card.score_threshold
    usual = reference.with_rules(score=0.4 if score is None else score)
    seen = [(image, usual(image)) for image in (reduced(image, LONGEST) for image in samples)]
    image, found = max(seen, key=lambda one: len(one[1]))
    save_image(image, place / "image.png")
    save_image(found.plot(image), place / "expected.png")


def _readme(source: Weights, target: Target, written: Written, said: str, picture: bool) -> str:
    card = source.card
    lines = [
        f"# {card.name or Path(source.source).name} for {target.title}",
        "",
        f"{len(card.class_names)} classes, in labels.txt"
        + (f", behind a first line {written.background}" if written.background else "")
        + (f". Licence: {card.licence}" if card.licence else ""),
        *written.about,
        f"When it was written: {said}.",
        "image.png is an image to try it on, expected.png what must be found there."
        if picture
        else "Written without --images, so there is no image here to try it on.",
        f"`mobilessd detect IMAGE --weights {written.model}` shows what it finds, `mobilessd eval` measures its AP.",
    ]
    return "\n".join(lines) + "\n"
