"""Which images an epoch shows, where rare classes are to come more often. A function of the data and a generator alone."""

from __future__ import annotations

import numpy as np

from detection.data.dataset import DetectionData


def image_shares(data: DetectionData, power: float) -> np.ndarray:
    """How often each image is drawn, float64 [P] with the sum 1: in proportion to (f / g) ** power, where g is the share of
    images with its rarest class and f that of the class in the most images (power 0.5: the repeat factors of LVIS,
    Gupta et al. 2019, with their threshold at f). An image without objects is drawn as one of the most frequent class."""
    holds = np.zeros((len(data), len(data.class_names)), bool)
    holds[data.owners()[data.targets], data.labels[data.targets]] = True
    images = holds.sum(0)
    factors = (images.max(initial=1) / np.maximum(images, 1)) ** power
    wanted = np.maximum(np.where(holds, factors, 1.0).max(1, initial=1.0), 1.0)
    return wanted / wanted.sum()


def drawn(shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many images as there are, each by its share: rounded up or down, by chance, so that none waits for luck."""
    order, number = rng.permutation(len(shares)), len(shares)
    ends = np.cumsum(shares[order])
    places = (rng.random() + np.arange(number)) / number * ends[-1]
    return rng.permutation(order[np.minimum(np.searchsorted(ends, places, side="right"), number - 1)])
