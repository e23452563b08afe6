"""The same weights for another input size, without training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from detection.boxes.anchors import Size
from detection.errors import BadWeightsError, MobileSSDError
from detection.files import drop_damaged, home
from detection.weights.checkpoint import load_checkpoint, read_card, save_checkpoint
from detection.weights.importers.table import need_torch
from detection.weights.resolve import Weights

RESIZER = 1  # raised whenever the same weights would become something else at the same size


def at_size(weights: Weights, size: int | Size) -> Weights:
    """`weights` at an input of `size` (pixels, or height and width), made once and kept in the cache:
    `MOBILESSD_HOME/resized/`. At their own size, which an exported file has no other than, they are given back.

    Raises MobileSSDError, one line, as `resize_weights`.
    """
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if (height, width) == weights.card.input_size:
        return weights
    _refuse_exported(weights)
    name = f"{weights.path.stem}-{weights.sha256[:16]}-{RESIZER}-{height}x{width}.safetensors"
    path = home() / "resized" / name
    if path.exists():
        try:
            read_card(path)
        except BadWeightsError:
            drop_damaged(path)
    if not path.exists():
        resize_weights(weights, (height, width), path, half=weights.card.precision == "float16")
    shown = f"{width}" if height == width else f"{width}x{height}"
    return Weights(path, read_card(path), f"{weights.source} at {shown}")


def resize_weights(weights: Weights, size: int | Size, path: Path, half: bool = False) -> str:
    """Writes `weights` for an input of `size` (pixels, or height and width) as the checkpoint `path`; returns its name.
    half: in float16.

    The anchors are those of `SSDSpec.resized`. What the weights score at another size is not known: the card's figures
    and thresholds are left out. Raises MobileSSDError for an exported file, and where the size is too small.
    """
    _refuse_exported(weights)
    need_torch(weights.source)
    from detection.ssd.network import anchor_grids, build, feature_maps

    ssd, card = load_checkpoint(weights.path)
    try:
        other = build(ssd.spec.resized(size))
    except MobileSSDError as error:  # which knows no file
        raise MobileSSDError(f"{weights.source}: cannot take that size ({error}); name another") from None
    other.load_state_dict(ssd.state_dict())
    height, width = other.spec.input.size
    name = f"{card.name or weights.path.stem} at {width if height == width else f'{width}x{height}'}"
    card = replace(
        card,
        spec=other.spec.to_dict(),
        feature_maps=feature_maps(other),
        anchor_grids=anchor_grids(other),
        name=name,
        metrics=[],
        score_threshold=None,
        class_thresholds=None,
        precision="float16" if half else "float32",
    )
    save_checkpoint(path, other, card, half)
    return name


def _refuse_exported(weights: Weights) -> None:
    if weights.exported:
        height, width = weights.card.input_size
        raise MobileSSDError(
            f"{weights.path}: an exported file has one input size, here {width}x{height}; name the weights it was made from"
        )
