"""From raw logits to the few (anchor, class) pairs that post-processing looks at, by falling score. numpy alone."""

from __future__ import annotations

import math

import numpy as np

FOLD = 7  # logits of one class of which the largest is looked at first: 5 to 9 take the same time, 1 takes twice that


def candidates(
    logits: np.ndarray, activation: str, only: tuple[int, ...] | None, score: float, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """The best (anchor, class) pairs whose score is above `score`, by falling score (equal ones by anchor and class):
    anchor ids, class ids, scores, and whether there may be more. About `most` of them, and then all those that are equal
    to the last.

    logits [A, 1 + C], background in column 0. activation: "sigmoid" or "softmax". only: class ids (None: all).
    """
    classes = np.arange(1, logits.shape[1])
    if only is not None:
        classes = classes[np.isin(classes - 1, only)]
    if not (len(logits) and len(classes)):
        nothing: np.ndarray = np.zeros(0, np.int64)
        return nothing, nothing, np.zeros(0, np.float32), False
    if activation == "sigmoid":
        found, values, cut = _high_logits(logits, classes, _logit(score), most)
    else:
        found, values = _high_softmax(logits, classes, score)
        cut = False
    if len(values) > most:
        best = values >= _largest(values, most)
        cut = cut or not best.all()
        found, values = found[best], values[best]
    order = np.argsort(-values, kind="stable")
    anchor_ids, columns = np.divmod(found[order], logits.shape[1])
    scores = values[order].astype(np.float32)
    if activation == "sigmoid":
        scores = (1 / (1 + np.exp(-scores))).astype(np.float32)
    return anchor_ids, columns - 1, scores, bool(cut)


def _high_logits(
    logits: np.ndarray, classes: np.ndarray, lowest: float, most: int
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Places in the flat logits [A * K], rising, and values of those above `lowest` in the columns `classes`; where they
    are many, at least the `most` best of them, and True.

    The logits are read once, for the maxima of groups of FOLD anchors by class; few groups then need a second look, and
    few logits an exponential. (Maxima that the network computes as one more output cost more: a reduction over the 90
    classes of each anchor 0.05 ms in OpenVINO on one core of an AMD EPYC, this 0.02 ms; TopK over all 0.4 ms.)
    """
    (rows, columns), cut = logits.shape, False
    step = max(rows // FOLD, 1)
    whole = rows // step * step
    peaks = np.fmax.reduce(logits[:whole].reshape(-1, step * columns), 0).reshape(step, columns)  # a NaN hides nothing
    rest = logits[whole:]
    np.fmax(peaks[: len(rest)], rest, out=peaks[: len(rest)])
    if len(classes) == columns - 1:
        peaks[:, 0] = -np.inf
    else:
        peaks[:, np.isin(np.arange(columns), classes, invert=True)] = -np.inf
    high = peaks > lowest
    if np.count_nonzero(high) > most and (least := _lower_bound(peaks, most)) > lowest:
        high = peaks >= least
    groups = np.flatnonzero(high)
    if len(groups) > most:
        tops = peaks.reshape(-1).take(groups)
        lowest, cut = _largest(tops, most), True
        groups = groups[tops >= lowest]
    found = (groups + np.arange(0, rows * columns, step * columns)[:, None]).reshape(-1)
    if len(found) and found[-1] >= logits.size:
        found = found[found < logits.size]
    values = logits.reshape(-1).take(found)
    chosen = np.flatnonzero(values >= lowest if cut else values > lowest)
    return found[chosen], values[chosen], cut


def _high_softmax(logits: np.ndarray, classes: np.ndarray, score: float) -> tuple[np.ndarray, np.ndarray]:
    """Places in the flat logits [A * K], rising, and probabilities of those above `score` in the columns `classes`."""
    lowest = math.log(score) if score > 0 else -np.inf
    # A superset, twice: the sum in the softmax is at least the exponential of the largest logit, and that of the background.
    high = logits - logits[:, :1] > lowest
    wanted: np.ndarray = np.zeros(logits.shape[1], bool)
    wanted[classes] = True
    high &= wanted
    found = np.flatnonzero(high)
    rows, where = np.unique(found // logits.shape[1], return_inverse=True)
    own = logits[rows]
    peak = own.max(1, keepdims=True)
    shifted = logits.reshape(-1)[found] - peak[where, 0]
    total = np.exp(own.astype(np.float32) - peak).sum(1)
    values = np.exp(shifted.astype(np.float32)) / total[where]
    above = (shifted > lowest) & (values > score)
    return found[above], values[above]


def _lower_bound(values: np.ndarray, rank: int) -> float:
    """Something not above the `rank`-th largest of values [n, m], cheaper than a sort: the `rank`-th largest of the
    maxima of small groups, each of a column in rows far from each other (neighbours are often large together)."""
    parts = -(-3 * rank // values.shape[1])
    rows = len(values) // parts
    if rows < 2:
        return -math.inf
    return _largest(values[: rows * parts].reshape(rows, parts, -1).max(0).reshape(-1), rank)


def _largest(values: np.ndarray, rank: int) -> float:
    """The `rank`-th largest of values [n]; -inf where there are fewer."""
    return float(np.partition(values, -rank)[-rank]) if len(values) >= rank else -math.inf


def _logit(score: float) -> float:
    if score <= 0:
        return -math.inf
    return math.log(score / (1 - score)) if score < 1 else math.inf
