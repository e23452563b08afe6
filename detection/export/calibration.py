"""The images that int8 ranges are measured on, and which layers may stay in higher precision."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detection.errors import BadImageError, MobileSSDError
from detection.images.decode import read_image
from detection.images.preprocess import stretch
from detection.images.sources import find_sources

FEWEST = 10  # below that the ranges are those of these very images
USUAL = 300  # more changes nothing that can be measured


@dataclass(frozen=True)
class Int8Plan:
    """Which layers stay in float32. name: in words. groups: of `groups_of`."""

    name: str
    groups: tuple[str, ...]


# Tried one after the other until the loss of AP is small enough: the first layer and the box offsets suffer most from
# eight bits, and cost least in float32; the first layer costs nothing.
PLANS = (
    Int8Plan("all layers int8", ()),
    Int8Plan("first layer float32", ("first",)),
    Int8Plan("box heads float32", ("boxes",)),
    Int8Plan("box heads and first layer float32", ("boxes", "first")),
    Int8Plan("heads and first layer float32", ("boxes", "scores", "first")),
    Int8Plan("heads, extras and first layer float32", ("boxes", "scores", "first", "extras")),
)


def groups_of(convolutions: Sequence[str]) -> dict[str, list[str]]:
    """The convolutions of a graph, by their names in the order they run, as groups that can stay in float32."""
    groups: dict[str, list[str]] = {"first": list(convolutions[:1]), "boxes": [], "scores": [], "extras": []}
    for name in convolutions:
        if re.search(r"heads\b.*\bbox", name):
            groups["boxes"].append(name)
        elif re.search(r"heads\b.*\bscore", name):
            groups["scores"].append(name)
        elif re.search(r"\b(extras|pyramid)\b", name):
            groups["extras"].append(name)
    return groups


def kept_float(convolutions: Sequence[str], plan: Int8Plan) -> list[str]:
    """The names of the convolutions that `plan` leaves in float32."""
    groups = groups_of(convolutions)
    return sorted({name for group in plan.groups for name in groups[group]})


def calibration_images(folder: Path, size: tuple[int, int], number: int = USUAL) -> np.ndarray:
    """Images of a folder and those below it, spread over it, as the network sees them: uint8 [N, h, w, 3].

    Broken ones are passed over. MobileSSDError, one line, where fewer than ten are left.
    """
    files = [source.name for source in find_sources([str(folder)], recursive=True) if not source.video]
    chosen = [files[i] for i in np.random.default_rng(0).permutation(len(files))]
    found: list[np.ndarray] = []
    for file in chosen:
        if len(found) == number:
            break
        try:
            found.append(stretch(read_image(file), size))
        except BadImageError:
            continue
    if len(found) < min(FEWEST, number):
        raise MobileSSDError(
            f"{folder}: {len(found)} images are too few to calibrate on; it takes at least {FEWEST}, better {USUAL}"
        )
    return np.stack(found)
