"""A `DetectionData` from columns that a reader has collected, and several of them joined to one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from detection.boxes.class_names import meaning, without_doubles
from detection.data.dataset import IGNORE, UNKNOWN_LABEL, DetectionData, PathTable, to_corners, to_xywh
from detection.data.faults import Faults
from detection.data.ids import Id, id_array

LARGEST = 1 << 16  # the side of an image whose size is not known yet


def build(
    class_names: Sequence[str],
    paths: Iterable[str | os.PathLike],
    owners: Sequence[int] | np.ndarray,
    boxes: Sequence | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    *,
    sizes: Sequence | np.ndarray | None = None,
    image_ids: Sequence[Id] | np.ndarray | None = None,
    xywh: bool = False,
    scores: Sequence[float] | np.ndarray | None = None,
    areas: Sequence[float] | np.ndarray | None = None,
    flags: Sequence[int] | np.ndarray | None = None,
    category_ids: Sequence[Id] | None = None,
    names: Iterable[str] | None = None,
    unknown_classes: Iterable[str] = (),
    doubtful: Iterable[int] = (),
    source: str = "",
    origin: str = "",
    faults: Faults | None = None,
) -> DetectionData:
    """A data set from loose parts: `owners` [B] is the image of each box [B, 4]; boxes may come in any order.

    Classes of one name (but for case, spaces and punctuation) become one, which is counted as a fault. xywh: the boxes
    are [x, y, width, height], not corners. areas: NaN and 0 where the box's own area is to be taken. doubtful: images in
    which something is annotated that nobody can read; each becomes an IGNORE region, as that something lies anywhere in it, and
    so does one with a box that holds NaN or infinity.
    """
    table = PathTable.of(paths)
    number, owner = len(table), np.asarray(owners, np.int64).reshape(-1)
    size_array = np.zeros((number, 2), np.int32) if sizes is None else np.asarray(sizes, np.int32).reshape(-1, 2)
    given = np.asarray(boxes, np.float64).reshape(-1, 4)
    whole = sorted({*doubtful, *owner[~np.isfinite(given).all(1)].tolist()})
    if whole:
        sides = np.where(size_array[whole] > 0, size_array[whole], LARGEST)[:, ::-1]
        owner = np.concatenate([owner, whole])
        given = np.concatenate([given, np.concatenate([np.zeros_like(sides), sides], 1)])
    order = np.argsort(owner, kind="stable")
    given = given[order]

    def column(values: Sequence | np.ndarray | None, default: np.ndarray, kind: type, of_whole: float) -> np.ndarray:
        if values is None:
            return default.astype(kind)
        return np.concatenate([np.asarray(values, kind).reshape(-1), np.full(len(whole), of_whole, kind)])[order]

    with np.errstate(invalid="ignore", over="ignore"):  # faulty boxes are the business of repair
        exact = given if xywh else to_xywh(given)
        box_array = (to_corners(given) if xywh else given).astype(np.float32)
        box_areas = exact[:, 2] * exact[:, 3]
    area_array = column(areas, box_areas, np.float64, np.nan)
    ids = tuple(category_ids) if category_ids is not None else tuple(range(1, len(class_names) + 1))
    faults = faults if faults is not None else Faults()
    kept, place = without_doubles(class_names)
    label_array, other_ids = column(labels, np.zeros(0), np.int32, UNKNOWN_LABEL), dict[Id, int]()
    first = {new: old for old, new in reversed(list(enumerate(place)))}
    for old, new in enumerate(place):
        if (same := first[new]) != old:
            other_ids[ids[old]] = new
            what = f"{class_names[old]!r} (id {ids[old]}) and {class_names[same]!r} (id {ids[same]})"
            faults.add("same name", f"{origin}: {what}")
    if other_ids:
        label_array = np.array([*place, UNKNOWN_LABEL], np.int32)[label_array]  # the last is reached by label -1
    data = DetectionData(
        class_names=tuple(kept),
        category_ids=tuple(ids[first[new]] for new in range(len(kept))),
        other_ids=other_ids,
        paths=table,
        sizes=size_array,
        image_ids=np.arange(number, dtype=np.int64) if image_ids is None else id_array(image_ids),
        boxes=box_array,
        exact=exact,
        labels=label_array,
        scores=column(scores, np.ones(len(order)), np.float32, 1),
        areas=np.where(np.isfinite(area_array) & (area_array > 0), area_array, box_areas),
        flags=column(np.zeros(len(order) - len(whole)) if flags is None else flags, np.zeros(0), np.uint8, IGNORE),
        starts=np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=number))]).astype(np.int64),
        groups=np.zeros(number, np.int32),
        unknown=np.zeros((1, len(kept)), bool),
        names=None if names is None else PathTable.of(names),
        source=source,
        origin=origin,
        faults=faults,
    )
    return data.declare_unknown(unknown_classes)


def concatenate(*parts: DetectionData, class_names: Sequence[str] | None = None) -> DetectionData:
    """Several data sets as one. Classes are joined by name (in order of appearance, or `class_names`); what one part
    does not annotate is unknown in its images. Image ids that clash are made up anew."""
    if class_names is None:
        class_names, seen = [], set[str]()
        for part in parts:
            fresh = [name for name in part.class_names if meaning(name) not in seen]
            seen.update(map(meaning, fresh))
            class_names += fresh
    ids = parts[0].category_ids if tuple(class_names) == parts[0].class_names else None
    parts = tuple(part.with_classes(class_names, ids) for part in parts)

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    image_ids = id_array([one for part in parts for one in part.image_ids.tolist()])
    if len(set(image_ids.tolist())) < len(image_ids):
        image_ids = np.arange(len(image_ids), dtype=np.int64)
    named = all(part.names is not None for part in parts)
    first_group = np.cumsum([0] + [len(part.unknown) for part in parts])
    first_box = np.cumsum([0] + [part.num_boxes for part in parts])
    return replace(
        parts[0],
        paths=PathTable.of(path for part in parts for path in part.paths),
        names=PathTable.of(name for part in parts for name in part.file_names()) if named else None,
        other_ids={},
        image_ids=image_ids,
        starts=np.concatenate([[0], *[part.starts[1:] + first for part, first in zip(parts, first_box)]]).astype(
            np.int64
        ),
        groups=np.concatenate([part.groups + first for part, first in zip(parts, first_group)]).astype(np.int32),
        faults=parts[0].faults.merged(*[part.faults for part in parts[1:]]),
        source=parts[0].source if len({part.source for part in parts}) == 1 else "mixed",
        origin=" + ".join(part.origin for part in parts),
        sizes=joined("sizes"),
        boxes=joined("boxes"),
        exact=joined("exact"),
        labels=joined("labels"),
        scores=joined("scores"),
        areas=joined("areas"),
        flags=joined("flags"),
        unknown=joined("unknown"),
    )
