"""The one pre-processing: evaluation, detection, live, every runtime and every export go through `stretch`, so what is
measured is what runs. Normalisation is not here: it is the first layer of the deployed network. OpenCV and numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def stretch(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The whole image uint8 [H, W, 3] stretched to `size` = (height, width), bilinear; the aspect is not kept.

    The resize of the protocol of record (TensorFlow's fixed_shape_resizer; OpenCV's INTER_LINEAR, half-pixel centres,
    no antialiasing). It works channel by channel, so swapping RGB and BGR after it gives the same bits as before it:
    a camera's frame given as `bgr[..., ::-1]` is stretched as it lies in memory, and only the small result is swapped.
    """
    height, width = size
    if image.strides[2] < 0:
        return stretch(image[..., ::-1], size)[..., ::-1]
    return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_LINEAR)


def to_batch(images: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Images uint8 [H, W, 3] of any sizes -> one batch [N, h, w, 3] of `size` = (h, w), each stretched."""
    return np.stack([stretch(image, size) for image in images])
