"""JSON lines: of a live source, a line for each frame as it comes; of a bulk run, a shard with a line for each image."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from detection.outputs import Record


class LiveJsonLines:
    """A line for each frame, also for those in which nothing is: {source, frame, time, at, image_size, detections: [{name,
    class_id, score, box, track_id}]}. See `Output`."""

    def __init__(self, write: Callable[[str], Any]) -> None:
        self._write = write

    def add(self, record: Record) -> None:
        time = None if record.time is None else round(record.time, 3)
        about = {"source": record.name, "frame": record.frame, "time": time, "at": record.at}
        found = record.detections.to_dict() if record.detections is not None else {}
        self._write(json.dumps({**about, **found}))

    def close(self) -> None:
        pass


def encode(records: Sequence[Record]) -> bytes:
    """A shard's file; its columns stand in `detection.bulk.shards`."""
    return b"".join(json.dumps(_row(one), ensure_ascii=False).encode() + b"\n" for one in records)


def errors_in(data: bytes) -> dict[str, str]:
    """Of a shard's file: what is wrong with which image; empty texts for good ones."""
    rows = [json.loads(line) for line in data.splitlines()]
    return {row["file"]: row["error"] or "" for row in rows}


def as_text(name: str) -> str:
    """A file's name as every format can hold it: bytes that are no text are spelt out."""
    return name.encode("utf-8", "backslashreplace").decode()


def _row(one: Record) -> dict[str, Any]:
    row: dict[str, Any] = {"file": as_text(one.name), "width": None, "height": None, "detections": [], "error": None}
    if one.detections is None:
        return row | {"error": one.problem}
    d = one.detections
    height, width = d.image_size
    # A float32 in its own shortest decimals, 0.7599 and not 0.7598999738693237: it reads back as the same float32.
    numbers = np.concatenate([d.scores[:, None], d.boxes], 1).astype(np.float32).astype(str)
    row["detections"] = [
        {"name": name, "class_id": c, "category_id": category}
        | dict(zip(("score", "x1", "y1", "x2", "y2"), map(float, values)))
        for name, c, category, values in zip(d.names, d.class_ids.tolist(), d.categories.tolist(), numbers)
    ]
    return row | {"width": width, "height": height}
