"""What kinds of error cost how much: the AP50 that each kind takes away (TIDE).

Bolya, Foley, Hays, Hoffman: TIDE, A General Toolbox for Identifying Object Detection Errors, ECCV 2020. A detection
that found no object is, in this order (section 2.2; "near" is an overlap of 0.1 to 0.5, "on" of 0.5 or more):

localisation    near an object of its class: the right thing, badly placed
classification  on an object of another class: the wrong name
duplicate       on an object of its class that a better detection had already found
background      near nothing at all
both            the rest: near an object of another class

and an object that no detection found, and that no localisation or classification error could have found, is missed.
The AP lost by a kind is the AP50 with all its errors put right (moved, renamed, removed, or the object forgotten),
less the AP50 as it is. The kinds overlap: their sum is not 1 - AP50. numpy only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from detection.evaluate.matches import Matches, average_precision, join, match, pair_ious
from detection.evaluate.results import Results
from detection.evaluate.truth import GroundTruth

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
ON, NEAR = 0.5, 0.1
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND = range(5)
NO_ERROR = -1
BLOCK = 20_000  # false alarms looked at in one go, so that memory stays small


@dataclass(frozen=True)
class ErrorSplit:
    """AP50 of the results (nan without objects); of each kind the AP50 it takes away, and how often it happens."""

    AP50: float
    lost: dict[str, float]
    counts: dict[str, int]

    def to_dict(self) -> dict:
        """Ready for JSON."""
        return asdict(self)


def split_errors(truth: GroundTruth, results: Results, matches: Matches | None = None) -> ErrorSplit:
    """The AP50 lost by each kind of error. Crowds are neither found nor missed, and detections on them no errors.
    `matches`, if at hand: at IoU 0.5 first."""
    matches = match(truth, results, [ON]) if matches is None else matches
    right, wrong = matches.right[0].astype(np.float64), matches.wrong[0].astype(np.float64)
    kind, meant = classify_errors(truth, results, matches)
    unfound = ~truth.crowd
    unfound[matches.object[0][matches.right[0]]] = False
    could_be = np.zeros(len(unfound), bool)
    could_be[meant[np.isin(kind, (CLASSIFICATION, LOCALISATION))]] = True
    missed = unfound & ~could_be

    category = matches.category
    now = _ap50(matches, category, right, wrong, matches.positives)
    fixed = {}
    for which, name in enumerate(KINDS[:5]):
        errors = kind == which
        right_after, wrong_after, category_after = right, np.where(errors, 0, wrong), category
        if which in (CLASSIFICATION, LOCALISATION):
            # Put right, the best-scored error on each unfound object finds it; the others would only be duplicates.
            able = np.flatnonzero(errors)
            able = able[unfound[meant[able]]]
            best = able[np.lexsort((-matches.score[able], meant[able]))]
            best = best[np.unique(meant[best], return_index=True)[1]]
            right_after, category_after = right.copy(), category.copy()
            right_after[best], category_after[best] = 1, truth.category[meant[best]]
        fixed[name] = _ap50(matches, category_after, right_after, wrong_after, matches.positives)
    still_sought = matches.positives - np.bincount(truth.category[missed], minlength=len(matches.positives))
    fixed["missed"] = _ap50(matches, category, right, wrong, still_sought)
    counts = {name: int((kind == which).sum()) for which, name in enumerate(KINDS[:5])}
    counts["missed"] = int(missed.sum())
    return ErrorSplit(now, {name: fixed[name] - now for name in KINDS}, counts)


def classify_errors(truth: GroundTruth, results: Results, matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """Of each detection of `matches`: its kind int64 [D] (an index into KINDS, NO_ERROR for hits and those on crowds),
    and the object int64 [D] that it should have found (an index into the ground truth; meaningful for localisation and
    classification errors only)."""
    kind = np.full(len(matches.detection), NO_ERROR, np.int64)
    meant = np.zeros(len(matches.detection), np.int64)
    objects = np.flatnonzero(~truth.crowd)
    objects = objects[np.argsort(truth.image[objects], kind="stable")]
    errors = np.flatnonzero(matches.wrong[0])
    for start in range(0, len(errors), BLOCK):
        block = errors[start : start + BLOCK]
        found, sought = join(matches.image[block], truth.image[objects])
        sought = objects[sought]
        boxes = results.boxes[matches.detection[block[found]]]
        overlap = pair_ious(boxes, truth.boxes[sought], truth.crowd[sought])
        same = truth.category[sought] == matches.category[block[found]]
        of_class, object_of_class = _nearest(len(block), found[same], sought[same], overlap[same])
        of_other, object_of_other = _nearest(len(block), found[~same], sought[~same], overlap[~same])
        rules = {  # the first that holds
            LOCALISATION: (of_class >= NEAR) & (of_class < ON),
            CLASSIFICATION: of_other >= ON,
            DUPLICATE: of_class >= ON,
            BOTH: of_other >= NEAR,
        }
        kind[block] = np.select(list(rules.values()), list(rules), BACKGROUND)
        meant[block] = np.where(kind[block] == LOCALISATION, object_of_class, object_of_other)
    return kind, meant


def _nearest(count: int, found: np.ndarray, sought: np.ndarray, overlap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each of `count` detections, from pairs [P]: the largest overlap [count] and its object [count]."""
    largest, nearest = np.zeros(count), np.zeros(count, np.int64)
    order = np.argsort(overlap, kind="stable")  # of several assignments to one place the last stays
    largest[found[order]], nearest[found[order]] = overlap[order], sought[order]
    return largest, nearest


def _ap50(matches: Matches, category: np.ndarray, right: np.ndarray, wrong: np.ndarray, positives: np.ndarray) -> float:
    """Mean AP of the classes that have objects. Where fixing has left a class none: 1, or 0 with false alarms."""
    order = np.lexsort((-matches.score, category))
    right, wrong = right[None, order], wrong[None, order]
    edges = np.searchsorted(category[order], np.arange(len(positives) + 1))
    values = []
    for k in np.flatnonzero(matches.positives):
        part = slice(edges[k], edges[k + 1])
        if positives[k]:
            values.append(float(average_precision(right[:, part], wrong[:, part], positives[k])[0]))
        else:
            values.append(0.0 if wrong[:, part].any() else 1.0)
    return float(np.mean(values)) if values else float("nan")
