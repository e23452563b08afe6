"""Label Studio's JSON export, a list of tasks; what `writers.labelstudio` writes is one. Of a task people's last annotation
counts; where nobody has annotated it, the last prediction does, with its scores. Percentages of the image. Follows
labelstud.io/guide/task_format."""

from __future__ import annotations

import html
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from detection.data.dataset import CROWD, DIFFICULT, IGNORE, DetectionData
from detection.data.faults import Faults
from detection.data.ids import encodable
from detection.data.layout import Layout
from detection.data.readers.columns import Object
from detection.data.readers.entries import (
    Entry,
    count_no_box,
    head_of,
    layout_of,
    name_of_label,
    number_or_zero,
    read_entries,
)
from detection.errors import BadDataError
from detection.files import read_text

FLAGS = {"crowd": CROWD, "difficult": DIFFICULT, "ignore": IGNORE}  # as the writer marks them
LOCAL = "d="  # of /data/local-files/?d=images/a.jpg
UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what an upload puts before a file's name
CONFIG = "label_config.xml"
LABEL = re.compile(r"<Label\b[^>]*?\bvalue=\"([^\"]*)\"")
OTHERS = ("choices", "textarea", "rating", "number", "datetime", "taxonomy", "relation")  # of a whole image: no objects


def look(path: Path) -> Layout | None:
    """A .json that begins so, or a folder with one; splits are those that tasks name in their data."""
    files = [path] if path.is_file() else sorted(path.glob("*.[jJ][sS][oO][nN]")) if path.is_dir() else []
    file = next((one for one in files if one.suffix.lower() == ".json" and _is_tasks(one)), None)
    if file is None:
        return None
    splits = dict.fromkeys(_split(task) for task in _tasks(file))
    return layout_of("labelstudio", path, dict.fromkeys(splits, file) if all(splits) and splits else {"": file})


def read(layout: Layout, split: str | None, images: str | os.PathLike | None = None) -> DetectionData:
    """Classes in the order of label_config.xml, where it lies beside."""
    config = next(iter(layout.files.values())).with_name(CONFIG)
    names = [html.unescape(name) for name in LABEL.findall(read_text(config))] if config.is_file() else []
    return read_entries(layout, split, images, _parse, list(filter(None, map(encodable, names))))


def _is_tasks(file: Path) -> bool:
    head = head_of(file)
    return head.startswith(b"[") and b'"data"' in head and (b'"annotations"' in head or b'"predictions"' in head)


def _tasks(file: Path) -> list[Any]:
    try:
        tasks = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise BadDataError(f"{file}: not JSON ({error})") from None
    return tasks if isinstance(tasks, list) else []


def _data(task: Any) -> dict[str, Any]:
    found = task.get("data") if isinstance(task, dict) else None
    return found if isinstance(found, dict) else {}


def _split(task: Any) -> str:
    found = _data(task).get("split")
    return encodable(found) if isinstance(found, str) else ""


def _parse(file: Path, faults: Faults) -> Iterator[Entry]:
    for number, task in enumerate(_tasks(file)):
        image = next((one for one in _data(task).values() if isinstance(one, str) and _is_address(one)), None)
        if image is None:
            faults.add("bad line", f"{file}: task {number} names no image")
            continue
        name, results = _file_name(image), _results(task)
        objects, doubtful, size = list[Object](), results is None, (0, 0)
        if results is None:
            faults.add("bad line", f"{file}: task {number}, {name[:60]!r}, has no list of results")
        for one in results or []:
            if isinstance(one, dict) and one.get("type") in OTHERS:
                continue
            found = _object(one)
            if found is None:
                count_no_box(faults, f"{file}: a result of {name[:60]!r}", one, "type")
                doubtful = True
                continue
            if not found[0].name:
                faults.add("undeclared class", f"{file}: a box of {name[:60]!r} without a label")
            objects.append(found[0])
            size = found[1]
        yield Entry(name, objects, size, doubtful, _split(task))


def _is_address(text: str) -> bool:
    return bool(re.search(r"\.(jpe?g|png|bmp|webp|tiff?)$", unquote(text.partition("#")[0]), re.IGNORECASE))


def _file_name(address: str) -> str:
    """The path of an image below the data set's folder, as far as its address says."""
    parts = urlsplit(address)
    if parts.query.startswith(LOCAL):
        return encodable(unquote(parts.query[len(LOCAL) :]))
    if parts.path.startswith("/data/upload/"):
        return encodable(UPLOADED.sub("", unquote(parts.path.rsplit("/", 1)[-1])))
    return encodable(unquote(parts.path.rsplit("/", 1)[-1] if parts.scheme else address))


def _results(task: Any) -> list[Any] | None:
    """Of people's last annotation that was not cancelled, else of the last prediction; None where there is no list. An annotation
    without an id has never been in Label Studio: nobody has looked at the predictions beside it, so they count too."""
    people, model = (_last(task.get(key)) for key in ("annotations", "predictions"))
    chosen = [one for one in (people, model if people is None or "id" not in people else None) if one is not None]
    lists = [one["result"] for one in chosen if isinstance(one.get("result"), list)]
    return [result for one in lists for result in one] if len(lists) == len(chosen) else None


def _last(found: Any) -> dict[str, Any] | None:
    entries = found if isinstance(found, list) else []
    return next((one for one in reversed(entries) if isinstance(one, dict) and not one.get("was_cancelled")), None)


def _object(result: Any) -> tuple[Object, tuple[int, int]] | None:
    """The object of a result and its image's (height, width); a turned box and a polygon become the box around them."""
    try:
        value, kind = result["value"], result["type"]
        height, width = number_or_zero(result["original_height"]), number_or_zero(result["original_width"])
        if kind == "polygonlabels":
            points = [(float(x) * width, float(y) * height) for x, y in value["points"]]
        elif kind == "rectanglelabels":
            x, y = float(value["x"]) * width, float(value["y"]) * height
            w, h = float(value["width"]) * width, float(value["height"]) * height
            turn = math.radians(float(value.get("rotation") or 0))  # clockwise, around the top left corner
            cos, sin = math.cos(turn), math.sin(turn)
            points = [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in ((0, 0), (w, 0), (0, h), (w, h))]
        else:
            return None
        labels, marks = value.get(kind) or [""], (result.get("meta") or {}).get("text") or []
        score = float(result.get("score", 1.0))
        xs, ys = zip(*((x / 100, y / 100) for x, y in points))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None
    if not (height and width and isinstance(labels, list) and len(labels) == 1):
        return None
    flags = sum(bit for word, bit in FLAGS.items() if isinstance(marks, list) and word in marks)
    return Object(name_of_label(labels[0]), (min(xs), min(ys), max(xs), max(ys)), flags, score), (height, width)
