"""The curves of a training and of an evaluation: each function gives charts that `chart.save` draws. See chart.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detection.evaluate.curves import ThresholdCurve
from detection.evaluate.matches import RECALLS
from detection.train.report.chart import BLUE, GREEN, INK, LINE, MUTED, ORANGE, SERIES, Chart

LOSSES = ("loss", "classification", "localisation", "distillation")  # keys of history rows; the first is their sum
MOST_IN_CONFUSION = 20  # classes that one can read in a matrix


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


def precision_recall_chart(curves: np.ndarray, names: Sequence[str]) -> Chart:
    """curves: float64 [C, 101], precision of each class at COCO's recalls; nan rows are left out."""
    few = int((~np.isnan(curves[:, 0])).sum()) <= len(SERIES)
    note = "IoU 0.5. The area under a curve is that class's AP50; bold: the mean of all classes."
    return Chart(
        "pr_curves",
        "Precision and recall",
        note if few else note + " Each thin line is a class.",
        lambda figure: _draw_precision_recall(figure, curves, names),
    )


def threshold_chart(curve: ThresholdCurve, threshold: float) -> Chart:
    """Precision, recall and F1 against the score threshold; `threshold`, if not nan, is marked."""
    note = "IoU 0.5, all classes together. A line marks the threshold of the images below."
    return Chart("thresholds", "Choice of threshold", note, lambda f: _draw_threshold(f, curve, threshold))


def confusion_chart(matrix: np.ndarray, names: Sequence[str]) -> Chart:
    """matrix: int64 [C + 1, C + 1] of `outcomes.confusion_matrix`. Of more than 20 classes only the most confused."""
    shown, labels, columns, counts = _most_confused(matrix, names)
    side = 0.26 * len(shown)
    note = "Each row is what objects of one class were called, in percent of them; in brackets how many there are."
    if len(names) > MOST_IN_CONFUSION:
        note += f" The {len(labels) - 1} most confused of {len(names)} classes."
    return Chart(
        "confusion",
        "Confusion",
        note,
        lambda figure: _draw_confusion(figure, shown, labels, columns, counts),
        size=(max(4.6, 2.4 + side * 1.25), max(2.6, 1.4 + side)),
        wide=len(names) > 8,
    )


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


def _draw_precision_recall(figure: Any, curves: np.ndarray, names: Sequence[str]) -> None:
    axes = figure.add_subplot()
    present = np.flatnonzero(~np.isnan(curves[:, 0]))
    few = len(present) <= len(SERIES)
    for position, k in enumerate(present.tolist()):
        line = (
            {"color": SERIES[position], "linewidth": 1.2} if few else {"color": MUTED, "linewidth": 0.5, "alpha": 0.4}
        )
        axes.plot(RECALLS, curves[k], label=f"{short(names[k])}  {curves[k].mean():.2f}" if few else None, **line)
    if len(present) > 1:
        mean = curves[present].mean(0)
        color = INK if few else BLUE
        axes.plot(RECALLS, mean, color=color, linewidth=2.6, label=f"mean of {len(present)}  {mean.mean():.2f}")
    _unit_square(axes, "recall", "precision")


def _draw_threshold(figure: Any, curve: ThresholdCurve, threshold: float) -> None:
    axes = figure.add_subplot()
    for name, values, color in (
        ("precision", curve.precision, BLUE),
        ("recall", curve.recall, ORANGE),
        ("F1", curve.f1, GREEN),
    ):
        axes.plot(curve.scores, values, color=color, label=name, linewidth=2.2 if name == "F1" else 1.4)
    if math.isfinite(threshold):
        axes.axvline(threshold, color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
        right = threshold > 0.8
        place = {"textcoords": "offset points", "ha": "right" if right else "left", "va": "bottom", "fontsize": 8}
        axes.annotate(f"{threshold:.2f}", (threshold, 0.01), (-4 if right else 4, 0), **place)
    _unit_square(axes, "score threshold", "")


def _draw_confusion(
    figure: Any, shares: np.ndarray, labels: Sequence[str], columns: Sequence[str], counts: Sequence[int]
) -> None:
    from matplotlib.colors import to_rgb

    axes = figure.add_subplot()
    rows, width = shares.shape
    cells = np.ones((rows, width, 4))
    cells[..., :3] = to_rgb(ORANGE)
    cells[np.arange(rows - 1), np.arange(rows - 1), :3] = to_rgb(BLUE)
    cells[..., 3] = np.nan_to_num(shares)
    axes.pcolormesh(cells, edgecolors=LINE, linewidth=0.5)
    least = 0.005 if rows <= 12 else 0.03
    for r, c in zip(*np.nonzero(np.nan_to_num(shares) >= least)):
        ink = "white" if shares[r, c] > 0.6 else INK
        axes.text(c + 0.5, r + 0.5, f"{100 * shares[r, c]:.0f}", ha="center", va="center", fontsize=7, color=ink)
    names = [f"{short(label)} ({count})" for label, count in zip(labels, counts)]
    axes.set_xticks(np.arange(width) + 0.5, [short(name) for name in columns], rotation=90 if width > 8 else 40)
    if width <= 8:
        for text in axes.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(rows) + 0.5, names)
    axes.invert_yaxis()
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("called")
    axes.set_ylabel("is")


def _most_confused(matrix: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str], list[str], list[int]]:
    """(shares of each row [R, R + 0 or 1], row labels, column labels, row counts) of what is shown of a confusion."""
    classes = len(names)
    between = matrix[:-1, :-1] - np.diag(np.diag(matrix)[:-1])
    order = np.lexsort((-matrix[:-1].sum(1), -(between.sum(0) + between.sum(1))))
    chosen = np.sort(order[:MOST_IN_CONFUSION])
    counts = matrix.sum(1)
    rows: np.ndarray = np.append(chosen, classes)
    kept = matrix[rows]
    parts = [kept[:, chosen]]
    columns = [names[k] for k in chosen]
    if len(chosen) < classes:
        parts.append(kept[:, :classes].sum(1, keepdims=True) - parts[0].sum(1, keepdims=True))
        columns.append("another class")
    parts.append(kept[:, classes:])
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.concatenate(parts, 1) / counts[rows][:, None]
    labels = [names[k] for k in chosen] + ["nothing there"]
    return shares, labels, [*columns, "missed"], counts[rows].tolist()


def _finish(axes: Any, history: Sequence[Mapping[str, Any]], legend: bool = True) -> None:
    axes.set_xlabel("images seen" if any("images" in row for row in history) else "step")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}")
    axes.set_xlim(left=0)
    if legend:
        _legend(axes)


def _unit_square(axes: Any, x: str, y: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=x, ylabel=y)
    _legend(axes)


def _legend(axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = 3 if len(handles) > 4 or max(map(len, labels)) > 12 else len(handles)
        axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, borderaxespad=0.2)


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


def short(name: str, most: int = 22) -> str:
    """A class name for a plot: one line, not too long, and not with the first letter that hides a legend's entry."""
    name = " ".join(name.split()) or "(no name)"
    name = name if len(name) <= most else name[: most - 1] + "…"
    return f" {name}" if name.startswith("_") else name
