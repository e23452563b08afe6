"""Which class of a model is which category of a data set. By name first, the id beside it; nothing is guessed.

The classic off-by-one (background counted or not) gives a mAP of nearly 0 without any error, when classes are matched
by position or by id alone. numpy only.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from detection.boxes.class_names import canonical
from detection.errors import BadDataError
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
            lines.append(f"the model lacks {len(self.missed)} classes, counted as missed (AP 0): {_some(self.missed)}")
        if self.dropped:
            lines.append(f"{len(self.dropped)} classes of the model are not annotated, dropped: {_some(self.dropped)}")
        return lines + [f"not matched: {text}" for text in self.conflicts]


def match_categories(
    class_names: Sequence[str], category_ids: Sequence[Hashable] | None, truth: GroundTruth
) -> CategoryMap:
    """Matches the classes of a model (names, and their data set ids if known) with the categories of `truth`.

    Names are compared without case, spaces and punctuation ("dining table" = "diningtable" = "Dining_Table"), VOC's in
    COCO's spelling ("sofa" = "couch"). Where a name stands several times in the data, the id decides. Equal ids with
    different names are not matched, but named. Columns without a class ("???" in TensorFlow's label maps, "unused 12"
    in ours) are left out silently.
    Raises BadDataError if nothing matches.
    """
    by_name: dict[str, list[int]] = {}
    for index, name in enumerate(truth.category_names):
        by_name.setdefault(normalised(name), []).append(index)
    ids: list[Hashable] = list(category_ids) if category_ids is not None else [None] * len(class_names)
    to_truth, dropped, conflicts = np.full(len(class_names), -1, np.int64), [], []
    for index, name in enumerate(class_names):
        if not normalised(name):
            continue
        candidates = by_name.get(normalised(name), [])
        same_id = [c for c in candidates if truth.category_ids[c] == ids[index]]
        if same_id or len(candidates) == 1:
            to_truth[index] = (same_id or candidates)[0]
            continue
        dropped.append(name)
        if len(candidates) > 1:
            conflicts.append(f"{name!r} stands {len(candidates)} times in the data, with other ids than the model's")
        elif ids[index] is not None and ids[index] in truth.category_ids:
            other = truth.category_names[truth.category_ids.index(ids[index])]
            conflicts.append(f"id {ids[index]} is {name!r} in the model and {other!r} in the data")
    found = set(to_truth.tolist())
    missed = tuple(name for index, name in enumerate(truth.category_names) if index not in found)
    if found <= {-1}:
        raise BadDataError(
            f"{truth.path}: no class in common: the model knows {_some(class_names)}; "
            f"the annotations have {_some(truth.category_names)}"
        )
    return CategoryMap(to_truth, missed, tuple(dropped), tuple(conflicts))


def normalised(name: str) -> str:
    """A class name without case, spaces and punctuation, in COCO's words; "" for a column without a class."""
    plain = "".join(letter for letter in canonical(name).casefold() if letter.isalnum())
    return "" if plain.startswith("unused") and plain[6:].isdecimal() else plain


def _some(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
