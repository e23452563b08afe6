"""Exporting: weights -> a file of one of the `file_formats` with its card, compared with its source before it appears.

Needs torch; what it writes does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from detection.boxes.postprocess import PostSettings
from detection.detector import Detector
from detection.errors import MobileSSDError
from detection.evaluate.truth import GroundTruth
from detection.export.compare import Comparison, compare, match, sample_images, steady, with_ap
from detection.export.file_formats import FILE_FORMATS
from detection.export.onnx_nms import OUTPUTS
from detection.export.staging import staged
from detection.postprocessor import PostProcessor
from detection.runtimes.onnxruntime import open_session
from detection.runtimes.open import open_runtime
from detection.runtimes.openvino_library import core
from detection.weights.checkpoint import load_checkpoint
from detection.weights.resolve import Weights, open_weights

PRECISIONS = ("float32", "float16")


@dataclass(frozen=True)
class Wish:
    """What to write. output: the file. format: one of `file_formats.FILE_FORMATS`. precision: of the stored weights: float32 or
    float16; the arithmetic stays float32. nms: put decoding and suppression into the graph, by these rules."""

    output: Path
    format: str
    precision: str = "float32"
    nms: PostSettings | None = None


def export(
    source: Weights,
    wish: Wish,
    compare_on: Path | None = None,
    truth: GroundTruth | None = None,
    threads: int | None = None,
) -> Comparison:
    """Writes `wish.output`, if it says what `source` says: on images of the folder `compare_on` (None: drawn ones),
    and in AP on `truth`, where given. Raises MobileSSDError, and leaves no file, where it does not."""
    if source.exported:
        raise MobileSSDError(f"{source.path}: an exported file already; export from the weights it was made of")
    target = FILE_FORMATS[wish.format]
    target.check_installed("exporting", [*target.needs, *(["onnx"] if wish.nms else [])])
    if target.raw and (wish.nms is not None or wish.precision != "float32"):
        raise MobileSSDError(
            f"{wish.output}: such a file has raw outputs and float32 weights; leave --nms and --precision out"
        )
    samples = sample_images(compare_on)
    card = replace(source.card, precision=wish.precision)
    with staged(wish.output) as path:
        ssd, _ = load_checkpoint(source.path)
        target.load(target.writer)(ssd, path, card, wish.precision == "float16", wish.nms)
        reference = detector_of(source, open_runtime(source, "torch", "cpu", threads=threads))
        if target.checker is not None:
            exported = detector_of(source, target.load(target.checker)(path))
        else:
            written = open_weights(path)
            exported = detector_of(written, open_runtime(written, target.reader or "auto", threads=threads))
        comparison = compare(reference, exported, samples)
        if wish.nms is not None:
            _check_nms(path, wish, exported, samples)
        if truth is not None:
            comparison = with_ap(comparison, reference, exported, truth)
        comparison.check(str(wish.output), wish.precision)
    return comparison


def detector_of(weights: Weights, runtime: Any) -> Detector:
    """A detector by the rules of the protocol of record: score threshold 0.01, IoU 0.6, 100 boxes."""
    return Detector.of(weights.card, runtime, weights.source, score=0.01, iou=0.6, max_detections=100)


def _check_nms(path: Path, wish: Wish, exported: Detector, samples: list[np.ndarray]) -> None:
    """The detections that come out of the graph are those of our post-processing on its own raw outputs."""
    settings = wish.nms
    assert settings is not None
    ours = PostProcessor.of(exported.card, settings.score, settings.iou, settings.max_detections, merge="nms")
    batch = exported.prepare(samples)
    wanted = [steady(ours, e, s, (1000, 1000)) for e, s in zip(*exported.runtime(batch))]
    boxes, scores, classes, count = _graph_outputs(path, wish.format, batch)
    total = missing = 0
    for k, one in enumerate(wanted):
        n = int(count[k])
        found = replace(one, boxes=boxes[k, :n] * 1000, scores=scores[k, :n], class_ids=classes[k, :n])
        sure, lost, _ = match(one, found)
        total, missing = total + sure, missing + lost
    if missing > 0.01 * total:
        raise MobileSSDError(f"{wish.output}: not written: {missing} of {total} detections of its NMS differ")


def _graph_outputs(path: Path, format: str, batch: np.ndarray) -> list[np.ndarray]:
    if format == "onnx":
        return open_session(path, 1).run(list(OUTPUTS), {"pictures": batch})
    model = core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = model([batch])
    return [answer[name] for name in OUTPUTS]
