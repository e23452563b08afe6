"""The class names of a published file: inside it, in a text file beside it, or COCO's where their number says so."""

from __future__ import annotations

import zipfile
from pathlib import Path

from detection.boxes.class_names import COCO_80, coco_classes_of_columns
from detection.files import decode_text

NAMES = ("labelmap.txt", "labels.txt", "coco_labels.txt", "imagenet_labels.txt")


def labels_of(path: Path) -> list[str] | None:
    """Class names that travel with the file: inside it (TFLite metadata is a zip at its end), or a labelmap beside it."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inside = [name for name in archive.namelist() if name.endswith(".txt")]
            if inside:
                return _lines(archive.read(inside[0]))
    for name in NAMES:
        if (path.parent / name).is_file():
            return _lines((path.parent / name).read_bytes())
    return None


def object_labels(labels: list[str] | None, columns: int) -> list[str] | None:
    """The names of the object columns out of a label file, which may name background first, or have gaps (`???`)."""
    if labels is None:
        return None
    if len(labels) == columns:
        labels = labels[1:]
    if len(labels) != columns - 1:
        return None
    return [name if name.strip("?") and name.lower() not in ("n/a", "unlabeled") else "" for name in labels]


def class_list(number: int, labels: list[str] | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and ids of the object columns: the file's own labels where it has them, COCO's where the number is."""
    if labels and any(labels):
        names = tuple(name or f"unused {i + 1}" for i, name in enumerate(labels))
        if number == 80 and names == tuple(COCO_80.values()):
            return names, tuple(COCO_80)
        return names, tuple(range(1, number + 1))
    if number in (80, 90):
        return coco_classes_of_columns(number)
    return tuple(f"class {i + 1}" for i in range(number)), tuple(range(1, number + 1))


def _lines(data: bytes) -> list[str]:
    try:
        text, _ = decode_text(data)
    except UnicodeError:
        text = data.decode("utf-8", "replace")
    return [line.strip() for line in text.strip().splitlines()]
