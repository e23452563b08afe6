"""The timings of detectors for people: a table, what its figures mean, and a plot of latency against AP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detection.benchmark.harness import table
from detection.benchmark.timing import Timing

HEAD = ["weights", "runtime", "precision", "threads", "batch", "p50", "p95", "p99"]
HEAD += ["decode", "resize", "network", "post", "images/s", "start s", "MB"]


def timing_table(timings: Sequence[Timing]) -> str:
    """The timings as lines of text, the fastest first within each batch size; what failed comes last, with why."""
    good = sorted((r for r in timings if not r.error), key=lambda r: (r.candidate.batch, r.latency))
    with_ap = any(r.ap is not None for r in good)
    rows = [[*HEAD, "AP"] if with_ap else [*HEAD]]
    for r in good:
        c = r.candidate
        numbers = [r.latency, r.percentile(95), r.percentile(99)]
        stages = [r.stage(stage) for stage in r.spans]
        row = [c.name, c.runtime, c.shown, str(c.threads), str(c.batch)]
        row += [f"{v:.2f}" for v in numbers + stages]
        row += [f"{np.median(r.rates):.1f}", f"{np.median(r.starts):.2f}", f"{r.peak_mb:.0f}"]
        rows.append(row + ([f"{r.ap:.3f}" if r.ap is not None else "-"] if with_ap else []))
    failed = [f"not timed: {r.candidate.name}, {r.candidate.runtime}: {r.error}" for r in timings if r.error]
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
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from detection.files import atomic_write

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for name in dict.fromkeys(r.candidate.name for r in timings):
        points = [r for r in timings if r.candidate.name == name and not r.error and r.ap is not None]
        points = [r for r in points if r.candidate.batch == 1]
        if not points:
            continue
        axes.scatter([r.latency for r in points], [r.ap for r in points], label=name, s=28)
        for r in points:
            words = f"{r.candidate.runtime} {r.candidate.shown}, {r.candidate.threads}"
            axes.annotate(words, (r.latency, r.ap or 0), (4, 3), textcoords="offset points", fontsize=7)
    axes.set_xlabel("median ms, batch 1 (resize, network, NMS)")
    axes.set_ylabel("COCO AP")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix[1:] or "png")
    pyplot.close(figure)
