"""Candidates side by side: a process for each, in turns (A B C, then B C A, ...), so that drift meets all alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detection.benchmark.candidates import Candidate
from detection.benchmark.worker import STAGES

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Result:
    """What all rounds of a candidate gave. spans: ms of each timed call, by stage. rounds: each round's median of ms.
    starts: seconds from the start of the process to the first boxes. rates: images a second. peak_mb: the most of all
    rounds. error: why it did not run."""

    candidate: Candidate
    spans: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    starts: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    boxes: int = 0
    error: str = ""
    ap: float | None = None

    def total(self) -> np.ndarray:
        """ms of each call from RGB images in memory to final boxes: resize, network, post-processing."""
        return np.sum([self.spans[stage] for stage in STAGES[1:]], axis=0)

    @property
    def latency(self) -> float:
        """The median over the rounds of each round's median, in ms: one slow round moves it little."""
        return float(np.median(self.rounds))

    def percentile(self, q: float) -> float:
        """ms within which `q` per cent of all calls were done."""
        return float(np.percentile(self.total(), q))

    def stage(self, name: str) -> float:
        """The median of one stage in ms."""
        return float(np.median(self.spans[name]))

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        said: dict[str, Any] = {"candidate": self.candidate.to_dict()}
        if self.error:
            return said | {"error": self.error}
        return said | {
            "ms": {
                "median": self.latency,
                "p50": self.percentile(50),
                "p95": self.percentile(95),
                "p99": self.percentile(99),
            },
            "stages_ms": {stage: self.stage(stage) for stage in STAGES},
            "images_per_second": float(np.median(self.rates)),
            "start_s": float(np.median(self.starts)),
            "peak_mb": self.peak_mb,
            "boxes": self.boxes,
            "rounds_ms": self.rounds,
            "AP": self.ap,
        }


def side_by_side(
    candidates: Sequence[Candidate],
    image: Path,
    rounds: int = 3,
    seconds: float = 3.0,
    runs: int = 200,
    score: float = 0.01,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Result]:
    """Times every candidate in `rounds` processes, each for at most `seconds` and `runs` calls, on one image file.

    A candidate that fails keeps its error and is not tried again. tell: is given a line about each process.
    """
    results = [Result(candidate) for candidate in candidates]
    for number in range(rounds):
        shift = number % len(results)
        for one in results[shift:] + results[:shift]:
            if one.error:
                continue
            _run(one, image, seconds, runs, score)
            c = one.candidate
            what = f"{c.name}, {c.runtime} {c.shown}, {c.threads} threads, batch {c.batch}"
            tell(f"round {number + 1}/{rounds}: {what}: {one.error or f'{one.rounds[-1]:.2f} ms'}")
    return results


def drawn_image(folder: Path) -> Path:
    """A JPEG of 640 x 480 with shapes on it, drawn by chance, the same everywhere."""
    import cv2

    chance = np.random.default_rng(0)
    image = cv2.resize(chance.integers(0, 256, (12, 16, 3), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    for _ in range(40):
        x, y, radius = (int(v) for v in chance.integers((0, 0, 10), (640, 480, 60)))
        cv2.circle(image, (x, y), radius, tuple(int(v) for v in chance.integers(0, 256, 3)), -1)
    path = folder / "image.jpg"
    cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return path


def _run(result: Result, image: Path, seconds: float, runs: int, score: float) -> None:
    threads = str(result.candidate.threads)
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, threads)
    root = str(Path(__file__).resolve().parents[2])  # the package itself, where it is not installed
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory() as folder:
        answer, task = Path(folder) / "answer.json", Path(folder) / "task.json"
        said = {"candidate": result.candidate.to_dict(), "image": str(image.resolve()), "answer": str(answer)}
        task.write_text(json.dumps(said | {"seconds": seconds, "runs": runs, "score": score}), encoding="utf-8")
        command = [sys.executable, "-m", "detection.benchmark.worker", str(task)]
        start = time.time()
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if not answer.exists():
            last = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
            result.error = f"ended with {done.returncode}: {last[:160]}"
            return
        found = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in found:
        result.error = found["error"]
        return
    spans = found["stages"]
    for stage in STAGES:
        result.spans[stage] += spans[stage]
    result.rounds.append(float(np.median(np.sum([spans[stage] for stage in STAGES[1:]], axis=0))))
    result.starts.append(found["first"] - start)
    result.rates.append(found["rate"])
    result.peak_mb = max(result.peak_mb, found["peak_mb"])
    result.boxes = found["boxes"]
