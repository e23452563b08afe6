"""Evaluation during training: the code of `mobilessd eval`, on the network at hand, shared among processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from detection.boxes.postprocess import DEFAULT_MERGE
from detection.detector import Detector
from detection.evaluate.categories import match_categories
from detection.evaluate.coco import CocoNumbers, evaluate
from detection.evaluate.detect import detect_all
from detection.evaluate.results import Results, concatenate, no_results
from detection.evaluate.truth import GroundTruth
from detection.runtimes.torch import TorchRuntime
from detection.ssd.network import SSD
from detection.train.distributed import World, gather
from detection.weights.card import Card

# The protocol of record: every anchor decoded, score threshold 0.01, class-wise NMS at 0.6, 100 boxes an image.
PROTOCOL: dict[str, Any] = {"score": 0.01, "iou": 0.6, "max_detections": 100, "merge": DEFAULT_MERGE}


@dataclass(frozen=True)
class Validation:
    """The numbers, and what they were computed from."""

    numbers: CocoNumbers
    truth: GroundTruth
    results: Results


def validate(
    ssd: SSD, card: Card, truth: GroundTruth, device: str, world: World, workers: int = 2
) -> Validation | None:
    """The twelve numbers of a network on `truth`. Each process takes its share of the images; the first one gets the
    numbers of all of them, the same as alone; the others get None."""
    detector = Detector.of(card, TorchRuntime.of(ssd, device), **PROTOCOL)
    share = np.arange(world.rank, len(truth.image_ids), world.size)
    categories = match_categories(card.class_names, None, truth)
    found = no_results()
    if len(share):
        found, _ = detect_all(
            detector, truth.select(images=share.tolist()), categories, workers=workers, progress=world.first
        )
        found = Results(share[found.image], found.category, found.boxes, found.scores)
    parts = gather(found) if world.size > 1 else [found]
    if not world.first:
        return None
    everything = concatenate(parts)
    everything = everything[np.argsort(everything.image, kind="stable")]
    return Validation(evaluate(truth, everything), truth, everything)
