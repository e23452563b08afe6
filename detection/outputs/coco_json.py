"""COCO results: a JSON list of {image_id, category_id, bbox [x, y, width, height] in pixels, score}."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from detection.files import write_output
from detection.images.sources import Source
from detection.outputs import Record

_COCO_NAME = re.compile(r"(?:COCO_[a-z]+[0-9]{4}_)?([0-9]{1,18})")


class CocoJson:
    """COCO results of a run, each with the names of its class and file, which `mobilessd eval --results` matches by; those of
    a video's frames with frame and time. path: "-" is standard output. See `Output`."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []

    def add(self, record: Record) -> None:
        place: dict[str, Any] = {}
        if record.frame is not None and record.time is not None:
            place = {"frame": record.frame, "time": round(record.time, 3)}
        found = record.detections.to_coco(record.image_id) if record.detections is not None else []
        names = record.detections.names if record.detections is not None else []
        self.rows += [
            one | {"category_name": name, "file_name": record.name} | place for one, name in zip(found, names)
        ]

    def close(self) -> None:
        write_rows(self.path, self.rows)


def write_rows(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes COCO results atomically, a line for each; to standard output where `path` is "-"."""
    write_output(path, "[" + ",\n".join(map(json.dumps, rows)) + "]\n")


class ImageIds:
    """The image_id of each image and frame of a run.

    The number in the file's name, where every source is an image named by a number (`000000000139.jpg`, also
    `COCO_val2014_000000000042.jpg`) and no two share one, so that the JSON can be given to `mobilessd eval`; else a
    running number from 1, one for each image and each frame, also for those in which nothing was found.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._in_names = _ids_in_names(sources)
        self._count = 0

    def next(self, source: Source) -> int:
        """Of an image, or of the next frame of a video; to be asked for images that cannot be read, too."""
        self._count += 1
        return self._in_names.get(source.name, self._count)


def _ids_in_names(sources: Sequence[Source]) -> dict[str, int]:
    ids: dict[str, int] = {}
    for source in sources:
        match = _COCO_NAME.fullmatch(source.path.stem)
        if source.video or not match:
            return {}
        ids[source.name] = int(match[1])
    return ids if len(set(ids.values())) == len(ids) else {}
