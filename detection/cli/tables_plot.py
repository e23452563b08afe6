"""Figures 4 and 5 of the V1 paper, and the detectors: published accuracy against what we count.

Three panels in one plot: ImageNet top-1 against multiply-adds, log-linear (figure 4); top-1 against parameters, coloured
by input size (figure 5); COCO AP against multiply-adds. Accuracies are the printed ones of `tables_published`, costs ours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from detection.cli.tables_count import classifier_cost, detector_cost
from detection.cli.tables_published import DETECTORS, V1, V2, V3, ClassifierRow, Printed
from detection.evaluate.report.chart import BLUE, GREEN, INK, MUTED, ORANGE, SERIES, Chart, need_matplotlib, write_chart

FAMILIES = (("V1", BLUE, "o"), ("V2", ORANGE, "s"), ("V3", GREEN, "^"))
SIZES = (224, 192, 160, 128, 96)


@dataclass(frozen=True)
class Point:
    """A published accuracy in percent, with our counts. group: the family, or the split that an AP was measured on."""

    name: str
    group: str
    size: int
    params: int
    madds: int
    score: float


@dataclass(frozen=True)
class Fit:
    """score = slope * log10(multiply-adds) + intercept, by least squares. residual: its root mean square, in points of
    accuracy; worst: the largest, and the point that has it."""

    slope: float
    intercept: float
    residual: float
    worst: float
    at: str


def classifiers() -> list[Point]:
    """V1 and V2 over alpha and input size with slim's top-1 (the same recipe for all), and V3."""
    points = []
    for family, rows in (("V1", V1), ("V2", V2), ("V3", V3)):
        for row in rows:
            score = _top1(row)
            if score is None or family == "V1" and row.name != "mobilenet_v1":
                continue
            if family == "V3" and not row.name.startswith("mobilenet_v3"):
                continue
            cost = classifier_cost(row.name, row.size, row.classes, tuple(row.options.items()))
            name = f"{family} {row.options.get('alpha', 1.0)}-{row.size}"
            points.append(Point(name, family, row.size, cost.params, cost.madds, score))
    return points


def _top1(row: ClassifierRow) -> float | None:
    """The float top-1 of slim's column, or of the row's only source; None where nothing of the kind is printed."""
    of_slim = [each for each in row.printed if each.score and each.where in ("", "slim", "V3 paper")]
    if row.options.get("shallow") or not of_slim:
        return None
    return _first_number(of_slim[-1])


def _first_number(printed: Printed) -> float:
    found = re.match(r"[\d.]+", printed.score)
    assert found, printed
    return float(found.group())


def detectors() -> list[Point]:
    """Every row of the detector table that has a COCO AP, by where it was printed: each source has its own split."""
    points = []
    for row in DETECTORS:
        for printed in row.printed:
            if not printed.score or "VOC" in printed.score or row.parts:
                continue
            spec, cost, _ = detector_cost(row.name, row.columns, tuple(row.options.items()), row.six)
            group, alpha = printed.where.partition(",")[0], row.options.get("alpha")
            name = f"{row.name} {alpha:g}" if alpha else row.name
            points.append(Point(name, group, spec.input.size[0], cost.params, cost.madds, _first_number(printed)))
    return points


def fit(points: Sequence[Point]) -> Fit:
    """The straight line through accuracy over the logarithm of multiply-adds."""
    x, y = np.log10([point.madds for point in points]), np.array([point.score for point in points])
    slope, intercept = np.polyfit(x, y, 1)
    off = y - (slope * x + intercept)
    worst = int(np.abs(off).argmax())
    return Fit(slope, intercept, math.sqrt(float((off**2).mean())), float(off[worst]), points[worst].name)


def draw(path: Path) -> list[str]:
    """Writes the plot to `path` (.png, .svg or .pdf), atomically, and returns what the fits say, a line each.

    MissingPackageError without matplotlib."""
    need_matplotlib()
    points, found = classifiers(), detectors()
    families = [[point for point in points if point.group == family] for family in ("V1", "V2")]
    fits = dict(zip(("V1", "V2"), map(fit, families)))
    wide = fit([point for point in families[0] if not point.name.startswith("V1 0.25")])
    chart = Chart("papers", "Accuracy against cost", "", partial(_draw, points, found, fits), size=(12.5, 4.2))
    write_chart(chart, path)
    named = [*fits.items(), ("V1 without alpha 0.25", wide)]
    return [
        f"{name}: top-1 = {line.slope:.1f} log10(multiply-adds) {line.intercept:+.1f}; residual {line.residual:.2f} points"
        f" (root mean square), at most {line.worst:+.2f} at {line.at}"
        for name, line in named
    ]


def _draw(points: Sequence[Point], found: Sequence[Point], fits: dict[str, Fit], figure: Any) -> None:
    left, middle, right = figure.subplots(1, 3)
    _draw_computation(left, points, fits)
    _draw_parameters(middle, points)
    _draw_detectors(right, found)


def _draw_computation(axes: Any, points: Sequence[Point], fits: dict[str, Fit]) -> None:
    axes.set_title("Figure 4: computation", color=INK, fontsize=10, loc="left")
    for family, color, marker in FAMILIES:
        mine = [point for point in points if point.group == family]
        axes.plot(*_columns(mine, "madds"), marker, color=color, markersize=4.5, label=f"MobileNet {family}")
        if family in fits:
            line, ends = fits[family], [min(p.madds for p in mine), max(p.madds for p in mine)]
            values = [line.slope * math.log10(end) + line.intercept for end in ends]
            label = f"log-linear, residual {line.residual:.1f}"
            axes.plot([end / 1e6 for end in ends], values, color=color, linewidth=1, linestyle="--", label=label)
    _logarithmic(axes, "million multiply-adds", (10, 20, 50, 100, 200, 500))
    axes.set_ylabel("ImageNet top-1, %")
    axes.legend(loc="lower right")


def _draw_parameters(axes: Any, points: Sequence[Point]) -> None:
    axes.set_title("Figure 5: parameters", color=INK, fontsize=10, loc="left")
    for size, color in zip(SIZES, SERIES):
        for family, _, marker in FAMILIES:
            mine = [point for point in points if (point.group, point.size) == (family, size)]
            axes.plot(*_columns(mine, "params"), marker, color=color, markersize=4.5)
        axes.plot([], [], "o", color=color, markersize=4.5, label=f"input {size}")
    _logarithmic(axes, "million parameters", (0.5, 1, 2, 3, 4, 6))
    axes.legend(loc="lower right", title="shapes as on the left", title_fontsize=8)


def _draw_detectors(axes: Any, found: Sequence[Point]) -> None:
    axes.set_title("Detectors: never compare two splits", color=INK, fontsize=10, loc="left")
    for place, group in enumerate(dict.fromkeys(point.group for point in found)):
        mine = [point for point in found if point.group == group]
        color, marker = SERIES[place % len(SERIES)], "os^D"[place % 4]
        axes.plot(*_columns(mine, "madds"), marker, color=color, markersize=4.5, label=group)
    _logarithmic(axes, "million multiply-adds", (200, 500, 1000, 5000, 35000, 100000))
    axes.set_xlim(120, 150000)
    axes.set_ylabel("COCO AP, %")
    _label(axes, found)
    axes.legend(loc="lower right")


def _label(axes: Any, found: Sequence[Point]) -> None:
    """Writes names beside points: on the first of five places where one covers no other name and no point."""
    axes.figure.draw_without_rendering()  # so that the axes know their place
    scale = axes.figure.dpi / 72
    high, wide = 6.5 * scale, 3.3 * scale  # of a line and of a letter, in pixels
    spots = [axes.transData.transform((point.madds / 1e6, point.score)) for point in found]
    near = 3 * scale
    taken = [(x - near, y - near, x + near, y + near) for x, y in spots]
    for point, (x, y) in zip(found, spots):
        name = point.name.replace("mobilenet_", "").replace("_", " ")
        long = wide * len(name)
        sides = ((5, -2, "left"), (-5, -2, "right"), (0, 5, "center"), (0, -10, "center"), (0, -17, "center"))
        boxes = []
        for dx, dy, align in sides:
            left = x + dx * scale - {"left": 0.0, "right": long, "center": long / 2}[align]
            boxes.append((left, y + dy * scale, left + long, y + dy * scale + high))
        inside = axes.bbox
        free = [
            not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in taken)
            and inside.x0 <= a[0] and a[2] <= inside.x1
            for a in boxes
        ]  # fmt: skip
        if True not in free:
            continue  # where points crowd, the names around say enough; the page has all figures
        side = free.index(True)
        taken.append(boxes[side])
        dx, dy, align = sides[side]
        axes.annotate(
            name,
            (point.madds / 1e6, point.score),
            (dx, dy),
            textcoords="offset points",
            ha=align,
            fontsize=6,
            color=MUTED,
        )


def _columns(points: Sequence[Point], cost: str) -> tuple[list[float], list[float]]:
    return [getattr(point, cost) / 1e6 for point in points], [point.score for point in points]


def _logarithmic(axes: Any, label: str, ticks: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
    axes.minorticks_off()
