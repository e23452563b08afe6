"""The one pre-processing: evaluation, detection, live, training, every runtime and every export go through `stretch`, so
what is measured is what runs. Normalisation is not here: it is the first layer of the deployed network.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

LARGE = 2000  # pixels of the longer side from which on an image is halved first; videos of 1080p and COCO stay below


def stretch(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The whole image uint8 [H, W, 3] stretched to `size` = (height, width), bilinear; the aspect is not kept.

    The resize of the protocol of record (TensorFlow's fixed_shape_resizer; OpenCV's INTER_LINEAR, half-pixel centres,
    no antialiasing). That reads four pixels for each of the result, which of a large photograph leaves noise and steps:
    an image of 2,000 pixels and more is averaged first (`halved`). It works channel by channel, so swapping RGB and BGR
    after it gives the same bits as before it: a camera's frame given as `bgr[..., ::-1]` is stretched as it lies in
    memory, and only the small result is swapped.
    """
    height, width = size
    if image.strides[2] < 0:
        return stretch(image[..., ::-1], size)[..., ::-1]
    image = halved(np.ascontiguousarray(image), size)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def to_batch(images: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Images uint8 [H, W, 3] of any sizes -> one batch [N, h, w, 3] of `size` = (h, w), each stretched."""
    return np.stack([stretch(image, size) for image in images])


def halvings(image_size: tuple[int, ...], size: tuple[int, int]) -> int:
    """How often an image of `image_size` (height, width) is halved on its way to `size`: as long as its longer side is at
    least LARGE pixels, and both sides at least twice those of `size`."""
    (height, width), times = image_size, 0
    while max(height, width) >= LARGE and height >= 2 * size[0] and width >= 2 * size[1]:
        height, width, times = height // 2, width // 2, times + 1
    return times


def halved(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`image` averaged over blocks of 2 x 2 pixels `halvings` times; a last odd row or column is left out.

    Why so, and not by any factor: two by two is what OpenCV has fast kernels for (a photograph of 12 megapixels in 5 ms,
    a frame of 3840 x 2160 in 3), and what a JPEG can be decoded at (`data.image_files.load_image`).
    """
    for _ in range(halvings(image.shape[:2], size)):
        height, width = (side // 2 for side in image.shape[:2])
        even = image[: 2 * height, : 2 * width]
        image = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)
    return image
