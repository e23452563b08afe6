"""The process of one candidate: `python -m detection.benchmark.worker TASK ANSWER.json`; both are JSON.

TASK: a candidate, an image file, how many seconds and runs at most, and the score threshold. What is timed, for each
run: decode (file bytes to RGB), resize, network, and everything behind it to final boxes; all for `batch` images.
Then, of our own detectors, the same work as a stream (`detection.stream`), for images a second.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

from detection.benchmark.stages import open_stages
from detection.detector import Detector
from detection.errors import MobileSSDError
from detection.images.decode import decode_image
from detection.stream import detect_stream

STAGES = ("decode", "resize", "network", "post")
WARM_UP = 5
AT_ONCE = 16  # images of one call in the stream


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Times one candidate. Returns {stages: {name: [ms, ...]}, first: time of the first boxes, ...}."""
    candidate, data = task["candidate"], Path(task["image"]).read_bytes()
    batch = candidate["batch"]
    prepare, network, finish, about, detector = open_stages(candidate, task["score"])
    images = [decode_image(data) for _ in range(batch)]
    boxes = finish(network(prepare(images)), images)
    first = time.time()
    for _ in range(WARM_UP):
        finish(network(prepare(images)), images)
    spans: dict[str, list[float]] = {stage: [] for stage in STAGES}
    end = time.perf_counter() + task["seconds"]
    while len(spans["post"]) < task["runs"] and (len(spans["post"]) < 10 or time.perf_counter() < end):
        marks = [time.perf_counter()]
        images = [decode_image(data) for _ in range(batch)]
        marks.append(time.perf_counter())
        ready = prepare(images)
        marks.append(time.perf_counter())
        raw = network(ready)
        marks.append(time.perf_counter())
        finish(raw, images)
        marks.append(time.perf_counter())
        for stage, begin, stop in zip(STAGES, marks, marks[1:]):
            spans[stage].append((stop - begin) * 1e3)
    peak = peak_memory()
    rate = batch * 1e3 / (sum(map(sum, spans.values())) / len(spans["post"]))
    if detector is not None:
        rate = max(rate, stream_rate(detector, data, candidate["threads"], task["seconds"]))
    return {"stages": spans, "first": first, "boxes": boxes, "peak_mb": peak, "rate": rate, "about": about}


def stream_rate(detector: Detector, data: bytes, threads: int, seconds: float) -> float:
    """Images a second from file bytes to boxes, as everything runs that looks at many images."""
    done, begin, end = 0, time.perf_counter(), time.perf_counter() + seconds
    images = itertools.takewhile(lambda k: k < 2 * AT_ONCE or time.perf_counter() < end, itertools.count())
    for _ in detect_stream(detector, images, lambda _: decode_image(data), batch=AT_ONCE, workers=threads):
        done += 1
    return done / (time.perf_counter() - begin)


def peak_memory() -> float:
    """MB of memory that this process held at most."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> int:
    try:
        answer = work(json.loads(sys.argv[1]))
    except MobileSSDError as error:
        answer = {"error": str(error)}
    except Exception as error:  # a runtime that cannot do this network is a finding, and not the end of the others
        answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"}
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
