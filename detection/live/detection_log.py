"""What is seen, frame by frame, for other programs: a step of the pipeline that hands it to an output."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from detection.live.pipeline import Result
from detection.outputs import Output, Record


def logged(source: str, score: float, output: Output) -> Callable[[Result], Result]:
    """A step that adds each frame of `source` to `output`, with its boxes of at least `score`."""

    def step(result: Result) -> Result:
        frame = result.frame
        output.add(Record(source, result.detections.above(score), frame=frame.index, time=frame.time, at=now()))
        return result

    return step


def now() -> str:
    """ISO 8601, UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
