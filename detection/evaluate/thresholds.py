"""The score from which a detection is worth showing: the threshold of best F1 at IoU 0.5. numpy only.

mAP sums over all thresholds; a person who runs a detector has to choose one. F1, the harmonic mean of precision and
recall, is what is most often meant by a good balance.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detection.evaluate.categories import match_categories
from detection.evaluate.matches import Matches, match
from detection.evaluate.results import Results
from detection.evaluate.truth import GroundTruth


@dataclass(frozen=True)
class BestF1:
    """The threshold and what it gives. `score` lies half-way between the last detection that is kept and the next, so
    that neither rounding nor > against >= changes anything. nan where there is nothing to find or nothing found."""

    score: float
    f1: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Thresholds:
    """overall: one threshold for all classes, hits and alarms summed over all.  per_class: in their order."""

    overall: BestF1
    per_class: tuple[BestF1, ...]


def best_thresholds(truth: GroundTruth, results: Results, matches: Matches | None = None) -> Thresholds:
    """The score of best F1 at IoU 0.5, overall and for each class. `matches`, if at hand: at IoU 0.5 first."""
    matches = match(truth, results, [0.5]) if matches is None else matches
    right, counted = matches.right[0], ~matches.ignored[0]
    positives = matches.positives
    order = np.argsort(-matches.score, kind="stable")
    overall = best_f1(matches.score[order], right[order], counted[order], int(positives.sum()))
    per_class = [
        best_f1(matches.score[part], right[part], counted[part], int(positives[k]))
        for k, part in enumerate(matches.class_slices())
    ]
    return Thresholds(overall, tuple(per_class))


def best_f1(scores: np.ndarray, right: np.ndarray, counted: np.ndarray, positives: int) -> BestF1:
    """Of n detections by falling score: right bool [n] hits, counted bool [n] hits and false alarms (not ignored)."""
    scores, right = scores[counted], right[counted]
    hits = np.cumsum(right)
    if not len(scores) or not hits[-1]:
        return BestF1(math.nan, 0.0 if positives else math.nan, math.nan, 0.0 if positives else math.nan)
    last_of_score = np.append(scores[1:] < scores[:-1], True)  # equal scores are kept or dropped together
    f1 = np.where(last_of_score, 2 * hits / (np.arange(1, len(scores) + 1) + positives), -1.0)
    best = int(f1.argmax())
    below = scores[best + 1] if best + 1 < len(scores) else scores[best] * 0.98
    threshold = float(scores[best] + below) / 2
    return BestF1(threshold, float(f1[best]), float(hits[best] / (best + 1)), float(hits[best] / positives))


def by_class_name(names: Sequence[str], thresholds: Sequence[BestF1]) -> dict[str, float]:
    """The score of each class that has one: what a card keeps as `class_thresholds`."""
    return {name: round(best.score, 4) for name, best in zip(names, thresholds) if best.score == best.score}


def store_thresholds(path: str | os.PathLike, found: Thresholds, truth: GroundTruth) -> dict[str, float]:
    """Writes the thresholds into the card of a weights file: the overall one is its default for showing detections,
    those of its classes serve `score="auto"`. Returns the latter. Raises BadDataError if no class is in `truth`."""
    from detection.weights.checkpoint import read_card, update_card

    card = read_card(path)
    to_truth = match_categories(card.class_names, card.category_ids, truth).to_truth
    pairs = [(name, found.per_class[i]) for name, i in zip(card.class_names, to_truth) if i >= 0]
    by_class = by_class_name(*zip(*pairs))
    update_card(path, score_threshold=round(found.overall.score, 4), class_thresholds=by_class)
    return by_class
