"""Changes of colour on uint8 RGB images, by the numbers of Liu (Caffe), mmdet and torchvision.

Plain lookup tables rather than albumentations' transforms: the numbers are the same (the tests compare), at a fraction
of the time; the whole of it must fit into a millisecond an image. They run after the resize, on the small image,
where the papers distort the large one first: pointwise maps and a bilinear resize all but commute.

`corruptions` is albumentations' part: blur, noise, compression, which no SSD paper has but webcams do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import cv2
import numpy as np

from detection.train.input.transforms import albumentations

_LEVELS = np.arange(256, dtype=np.float32)


def liu_distort(image: np.ndarray, rng: np.random.Generator, channel_swap: float = 0.0) -> np.ndarray:
    """Caffe's distortion (data_transformer / im_transforms.cpp, parameters of ssd_coco.py), each part with p .5.

    Brightness +-32, contrast x .5..1.5, saturation x .5..1.5 and hue +-18 (of 180) in HSV; contrast comes second or
    last, with p .5 each. `channel_swap`: probability of a random order of channels (0 in Caffe's COCO and VOC scripts,
    .5 in mmdet). uint8 RGB [H, W, 3] in and out.
    """
    brightness, contrast_on, saturation_on, hue_on, contrast_first, swap = rng.random(6) < [0.5] * 5 + [channel_swap]
    delta, contrast = rng.uniform(-32, 32), rng.uniform(0.5, 1.5)
    saturation, hue = rng.uniform(0.5, 1.5), rng.uniform(-18, 18)
    before = _LEVELS
    if brightness:
        before = np.clip(before + delta, 0, 255)
    if contrast_on and contrast_first:
        before = np.clip(before * contrast, 0, 255)
    image = _mapped(image, before)
    if saturation_on or hue_on:
        image = shift_hsv(image, hue if hue_on else 0.0, saturation if saturation_on else 1.0)
    if contrast_on and not contrast_first:
        image = _mapped(image, _LEVELS * contrast)
    return image[..., rng.permutation(3)] if swap else image


def mmdet_distort(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """mmdet's PhotoMetricDistortion: Liu's numbers, and the channels in random order with p .5."""
    return liu_distort(image, rng, channel_swap=0.5)


def torchvision_distort(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """torchvision's RandomPhotometricDistort (references/detection/transforms.py), each part with p .5.

    Brightness x .875..1.125, contrast .5..1.5 (around the mean grey), saturation .5..1.5 (towards the pixel's grey),
    hue +-.05 of a turn, contrast second or last, channels in random order. uint8 RGB [H, W, 3] in and out.
    """
    on = rng.random(7) < 0.5
    brightness, contrast = rng.uniform(0.875, 1.125), rng.uniform(0.5, 1.5)
    saturation, hue = rng.uniform(0.5, 1.5), rng.uniform(-0.05, 0.05)
    if on[0]:
        image = _mapped(image, _LEVELS * brightness)
    if on[1] and on[2]:
        image = adjust_contrast(image, contrast)
    if on[3]:
        image = adjust_saturation(image, saturation)
    if on[4]:
        image = shift_hsv(image, hue * 180, 1.0)
    if not on[1] and on[5]:
        image = adjust_contrast(image, contrast)
    return image[..., rng.permutation(3)] if on[6] else image


Distortion = Callable[[np.ndarray, np.random.Generator], np.ndarray]
DISTORTIONS: dict[str, Distortion] = {"liu": liu_distort, "mmdet": mmdet_distort, "torchvision": torchvision_distort}


def shift_hsv(image: np.ndarray, hue: float, saturation: float) -> np.ndarray:
    """Hue shifted by `hue` of OpenCV's 180 steps (round the circle), saturation multiplied; through 8-bit HSV."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    table = np.stack([np.rint(_LEVELS + hue) % 180, np.clip(np.rint(_LEVELS * saturation), 0, 255), _LEVELS], -1)
    return cv2.cvtColor(cv2.LUT(hsv, table[None].astype(np.uint8)), cv2.COLOR_HSV2RGB)


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """torchvision's contrast: away from (or towards) the mean of the grey image."""
    mean = cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0]
    return _mapped(image, _LEVELS * factor + mean * (1 - factor))


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """torchvision's saturation: away from (or towards) each pixel's own grey."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, factor, grey, 1 - factor, 0)


def corrupt(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of albumentations' camera faults: blur, motion blur, noise, JPEG compression, grey, local contrast."""
    pipeline = corruptions()
    pipeline.set_random_seed(int(rng.integers(2**31)))
    return pipeline(image=image)["image"]


@cache
def corruptions() -> Any:
    """The albumentations pipeline of `corrupt`. Raises MissingPackageError."""
    A = albumentations()
    faults = [
        A.GaussianBlur(blur_limit=(3, 5), p=1),
        A.MotionBlur(blur_limit=(3, 7), p=1),
        A.GaussNoise(std_range=(0.02, 0.08), p=1),
        A.ImageCompression(quality_range=(30, 80), p=1),
        A.ToGray(p=1),
        A.CLAHE(clip_limit=(1, 3), p=1),
    ]
    return A.Compose([A.OneOf(faults, p=1)])


def _mapped(image: np.ndarray, levels: np.ndarray) -> np.ndarray:
    if levels is _LEVELS:
        return image
    return cv2.LUT(image, np.clip(np.rint(levels), 0, 255).astype(np.uint8))
