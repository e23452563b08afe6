"""The same weights for another input size, without training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from detection.boxes.anchors import Size
from detection.errors import MobileSSDError
from detection.weights.checkpoint import load_checkpoint, save_checkpoint
from detection.weights.importers.table import need_torch
from detection.weights.resolve import Weights


def resize_weights(weights: Weights, size: int | Size, path: Path, half: bool = False) -> str:
    """Writes `weights` for an input of `size` (pixels, or height and width) as the checkpoint `path`; returns its name.
    half: in float16.

    The anchors are those of `SSDSpec.resized`. What the weights score at another size is not known: the card's figures
    and thresholds are left out. Raises MobileSSDError for an exported file, and where the size is too small.
    """
    if weights.exported:
        raise MobileSSDError(f"{weights.path}: an exported file has one input size; name the weights it was made from")
    need_torch(weights.source)
    from detection.ssd.network import build, feature_maps

    ssd, card = load_checkpoint(weights.path)
    other = build(ssd.spec.resized(size))
    other.load_state_dict(ssd.state_dict())
    height, width = other.spec.input.size
    name = f"{card.name or weights.path.stem} at {width if height == width else f'{width}x{height}'}"
    card = replace(
        card,
        spec=other.spec.to_dict(),
        feature_maps=feature_maps(other),
        name=name,
        metrics=[],
        score_threshold=None,
        class_thresholds=None,
        precision="float16" if half else "float32",
    )
    save_checkpoint(path, other, card, half)
    return name
