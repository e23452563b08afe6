"""What was found, in files: one format a module, all behind one small interface.

coco_json, csv_table: whole files of a run. json_lines, csv_table: lines while a source runs. parquet, json_lines: shards of
a bulk run. drawn, video: images and videos with the boxes on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from detection.boxes.detections import Detections


@dataclass(frozen=True)
class Record:
    """What was found in one image or frame.

    name: of the file, address or source. detections: None where the image could not be read; `problem` says why.
    image_id: its number in COCO results. frame, time: of a frame, its number and the seconds since the source began.
    at: when it was seen, ISO 8601.
    """

    name: str
    detections: Detections | None
    problem: str = ""
    image_id: int = 0
    frame: int | None = None
    time: float | None = None
    at: str = ""


class Output(Protocol):
    """Where records go, one after the other."""

    def add(self, record: Record) -> None: ...

    def close(self) -> None:
        """Writes what is to be written at the end. A file that is whole or not there appears now."""
