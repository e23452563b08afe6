"""COCO JSON: read into `DetectionData`, and written from it. Follows cocodataset.org/#format-data.

Besides the official fields an annotation may carry `score` (a soft label that a teacher wrote, 0..1) and `ignore` (a
region of which nothing is known).
"""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from detection.data.dataset import CROWD, IGNORE, UNKNOWN_LABEL, DetectionData, build
from detection.data.faults import Faults
from detection.data.image_files import ImageFinder
from detection.data.readers.json_stream import stream
from detection.errors import BadDataError


def read_coco(annotations: str | os.PathLike, images: str | os.PathLike | None = None) -> DetectionData:
    """A COCO annotations file with the folder of its images (default: found by `image_folders`).

    Classes are ordered by their official id, which stays in `category_ids`. Boxes [x, y, w, h] become xyxy. Crowd boxes
    keep their flag. Raises BadDataError where the file is no COCO annotations file or lists no images.
    """
    annotations = Path(annotations)
    folders = [Path(images)] if images is not None else image_folders(annotations)
    table = _Columns(annotations)
    for key, value in stream(annotations):
        if key == "annotations":
            table.add_annotation(value)
        elif key == "images":
            table.add_image(value)
        elif key == "categories" and isinstance(value, dict) and "id" in value:
            table.categories[value["id"]] = value
    if not table.names:
        raise BadDataError(f'{annotations}: lists no images (no "images"); is it a results file, or another format?')
    return table.finish(folders)


def image_folders(annotations: Path) -> list[Path]:
    """Where the images of an annotations file may lie, likeliest first.

    For `annotations/instances_val2017.json`: `val2017/` beside `annotations/`, `images/val2017/`, `images/`. For
    `instances.json`: `images/` beside it, a folder of the file's own name, its own folder (Roboflow).
    """
    base, stem = annotations.parent, annotations.stem
    split = stem.split("_", 1)[1] if "_" in stem else stem
    roots = [base.parent, base] if base.name.lower() in ("annotations", "labels") else [base]
    wanted = [root / name for root in roots for name in (split, f"images/{split}", "images", stem)]
    return [folder for folder in wanted if folder.is_dir()] + [base]


def to_coco(data: DetectionData) -> dict[str, Any]:
    """The data set as a COCO annotations object (for an evaluator or a file).

    Every flagged box becomes `iscrowd`: COCO's evaluator then neither rewards nor punishes a detection on it, which is
    VOC's rule for `difficult` too. Ids of annotations count from 1 (the evaluator treats 0 as "none").
    """
    soft = bool((data.scores != 1).any())
    boxes, owners = data.boxes.astype(float), data.owners()
    images = [
        {"id": int(i), "file_name": os.path.basename(path), "height": int(h), "width": int(w)}
        for i, path, (h, w) in zip(data.image_ids, data.paths, data.sizes)
    ]
    annotations = []
    for row in np.flatnonzero(data.labels >= 0):
        x1, y1, x2, y2 = boxes[row].tolist()
        entry = {
            "id": int(row) + 1,
            "image_id": int(data.image_ids[owners[row]]),
            "category_id": data.category_ids[data.labels[row]],
            "bbox": [round(x1, 3), round(y1, 3), round(x2 - x1, 3), round(y2 - y1, 3)],
            "area": round(float(data.areas[row]), 3),
            "iscrowd": int(data.flags[row] != 0),
        }
        if soft:
            entry["score"] = round(float(data.scores[row]), 4)
        annotations.append(entry)
    categories = [{"id": i, "name": name} for i, name in zip(data.category_ids, data.class_names)]
    return {"images": images, "annotations": annotations, "categories": categories}


class _Columns:
    """Columns that grow while the file is read; images, annotations and categories may come in any order."""

    def __init__(self, path: Path):
        self.path = path
        self.faults = Faults()
        self.names: list[str] = []
        self.image_ids, self.sizes = array("q"), array("i")
        self.owner_ids, self.class_ids = array("q"), array("q")
        self.boxes, self.areas, self.scores, self.flags = array("d"), array("d"), array("f"), array("B")
        self.categories: dict[int, dict] = {}

    def add_image(self, image: Any) -> None:
        try:
            number, name = int(image["id"]), str(image.get("file_name") or os.path.basename(image["coco_url"]))
            size = int(image.get("height") or 0), int(image.get("width") or 0)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise BadDataError(f"{self.path}: an image without id or file_name: {str(image)[:80]}") from None
        self.image_ids.append(number)
        self.names.append(name)
        self.sizes.extend(size)

    def add_annotation(self, entry: Any) -> None:
        try:
            x, y, w, h = map(float, entry["bbox"])
            owner, kind = int(entry["image_id"]), int(entry["category_id"])
            area, score = float(entry.get("area", w * h)), float(entry.get("score", 1.0))
        except (KeyError, TypeError, ValueError, AttributeError):
            self.faults.add("bad line", f"{self.path}: {str(entry)[:100]}")
            return
        self.owner_ids.append(owner)
        self.class_ids.append(kind)
        self.boxes.extend((x, y, x + w, y + h))
        self.areas.append(area)
        self.scores.append(score)
        self.flags.append((CROWD if entry.get("iscrowd") else 0) | (IGNORE if entry.get("ignore") else 0))

    def finish(self, folders: list[Path]) -> DetectionData:
        ids, categories = np.array(self.image_ids), self._used_categories()
        if not categories:
            raise BadDataError(f'{self.path}: declares no classes (no "categories")')
        order = np.argsort(ids, kind="stable")
        if (np.diff(ids[order]) == 0).any():
            twice = ids[order][1:][np.diff(ids[order]) == 0][0]
            raise BadDataError(f"{self.path}: two images have the id {twice}")
        owner_ids = np.array(self.owner_ids, np.int64)
        position = np.minimum(np.searchsorted(ids, owner_ids, sorter=order), len(ids) - 1)
        owners = order[position]
        listed = ids[owners] == owner_ids
        boxes = np.array(self.boxes).reshape(-1, 4)
        lost = np.flatnonzero(~listed)
        self.faults.add_all("no image", len(lost), (f"{self.path}: image_id {owner_ids[i]}" for i in lost))
        finder = ImageFinder(*folders)
        paths = [finder.find(name) for name in self.names]
        return build(
            [str(category.get("name", number)) for number, category in categories.items()],
            paths,
            owners[listed],
            boxes[listed],
            self._labels(list(categories), paths, owners, listed)[listed],
            sizes=np.array(self.sizes),
            image_ids=ids,
            scores=np.array(self.scores)[listed],
            areas=np.array(self.areas)[listed],
            flags=np.array(self.flags)[listed],
            category_ids=list(categories),
            source="coco",
            origin=str(self.path),
            faults=self.faults,
        )

    def _labels(self, ids: list[int], paths: list[Path], owners: np.ndarray, listed: np.ndarray) -> np.ndarray:
        """Class ids -> 0..C-1, -1 where the file declares no such class (counted)."""
        kinds = np.array(self.class_ids, np.int64)
        position = np.minimum(np.searchsorted(ids, kinds), len(ids) - 1)
        labels = np.where(np.array(ids)[position] == kinds, position, UNKNOWN_LABEL)
        odd = np.flatnonzero((labels < 0) & listed)
        self.faults.add_all("unknown class", len(odd), (f"{paths[owners[i]]}: category_id {kinds[i]}" for i in odd))
        return labels

    def _used_categories(self) -> dict[int, dict]:
        """Categories by id, less the parent that Roboflow writes as class 0 and never uses."""
        parents = {category.get("supercategory") for category in self.categories.values()}
        used = set(self.class_ids) if 0 in self.categories else set()
        return {
            number: category
            for number, category in sorted(self.categories.items())
            if number != 0 or 0 in used or category.get("name") not in parents or len(self.categories) == 1
        }
