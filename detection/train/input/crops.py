"""The random crops of the SSD family, as numbers: boxes and an image's size go in, a window comes out.

Four rules, and they differ in what they ask of a window (`t` is an option drawn from a list):
- TensorFlow's `ssd_random_crop`: covers a share >= t of at least one object; keeps boxes covered >= t.
- Liu's (Caffe): overlap (IoU) >= t with at least one object; keeps boxes whose centre is inside.
- torchvision's `RandomIoUCrop`: overlap >= t with a box whose centre is inside; keeps by centre.
- mmdet's `MinIoURandomCrop`: overlap >= t with every object; keeps by centre.
TensorFlow's windows are the smallest and tightest: a tenth of the image, and coverage of a small object is easily
had.

The tries of a rule are drawn together and the first that fits is taken, which is the same distribution as one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from detection.boxes.geometry import area, intersection_matrix, iou_matrix


@dataclass(frozen=True)
class Crop:
    """A window in whole pixels (xyxy) and the rule by which boxes stay: by centre, or covered by >= `coverage`."""

    window: tuple[int, int, int, int]
    coverage: float | None = None

    def keeps(self, boxes: np.ndarray) -> np.ndarray:
        """bool [n]: which boxes float32 [n, 4] stay in the window."""
        x1, y1, x2, y2 = self.window
        if self.coverage is None:
            cx, cy = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
            return (cx > x1) & (cx < x2) & (cy > y1) & (cy < y2)
        inside = intersection_matrix(boxes, np.array([self.window], np.float32))[:, 0]
        whole = area(boxes)
        return (inside > 0) & (inside >= (self.coverage - 1e-5) * whole)  # float32 may lose a hair of a whole box


CropRule = Callable[[np.ndarray, tuple[int, int], np.random.Generator, bool], "Crop | None"]


def tf_crop(
    boxes: np.ndarray, size: tuple[int, int], rng: np.random.Generator, allow_empty: bool = False
) -> Crop | None:
    """TensorFlow's `ssd_random_crop` (object_detection/core/preprocessor.py, sample_distorted_bounding_box_op.cc).

    One of seven options t; 15 % of the time the image as it is; else up to 100 windows of aspect U(.5, 2) and, at
    that aspect, height uniform between those of 10 % and 100 % of the area. An image without objects is treated as one
    object. boxes float32 [n, 4] in pixels; size (height, width). None: leave the image as it is.

    With t = 0 TensorFlow's window may hold no object at all; unless `allow_empty`, the image is then left as it is.
    """
    height, width = size
    option = float(rng.choice((0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)))
    if rng.random() <= 0.15:
        return None
    windows = _tf_windows(height, width, rng, tries=100)
    objects = boxes if len(boxes) else np.array([[0, 0, width, height]], np.float32)
    objects = np.trunc(objects)  # the kernel compares whole pixels
    objects = objects[area(objects) >= 1]
    covered = intersection_matrix(windows, objects) / area(objects)[None]
    fits = np.flatnonzero((covered >= option).any(1))
    if not len(fits):
        return None
    crop = Crop(_whole(windows[fits[0]]), coverage=option)
    return crop if allow_empty or not len(boxes) or crop.keeps(boxes).any() else None


def _tf_windows(height: int, width: int, rng: np.random.Generator, tries: int) -> np.ndarray:
    """The kernel's GenerateRandomCrop for many aspects at once: windows [k <= tries, 4] that meet the area range."""
    aspect = rng.uniform(0.5, 2.0, tries)
    least, most = 0.1 * width * height, 1.0 * width * height
    low, high = np.rint(np.sqrt(least / aspect)), np.rint(np.sqrt(most / aspect))
    too_wide = np.rint(high * aspect) > width
    narrowed = np.floor((width + 0.5 - 1e-7) / aspect)
    narrowed -= np.rint(narrowed * aspect) > width
    high = np.minimum(np.where(too_wide, narrowed, high), height)
    low = np.minimum(low, high)
    h = low + np.floor(rng.random(tries) * (high - low + 1))
    h += np.rint(h * aspect) * h < least
    h -= np.rint(h * aspect) * h > most
    w = np.rint(h * aspect)
    top = np.floor(rng.random(tries) * np.maximum(height - h, 0))
    left = np.floor(rng.random(tries) * np.maximum(width - w, 0))
    good = (w * h >= least) & (w * h <= most) & (w <= width) & (h <= height) & (w > 0) & (h > 0)
    return np.stack([left, top, left + w, top + h], 1)[good].astype(np.float32)


def liu_crop(
    boxes: np.ndarray, size: tuple[int, int], rng: np.random.Generator, allow_empty: bool = False
) -> Crop | None:
    """Liu et al. 2016, section 2.2, as in Caffe (sampler.cpp, ssd_coco.py): seven samplers run, one result chosen.

    The whole image; a window of overlap >= .1, .3, .5, .7, .9 with at least one object; a window at all (up to 50
    tries each). Scale U(.3, 1), aspect U(.5, 2) cut to [scale^2, 1/scale^2], in fractions of the image. Arguments as
    `tf_crop`.

    Caffe may choose a window with no object's centre inside; unless `allow_empty`, such windows are no candidates.
    """
    if not len(boxes):
        return None
    height, width = size
    least = np.array([0.1, 0.3, 0.5, 0.7, 0.9, -np.inf])  # the last is Caffe's "max_jaccard_overlap: 1": anything
    shape = len(least), 50
    scale = rng.uniform(0.3, 1.0, shape)
    aspect = np.clip(rng.uniform(0.5, 2.0, shape), scale**2, scale**-2)
    w, h = np.minimum(scale * np.sqrt(aspect), 1), np.minimum(scale / np.sqrt(aspect), 1)
    left, top = np.floor(rng.random(shape) * (1 - w) * width), np.floor(rng.random(shape) * (1 - h) * height)
    right, bottom = left + np.maximum(np.floor(w * width), 1), top + np.maximum(np.floor(h * height), 1)
    windows = np.stack([left, top, right, bottom], -1).astype(np.float32)
    fits = iou_matrix(windows.reshape(-1, 4), boxes).max(1).reshape(shape) >= least[:, None]
    candidates: list[Crop | None] = [None]  # the whole image
    for found, row in zip(fits, windows):
        if found.any():
            crop = Crop(_whole(row[found.argmax()]))
            if allow_empty or crop.keeps(boxes).any():
                candidates.append(crop)
    return candidates[rng.integers(len(candidates))]


def torchvision_crop(
    boxes: np.ndarray, size: tuple[int, int], rng: np.random.Generator, allow_empty: bool = False
) -> Crop | None:
    """torchvision's RandomIoUCrop (references/detection/transforms.py): an option, up to 40 tries, else another option.

    Sides U(.3, 1) independently, refused if width/height in pixels is outside .5..2; the best overlap among the boxes
    whose centre is inside must reach t. Arguments as `tf_crop`; never empty.
    """
    if not len(boxes):
        return None
    while (option := float(rng.choice((0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)))) < 1:
        windows = _side_windows(size, rng, tries=40)
        inside = _centres_inside(boxes, windows)
        overlap = np.where(inside, iou_matrix(windows, boxes), -1.0).max(1)
        fits = np.flatnonzero(inside.any(1) & (overlap >= option))
        if len(fits):
            return Crop(_whole(windows[fits[0]]))
    return None


def mmdet_crop(
    boxes: np.ndarray, size: tuple[int, int], rng: np.random.Generator, allow_empty: bool = False
) -> Crop | None:
    """mmdet's MinIoURandomCrop: as torchvision's, 50 tries, but the overlap with every box must reach t.

    An image without boxes is cropped freely. Arguments as `tf_crop`; never empty where there are boxes.
    """
    while (option := float(rng.choice((1.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.0)))) < 1:
        windows = _side_windows(size, rng, tries=50)
        good = np.ones(len(windows), bool)
        if len(boxes):
            good = (iou_matrix(windows, boxes).min(1) >= option) & _centres_inside(boxes, windows).any(1)
        fits = np.flatnonzero(good)
        if len(fits):
            return Crop(_whole(windows[fits[0]]))
    return None


CROPS: dict[str, CropRule] = {"tf": tf_crop, "liu": liu_crop, "torchvision": torchvision_crop, "mmdet": mmdet_crop}


def _side_windows(size: tuple[int, int], rng: np.random.Generator, tries: int) -> np.ndarray:
    """Windows [k <= tries, 4] in whole pixels whose sides are U(.3, 1) of the image's and whose aspect is .5..2."""
    height, width = size
    w, h = np.floor(width * rng.uniform(0.3, 1, tries)), np.floor(height * rng.uniform(0.3, 1, tries))
    left, top = np.floor((width - w) * rng.random(tries)), np.floor((height - h) * rng.random(tries))
    good = (w >= 1) & (h >= 1) & (w >= 0.5 * h) & (w <= 2 * h)
    return np.stack([left, top, left + w, top + h], 1)[good].astype(np.float32)


def _centres_inside(boxes: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """bool [windows, boxes]: centres strictly inside."""
    cx, cy = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    x1, y1, x2, y2 = (windows[:, i, None] for i in range(4))
    return (cx > x1) & (cx < x2) & (cy > y1) & (cy < y2)


def _whole(window: np.ndarray) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = (int(side) for side in window)
    return x1, y1, x2, y2
