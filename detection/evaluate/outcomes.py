"""What became of every object and of every shown detection at one score threshold: found, missed, right, wrong and why.

mAP is about a ranking; a person who looks at images sees only what is above a threshold. Overlap of 0.5, COCO's
matching (matches.py), TIDE's kinds of error (errors.py). numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detection.evaluate.errors import NO_ERROR, ON, classify_errors
from detection.evaluate.matches import join, match, pair_ious
from detection.evaluate.results import Results
from detection.evaluate.truth import GroundTruth


@dataclass(frozen=True)
class Outcomes:
    """N images, M objects, S detections with a score of at least `threshold`.

    shown: those S detections.  right bool [S]: found an object that no better one had found.  wrong bool [S]: false
    alarms (those on crowds are neither).  kind int64 [S]: why it is wrong, an index into `errors.KINDS`, else NO_ERROR.
    found bool [M]: some detection is right about it (crowds never are found).
    hits, alarms, missed int64 [N]: of each image.
    """

    threshold: float
    shown: Results
    right: np.ndarray
    wrong: np.ndarray
    kind: np.ndarray
    found: np.ndarray
    hits: np.ndarray
    alarms: np.ndarray
    missed: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """float64 [N]: the F1 of each image, 1 for one without objects in which nothing was found."""
        at_stake = 2 * self.hits + self.alarms + self.missed
        return np.divide(2 * self.hits, at_stake, out=np.ones(len(at_stake)), where=at_stake > 0)

    def worst(self, count: int) -> np.ndarray:
        """int64, at most `count`: images with an error, lowest F1 first; of equal ones those with more errors."""
        errors = self.alarms + self.missed
        order = np.lexsort((-errors, self.f1))
        return order[errors[order] > 0][:count]


def outcomes_at(truth: GroundTruth, results: Results, threshold: float) -> Outcomes:
    """What became of everything when detections below `threshold` are not shown."""
    shown = results[results.scores >= threshold]
    matches = match(truth, shown, [ON])
    right: np.ndarray = np.zeros(len(shown), bool)
    wrong: np.ndarray = np.zeros(len(shown), bool)
    right[matches.detection], wrong[matches.detection] = matches.right[0], matches.wrong[0]
    kind: np.ndarray = np.full(len(shown), NO_ERROR, np.int64)
    kind[matches.detection] = classify_errors(truth, shown, matches)[0]
    found: np.ndarray = np.zeros(len(truth.crowd), bool)
    found[matches.object[0][matches.right[0]]] = True

    def by_image(images: np.ndarray) -> np.ndarray:
        return np.bincount(images, minlength=len(truth.image_ids))

    return Outcomes(
        threshold=threshold,
        shown=shown,
        right=right,
        wrong=wrong,
        kind=kind,
        found=found,
        hits=by_image(shown.image[right]),
        alarms=by_image(shown.image[wrong]),
        missed=by_image(truth.image[~found & ~truth.crowd]),
    )


def confusion_matrix(truth: GroundTruth, outcomes: Outcomes) -> np.ndarray:
    """int64 [C + 1, C + 1]: how often an object of class (row) was called class (column).

    The diagonal are the right detections. What is left over is paired without regard to class, the largest overlap of
    at least 0.5 first. The last column are objects that nothing was paired with, the last row false alarms that were
    paired with nothing (also on an object that had been found already).
    """
    classes = len(truth.category_ids)
    shown = outcomes.shown
    matrix: np.ndarray = np.zeros((classes + 1, classes + 1), np.int64)
    hit = shown.category[outcomes.right]
    np.add.at(matrix, (hit, hit), 1)

    alarms, missed = np.flatnonzero(outcomes.wrong), np.flatnonzero(~outcomes.found & ~truth.crowd)
    missed = missed[np.argsort(truth.image[missed], kind="stable")]
    left, right = join(shown.image[alarms], truth.image[missed])
    left, right = alarms[left], missed[right]
    overlap = pair_ious(shown.boxes[left], truth.boxes[right], truth.crowd[right])
    called, taken = dict[int, int](), set[int]()  # object: the class it was called
    for pair in np.argsort(-overlap, kind="stable")[: int((overlap >= ON).sum())]:
        alarm, sought = int(left[pair]), int(right[pair])
        if alarm not in taken and sought not in called:
            taken.add(alarm)
            called[sought] = int(shown.category[alarm])
    for sought in missed.tolist():
        matrix[truth.category[sought], called.get(sought, classes)] += 1
    free = [alarm for alarm in alarms.tolist() if alarm not in taken]
    np.add.at(matrix, (np.full(len(free), classes), shown.category[free]), 1)
    return matrix


def mix_ups(matrix: np.ndarray, count: int) -> list[tuple[int, int, int]]:
    """(truth, called, how often) of the most frequent confusions of one class with another, at most `count`."""
    between = matrix[:-1, :-1].copy()
    np.fill_diagonal(between, 0)
    order = np.argsort(-between, axis=None, kind="stable")[:count]
    pairs = [divmod(place, len(between)) for place in order.tolist()]
    return [(is_, called, int(between[is_, called])) for is_, called in pairs if between[is_, called]]
