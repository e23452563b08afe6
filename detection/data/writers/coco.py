"""`DetectionData` into COCO JSON, as `readers.coco` reads it back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from detection.data.dataset import CROWD, DIFFICULT, IGNORE, DetectionData
from detection.data.faults import Faults
from detection.files import atomic_write


def write(data: DetectionData, path: str | os.PathLike) -> Faults:
    """Writes images, annotations and categories, atomically, a row at a time. Returns what has no place in COCO JSON:
    regions to ignore that belong to no class."""
    faults = Faults()
    parts = (("images", _images(data)), ("annotations", _annotations(data)), ("categories", _categories(data)))
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for number, (name, rows) in enumerate(parts):
            file.write(("{" if number == 0 else ",\n") + f'"{name}": [')
            for at, row in enumerate(rows):
                file.write(("\n" if at == 0 else ",\n") + json.dumps(row, ensure_ascii=False))
            file.write("]")
        file.write("}\n")
    nameless = np.flatnonzero(data.labels < 0)
    owners = data.owners()
    faults.add_all("unknown class", len(nameless), (data.path(owners[row]) for row in nameless))
    return faults


def to_coco(data: DetectionData) -> dict[str, Any]:
    """The data set as a COCO annotations object, for an evaluator.

    Boxes are exact. VOC's difficult objects become `iscrowd`, too (and `difficult`): COCO's evaluator then neither
    rewards nor punishes a detection on them, which is VOC's rule. Ids of annotations count from 1 (pycocotools treats
    0 as "none").
    """
    parts = {"images": _images(data), "annotations": _annotations(data), "categories": _categories(data)}
    return {name: list(rows) for name, rows in parts.items()}


def _images(data: DetectionData) -> Iterator[dict[str, Any]]:
    for identity, name, (height, width) in zip(data.image_ids.tolist(), data.file_names(), data.sizes.tolist()):
        yield {"id": identity, "file_name": name, "height": height, "width": width}


def _annotations(data: DetectionData) -> Iterator[dict[str, Any]]:
    with_scores, owners, ids = bool((data.scores != 1).any()), data.owners(), data.image_ids
    for row in np.flatnonzero(data.labels >= 0).tolist():
        flags = int(data.flags[row])
        entry = {
            "id": row + 1,
            "image_id": ids[owners[row] : owners[row] + 1].tolist()[0],
            "category_id": data.category_ids[data.labels[row]],
            "bbox": data.exact[row].tolist(),
            "area": float(data.areas[row]),
            "iscrowd": int(bool(flags & (CROWD | DIFFICULT))),
        }
        if flags & DIFFICULT:
            entry["difficult"] = 1
        if flags & IGNORE:
            entry["ignore"] = 1
        if with_scores:
            entry["score"] = round(float(data.scores[row]), 6)
        yield entry


def _categories(data: DetectionData) -> Iterator[dict[str, Any]]:
    for identity, name in zip(data.category_ids, data.class_names):
        yield {"id": identity, "name": name}
