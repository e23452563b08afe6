"""What `mobilessd detect` leaves behind: drawn images under names that never collide, and lists of what was found."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detection.boxes.detections import Detections
from detection.errors import MobileSSDError
from detection.files import atomic_write, write_text
from detection.images.sources import Source

COLUMNS = ("file", "frame", "time", "image_id", "class", "category_id", "score", "x1", "y1", "x2", "y2")
LONGEST = {".jpg": 65_500, ".jpeg": 65_500, ".png": 10**9, ".webp": 16_383}  # pixels of a side that a format can hold
_COCO_NAME = re.compile(r"(?:COCO_[a-z]+[0-9]{4}_)?([0-9]{1,18})")


class OutputNames:
    """Hands out the paths of drawn files below `folder`, no two alike and none that is a source.

    Images from subfolders keep their place. Where two sources have the same name the second becomes `name-2.jpg`.
    The same command run again gives the same names.
    """

    def __init__(self, folder: str | os.PathLike, sources: Iterable[Source]) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise MobileSSDError(f"{self.folder}: is a file: name a folder for the drawn images")
        self._taken = {_same(source.path) for source in sources}

    def path_for(self, source: Source, suffix: str) -> Path:
        """Where the drawing of `source` goes, with the ending `suffix`."""
        wished = self.folder / source.relative.with_suffix(suffix)
        path, number = wished, 1
        while _same(path) in self._taken:
            number += 1
            path = wished.with_name(f"{wished.stem}-{number}{suffix}")
        self._taken.add(_same(path))
        return path


def _same(path: Path) -> str:
    return os.path.realpath(path).casefold()  # some file systems do not tell upper case from lower


def image_suffix(source: Source, image: np.ndarray) -> str:
    """The ending of a drawn image: that of the source where every program reads it, else .jpg; .png where neither
    takes an image as long as this one.
    """
    suffix = source.ending
    if suffix not in LONGEST:
        suffix = ".jpg"
    return suffix if max(image.shape) <= LONGEST[suffix] else ".png"


def save_image(image: np.ndarray, path: Path) -> None:
    """Writes uint8 RGB [H, W, 3] to `path`, atomically; quality 92 where the kind has one."""
    options = {".png": [], ".webp": [cv2.IMWRITE_WEBP_QUALITY, 92]}.get(path.suffix, [cv2.IMWRITE_JPEG_QUALITY, 92])
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    with atomic_write(path) as temporary:
        temporary.write_bytes(data.tobytes())


class Findings:
    """Everything found in a run, as COCO results and as rows of a table.

    image_id: the number in the file's name where every source is an image named by a number (`000000000139.jpg`, also
    `COCO_val2014_000000000042.jpg`) and no two share one, so that the JSON can be given to `mobilessd eval`; else a
    running number from 1, one for each image and each frame, also for those in which nothing was found.
    """

    def __init__(self, sources: list[Source]) -> None:
        self._count = 0
        self._ids = _ids_in_names(sources)
        self.results: list[dict[str, Any]] = []
        self._rows: list[tuple[Any, ...]] = []

    def add(self, source: Source, detections: Detections, frame: int | None = None, time: float | None = None) -> None:
        """Adds what was found in an image, or in one frame (number, seconds) of a video."""
        self._count += 1
        image_id = self._ids[source.name] if self._ids else self._count
        place = {} if frame is None or time is None else {"frame": frame, "time": round(time, 3)}
        found = detections.to_coco(image_id)
        self.results += [one | {"file_name": source.name} | place for one in found]
        for one, name, box in zip(found, detections.names, detections.boxes):
            corners = (round(float(value), 2) for value in box)
            start = (source.name, place.get("frame", ""), place.get("time", ""), image_id)
            self._rows.append((*start, name, one["category_id"], one["score"], *corners))

    def skip(self) -> None:
        """Counts an image that could not be read, so that the others' numbers do not depend on it."""
        self._count += 1

    def write_json(self, path: str | os.PathLike) -> None:
        """COCO results, a list of {image_id, category_id, bbox, score, file_name}; frames also have frame and time."""
        write_text(path, "[" + ",\n".join(json.dumps(one) for one in self.results) + "]\n")

    def write_csv(self, path: str | os.PathLike) -> None:
        """A row for each box, corners in pixels; frame and time are empty for images."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(self._rows)
        with atomic_write(path) as temporary:  # a name that is no valid text must not lose a whole table
            temporary.write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace")


def _ids_in_names(sources: list[Source]) -> dict[str, int]:
    ids: dict[str, int] = {}
    for source in sources:
        match = _COCO_NAME.fullmatch(source.path.stem)
        if source.video or not match:
            return {}
        ids[source.name] = int(match[1])
    return ids if len(set(ids.values())) == len(ids) else {}
