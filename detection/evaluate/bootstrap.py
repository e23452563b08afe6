"""Is one detector better than another, or was it luck with the images? A paired bootstrap over the images.

Images are drawn again with replacement (as many as there are), both results are scored on the same draw, and the
spread of the difference over many draws is its uncertainty (Efron 1979; percentile interval). It says nothing about the
luck of the training seed: for SSDs that alone is about 0.0015 AP (standard deviation). numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detection.evaluate.matches import Matches, average_precision, match
from detection.evaluate.results import Results
from detection.evaluate.truth import GroundTruth


@dataclass(frozen=True)
class Difference:
    """One measure of A and B. difference = a - b; low, high: its 95 % interval; a_better: the share of draws in which
    A was better (0.5: no idea)."""

    measure: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    a_better: float

    @property
    def significant(self) -> bool:
        """The interval does not hold 0."""
        return self.low > 0 or self.high < 0


def paired_bootstrap(
    truth: GroundTruth, a: Results, b: Results, draws: int = 200, seed: int = 0, level: float = 0.95
) -> list[Difference]:
    """AP and AP50 of results `a` and `b` on the same images, and the interval of their difference.

    Matching does not depend on which other images are drawn: it is done once; each draw then only weighs every
    image with the number of times it was drawn. Classes without an object in a draw are left out of its mean, as COCO
    does.
    """
    generator = np.random.default_rng(seed)
    pair = (match(truth, a), match(truth, b))
    images = len(truth.image_ids)
    real = ~truth.crowd
    once = np.ones(images)
    base = np.array([_mean_ap(truth, matches, once, real) for matches in pair])  # [2, measures]
    spread = np.empty((draws, 2, 2))
    for draw in range(draws):
        times = np.bincount(generator.integers(0, images, images), minlength=images).astype(np.float64)
        spread[draw] = [_mean_ap(truth, matches, times, real) for matches in pair]
    found = []
    for index, measure in enumerate(("AP", "AP50")):
        gaps = spread[:, 0, index] - spread[:, 1, index]
        low, high = np.nanquantile(gaps, [(1 - level) / 2, (1 + level) / 2])
        better = np.nanmean((gaps > 0) + 0.5 * (gaps == 0))
        first, second = base[:, index]
        found.append(
            Difference(measure, *map(float, (first, second, first - second, low, high, better)))  # type: ignore[arg-type]
        )
    return found


def _mean_ap(truth: GroundTruth, matches: Matches, times: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """AP and AP50 when each image stands `times` [N] times in the data."""
    positives = np.bincount(truth.category[real], times[truth.image[real]], minlength=len(truth.category_ids))
    weight = times[matches.image]
    per_class = []
    for k, part in enumerate(matches.class_slices()):
        if positives[k] > 0:
            of_class = weight[part]
            right, wrong = matches.right[:, part] * of_class, matches.wrong[:, part] * of_class
            per_class.append(average_precision(right, wrong, positives[k]))
    if not per_class:
        return float("nan"), float("nan")
    mean = np.mean(per_class, 0)
    return float(mean.mean()), float(mean[0])
