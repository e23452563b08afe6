"""A detector over all images of a data set: decoding runs ahead in threads, post-processing behind in the same ones.

It is made of the stages that the Detector itself is made of (`prepare`, `runtime`, `finish`), so what is measured here
is what detects there, to the last bit. numpy only; tqdm where a terminal shows it.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from detection.boxes.detections import Detections
from detection.errors import BadDataError, BadImageError
from detection.evaluate.categories import CategoryMap
from detection.evaluate.results import Results, concatenate
from detection.evaluate.truth import GroundTruth, image_path
from detection.files import sha256_of
from detection.images.decode import read_image
from detection.weights.card import MARK


class Stages(Protocol):
    """What is needed of a detector; `detection.detector.Detector` is one, a network in training can be another."""

    def prepare(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """RGB images uint8 [H, W, 3] -> uint8 [N, h, w, 3]."""

    def runtime(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [N, h, w, 3] -> raw outputs, N of each."""

    def finish(self, encodings: np.ndarray, logits: np.ndarray, image_size: tuple[int, ...]) -> Detections:
        """Raw outputs of one image, and its (height, width) -> detections in its pixels."""


@dataclass(frozen=True)
class RunReport:
    """How the run went. seconds: wall time; network_seconds: of these, inside the runtime.
    unreadable: one line for each image that could not be read (it counts as without detections).
    trained_on: file names of scored images that the model was trained on.
    other_size: file names of images whose size contradicts the annotations."""

    seconds: float
    network_seconds: float
    unreadable: tuple[str, ...]
    trained_on: tuple[str, ...]
    other_size: tuple[str, ...]


@dataclass(frozen=True)
class _Loaded:
    image: int
    pixels: np.ndarray | None = None  # uint8 [1, h, w, 3], prepared
    size: tuple[int, int] = (0, 0)
    problem: str = ""
    trained_on: bool = False


def detect_all(
    detector: Stages,
    truth: GroundTruth,
    images: Path,
    categories: CategoryMap,
    batch: int = 16,
    workers: int | None = None,
    training_images: Collection[str] = (),
    progress: bool = True,
) -> tuple[Results, RunReport]:
    """The detections of every image of `truth`, in categories of `truth`.

    images: the folder of the images. batch: images that the network sees at once. workers: threads that decode
    (default: one for each core, at most 8). training_images: `Card.training_images` of the model.
    An image that is missing or broken is reported and counts as without detections; BadDataError if that is all of
    them.
    """
    hashes = frozenset(digits[:MARK] for digits in training_images)
    workers = workers or min(8, os.cpu_count() or 1)
    start, network = time.perf_counter(), 0.0
    found: list[Results] = []
    seen: list[_Loaded] = []
    waiting: deque[Future[_Loaded]] = deque()
    finishing: deque[Future[Results]] = deque()
    order = iter(range(len(truth.image_ids)))
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        with _bar(len(truth.image_ids), progress) as bar:
            while len(seen) < len(truth.image_ids):
                while len(waiting) < 2 * batch + workers and (index := next(order, None)) is not None:
                    waiting.append(pool.submit(_load, detector, truth, images, index, hashes))
                group = [waiting.popleft().result() for _ in range(min(batch, len(waiting)))]
                seen += group
                good = [one for one in group if one.pixels is not None]
                if good:
                    begun = time.perf_counter()
                    encodings, logits = detector.runtime(np.concatenate([one.pixels for one in good]))
                    network += time.perf_counter() - begun
                    for one, code, logit in zip(good, encodings, logits):
                        finishing.append(pool.submit(_finish, detector, one, code, logit, categories))
                while len(finishing) > batch:  # the raw outputs are large: never more than two batches of them
                    found.append(finishing.popleft().result())
                bar.update(len(group))
            found += [future.result() for future in finishing]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    unreadable = tuple(one.problem for one in seen if one.problem)
    if len(unreadable) == len(truth.image_ids):
        raise BadDataError(f"{images}: none of the {len(unreadable)} images can be read; the first: {unreadable[0]}")
    report = RunReport(
        seconds=time.perf_counter() - start,
        network_seconds=network,
        unreadable=unreadable,
        trained_on=tuple(truth.file_names[one.image] for one in seen if one.trained_on),
        other_size=tuple(truth.file_names[one.image] for one in seen if _contradicts(truth.sizes[one.image], one.size)),
    )
    return concatenate(found), report


def to_results(detections: Detections, image: int, categories: CategoryMap) -> Results:
    """The detections of one image (index `image`); classes that the data do not have are dropped."""
    category = categories.to_truth[detections.class_ids]
    known = category >= 0
    boxes = detections.boxes[known].astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return Results(np.full(len(boxes), image), category[known], boxes, detections.scores[known].astype(np.float64))


def _load(detector: Stages, truth: GroundTruth, images: Path, index: int, hashes: frozenset[str]) -> _Loaded:
    name = truth.file_names[index]
    if not name:
        return _Loaded(index, problem=f"{truth.path}: image {truth.image_ids[index]} has no file_name")
    path = image_path(images, name)
    try:
        image = read_image(path)
    except BadImageError as error:
        return _Loaded(index, problem=str(error))
    known = bool(hashes) and sha256_of(path)[:MARK] in hashes
    height, width = image.shape[:2]
    return _Loaded(index, detector.prepare([image]), (height, width), trained_on=known)


def _finish(detector: Stages, one: _Loaded, code: np.ndarray, logit: np.ndarray, categories: CategoryMap) -> Results:
    return to_results(detector.finish(code, logit, one.size), one.image, categories)


def _contradicts(stated: np.ndarray, real: tuple[int, int]) -> bool:
    return bool(stated.all() and real[0] and tuple(stated.tolist()) != real)


def _bar(total: int, show: bool) -> Any:
    from tqdm import tqdm

    quiet = not show or not sys.stderr.isatty()
    return tqdm(total=total, unit="image", disable=quiet, dynamic_ncols=True, leave=False)
