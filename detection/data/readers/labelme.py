"""labelme: a .json for each image, beside it or in a folder of its own, with `shapes` of a label, points and a shape_type.

Rectangles, polygons, circles and masks become the box around them; shapes of one label and one group_id are one object, as
labelme's own converters have it. Points and lines are no boxes: they are counted, and nothing in their image is background.
Follows github.com/wkentaro/labelme (labelme/_label_file.py).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detection.data.dataset import DIFFICULT, DetectionData
from detection.data.faults import Faults
from detection.data.ids import encodable
from detection.data.layout import Layout
from detection.data.readers.columns import Object
from detection.data.readers.entries import (
    LABEL_FOLDERS,
    Entry,
    count_no_box,
    head_of,
    in_splits,
    layout_of,
    name_of_label,
    number_or_zero,
    read_entries,
)
from detection.files import read_text

PROBES = 20  # files that are looked at to recognise a folder
FLAT = ("point", "points", "line", "linestrip")
Box = tuple[float, float, float, float]


def look(path: Path) -> Layout | None:
    """A folder with such files, or with a folder of them (labels/, annotations/), or one for each split."""
    return layout_of("labelme", path, in_splits(path, _folder_in))


def read(layout: Layout, split: str | None, images: str | os.PathLike | None = None) -> DetectionData:
    """An image without a .json is left out, and counted."""
    return read_entries(layout, split, images, _parse)


def _folder_in(folder: Path) -> Path | None:
    places = [folder, *(folder / name for name in (*LABEL_FOLDERS, "images"))]
    return next((place for place in places if any(map(_is_labelme, _files(place)[:PROBES]))), None)


def _files(folder: Path) -> list[Path]:
    found = folder.glob("*.[jJ][sS][oO][nN]") if folder.is_dir() else ()
    return sorted(file for file in found if not file.name.startswith("."))


def _is_labelme(file: Path) -> bool:
    head = head_of(file, 4096)  # the image itself may follow, in megabytes
    return head.startswith(b"{") and b'"shapes"' in head


def _parse(folder: Path, faults: Faults) -> Iterator[Entry]:
    for file in _files(folder):
        try:
            content = json.loads(read_text(file))
        except (OSError, ValueError, RecursionError) as error:
            faults.add("unread annotation", f"{file}: no JSON ({error})")
            continue
        shapes = content.get("shapes") if isinstance(content, dict) else None
        if not isinstance(shapes, list):
            faults.add("unread annotation", f"{file}: no shapes of labelme")
            continue
        objects, doubtful = _objects(shapes, file, faults)
        size = number_or_zero(content.get("imageHeight")), number_or_zero(content.get("imageWidth"))
        image = content.get("imagePath")
        yield Entry(encodable(image) if isinstance(image, str) and image else file.stem, objects, size, doubtful)


def _objects(shapes: list[Any], file: Path, faults: Faults) -> tuple[list[Object], bool]:
    """The objects of an image, and whether some could not be read."""
    objects, groups, doubtful = list[Object](), dict[tuple[str, str], int](), False
    for number, shape in enumerate(shapes):
        box = _box(shape)
        if box is None:
            count_no_box(faults, f"{file}: shapes[{number}]", shape, "shape_type")
            doubtful = True
            continue
        name = name_of_label(shape.get("label"))
        if not name:
            faults.add("undeclared class", f"{file}: shapes[{number}] has no label")
        group = shape.get("group_id")
        at = groups.setdefault((name, str(group)), len(objects)) if group is not None else len(objects)
        if at < len(objects):
            other = objects[at].box
            objects[at] = Object(name, (*map(min, other[:2], box[:2]), *map(max, other[2:], box[2:])))  # type: ignore[arg-type]
        else:
            objects.append(Object(name, box, DIFFICULT if shape.get("difficult") is True else 0))
    return objects, doubtful


def _box(shape: Any) -> Box | None:
    """The box around a shape; None where it has none."""
    try:
        kind = shape.get("shape_type") or "polygon"
        points = [(float(x), float(y)) for x, y in shape["points"]]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None
    if kind in FLAT or len(points) < 2:
        return None
    if kind == "circle":
        (cx, cy), (x, y) = points[:2]
        radius = math.hypot(x - cx, y - cy)
        return cx - radius, cy - radius, cx + radius, cy + radius
    xs, ys = zip(*points)
    return min(xs), min(ys), max(xs), max(ys)
