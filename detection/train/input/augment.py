"""From a decoded image to a training sample of the network's size.

All randomness comes from the generator that is passed in. Crop before resize, and colour after it, on the small
image: that is what makes the whole a millisecond or two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import cv2
import numpy as np
from msgspec import Meta

from detection.errors import MobileSSDError
from detection.train.input.crops import CROPS
from detection.train.input.photometric import DISTORTIONS, corrupt
from detection.train.input.sample import FILL, Sample, cut, flip, flip_vertical
from detection.train.input.transforms import Entry, check_transforms, key_of, transformed

Partner = Callable[[np.random.Generator], Sample]  # another image of the data set, chosen by the generator


@dataclass(frozen=True)
class Augmentation:
    """What is done to an image, in this order: mosaic or (expand, crop, stretch, flips), mixup, rotate, transforms, colour,
    corrupt.

    crop: "tf", "liu", "torchvision", "mmdet" or "none" (`crops`); allow_empty: windows without objects, as the
    originals. expand: probability of zooming out by U(1, expand_max) (Liu's expand, torchvision's RandomZoomOut),
    filled with `fill`. flip: probability. photometric: "liu", "mmdet", "torchvision" or "none" (`photometric`). mosaic:
    probability of four images around a random point. mixup: probability of a blend with another image (arXiv
    1902.04103), its share drawn from Beta(mixup_alpha, mixup_alpha). corrupt: probability of blur, noise or
    compression. flip_vertical: probability of top and bottom exchanged. rotate: every image is turned by up to so many
    degrees to either side; a box becomes the one around its turned corners. transforms: albumentations' by name, in this
    order, as in [Blur, {RandomRain: {p: 0.1}}]; a box of which they leave less than a tenth inside is dropped. min_side:
    boxes with a side below this many pixels of the input at the end are dropped.
    """

    crop: str = "tf"
    allow_empty: bool = False
    expand: float = 0.0
    expand_max: float = 4.0
    fill: tuple[int, int, int] = FILL
    flip: float = 0.5
    photometric: str = "none"
    mosaic: float = 0.0
    mixup: float = 0.0
    mixup_alpha: float = 1.5
    corrupt: float = 0.0
    flip_vertical: float = 0.0
    rotate: Annotated[float, Meta(ge=0, le=180)] = 0.0
    transforms: tuple[Entry, ...] = ()
    min_side: float = 1.0

    def __post_init__(self) -> None:
        for name, value, known in (("crop", self.crop, CROPS), ("photometric", self.photometric, DISTORTIONS)):
            if value != "none" and value not in known:
                raise MobileSSDError(f"augmentation {name}: {value!r} is none of {', '.join(known)}, none")
        for name in ("expand", "flip", "flip_vertical", "mosaic", "mixup", "corrupt"):
            if not 0 <= getattr(self, name) <= 1:
                raise MobileSSDError(f"augmentation {name}: {getattr(self, name)} is no probability from 0 to 1")
        if self.rotate or self.transforms:
            check_transforms(self.rotate, self.transforms, self.fill)


# As in TensorFlow's SSD configs, Liu's scripts, mmdet's ssd and ssdlite, torchvision's "ssd" and "ssdlite" presets.
PRESETS: dict[str, Augmentation] = {
    "none": Augmentation(crop="none", flip=0.0),
    "tf": Augmentation(crop="tf", allow_empty=True),
    "liu": Augmentation(crop="liu", expand=0.5, photometric="liu", allow_empty=True),
    "mmdet": Augmentation(crop="mmdet", expand=0.5, photometric="mmdet"),
    "torchvision_ssd": Augmentation(crop="torchvision", expand=0.5, photometric="torchvision"),
    "torchvision_ssdlite": Augmentation(crop="torchvision"),
}


def augment(
    sample: Sample,
    config: Augmentation,
    rng: np.random.Generator,
    input_size: tuple[int, int],
    partner: Partner | None = None,
) -> Sample:
    """A training sample of `input_size` (height, width) from a whole image; boxes in pixels of the input.

    `partner` gives the other images of mosaic and mixup; without it both are left out. The same generator state gives
    the same sample.
    """
    if partner and rng.random() < config.mosaic:
        out = mosaic([sample, *(partner(rng) for _ in range(3))], config, rng, input_size)
    else:
        out = place(sample, config, rng, input_size)
    if partner and rng.random() < config.mixup:
        share = float(rng.beta(config.mixup_alpha, config.mixup_alpha))
        out = mixup(out, place(partner(rng), config, rng, input_size), share)
    if config.rotate or config.transforms:
        out = transformed(out, key_of(config.rotate, config.transforms, config.fill), rng)
    image = out.image
    if config.photometric != "none":
        image = DISTORTIONS[config.photometric](image, rng)
    if rng.random() < config.corrupt:
        image = corrupt(image, rng)
    sides = out.boxes[:, 2:] - out.boxes[:, :2]
    return replace(out, image=np.ascontiguousarray(image)).select((sides >= config.min_side).all(1))


def place(sample: Sample, config: Augmentation, rng: np.random.Generator, size: tuple[int, int]) -> Sample:
    """Expand, crop, stretch and flip of one image; only numbers until the one resize at the end."""
    height, width = sample.size
    left = top = 0
    if rng.random() < config.expand:
        ratio = rng.uniform(1, config.expand_max)
        new_height, new_width = int(height * ratio), int(width * ratio)
        left, top = int(rng.uniform(0, new_width - width)), int(rng.uniform(0, new_height - height))
        height, width = new_height, new_width
    window = (0, 0, width, height)
    if config.crop != "none":
        moved = sample.boxes + np.array([left, top, left, top], np.float32)
        crop = CROPS[config.crop](moved[~sample.ignore], (height, width), rng, config.allow_empty)
        if crop is not None:
            x1, y1, x2, y2 = window = crop.window
            touched = (moved[:, 0] < x2) & (moved[:, 2] > x1) & (moved[:, 1] < y2) & (moved[:, 3] > y1)
            sample = sample.select(np.where(sample.ignore, touched, crop.keeps(moved)))
    x1, y1, x2, y2 = window
    out = cut(sample, (x1 - left, y1 - top, x2 - left, y2 - top), size, config.fill)
    out = flip(out) if rng.random() < config.flip else out
    # asked only where it can be: the other recipes' random numbers stay what they were
    return flip_vertical(out) if config.flip_vertical and rng.random() < config.flip_vertical else out


def mixup(sample: Sample, other: Sample, share: float) -> Sample:
    """`share` of one image and 1 - share of another of the same size, with the boxes of both (arXiv 1902.04103).

    Each box's score is multiplied by the share of its image: the paper weighs the loss of its boxes so.
    """
    image = cv2.addWeighted(sample.image, share, other.image, 1 - share, 0)
    scores = np.concatenate([sample.scores * np.float32(share), other.scores * np.float32(1 - share)])
    return replace(_joined(sample, [sample, other]), image=image, scores=scores)


def mosaic(samples: list[Sample], config: Augmentation, rng: np.random.Generator, size: tuple[int, int]) -> Sample:
    """Four images, each cropped and flipped by itself, around a point in the middle 40 % of the input (YOLOv4)."""
    height, width = size
    cy, cx = (int(side * rng.uniform(0.3, 0.7)) for side in size)
    corners = [(0, 0, cy, cx), (0, cx, cy, width), (cy, 0, height, cx), (cy, cx, height, width)]
    image = np.empty((height, width, 3), np.uint8)
    placed = []
    for sample, (y1, x1, y2, x2) in zip(samples, corners):
        part = place(sample, config, rng, (y2 - y1, x2 - x1))
        image[y1:y2, x1:x2] = part.image
        placed.append(replace(part, boxes=part.boxes + np.array([x1, y1, x1, y1], np.float32)))
    return replace(_joined(samples[0], placed), image=image)


def _joined(first: Sample, parts: list[Sample]) -> Sample:
    """The boxes of all parts; a class that one of them does not annotate is unknown in the whole."""
    masks = [part.unknown for part in parts if part.unknown is not None]
    return replace(
        first,
        boxes=np.concatenate([part.boxes for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        ignore=np.concatenate([part.ignore for part in parts]),
        unknown=np.logical_or.reduce(masks) if masks else None,
    )
