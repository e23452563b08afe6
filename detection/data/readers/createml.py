"""Create ML: a JSON list of images, each with annotations of a label and coordinates {x, y, width, height}: the centre and the
size of the box in pixels. Roboflow writes it as `_annotations.createml.json` into train/, valid/, test/. Follows
developer.apple.com/documentation/createml/building-an-object-detector-data-source."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detection.data.dataset import DetectionData
from detection.data.faults import Faults
from detection.data.ids import encodable
from detection.data.layout import Layout
from detection.data.readers.columns import Object
from detection.data.readers.entries import Entry, head_of, in_splits, layout_of, name_of_label, read_entries
from detection.errors import BadDataError
from detection.files import read_text

IMAGE = ("image", "imagefilename")
ANNOTATIONS = ("annotations", "annotation")


def look(path: Path) -> Layout | None:
    """A .json that begins so, or a folder with one, or with one in train/, valid/, test/."""
    if path.is_file():
        return layout_of("createml", path, {"": path} if _is_createml(path) else {})
    return layout_of("createml", path, in_splits(path, _file_in))


def read(layout: Layout, split: str | None, images: str | os.PathLike | None = None) -> DetectionData:
    """Sizes are those of the image files, as none are written."""
    return read_entries(layout, split, images, _parse)


def _is_createml(file: Path) -> bool:
    head = head_of(file) if file.suffix.lower() == ".json" else b""
    return head.startswith(b"[") and any(b'"%s"' % one.encode() in head for one in IMAGE) and b'"annotation' in head


def _file_in(folder: Path) -> Path | None:
    return next((file for file in sorted(folder.glob("*.[jJ][sS][oO][nN]")) if _is_createml(file)), None)


def _parse(file: Path, faults: Faults) -> Iterator[Entry]:
    try:
        rows = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise BadDataError(f"{file}: not JSON ({error})") from None
    for number, row in enumerate(rows):
        image = _first(row, IMAGE)
        if not isinstance(image, str) or not image:
            faults.add("bad line", f"{file}: entry {number} names no image: {str(row)[:60]!r}")
            continue
        found = _first(row, ANNOTATIONS)
        objects, doubtful = list[Object](), not isinstance(found, list | None)
        if doubtful:
            faults.add("bad line", f"{file}: annotations of {image[:60]!r} are no list")
        for one in found if isinstance(found, list) else []:
            try:
                cx, cy, w, h = (float(one["coordinates"][key]) for key in ("x", "y", "width", "height"))
            except (KeyError, TypeError, ValueError, OverflowError):
                faults.add("bad line", f"{file}: an annotation of {image[:60]!r} has no coordinates: {str(one)[:60]!r}")
                doubtful = True
                continue
            name = name_of_label(one.get("label"))
            if not name:
                faults.add("undeclared class", f"{file}: a box of {image[:60]!r} without a label")
            objects.append(Object(name, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)))
        yield Entry(encodable(image), objects, doubtful=doubtful)


def _first(row: Any, names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if name in row), None) if isinstance(row, dict) else None
