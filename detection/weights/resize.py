"""The same weights for another input size, without training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detection.boxes.anchors import Size
from detection.errors import MobileSSDError
from detection.weights.card import Card
from detection.weights.checkpoint import load_checkpoint, save_checkpoint
from detection.weights.importers.table import need_torch
from detection.weights.resolve import Weights

if TYPE_CHECKING:
    from detection.ssd.network import SSD
    from detection.ssd.spec import SSDSpec


def resize_weights(weights: Weights, size: int | Size, path: Path, half: bool = False) -> str:
    """Writes `weights` for an input of `size` (pixels, or height and width) as the checkpoint `path`; returns its name.
    half: in float16.

    The anchors are those of `SSDSpec.resized`. What the weights score at another size is not known: the card's figures
    and thresholds are left out. Raises MobileSSDError for an exported file, and where the size is too small.
    """
    refuse_exported(weights)
    need_torch(weights.source)
    ssd, card = load_checkpoint(weights.path)
    other = network_at(weights, ssd.spec, size)
    other.load_state_dict(ssd.state_dict())
    card = card_at(card, other, card.name or weights.path.stem, precision="float16" if half else "float32")
    save_checkpoint(path, other, card, half)
    return card.name


def network_at(weights: Weights, spec: SSDSpec, size: int | Size) -> SSD:
    """The network at that size, its numbers drawn by chance."""
    from detection.ssd.network import build

    try:
        return build(spec.resized(size))
    except MobileSSDError as error:  # which knows no file
        raise MobileSSDError(f"{weights.source}: cannot take that size ({error}); name another") from None


def card_at(card: Card, other: SSD, name: str, **changes: Any) -> Card:
    """The card for another size. What the weights score there is not known: figures and thresholds are left out."""
    from detection.ssd.network import anchor_grids, feature_maps

    height, width = other.spec.input.size
    return replace(
        card,
        spec=other.spec.to_dict(),
        feature_maps=feature_maps(other),
        anchor_grids=anchor_grids(other),
        name=f"{name} at {width if height == width else f'{width}x{height}'}",
        metrics=[],
        score_threshold=None,
        class_thresholds=None,
        **changes,
    )


def refuse_exported(weights: Weights) -> None:
    """MobileSSDError, one line, for a file whose input size is fixed."""
    if weights.exported:
        height, width = weights.card.input_size
        raise MobileSSDError(
            f"{weights.path}: an exported file has one input size, here {width}x{height}; name the weights it was made from"
        )
