"""Candidates timed side by side by the harness, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detection.benchmark.candidates import Candidate
from detection.benchmark.harness import Program, Run, Series, side_by_side
from detection.benchmark.worker import STAGES


@dataclass
class Timing:
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

    @classmethod
    def of(cls, candidate: Candidate, series: Series) -> Timing:
        """What the worker answered in all its rounds."""
        timing = cls(candidate, error=series.error)
        for run in series.runs:
            for stage in STAGES:
                timing.spans[stage] += run.answer["stages"][stage]
            timing.rounds.append(_median(run))
            timing.starts.append(run.answer["first"] - run.started)
            timing.rates.append(run.answer["rate"])
            timing.peak_mb = max(timing.peak_mb, run.answer["peak_mb"])
            timing.boxes = run.answer["boxes"]
        return timing

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


def time_detectors(
    candidates: Sequence[Candidate],
    image: Path,
    rounds: int = 3,
    seconds: float = 3.0,
    runs: int = 200,
    score: float = 0.01,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Timing]:
    """Times every candidate in `rounds` processes, each for at most `seconds` and `runs` calls, on one image file.

    A candidate that fails keeps its error and is not tried again. tell: is given a line about each process.
    """
    task = {"image": str(image.resolve()), "seconds": seconds, "runs": runs, "score": score}
    programs = []
    for candidate in candidates:
        command = ("-m", "detection.benchmark.worker", json.dumps(task | {"candidate": candidate.to_dict()}), "OUT")
        programs.append(Program(str(candidate), command, candidate.threads))

    def told(number: str, series: Series) -> None:
        tell(f"{number}: {series.program.name}: {series.error or f'{_median(series.runs[-1]):.2f} ms'}")

    measured = side_by_side(programs, rounds, warm_up=False, go_on=True, tell=told)
    return [Timing.of(candidate, series) for candidate, series in zip(candidates, measured)]


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


def _median(run: Run) -> float:
    """The median of one round in ms, decoding left out."""
    return float(np.median(np.sum([run.answer["stages"][stage] for stage in STAGES[1:]], axis=0)))
