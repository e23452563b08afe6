"""Several data sets as one: splits joined by what they are for, classes by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detection.data.build import concatenate
from detection.data.dataset import DetectionData
from detection.data.layout import role_of
from detection.data.overlap import same_files
from detection.errors import some


def merge(sets: Sequence[Mapping[str, DetectionData]]) -> tuple[dict[str, DetectionData], list[str]]:
    """(the splits of all, what should be known of them, a line each). sets: {split: data} of each data set, repaired. Splits
    of one role (train, val, test) become one of that name; data without splits are `train`."""
    joined = dict[str, list[DetectionData]]()
    for parts in sets:
        for name, data in parts.items():
            joined.setdefault(role_of(name) if name else "train", []).append(data)
    names = list(concatenate(*(data for parts in joined.values() for data in parts)).class_names)
    merged = {role: concatenate(*parts, class_names=names) for role, parts in joined.items()}
    return merged, [*_unknown(sets, names), *_copies(merged)]


def _unknown(sets: Sequence[Mapping[str, DetectionData]], names: Sequence[str]) -> list[str]:
    """Classes that one of the sets does not have: in its images they may be there, unmarked."""
    lines = []
    for parts in sets:
        first = next(iter(parts.values()))
        lost = first.with_classes(names).unknown_classes
        if lost:
            text = f"{first.origin} does not have {some(lost, 6)}: such objects in its images count as background"
            lines.append(f"{text}, as no format can say that nobody marked them; `train --extra` keeps the sets apart")
    return lines


def _copies(merged: Mapping[str, DetectionData]) -> list[str]:
    places = [(role, data.path(index)) for role, data in merged.items() for index in range(len(data))]
    groups = [[places[at] for at in group] for group in same_files([path for _, path in places])]
    lines = []
    if groups:
        extra = sum(len(group) - 1 for group in groups)
        lines.append(f"{extra:,} images are copies of others, as {groups[0][1][1]} of {groups[0][0][1]}: kept")
    if torn := [group for group in groups if len({role for role, _ in group}) > 1]:
        (role, path), (other, _) = torn[0][0], next(one for one in torn[0] if one[0] != torn[0][0][0])
        lines.append(
            f"{len(torn):,} images are in several splits, as {path} in {role} and {other}: measure on other images"
        )
    return lines
