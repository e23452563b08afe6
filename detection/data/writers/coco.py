"""`DetectionData` into COCO JSON, as `readers.coco` reads it back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from detection.data.dataset import DIFFICULT, IGNORE, DetectionData, PathTable
from detection.data.writers.image_names import names_of, put_images, renamed
from detection.files import atomic_write


def write(parts: Mapping[str, DetectionData], folder: Path) -> list[str]:
    """annotations/instances_{split}.json and images/{split}/, which hold everything; instances.json and images/ where there is
    one part without a name."""
    notes = []
    for split, data in parts.items():
        names = names_of(data, set())
        notes += renamed(data, names)
        put_images(data, names, folder / "images" / split)
        file = folder / "annotations" / f"instances_{split}.json" if split else folder / "instances.json"
        write_file(replace(data, names=PathTable.of(names)), file)
    return notes


def write_file(data: DetectionData, path: str | os.PathLike) -> None:
    """Writes images, annotations and categories, atomically, a row at a time."""
    parts = (("images", _images(data)), ("annotations", _annotations(data)), ("categories", _categories(data)))
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for number, (name, rows) in enumerate(parts):
            file.write(("{" if number == 0 else ",\n") + f'"{name}": [')
            for at, row in enumerate(rows):
                file.write(("\n" if at == 0 else ",\n") + json.dumps(row, ensure_ascii=False))
            file.write("]")
        file.write("}\n")


def to_coco(data: DetectionData) -> dict[str, Any]:
    """The data set as a COCO annotations object, for an evaluator.

    Boxes are exact. VOC's difficult objects and regions to ignore become `iscrowd`, too (and `difficult`, `ignore`): COCO's
    evaluator then neither rewards nor punishes a detection on them. A region of no class becomes one of each.
    Ids of annotations count from 1 (pycocotools treats 0 as "none").
    """
    parts = {"images": _images(data), "annotations": _annotations(data), "categories": _categories(data)}
    return {name: list(rows) for name, rows in parts.items()}


def _images(data: DetectionData) -> Iterator[dict[str, Any]]:
    for identity, name, (height, width) in zip(data.image_ids.tolist(), data.file_names(), data.sizes.tolist()):
        yield {"id": identity, "file_name": name, "height": height, "width": width}


def _annotations(data: DetectionData) -> Iterator[dict[str, Any]]:
    with_scores, ids = bool((data.scores != 1).any()), data.image_ids
    data = data.in_every_class()
    owners = data.owners()
    for row in range(data.num_boxes):
        flags = int(data.flags[row])
        entry = {
            "id": row + 1,
            "image_id": ids[owners[row] : owners[row] + 1].tolist()[0],
            "category_id": data.category_ids[data.labels[row]],
            "bbox": data.exact[row].tolist(),
            "area": float(data.areas[row]),
            "iscrowd": int(flags != 0),
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
