"""A detector over all images of a data set: the stream that `mobilessd detect` runs on, and what it finds as `Results`."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from detection.boxes.detections import Detections
from detection.detector import Detector
from detection.errors import BadDataError, BadImageError
from detection.evaluate.categories import CategoryMap
from detection.evaluate.results import Results, concatenate
from detection.evaluate.truth import GroundTruth
from detection.files import sha256_of
from detection.stream import detect_stream
from detection.weights.card import MARK


@dataclass(frozen=True)
class RunReport:
    """How the run went. seconds: wall time; network_seconds: of these, inside the runtime.
    unreadable: one line for each image that could not be read (it counts as without detections).
    trained_on: file names of scored images that the model was trained on."""

    seconds: float
    network_seconds: float
    unreadable: tuple[str, ...]
    trained_on: tuple[str, ...]


def detect_all(
    detector: Detector,
    truth: GroundTruth,
    categories: CategoryMap,
    batch: int = 16,
    workers: int | None = None,
    training_images: Collection[str] = (),
    progress: bool = True,
) -> tuple[Results, RunReport]:
    """The detections of every image of `truth`, in categories of `truth`.

    batch: images that the network sees at once. workers: threads that decode (default: one for each core).
    training_images: `Card.training_images` of the model. An image that is missing or broken is reported and counts as
    without detections; BadDataError if that is all of them.
    """
    hashes, trained_on = frozenset(digits[:MARK] for digits in training_images), set[int]()

    def image_of(index: int) -> str:
        path = truth.paths[index]
        if not path:
            raise BadImageError(f"{truth.path}: image {truth.image_ids[index]} has no file_name")
        try:
            if hashes and sha256_of(path)[:MARK] in hashes:
                trained_on.add(index)
        except OSError:
            pass  # which the decoder explains
        return path

    start, network, total = time.perf_counter(), 0.0, len(truth.image_ids)
    results: list[Results] = []
    unreadable: list[str] = []
    with _bar(total, progress) as bar:
        for found in detect_stream(detector, range(total), image_of, batch=batch, workers=workers):
            if found.detections is not None:
                results.append(to_results(found.detections, found.item, categories))
            else:
                unreadable.append(str(found.error))
            network += found.network_seconds
            bar.update()
    if len(unreadable) == total:
        raise BadDataError(f"{truth.path}: none of the {total} images can be read; the first: {unreadable[0]}")
    names = tuple(truth.file_names[index] for index in sorted(trained_on))
    return concatenate(results), RunReport(time.perf_counter() - start, network, tuple(unreadable), names)


def to_results(detections: Detections, image: int, categories: CategoryMap) -> Results:
    """The detections of one image (index `image`); classes that the data do not have are dropped."""
    category = categories.to_truth[detections.class_ids]
    known = category >= 0
    boxes = detections.boxes[known].astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return Results(np.full(len(boxes), image), category[known], boxes, detections.scores[known].astype(np.float64))


def _bar(total: int, show: bool) -> Any:
    from tqdm import tqdm

    quiet = not show or not sys.stderr.isatty()
    return tqdm(total=total, unit="image", disable=quiet, dynamic_ncols=True, leave=False)
