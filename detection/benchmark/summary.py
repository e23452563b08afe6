"""The timings of detectors for people: a table, what its figures mean, and a plot of latency against AP."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from detection.benchmark.harness import table
from detection.benchmark.timing import Timing
from detection.evaluate.report.chart import SERIES, Chart, write_chart

HEAD = ["weights", "runtime", "precision", "threads", "batch", "p50", "p95", "p99"]
HEAD += ["decode", "resize", "network", "post", "images/s", "start s", "MB"]


def timing_table(timings: Sequence[Timing]) -> str:
    """The timings as lines of text, the fastest first within each batch size; what failed comes last, with why."""
    good = sorted((t for t in timings if not t.error), key=lambda t: (t.candidate.batch, t.latency))
    with_ap = any(t.ap is not None for t in good)
    rows = [[*HEAD, "AP"] if with_ap else [*HEAD]]
    for t in good:
        c = t.candidate
        numbers = [t.latency, t.percentile(95), t.percentile(99)]
        stages = [t.stage(stage) for stage in t.spans]
        row = [c.name, c.runtime, c.shown, str(c.threads), str(c.batch)]
        row += [f"{v:.2f}" for v in numbers + stages]
        row += [f"{np.median(t.rates):.1f}", f"{np.median(t.starts):.2f}", f"{t.peak_mb:.0f}"]
        rows.append(row + ([f"{t.ap:.3f}" if t.ap is not None else "-"] if with_ap else []))
    failed = [f"not timed: {t.candidate.name}, {t.candidate.runtime}: {t.error}" for t in timings if t.error]
    return "\n".join([table(rows, left=3), *failed])


def explanation(score: float, image: str) -> str:
    """What the figures mean, in words."""
    return (
        f"ms: one call on {image}, from RGB in memory to final boxes (resize, network, decoding, NMS at 0.6, score "
        f"threshold {score:g}, 100 boxes).\np50: the median over the rounds of each round's median. images/s: from file "
        "bytes to boxes, decoding and finishing beside the network.\nstart: from the start of the process to the first "
        "boxes."
    )


def plot(timings: Sequence[Timing], path: Path) -> None:
    """Latency against AP, one point for each candidate of batch 1 that has both: an image file (.png, .svg, .pdf)."""
    write_chart(Chart(path.stem, "", "", lambda figure: _draw(figure, timings), size=(7, 4.5)), path)


def _draw(figure: Any, timings: Sequence[Timing]) -> None:
    axes = figure.add_subplot()
    points = [t for t in timings if not t.error and t.ap is not None and t.candidate.batch == 1]
    for name, color in zip(dict.fromkeys(t.candidate.name for t in points), cycle(SERIES)):
        same = [t for t in points if t.candidate.name == name]
        axes.scatter([t.latency for t in same], [t.ap for t in same], label=name, s=28, color=color)
        for t in same:
            words = f"{t.candidate.runtime} {t.candidate.shown}, {t.candidate.threads}"
            axes.annotate(words, (t.latency, t.ap or 0), (4, 3), textcoords="offset points", fontsize=7)
    axes.set(xlabel="median ms, batch 1 (resize, network, NMS)", ylabel="COCO AP")
    axes.legend()
