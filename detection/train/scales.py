"""The input sizes that a run learns at, one a step: of each the anchors, and the sizes of boxes that are trusted there.

A network sees an object of 40 pixels in an image enlarged to 600 as it sees one of 20 at 300; but one that fills the
image is then twice as large as any that it has learned or will ever be asked for at that size. So each input size
learns from a range of box sizes alone and knows nothing of the rest, as in SNIP (Singh and Davis 2018, arXiv
1711.08189).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detection.boxes.anchors import Size
from detection.errors import MobileSSDError
from detection.ssd.network import SSD, anchors_at
from detection.train.config import TrainConfig

ENLARGED = 1.3  # from so many times the network's own side on, a size is there for small objects
TRUSTED = 0.6  # of the network's own side: the largest box that is learned from there


@dataclass(frozen=True)
class Scale:
    """An input of `size` (height, width). anchors: float32 [A, 4] cxcywh in fractions. trusted: the least and the largest
    side, square root of the area in pixels of this input, of the boxes that are learned from; None: all are."""

    size: Size
    anchors: Tensor
    trusted: tuple[float, float] | None = None

    def trusts(self, boxes: Tensor) -> Tensor | None:
        """bool [...] of boxes [..., 4], xyxy in fractions of the input; None: all of them."""
        if self.trusted is None:
            return None
        height, width = self.size
        extent = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
        sides = (extent[..., 0] * width * extent[..., 1] * height).sqrt()
        return (sides >= self.trusted[0]) & (sides <= self.trusted[1])

    def __str__(self) -> str:
        height, width = self.size
        name = f"{width}" if height == width else f"{width}x{height}"
        return name if self.trusted is None else f"{name} (boxes of {self.trusted[0]:g} to {self.trusted[1]:g} pixels)"


Scales = dict[Size, Scale]


def sizes_of(config: TrainConfig) -> tuple[Size, ...]:
    """`config.input_sizes` as (height, width), in their order, repeated ones as often as they stand there."""
    return tuple((size, size) if isinstance(size, int) else (size[0], size[1]) for size in config.input_sizes)


def scales_of(config: TrainConfig, ssd: SSD, device: str) -> Scales:
    """The sizes that a run learns at, its network's own among them. Raises MobileSSDError, one line that names the size,
    where the network cannot be run at it."""
    own = ssd.spec.input.size
    sizes = sizes_of(config)
    ranges: Sequence[tuple[float, float] | None] = config.trusted_boxes or [usual_range(own, size) for size in sizes]
    scales = {own: Scale(own, torch.from_numpy(anchors_at(ssd.spec, own)).to(device))}
    for size, trusted in zip(sizes, ranges, strict=True):
        try:
            anchors = anchors_at(ssd.spec, size)
        except MobileSSDError as error:
            raise MobileSSDError(f"input_sizes: {error}") from None
        scales[size] = Scale(size, torch.from_numpy(anchors).to(device), trusted)
    return scales


def usual_range(own: Size, size: Size) -> tuple[float, float] | None:
    """What is trusted where the recipe does not say: near the network's own size and below it everything, in larger
    images boxes of up to 0.6 of its own side, above which the own size sees them better (180 pixels at 300, chosen on
    held-out COCO images; 140 to 220 did no worse)."""
    side = math.sqrt(own[0] * own[1])
    return None if math.sqrt(size[0] * size[1]) < ENLARGED * side else (0.0, round(TRUSTED * side, 1))
