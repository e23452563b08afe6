"""Tables: a row for each box, corners in pixels; of a run as a whole file, of a live source line by line."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from types import SimpleNamespace
from typing import Any

from detection.boxes.detections import rounded
from detection.files import write_output
from detection.outputs import Record

BOX = ("class", "category_id", "score", "x1", "y1", "x2", "y2")
COLUMNS = ("file", "frame", "time", "image_id", *BOX)
LIVE_COLUMNS = ("source", "frame", "time", "at", *BOX, "track_id")


class CsvTable:
    """COLUMNS of a run; frame and time are empty for images. path: "-" is standard output. See `Output`."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = path
        self.lines = [csv_line(COLUMNS)]

    def add(self, record: Record) -> None:
        self.lines += csv_lines(record, COLUMNS)

    def close(self) -> None:
        write_output(self.path, "\n".join(self.lines) + "\n", "backslashreplace")


class LiveCsv:
    """LIVE_COLUMNS, each line given to `write` as it comes; track_id is empty where nothing is tracked. See `Output`."""

    def __init__(self, write: Callable[[str], Any]) -> None:
        self._write = write

    def add(self, record: Record) -> None:
        for line in csv_lines(record, LIVE_COLUMNS):
            self._write(line)

    def close(self) -> None:
        pass


def csv_lines(record: Record, columns: Sequence[str]) -> list[str]:
    """A line for each box of a record, without its line end."""
    found = record.detections
    if found is None:
        return []
    about: dict[str, Any] = {"file": record.name, "source": record.name, "image_id": record.image_id, "at": record.at}
    if record.frame is not None and record.time is not None:
        about |= {"frame": record.frame, "time": round(record.time, 3)}
    boxes: dict[str, Any] = {
        "class": found.names,
        "category_id": found.categories.tolist(),
        "score": rounded(found.scores, 5),
        **dict(zip(("x1", "y1", "x2", "y2"), rounded(found.boxes.T, 2))),
    }
    if found.track_ids is not None:
        boxes["track_id"] = ["" if track < 0 else track for track in found.track_ids.tolist()]
    return _lines(zip(*(boxes[name] if name in boxes else repeat(about.get(name, ""), len(found)) for name in columns)))


def csv_line(row: Sequence[object]) -> str:
    """A row as text, without its line end."""
    return _lines([row])[0]


def _lines(rows: Iterable[Sequence[object]]) -> list[str]:
    lines: list[str] = []
    csv.writer(SimpleNamespace(write=lines.append), lineterminator="").writerows(rows)  # a call of `write` for each row
    return lines
