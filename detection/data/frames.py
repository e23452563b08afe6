"""Boxes brought into the frame of the image as it is shown, where the annotation holds another size than the file.

Three things happen to images: a tool annotates the stored frame of one that EXIF turns, or writes width and height exchanged,
or somebody resizes the image afterwards. Sizes alone do not tell the first two apart: that the boxes fit does. Where they
fit either way, the images of which one way is certain decide for the others, and it is said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from detection.data.dataset import DetectionData
from detection.data.faults import Faults

ROUNDING = 2  # pixels by which somebody's resize may round, and boxes may reach beyond
SLACK = 0.01  # share of a side by which boxes may reach beyond their image and still fit
SAME_SHAPE = 0.01  # aspects that differ by less were resized, not exchanged


@dataclass(frozen=True)
class Frames:
    """Which images what happened to, bool [P]. turned: by EXIF, boxes are in the stored frame. resized: since (both: turned
    first). size_wrong: the annotated size is, the boxes fit the file. either: another way fits as well. wrong: nothing fits.
    """

    turned: np.ndarray
    resized: np.ndarray
    size_wrong: np.ndarray
    either: np.ndarray
    wrong: np.ndarray


def match_frames(
    data: DetectionData, real: np.ndarray, orientations: np.ndarray, faults: Faults
) -> tuple[DetectionData, np.ndarray]:
    """(the data with sizes, boxes and areas of the files as shown; bool [P]: images that contradict their annotation).

    real: int [P, 2] (height, width) of each file after EXIF, 0 where it cannot be read. orientations: [P], EXIF's 1..8. What is
    put right is counted in `faults`.
    """
    annotated = data.sizes
    unread = (real == 0).any(1)
    frames = _compare(data, real, orientations)

    def examples(mask: np.ndarray) -> list[str]:
        return [
            f"{data.path(i)}: annotated {annotated[i][1]} x {annotated[i][0]}, is {real[i][1]} x {real[i][0]}"
            for i in np.flatnonzero(mask)[:20]
        ]

    for kind, mask in (
        ("size contradicts", frames.wrong),
        ("resized", frames.resized),
        ("exif turned", frames.turned),
        ("size wrong", frames.size_wrong),
        ("fits either way", frames.either),
    ):
        faults.add_all(kind, int(mask.sum()), examples(mask))
    sizes = np.where(unread[:, None], annotated, real)
    if not (frames.turned | frames.resized).any():
        return replace(data, sizes=sizes), frames.wrong
    corners, areas = data.corners(), data.areas.copy()
    stored = np.where((annotated > 0).all(1, keepdims=True), annotated, real[:, ::-1])
    near = np.abs(stored - real).max(1, keepdims=True) <= ROUNDING  # the size was turned, the boxes were not
    stored = np.where(near & frames.turned[:, None], real[:, ::-1], stored)
    for i in np.flatnonzero(frames.turned):
        rows = slice(data.starts[i], data.starts[i + 1])
        corners[rows] = turn_boxes(corners[rows], stored[i], int(orientations[i]))
    for i in np.flatnonzero(frames.resized):
        rows = slice(data.starts[i], data.starts[i + 1])
        scale = real[i] / (stored[i][::-1] if frames.turned[i] else annotated[i])
        corners[rows] *= np.tile(scale[::-1], 2)
        areas[rows] *= scale.prod()
    moved = np.repeat(frames.turned | frames.resized, np.diff(data.starts))
    return replace(data.with_corners(corners, moved), sizes=sizes, areas=areas), frames.wrong


def _compare(data: DetectionData, real: np.ndarray, orientations: np.ndarray) -> Frames:
    annotated, swapped = data.sizes, data.sizes[:, ::-1]
    read, known = (real > 0).all(1), (data.sizes > 0).all(1)
    extent = _extent(data)
    fits_real, fits_annotated, fits_stored = (_fits(extent, size) for size in (real, annotated, real[:, ::-1]))
    exif = read & (orientations >= 5)
    differs = read & known & (np.abs(real - annotated).max(1) > ROUNDING)
    exchanged = differs & (np.abs(real - swapped).max(1) <= ROUNDING)

    turned, kept, unsure = _decide(exchanged & exif, fits_stored, fits_real)
    # without EXIF, boxes that fit only the annotated size mean that somebody turned the image, and nobody knows which way
    upright, lost, unclear = _decide(exchanged & ~exif, fits_real, fits_annotated)
    empty = (extent == 0).all(1)
    upright, lost = upright | (lost & empty), lost & ~empty
    either = (unsure | unclear) & ~empty & fits_real & fits_annotated

    rest = differs & ~exchanged
    size_wrong = kept | upright | (rest & ~fits_annotated & fits_real)
    rest &= ~size_wrong
    resized = rest & _same_shape(real, annotated)
    turned_and_resized = rest & ~resized & exif & _same_shape(real, swapped)
    # a size that was turned while the boxes were not, or none at all
    turned |= exif & ~differs & ~fits_real & fits_stored
    return Frames(
        turned=turned | turned_and_resized,
        resized=resized | turned_and_resized,
        size_wrong=size_wrong,
        either=either,
        wrong=lost | (rest & ~resized & ~turned_and_resized),
    )


def _decide(images: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(images of which the first is true, of which the second is, of both those that are not certain), bool [P] each: by
    what fits; where both do or neither, as most of the certain ones, else the first."""
    sure, other = images & first & ~second, images & second & ~first
    unsure = images & ~sure & ~other
    if other.sum() > sure.sum():
        return sure, other | unsure, unsure
    return sure | unsure, other, unsure


def _extent(data: DetectionData) -> np.ndarray:
    """float64 [P, 2]: how far down and to the right the boxes of each image reach; 0 where it has none."""
    corners = data.corners()
    sound = np.isfinite(corners).all(1) & (data.labels >= 0)
    extent: np.ndarray = np.zeros((len(data), 2))
    far = np.maximum(corners[:, :2], corners[:, 2:])[:, ::-1]
    np.maximum.at(extent, data.owners()[sound], far[sound])
    return extent


def _fits(extent: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return ((extent - sizes) <= np.maximum(ROUNDING, SLACK * sizes)).all(1)


def _same_shape(sizes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """bool [P]: which of the sizes int [P, 2] have the aspect of the others, to a hundredth."""
    one, other = sizes[:, 0] * others[:, 1].astype(float), sizes[:, 1] * others[:, 0].astype(float)
    alike: np.ndarray = np.abs(one - other) <= SAME_SHAPE * np.maximum(one, other)
    return alike


def turn_boxes(boxes: np.ndarray, size: Sequence[int], orientation: int) -> np.ndarray:
    """Boxes [n, 4] in a stored image of `size` (height, width) -> in the image that EXIF's `orientation` shows."""
    height, width = (float(side) for side in size)
    point: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] = {
        1: lambda x, y: (x, y),
        2: lambda x, y: (width - x, y),
        3: lambda x, y: (width - x, height - y),
        4: lambda x, y: (x, height - y),
        5: lambda x, y: (y, x),
        6: lambda x, y: (height - y, x),
        7: lambda x, y: (height - y, width - x),
        8: lambda x, y: (y, width - x),
    }[orientation]
    ax, ay = point(boxes[:, 0], boxes[:, 1])
    bx, by = point(boxes[:, 2], boxes[:, 3])
    return np.stack([np.minimum(ax, bx), np.minimum(ay, by), np.maximum(ax, bx), np.maximum(ay, by)], 1)
