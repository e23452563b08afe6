"""Open Images: `*-annotations-bbox.csv` with ImageID, XMin, XMax, YMin, YMax in fractions, LabelName and IsGroupOf; images in
train/, validation/, test/. The downloader of qfgaohao and jetson-inference adds ClassName, and writes a `sub-` file of the
images that it fetched. Follows storage.googleapis.com/openimages/web/download_v7.html."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from detection.data.dataset import CROWD, DetectionData
from detection.data.faults import Faults
from detection.data.layout import Layout
from detection.data.readers.columns import Object
from detection.data.readers.csv_rows import has_columns, rows_of
from detection.data.readers.entries import Entry, layout_of, read_entries
from detection.files import read_text

SIDES = ("xmin", "ymin", "xmax", "ymax")
COLUMNS = ("imageid", *SIDES)
SPLIT = re.compile(r"train|validation|valid|val|test", re.IGNORECASE)
FOLDERS = ("", "annotations", "labels", "csv_folder")


def look(path: Path) -> Layout | None:
    """A .csv with ImageID, XMin, ...; a folder with such files, here or in annotations/ or labels/."""
    if path.is_file():
        files = {"": path} if path.suffix.lower() == ".csv" and has_columns(path, COLUMNS) else {}
        return layout_of("openimages", path, files)
    files = {}
    for folder in FOLDERS if path.is_dir() else ():
        tables = [file for file in (path / folder).glob("*.[cC][sS][vV]") if has_columns(file, COLUMNS)]
        # the whole list names images that nobody fetched: of two, the one of those that were
        for file in sorted(tables, key=lambda one: (not one.name.startswith("sub-"), one.name)):
            found = SPLIT.search(file.stem)
            files.setdefault(found.group().lower() if found else file.stem if len(tables) > 1 else "", file)
    return layout_of("openimages", path, files)


def read(layout: Layout, split: str | None, images: str | os.PathLike | None = None) -> DetectionData:
    """Classes are called ClassName; else by `class-descriptions*.csv`; else by LabelName. Groups are crowds."""
    names = _descriptions(layout)
    return read_entries(layout, split, images, _parser(names), fractions=True)


def _descriptions(layout: Layout) -> dict[str, str]:
    """{LabelName: DisplayName} of the files nearby."""
    names = dict[str, str]()
    root = layout.path if layout.path.is_dir() else layout.path.parent
    for folder in dict.fromkeys((root, *(file.parent for file in layout.files.values()))):
        for file in sorted(folder.glob("*class-descriptions*.csv")):
            try:
                lines = read_text(file).splitlines()
            except (OSError, UnicodeError):
                continue  # its classes are called by their ids, and that is counted
            for line in lines:
                label, _, shown = line.partition(",")
                if shown.strip() and label.startswith("/"):
                    names.setdefault(label.strip(), shown.strip().strip('"'))
    return names


def _parser(names: dict[str, str]) -> Callable[[Path, Faults], Iterator[Entry]]:
    nameless = set[str]()

    def parse(file: Path, faults: Faults) -> Iterator[Entry]:
        objects, doubtful = dict[str, list[Object]](), set[str]()
        for line, row in rows_of(file):
            image = row.get("imageid", "")
            if not image:
                faults.add("no image", f"{file}:{line}: a row without ImageID")
                continue
            found = objects.setdefault(image, [])
            texts = [row.get(side, "") for side in SIDES]
            try:
                x1, y1, x2, y2 = map(float, texts)
            except ValueError:
                faults.add("bad line", f"{file}:{line}: {', '.join(texts)[:60]!r} are no four numbers")
                doubtful.add(image)
                continue
            label = row.get("labelname", "")
            name = row.get("classname") or names.get(label, label)
            if not name:
                faults.add("undeclared class", f"{file}:{line}: a box without a class")
            elif name == label and label.startswith("/") and label not in nameless:
                nameless.add(label)
                faults.add("no name", f"{file}: {label}, which no class-descriptions.csv names")
            found.append(Object(name, (x1, y1, x2, y2), CROWD if row.get("isgroupof") in ("1", "1.0") else 0))
        for image, found in objects.items():
            yield Entry(image, found, doubtful=image in doubtful)

    return parse
