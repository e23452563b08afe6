"""The class names of a published file: inside it, in a text file beside it, or COCO's where their number says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from detection.boxes.class_names import COCO_80, coco_classes_of_columns
from detection.files import decode_text, open_regular
from detection.weights.zips import open_zip

NAMES = (
    "labelmap.txt", "labels.txt", "coco_labels.txt", "imagenet_labels.txt", "label_map.txt", "classes.txt", "obj.names",
    "label_map.pbtxt", "labelmap.pbtxt", "labels.pbtxt", "mscoco_label_map.pbtxt",
)  # fmt: skip
MOST = 1 << 20  # bytes of a label file; ImageNet's have 30,000
NO_CLASS = ("n/a", "unlabeled")  # what lines without a class say, beside "" and "???"
BACKGROUND = {"background", "bg", "none", "nothing", "noobject", "noobj", "void", "", *NO_CLASS}

# Texts, which `re` compiles when the first label file is met: a start without one pays nothing.
_NUMBERED = r"(\d{1,6})(?:\s*[:,;=)\t]\s*|\s+)(\S.*)"
_ITEM = r"\bitem\s*\{([^{}]*)\}"
_FIELD = r"""\b(id|name|display_name)\s*:\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|(\d+))"""


def labels_of(path: Path) -> list[str] | None:
    """Class names that travel with the file: inside it (TFLite metadata is a zip at its end), or a label file beside it."""
    return next((names for _, names in label_files(path)), None)


def label_files(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(how it is called, its names) of every label file that travels with weights, the one that counts first."""
    import zipfile  # not for a start with weights of our own

    if path.is_file() and zipfile.is_zipfile(path):
        with open_zip(path) as archive:
            for inside in archive.infolist():
                if inside.filename.endswith(".txt") and inside.file_size <= MOST:
                    yield f"{path.name}'s own {inside.filename}", parse_labels(archive.read(inside))
                    break
    folder = path if path.is_dir() else path.parent
    for name in NAMES:
        if (folder / name).is_file() and (folder / name).stat().st_size <= MOST:
            with open_regular(folder / name) as file:
                yield name, parse_labels(file.read(MOST))


def parse_labels(data: bytes) -> list[str]:
    """The names of a label file: a name a line, in any encoding; numbered lines ("0  cat", "1: dog"; Coral's and Frigate's),
    or TensorFlow's .pbtxt (item { id: 1 name: "cat" }). Where numbers have gaps, "???" stands for what is missing; they
    count from 0, or from 1 where there is no 0.
    """
    try:
        text, _ = decode_text(data)
    except UnicodeError:
        text = data.decode("utf-8", "replace")
    if items := re.findall(_ITEM, text):
        fields = [{kind: a or b or number for kind, a, b, number in re.findall(_FIELD, item)} for item in items]
        numbered = [
            (int(f["id"]), f.get("display_name") or f.get("name", "")) for f in fields if f.get("id", "").isdigit()
        ]
        return _placed(numbered)
    lines = [line.strip() for line in text.strip().splitlines()]
    found = [re.fullmatch(_NUMBERED, line) for line in lines if line]
    numbered = [(int(match[1]), match[2].strip()) for match in found if match]
    return _placed(numbered) if numbered and len(numbered) == len(found) and _counted(numbered) else lines


def _counted(numbered: list[tuple[int, str]]) -> bool:
    """Whether these are lines with numbers, and not names that begin with one ("1 euro", "2 euro")."""
    numbers, names = {number for number, _ in numbered}, {name for _, name in numbered}
    few_gaps = len(numbers) == len(numbered) and min(numbers) < 2 and len(numbers) * 2 > max(numbers)
    return few_gaps and (len(names) == len(numbered) or len(numbered) >= 10)


def _placed(numbered: list[tuple[int, str]]) -> list[str]:
    """The names at the places of their numbers."""
    names = {number: name for number, name in numbered if number < 100_000}
    first = 0 if 0 in names else 1
    return [names.get(number, "???") for number in range(first, max(names, default=0) + 1)] if names else []


def object_labels(labels: list[str] | None, columns: int) -> list[str] | None:
    """The names of the object columns out of a label file, which may name background first, or have gaps (`???`); None
    where their numbers do not fit."""
    if labels is None:
        return None
    if len(labels) == columns and re.sub(r"[\W_]", "", labels[0].casefold()) in {
        re.sub(r"\W", "", b) for b in BACKGROUND
    }:
        labels = labels[1:]
    if len(labels) != columns - 1:
        return None
    return [name if name.strip("?") and name.lower() not in NO_CLASS else "" for name in labels]


def misfits(path: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """A line for label files beside weights, none of which fits their classes: whose names these are not."""
    found = list(label_files(path))
    if not found or any(object_labels(labels, len(names) + 1) is not None for _, labels in found[:1]):
        return ()
    called, labels = found[0]
    extra = ", background included," if len(labels) == len(names) + 1 else ""
    return (f"{called} names {len(labels)} classes{extra} and the network has {len(names)}: its names are not used",)


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
