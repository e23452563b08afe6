"""What a training adds to the report: the curves of its history, and a few numbers of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detection.evaluate.report.chart import BLUE, SERIES, Chart
from detection.evaluate.report.plots import draw_legend
from detection.evaluate.report.write import ChartSection

LOSSES = ("loss", "classification", "localization", "distillation")  # keys of history rows; the first is their sum


def training_section(history: Sequence[Mapping[str, Any]]) -> ChartSection:
    """The section of the report, for `write_report`. history: rows as in `history_charts`."""
    return ChartSection("Training", history_charts(history), "In numbers", _facts(history))


def history_charts(history: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Loss, learning rate and mAP against the images seen; those for which `history` has values.

    history: a dict for each line of the log, with some of: images (seen so far), step, loss and its parts (LOSSES),
    lr, and for evaluations AP, AP50, AP75. Values that are missing or not finite are left out.
    """
    charts = []
    if any(len(_series(history, key)[0]) for key in LOSSES):
        charts.append(Chart("loss", "Loss", "Faint: as logged. Bold: smoothed.", lambda f: _draw_loss(f, history)))
    if len(_series(history, "AP")[0]):
        note = "On the images that chose the best weights, at each evaluation. The dot is the best."
        charts.append(Chart("map", "mAP", note, lambda f: _draw_map(f, history)))
    if len(_series(history, "lr")[0]):
        charts.append(Chart("learning_rate", "Learning rate", "", lambda f: _draw_rate(f, history)))
    return charts


def _draw_loss(figure: Any, history: Sequence[Mapping[str, Any]]) -> None:
    axes = figure.add_subplot()
    highest = []
    for key, color in zip(LOSSES, SERIES):
        x, y = _series(history, key)
        if not y.any():  # a part that this training does not have
            continue
        smooth = _smooth(y)
        axes.plot(x, y, color=color, alpha=0.25, linewidth=0.8)
        axes.plot(x, smooth, color=color, label=key if key != "loss" else "sum", marker="." if len(x) == 1 else "")
        highest.append(max(np.percentile(y, 98), smooth[-1]))
    axes.set_ylim(0, 1.1 * max(highest, default=0.0) or 1.0)  # the first steps' peak would hide the rest
    _finish(axes, history)


def _draw_map(figure: Any, history: Sequence[Mapping[str, Any]]) -> None:
    axes = figure.add_subplot()
    for key, color in zip(("AP", "AP50", "AP75"), SERIES):
        x, y = _series(history, key)
        if len(x):
            axes.plot(x, y, color=color, label=key, marker="o", markersize=2.5)
            if key == "AP":
                best = int(y.argmax())
                axes.plot(x[best], y[best], "o", color=color, markersize=7)
                axes.annotate(
                    f"{y[best]:.3f}", (x[best], y[best]), (0, -14), textcoords="offset points", ha="center", fontsize=8
                )
    axes.set_ylim(0, min(1.0, 1.15 * axes.get_ylim()[1]))
    _finish(axes, history)


def _draw_rate(figure: Any, history: Sequence[Mapping[str, Any]]) -> None:
    axes = figure.add_subplot()
    axes.plot(*_series(history, "lr"), color=BLUE)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    _finish(axes, history, legend=False)


def _finish(axes: Any, history: Sequence[Mapping[str, Any]], legend: bool = True) -> None:
    axes.set_xlabel("images seen" if any("images" in row for row in history) else "step")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}")
    axes.set_xlim(left=0)
    if legend:
        draw_legend(axes)


def _series(history: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """(images seen [n], value [n]) of the rows that have a finite number under `key`."""
    points = [
        (row.get("images", row.get("step", index)), row[key])
        for index, row in enumerate(history)
        if isinstance(row.get(key), (int, float)) and math.isfinite(row[key])
    ]
    x, y = np.array(points, np.float64).reshape(-1, 2).T
    return x, y


def _smooth(values: np.ndarray) -> np.ndarray:
    """A centred running mean over a twentieth of the curve; narrower towards its ends, so that it never lags behind."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    reach = np.minimum(len(values) // 40, np.minimum(at, at[::-1]))
    return (total[at + reach + 1] - total[at - reach]) / (2 * reach + 1)


def _facts(history: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What the log says in a few words."""
    last: dict[str, Any] = {}
    for row in history:
        last |= {key: value for key, value in row.items() if value is not None}
    scored = [row for row in history if isinstance(row.get("AP"), (int, float)) and math.isfinite(row["AP"])]
    best = max(scored, key=lambda row: row["AP"], default=None)
    speeds = [row["images_per_second"] for row in history if row.get("images_per_second")]
    return {
        "images seen": f"{last['images']:,}" if "images" in last else "",
        "steps": f"{last['step']:,}" if "step" in last else "",
        "best": f"AP {best['AP']:.3f} after {best.get('images', best.get('step', 0)):,}" if best else "",
        "time": _duration(last["seconds"]) if "seconds" in last else "",
        "speed": f"{np.median(speeds):.1f} images/s (median)" if speeds else "",
    }


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
