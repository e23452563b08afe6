"""Whether an exported file says what its source says: raw outputs, detections, and AP where there is ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from detection.boxes.detections import Detections
from detection.detector import Detector
from detection.errors import MobileSSDError
from detection.evaluate.categories import match_categories
from detection.evaluate.coco import evaluate
from detection.evaluate.detect import detect_all
from detection.evaluate.truth import GroundTruth
from detection.images.decode import read_image
from detection.images.sources import find_sources
from detection.postprocessor import PostProcessor

# How far raw outputs may be apart (of the value itself, where that is above 1), the share of detections that may have
# no counterpart, and the loss of AP: of the arithmetic's rounding, and of weights rounded to 11 bits.
TOLERANCES = {"float32": 1e-4, "float16": 0.25}
UNMATCHED = {"float32": 0.01, "float16": 0.1}
AP_LOSS = {"float32": 0.001, "float16": 0.003}
IMAGES = 8
REACH = 0.01  # of the image's longer side: how far the corners of one and the same detection may be apart
SHAKEN, SHAKES = 1e-4, 8  # how far, and how often, raw outputs are moved to see which detections hang on rounding
SURE = 0.05  # weaker detections are not looked for: the 100th best of an image is often as good as the 101st


@dataclass(frozen=True)
class SameDetections:
    """detections: of the source with a score of at least 0.05, where rounding does not decide (`steady`); unmatched: of
    these, the ones that the file does not have; pixels: the largest distance of box corners of the others."""

    detections: int
    unmatched: int
    pixels: float

    def line(self) -> str:
        """What to tell a person."""
        same = f"{self.detections - self.unmatched} of {self.detections} detections are the same"
        if self.detections > self.unmatched:
            same += f", corners within {self.pixels:.2g} pixels"
        return same


@dataclass(frozen=True)
class Comparison:
    """encodings, logits: the largest difference of raw outputs. samples: how many images were looked at. detections,
    unmatched, pixels: see `SameDetections`. ap, source_ap: COCO AP of both, on `images` images; None without ground truth."""

    encodings: float
    logits: float
    samples: int
    detections: int
    unmatched: int
    pixels: float
    ap: float | None = None
    source_ap: float | None = None
    images: int = 0

    def lines(self, precision: str) -> list[str]:
        """What to tell a person."""
        same = SameDetections(self.detections, self.unmatched, self.pixels).line()
        said = [
            f"compared with the source on {self.samples} images: encodings within {self.encodings:.1e}, "
            f"logits within {self.logits:.1e} (allowed: {TOLERANCES[precision]:g})",
            same,
        ]
        if self.ap is not None:
            said.append(f"AP {self.ap:.4f}, source {self.source_ap:.4f}, on {self.images} images")
        return said

    def check(self, name: str, precision: str) -> None:
        """MobileSSDError where the two are further apart than `precision` explains."""
        limit = TOLERANCES[precision]
        words = None
        if not max(self.encodings, self.logits) <= limit:
            words = f"raw outputs differ by {max(self.encodings, self.logits):.2g}, more than {limit:g}"
        elif self.unmatched > UNMATCHED[precision] * self.detections:
            words = f"{self.unmatched} of {self.detections} detections differ"
        elif self.ap is not None and self.source_ap is not None and self.source_ap - self.ap > AP_LOSS[precision]:
            words = f"AP is {self.ap:.4f}, of the source {self.source_ap:.4f}"
        if words:
            raise MobileSSDError(f"{name}: not written: the exported network is not its source: {words}")


def compare(source: Detector, exported: Detector, images: Sequence[np.ndarray]) -> Comparison:
    """Both on the same images, uint8 RGB of any sizes: in one batch, and the first two alone."""
    batch = source.prepare(images)
    theirs = source.runtime(batch)
    ours = exported.runtime(batch)
    worst = [difference(a, b) for a, b in zip(ours, theirs, strict=True)]
    for k in range(min(2, len(batch))):
        alone = exported.runtime(batch[k : k + 1])
        worst = [max(w, difference(a[0], b[k])) for w, a, b in zip(worst, alone, theirs, strict=True)]
    same = _compare_detections(source.postprocessor, exported, images, theirs, ours)
    return Comparison(worst[0], worst[1], len(batch), same.detections, same.unmatched, same.pixels)


def compare_detections(
    source: Detector, exported: Detector, images: Sequence[np.ndarray], rules: PostProcessor | None = None
) -> SameDetections:
    """The detections alone, where the exported file has no raw outputs. rules: what the source's raw outputs go through in
    the place of its own post-processing, where that of the file is another one."""
    batch = source.prepare(images)
    raw = source.runtime(batch)
    return _compare_detections(rules or source.postprocessor, exported, images, raw, exported.runtime(batch))


def _compare_detections(
    rules: PostProcessor,
    exported: Detector,
    images: Sequence[np.ndarray],
    theirs: tuple[np.ndarray, np.ndarray],
    ours: tuple[np.ndarray, np.ndarray],
) -> SameDetections:
    count = unmatched = 0
    pixels = 0.0
    for k, image in enumerate(images):
        wanted = steady(rules, theirs[0][k], theirs[1][k], image.shape[:2])
        found = exported.finish(ours[0][k], ours[1][k], image.shape[:2])
        sure, missing, distance = match(wanted, found)
        count, unmatched, pixels = count + sure, unmatched + missing, max(pixels, distance)
    return SameDetections(count, unmatched, pixels)


def with_ap(comparison: Comparison, source: Detector, exported: Detector, truth: GroundTruth) -> Comparison:
    """The same with the AP of both on all images of `truth`."""
    values = [average_precision(detector, truth) for detector in (exported, source)]
    return replace(comparison, ap=values[0], source_ap=values[1], images=len(truth.image_ids))


def average_precision(detector: Detector, truth: GroundTruth) -> float:
    """COCO AP as `mobilessd eval` measures it; the detector's own score threshold decides which weak boxes count."""
    card = detector.card
    results, _ = detect_all(detector, truth, match_categories(card.class_names, card.category_ids, truth))
    return evaluate(truth, results).AP


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest |a - b|, of the value itself where that is above 1; infinite where shapes or finiteness differ."""
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return float("inf")
    return float((np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1)).max(initial=0))


def steady(
    postprocessor: PostProcessor, encodings: np.ndarray, logits: np.ndarray, image_size: tuple[int, int]
) -> Detections:
    """The detections of raw outputs [A, 4] and [A, K] that stay when these move a little, by chance.

    Of two boxes that overlap and score alike, NMS keeps the one that rounding prefers: an untrained network has nothing
    but such, and no two runtimes agree on them.
    """
    chance = np.random.default_rng(0)

    def moved(values: np.ndarray) -> np.ndarray:
        noise = chance.uniform(-SHAKEN, SHAKEN, values.shape)
        return (values + noise * np.maximum(np.abs(values), 1)).astype(values.dtype)

    stays = postprocessor(encodings, logits, image_size)
    for _ in range(SHAKES):
        found = postprocessor(moved(encodings), moved(logits), image_size)
        stays = stays[distances(stays, found) <= REACH * max(image_size)]
    return stays


def match(wanted: Detections, found: Detections, limit: float = REACH) -> tuple[int, int, float]:
    """How many of `wanted` are sure, how many of these have no counterpart in `found` (same class, corners within
    `limit` of the image's longer side), and the largest distance of corners of the others, in pixels."""
    wanted = wanted.above(SURE)
    apart = distances(wanted, found)
    missing = apart > limit * max(wanted.image_size)
    return len(wanted), int(missing.sum()), float(apart[~missing].max(initial=0))


def distances(wanted: Detections, found: Detections) -> np.ndarray:
    """How far the corners of each box are from those of the nearest one of its class, pixels [n]; infinite: has none."""
    apart = np.full(len(wanted), np.inf)
    for k, (box, kind) in enumerate(zip(wanted.boxes, wanted.class_ids)):
        rivals = found.boxes[found.class_ids == kind]
        if len(rivals):
            apart[k] = np.abs(rivals - box).max(1).min()
    return apart


def sample_images(folder: Path | None, number: int = IMAGES) -> list[np.ndarray]:
    """Images to compare on: of a folder, spread over it, or drawn by chance (always the same) in odd sizes."""
    if folder is not None:
        files = [source.name for source in find_sources([str(folder)], recursive=True) if not source.video]
        if not files:
            raise MobileSSDError(f"{folder}: holds no images to compare on")
        step = max(len(files) // number, 1)
        return [read_image(file) for file in files[::step][:number]]
    import cv2

    chance = np.random.default_rng(0)
    drawn = []
    for k in range(number):
        height, width = 97 + 61 * k, 433 - 37 * k
        coarse = chance.integers(0, 256, (7 + k, 9, 3), np.uint8)
        drawn.append(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    return drawn
