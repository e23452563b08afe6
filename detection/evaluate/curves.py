"""The curves behind the numbers: precision against recall, and all three of F1 against the threshold. numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detection.evaluate.matches import RECALLS, Matches


@dataclass(frozen=True)
class ThresholdCurve:
    """What each of T score thresholds gives, all classes together, at IoU 0.5: float64 [T] each; precision is nan where
    nothing is left above the threshold."""

    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def precision_recall(matches: Matches, overlap: int = 0) -> np.ndarray:
    """float64 [C, 101]: the precision of each class at the recalls 0, 0.01 ... 1, at the `overlap`-th of matches.ious.

    COCO's curve: the best precision at that recall or beyond, 0 where it is never reached; the mean of a row is the
    class's AP. nan for classes without objects.
    """
    curves = np.full((len(matches.positives), len(RECALLS)), np.nan)
    for k, part in enumerate(matches.class_slices()):
        if not matches.positives[k]:
            continue
        hits, alarms = np.cumsum(matches.right[overlap, part]), np.cumsum(matches.wrong[overlap, part])
        precision = hits / (alarms + hits + np.spacing(1))
        envelope: np.ndarray = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        curves[k] = envelope[np.searchsorted(hits / matches.positives[k], RECALLS, side="left")]
    return curves


def against_threshold(matches: Matches, overlap: int = 0, steps: int = 200) -> ThresholdCurve:
    """Precision, recall and F1 at the thresholds 0, 1 / steps ... 1."""
    order = np.argsort(matches.score, kind="stable")
    scores = np.linspace(0.0, 1.0, steps + 1)
    above = np.searchsorted(matches.score[order], scores, side="left")

    def count(flags: np.ndarray) -> np.ndarray:
        from_the_top: np.ndarray = np.append(np.cumsum(flags[order][::-1])[::-1], 0)
        return from_the_top[above].astype(np.float64)

    hits, alarms = count(matches.right[overlap]), count(matches.wrong[overlap])
    positives = float(matches.positives.sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.nan_to_num(2 * hits / (hits + alarms + positives))
        return ThresholdCurve(scores, hits / (hits + alarms), np.nan_to_num(hits / positives), f1)
