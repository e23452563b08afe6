"""Results of a benchmark for people: a table, and a plot of latency against AP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detection.benchmark.measure import Result

HEAD = ["weights", "runtime", "precision", "threads", "batch", "p50", "p95", "p99"]
HEAD += ["decode", "resize", "network", "post", "images/s", "start s", "MB"]


def table(results: Sequence[Result]) -> str:
    """The results as lines of text, the fastest first within each batch size; what failed comes last, with why."""
    good = sorted((r for r in results if not r.error), key=lambda r: (r.candidate.batch, r.latency))
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
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [
        "  ".join(w.ljust(n) if k < 3 else w.rjust(n) for k, (w, n) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    failed = [f"not timed: {r.candidate.name}, {r.candidate.runtime}: {r.error}" for r in results if r.error]
    return "\n".join(lines + failed)


def clock(score: float, image: str) -> str:
    """What the figures mean, in words."""
    return (
        f"ms of one call on {image}, from RGB in memory to final boxes (resize, network, decoding, NMS at 0.6, floor "
        f"{score:g}, 100 boxes);\np50: median over the rounds of each round's median. images/s: from file bytes to "
        "boxes, decoding and finishing beside the network.\nstart: process start to first boxes."
    )


def plot(results: Sequence[Result], path: Path) -> None:
    """Latency against AP, one point for each candidate of batch 1 that has both: an image file (.png, .svg, .pdf)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from detection.files import atomic_write

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for name in dict.fromkeys(r.candidate.name for r in results):
        points = [r for r in results if r.candidate.name == name and not r.error and r.ap is not None]
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
