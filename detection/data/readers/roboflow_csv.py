"""Tables with a row for each box: filename, width, height, class, xmin, ymin, xmax, ymax, in pixels. Roboflow's
`_annotations.csv` ("TensorFlow Object Detection"), and what the tutorials of TensorFlow write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from detection.data.dataset import DetectionData
from detection.data.faults import Faults
from detection.data.layout import Layout
from detection.data.readers.columns import Object
from detection.data.readers.csv_rows import has_columns, rows_of
from detection.data.readers.entries import Entry, in_splits, layout_of, number_or_zero, read_entries

SIDES = ("xmin", "ymin", "xmax", "ymax")
COLUMNS = ("filename", "class", *SIDES)


def look(path: Path) -> Layout | None:
    """A .csv with these columns, or a folder with one, or with one in train/, valid/, test/."""
    if path.is_file():
        files = {"": path} if path.suffix.lower() == ".csv" and has_columns(path, COLUMNS) else {}
        return layout_of("csv", path, files)
    if not path.is_dir():
        return None
    named = [file for file in sorted(path.glob("*.[cC][sS][vV]")) if has_columns(file, COLUMNS)]
    if len(named) > 1:  # train_labels.csv, test_labels.csv
        return layout_of("csv", path, {file.stem: file for file in named})
    return layout_of("csv", path, in_splits(path, _table))


def read(layout: Layout, split: str | None, images: str | os.PathLike | None = None) -> DetectionData:
    """Images that have no row are left out, and counted."""
    return read_entries(layout, split, images, _parse)


def _table(folder: Path) -> Path | None:
    return next((file for file in sorted(folder.glob("*.[cC][sS][vV]")) if has_columns(file, COLUMNS)), None)


def _parse(file: Path, faults: Faults) -> Iterator[Entry]:
    sizes, objects, doubtful = dict[str, tuple[int, int]](), dict[str, list[Object]](), set[str]()
    for line, row in rows_of(file):
        name = row.get("filename", "")
        if not name:
            faults.add("no image", f"{file}:{line}: a row without filename")
            continue
        sizes.setdefault(name, (number_or_zero(row.get("height")), number_or_zero(row.get("width"))))
        found = objects.setdefault(name, [])
        texts = [row.get(side, "") for side in SIDES]
        if not any(texts) and not row.get("class"):
            continue  # an image without objects
        try:
            x1, y1, x2, y2 = map(float, texts)
        except ValueError:
            faults.add("bad line", f"{file}:{line}: {', '.join(texts)[:60]!r} are no four numbers")
            doubtful.add(name)
            continue
        if not row.get("class"):
            faults.add("undeclared class", f"{file}:{line}: a box without a class")
        found.append(Object(row.get("class", ""), (x1, y1, x2, y2)))
    for name, found in objects.items():
        yield Entry(name, found, sizes[name], name in doubtful)
