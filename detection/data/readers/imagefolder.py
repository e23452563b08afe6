"""Hugging Face's imagefolder: images with a metadata.jsonl, a line of JSON for each: `file_name`, and `objects` with `bbox`
([x, y, width, height] in pixels) and `categories` or `category` (names, or numbers that a README.md may name). Follows
huggingface.co/docs/datasets/image_dataset."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from detection.data.dataset import CROWD, DIFFICULT, DetectionData
from detection.data.faults import Faults
from detection.data.ids import encodable
from detection.data.layout import Layout, role_of
from detection.data.readers.columns import Object
from detection.data.readers.entries import ROLES, Entry, head_of, in_splits, layout_of, number_or_zero, read_entries
from detection.data.readers.yolo import class_file
from detection.errors import BadDataError, MobileSSDError
from detection.files import read_text
from detection.yaml_reader import parse_yaml

FILE = "metadata.jsonl"
BOXES = ("bbox", "bboxes", "boxes")
KINDS = ("categories", "category", "labels", "label", "class", "classes", "category_id", "class_id")


def look(path: Path) -> Layout | None:
    """A metadata.jsonl with objects, in the folder (whose train/, test/ are then the splits) or in each of its splits."""
    if path.is_file():
        return layout_of("imagefolder", path, {"": path} if path.suffix == ".jsonl" and _has_objects(path) else {})
    for base in (path, path / "data"):
        files = in_splits(base, lambda folder: folder / FILE if _has_objects(folder / FILE) else None)
        if list(files) == [""]:
            children = [one.name for one in sorted(base.iterdir()) if one.is_dir() and role_of(one.name) in ROLES]
            files = dict.fromkeys(children, files[""]) or files
        if files:
            return layout_of("imagefolder", path, files)
    return None


def read(layout: Layout, split: str | None, images: str | os.PathLike | None = None) -> DetectionData:
    """Classes that are numbers are called as README.md or a classes.txt says; else by their numbers, which is counted."""
    folders = dict.fromkeys((_folder(layout.path), *(_folder(file) for file in layout.files.values())))
    names = next((names for folder in folders if (names := _class_names(folder))), [])
    return read_entries(layout, split, images, _parser(names, tuple(layout.splits)), names)


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _has_objects(file: Path) -> bool:
    head = head_of(file)
    return head.startswith(b"{") and b'"file_name"' in head and b'"objects"' in head


def _class_names(folder: Path) -> list[str]:
    """Of the card in README.md (`class_label: names:`), else of a classes.txt; none where neither is there."""
    try:
        card = read_text(folder / "README.md").split("---", 2)
        found = _class_label(parse_yaml(card[1], str(folder / "README.md"))) if len(card) == 3 else None
    except (OSError, UnicodeError, MobileSSDError):
        found = None
    if isinstance(found, dict):
        found = [found[key] for key in sorted(found, key=number_or_zero)]
    if isinstance(found, list):
        return [str(name) for name in found]
    if file := class_file(folder):
        return [line.strip() for line in read_text(file).splitlines() if line.strip()]
    return []


def _class_label(content: Any) -> Any:
    """The first `class_label: names:` anywhere in a card."""
    if isinstance(content, dict):
        label = content.get("class_label")
        if isinstance(label, dict) and "names" in label:
            return label["names"]
        content = list(content.values())
    if isinstance(content, list):
        return next((found for one in content if (found := _class_label(one)) is not None), None)
    return None


def _parser(names: Sequence[str], splits: Sequence[str]) -> Callable[[Path, Faults], Iterator[Entry]]:
    nameless = set[int]()

    def name_of(kind: Any, where: str, faults: Faults) -> str:
        if isinstance(kind, str) and kind:
            return encodable(kind)
        if isinstance(kind, int) and not isinstance(kind, bool):
            if 0 <= kind < len(names):
                return names[kind]
            if names:
                faults.add("undeclared class", f"{where}: class {kind}, but there are {len(names)} names")
                return ""
            if kind not in nameless:
                nameless.add(kind)
                faults.add("no name", f"{where}: class {kind}, which no README.md names")
            return str(kind)
        faults.add("undeclared class", f"{where}: a box of class {str(kind)[:40]!r}")
        return ""

    def parse(file: Path, faults: Faults) -> Iterator[Entry]:
        try:
            lines = read_text(file).splitlines()
        except (OSError, UnicodeError) as error:
            raise BadDataError(f"{file}: cannot be read as text ({error})") from None
        for number, line in enumerate(lines, 1):
            where = f"{file}:{number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                image = encodable(row["file_name"])
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                faults.add("bad line", f"{where}: {line[:60]!r} is no line of JSON with file_name")
                continue
            objects, doubtful = list[Object](), False
            for bbox, kind, flags in _objects(row.get("objects")):
                try:
                    x, y, w, h = map(float, bbox)
                except (TypeError, ValueError, OverflowError):
                    faults.add("bad line", f"{where}: bbox {str(bbox)[:60]} is no list of four numbers")
                    doubtful = True
                    continue
                objects.append(Object(name_of(kind, where, faults), (x, y, x + w, y + h), flags))
            size = number_or_zero(row.get("height")), number_or_zero(row.get("width"))
            own = next((part for part in PurePosixPath(image).parts[:-1] if part in splits), "")
            yield Entry(image, objects, size, doubtful, own)

    return parse


def _objects(objects: Any) -> Iterator[tuple[Any, Any, int]]:
    """(bbox, class, flags) of each object: of lists in parallel, or of a list of objects."""
    if isinstance(objects, list):
        for one in objects:
            yield from (
                _objects({key: [value] for key, value in one.items()}) if isinstance(one, dict) else [(one, 0, 0)]
            )
        return
    if objects is None:
        return
    if not isinstance(objects, dict):
        yield objects, None, 0
        return
    boxes = _column(objects, BOXES)
    kinds, crowds, hard = _column(objects, KINDS), _column(objects, ("iscrowd",)), _column(objects, ("difficult",))
    for at in range(max(len(boxes), len(kinds))):
        flags = CROWD if _at(crowds, at) in (1, True) else DIFFICULT if _at(hard, at) in (1, True) else 0
        yield _at(boxes, at), _at(kinds, at), flags


def _column(objects: dict[str, Any], names: Sequence[str]) -> list[Any]:
    found: Any = next((objects[name] for name in names if name in objects), [])
    return found if isinstance(found, list) else [found]


def _at(values: list[Any], index: int) -> Any:
    return values[index] if index < len(values) else None
