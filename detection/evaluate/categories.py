"""Which class of a model is which category of a data set: by name, and what a reader of the numbers must know of it.

The classic off-by-one (background counted or not) gives a mAP of nearly 0 without any error, when classes are matched
by position or by id alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from detection.boxes.class_names import match
from detection.errors import BadDataError, some
from detection.evaluate.truth import GroundTruth


@dataclass(frozen=True)
class CategoryMap:
    """to_truth: int64 [classes of the model], the index of the category of each class, -1 where the data have none.
    missed: categories that the model cannot find (AP 0 in the mean).  dropped: classes that the data do not have.
    conflicts: an id that means one thing in the model and another in the data, as text."""

    to_truth: np.ndarray
    missed: tuple[str, ...]
    dropped: tuple[str, ...]
    conflicts: tuple[str, ...]

    def notes(self) -> list[str]:
        """One line for each thing that a reader of the numbers must know."""
        lines = []
        if self.missed:
            lines.append(f"the model lacks {len(self.missed)} classes, counted as missed (AP 0): {some(self.missed)}")
        if self.dropped:
            lines.append(f"{len(self.dropped)} classes of the model are not annotated, dropped: {some(self.dropped)}")
        return lines + [f"not matched: {text}" for text in self.conflicts]


def match_categories(
    class_names: Sequence[str], category_ids: Sequence[Hashable] | None, truth: GroundTruth
) -> CategoryMap:
    """Matches the classes of a model (names, and their data set ids if known) with the categories of `truth`, by
    `class_names.match`. Equal ids with different names are not matched, but named.

    Raises BadDataError if nothing matches.
    """
    found = match(class_names, truth.category_names, category_ids, truth.category_ids)
    if set(found.to) <= {None}:
        raise BadDataError(
            f"{truth.path}: no class in common: the model knows {some(class_names)}; "
            f"the annotations have {some(truth.category_names)}"
        )
    conflicts = []
    for name, category_id in zip(class_names, [None] * len(class_names) if category_ids is None else category_ids):
        if name in found.ambiguous:
            conflicts.append(f"{name!r} could be each of several categories of the data, and no id decides")
        elif name in found.missing and category_id is not None and category_id in truth.category_ids:
            other = truth.category_names[truth.category_ids.index(category_id)]
            conflicts.append(f"id {category_id} is {name!r} in the model and {other!r} in the data")
    to_truth = np.array([-1 if to is None else to for to in found.to], np.int64)
    return CategoryMap(to_truth, found.left, found.missing, tuple(conflicts))
