"""What is seen, frame by frame, for other programs: JSON lines and CSV. Steps of the pipeline."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import datetime, timezone

from detection.live.events import Lines
from detection.live.pipeline import Result

COLUMNS = ("source", "frame", "time", "at", "class", "category_id", "score", "x1", "y1", "x2", "y2", "track_id")


def json_lines(source: str, score: float, lines: Lines) -> Callable[[Result], Result]:
    """A step that writes a line for each frame, also for those in which nothing is: {source, frame, time, at,
    image_size, detections: [{name, class_id, score, box, track_id}]}."""

    def step(result: Result) -> Result:
        frame = result.frame
        about = {"source": source, "frame": frame.index, "time": round(frame.time, 3), "at": now()}
        lines.write(json.dumps({**about, **result.detections.above(score).to_dict()}))
        return result

    return step


def csv_lines(source: str, score: float, lines: Lines) -> Callable[[Result], Result]:
    """A step that writes a row for each box: COLUMNS, corners in pixels; track_id is empty where nothing is tracked."""

    def step(result: Result) -> Result:
        detections, frame = result.detections.above(score), result.frame
        at = now()
        for one, found in zip(detections.to_coco(0), detections.to_dict()["detections"]):
            start = (source, frame.index, round(frame.time, 3), at)
            track = found.get("track_id", -1)
            corners = (round(value, 2) for value in found["box"])
            row = (*start, found["name"], one["category_id"], found["score"], *corners, "" if track < 0 else track)
            lines.write(csv_row(row))
        return result

    return step


def csv_row(row: tuple[object, ...]) -> str:
    """A row as text, without its line end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row)
    return text.getvalue()


def now() -> str:
    """ISO 8601, UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
