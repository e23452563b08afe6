"""The process of one candidate: `python -m detection.benchmark.worker TASK ANSWER.json`; both are JSON.

TASK: a candidate, an image file, how many seconds and runs at most, and the score threshold. What is timed, for each
run: decode (file bytes to RGB), resize, network, and everything behind it to final boxes; all for `batch` images.
Then the same work as a pipeline, which decodes and finishes in threads beside the network, for images a second.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from detection.benchmark.stages import open_stages
from detection.errors import MobileSSDError
from detection.images.decode import decode_image

STAGES = ("decode", "resize", "network", "post")
WARM_UP = 5
AT_ONCE = 16  # images of one call in the pipeline


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Times one candidate. Returns {stages: {name: [ms, ...]}, first: time of the first boxes, ...}."""
    candidate, data = task["candidate"], Path(task["image"]).read_bytes()
    batch = candidate["batch"]
    prepare, network, finish, about = open_stages(candidate, task["score"])
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
    if candidate["kind"] == "ours":
        rate = max(rate, pipeline(data, prepare, network, finish, candidate["threads"], task["seconds"]))
    return {"stages": spans, "first": first, "boxes": boxes, "peak_mb": peak, "rate": rate, "about": about}


def pipeline(
    data: bytes, prepare: Callable, network: Callable, finish: Callable, threads: int, seconds: float
) -> float:
    """Images a second from file bytes to boxes, decoded and finished in `threads` threads beside the network."""

    def read() -> tuple[Any, Any]:
        image = decode_image(data)
        return prepare([image]), image

    def end(raw: Any, images: list) -> None:
        finish(raw, images)

    with ThreadPoolExecutor(threads) as pool:
        waiting = deque(pool.submit(read) for _ in range(2 * AT_ONCE))
        ending: deque[Future] = deque()
        done, begin = 0, time.perf_counter()
        while done < 2 * AT_ONCE or time.perf_counter() - begin < seconds:
            group = [waiting.popleft().result() for _ in range(AT_ONCE)]
            waiting.extend(pool.submit(read) for _ in range(AT_ONCE))
            raw = network(np.concatenate([one[0] for one in group]))
            for k, (_, image) in enumerate(group):
                ending.append(pool.submit(end, [output[k : k + 1] for output in raw], [image]))
            while len(ending) > AT_ONCE:
                ending.popleft().result()
            done += AT_ONCE
        for future in ending:
            future.result()
        spent = time.perf_counter() - begin
        for future in waiting:
            future.cancel()
    return done / spent


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
