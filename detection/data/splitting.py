"""A data set divided into splits that are alike: each class in each of them in the same share, what belongs together in one.

Iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011), by numbers of boxes and over groups of images: the class that has
the fewest boxes left goes first, its groups with the most of it first, each to the split that still wants most of that class.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

import numpy as np

from detection.data.dataset import DetectionData
from detection.data.overlap import same_files
from detection.errors import BadDataError


def groups_of(data: DetectionData, pattern: str | None = None) -> np.ndarray:
    """int64 [P]: the group of each image. pattern: a regular expression that is searched in the image's name below the data
    set's folder; what its first parentheses match (without them, all that it matches) names the group; an image in which
    nothing matches is alone. Copies of one file are always in one group. Raises BadDataError."""
    groups = np.arange(len(data))
    if pattern is not None:
        try:
            found = [re.search(pattern, name) for name in data.file_names()]
        except re.error as error:
            raise BadDataError(f"--group {pattern!r}: no regular expression ({error})") from None
        if not any(found):
            raise BadDataError(f"--group {pattern!r}: matches in no name, as {data.file_names()[0]}")
        first = dict[str, int]()
        for index, match in enumerate(found):
            if match:
                groups[index] = first.setdefault(match[1] if match.re.groups else match[0], index)
    for copies in same_files([os.fspath(path) for path in data.paths]):
        for index in copies[1:]:
            groups[groups == groups[index]] = groups[copies[0]]
    return groups


def split(
    data: DetectionData, shares: Mapping[str, float], groups: Sequence[int] | np.ndarray, seed: int = 0
) -> dict[str, DetectionData]:
    """The data set divided by `shares` (of a whole of their sum), groups int [P] (see `groups_of`) undivided; the same for the
    same seed. Raises BadDataError where there are fewer groups than splits."""
    names, place = np.unique(groups, return_inverse=True)
    if len(names) < len(shares):
        raise BadDataError(f"{data.origin}: {len(names)} groups of images cannot make {len(shares)} splits")
    classes, wanted = len(data.class_names), np.array(list(shares.values()), float)
    wanted /= wanted.sum()
    rows = data.targets
    counts = np.zeros((len(names), classes + 1))  # boxes of each class; last, images
    np.add.at(counts, (place[data.owners()[rows]], data.labels[rows]), 1)
    counts[:, classes] = np.bincount(place, minlength=len(names))
    wish = wanted[:, None] * counts.sum(0)
    order = np.random.default_rng((seed, 0x5917)).permutation(len(names))
    chosen, left = np.full(len(names), -1), set(order.tolist())

    def give(group: int, kind: int) -> None:
        # most of the class wanted, then most images
        empty = [at for at in range(len(wanted)) if not (chosen == at).any()]
        candidates = empty if len(empty) == len(left) else range(len(wanted))
        best = max(candidates, key=lambda at: (round(wish[at, kind], 9), round(wish[at, classes], 9)))
        chosen[group] = best
        wish[best] -= counts[group]
        left.discard(group)

    while left:
        rest = counts[sorted(left)].sum(0)[:classes]
        if not rest.any():
            break
        kind = int(np.where(rest > 0, rest, np.inf).argmin())
        for group in sorted(
            (g for g in order.tolist() if g in left and counts[g, kind]), key=lambda g: -counts[g, kind]
        ):
            give(group, kind)
    for group in order.tolist():  # images without objects
        if group in left:
            give(group, classes)
    return {name: data.subset(np.flatnonzero(chosen[place] == at)) for at, name in enumerate(shares)}
