"""An image on its way into a batch, and the two steps that every augmentation ends with: a window of it, stretched.

Boxes are float32 xyxy in pixels of the sample's own image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from detection.boxes.geometry import clip
from detection.images.preprocess import stretch

FILL = (123, 117, 104)  # the ImageNet mean, RGB: what Caffe and torchvision fill with


@dataclass(frozen=True)
class Sample:
    """One image with its boxes.

    image uint8 RGB [H, W, 3]; boxes float32 [n, 4]; labels int64 [n]; scores float32 [n] (1, or less for pseudo-
    labels and mixup); ignore bool [n]: regions of which nothing is known, no targets; unknown bool [C] or None: classes that
    are not annotated in this image; index: its number in the data set.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    ignore: np.ndarray
    unknown: np.ndarray | None = None
    image_id: int = 0
    index: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.image.shape[0], self.image.shape[1]

    def select(self, kept: np.ndarray) -> Sample:
        """The same image with the boxes of this mask or these indices."""
        return replace(
            self, boxes=self.boxes[kept], labels=self.labels[kept], scores=self.scores[kept], ignore=self.ignore[kept]
        )


def make_sample(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None = None,
    ignore: np.ndarray | None = None,
    **rest: object,
) -> Sample:
    """A sample from an image and boxes [n, 4] in its pixels, with everything else filled in."""
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return Sample(
        image=image,
        boxes=boxes,
        labels=np.asarray(labels, np.int64).reshape(-1),
        scores=np.ones(len(boxes), np.float32) if scores is None else np.asarray(scores, np.float32),
        ignore=np.zeros(len(boxes), bool) if ignore is None else np.asarray(ignore, bool),
        **rest,  # type: ignore[arg-type]
    )


def flip(sample: Sample) -> Sample:
    """The mirror image, left and right exchanged. Twice is the identity (for boxes, to float32 rounding)."""
    width = sample.image.shape[1]
    boxes = sample.boxes.copy()
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    return replace(sample, image=cv2.flip(sample.image, 1), boxes=boxes)


def flip_vertical(sample: Sample) -> Sample:
    """Top and bottom exchanged. Twice is the identity (for boxes, to float32 rounding)."""
    height = sample.image.shape[0]
    boxes = sample.boxes.copy()
    boxes[:, [1, 3]] = height - boxes[:, [3, 1]]
    return replace(sample, image=cv2.flip(sample.image, 0), boxes=boxes)


def cut(sample: Sample, window: tuple[float, float, float, float], size: tuple[int, int], fill=FILL) -> Sample:
    """The part of a sample in `window` (xyxy in its pixels), stretched to `size` (height, width).

    The window may reach beyond the image; what lies outside is filled. Boxes go along and are clipped to the window;
    which of them stay is for the caller to say beforehand.
    """
    height, width = size
    x1, y1, x2, y2 = window
    scale_x, scale_y = width / (x2 - x1), height / (y2 - y1)
    boxes = (sample.boxes - np.array([x1, y1, x1, y1])) * np.array([scale_x, scale_y, scale_x, scale_y])
    return replace(
        sample,
        image=_stretched(sample.image, window, size, fill),
        boxes=clip(boxes, height, width).astype(np.float32),
    )


def _stretched(image: np.ndarray, window: tuple[float, float, float, float], size: tuple[int, int], fill) -> np.ndarray:
    x1, y1, x2, y2 = window
    inside = x1 >= 0 and y1 >= 0 and x2 <= image.shape[1] and y2 <= image.shape[0]
    if inside and all(float(side).is_integer() for side in window):
        return stretch(image[int(y1) : int(y2), int(x1) : int(x2)], size)
    # One warp in the place of a canvas of up to 16 images; the same bilinear rule, with pixel centres at .5.
    height, width = size
    step_x, step_y = (x2 - x1) / width, (y2 - y1) / height
    matrix = np.array([[step_x, 0, x1 + step_x / 2 - 0.5], [0, step_y, y1 + step_y / 2 - 0.5]])
    return cv2.warpAffine(
        image,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=tuple(fill),
    )
