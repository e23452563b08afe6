"""The curves of an evaluation: each function gives a chart, which chart.py draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from detection.evaluate.curves import ThresholdCurve
from detection.evaluate.matches import RECALLS
from detection.evaluate.report.chart import BLUE, GREEN, INK, LINE, MUTED, ORANGE, SERIES, Chart

MOST_IN_CONFUSION = 20  # classes that one can read in a matrix


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


def _unit_square(axes: Any, x: str, y: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=x, ylabel=y)
    draw_legend(axes)


def draw_legend(axes: Any) -> None:
    """The legend above the plot, in as many columns as its names allow."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = 3 if len(handles) > 4 or max(map(len, labels)) > 12 else len(handles)
        axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, borderaxespad=0.2)


def short(name: str, most: int = 22) -> str:
    """A class name for a plot: one line, not too long, and not with the first letter that hides a legend's entry."""
    name = " ".join(name.split()) or "(no name)"
    name = name if len(name) <= most else name[: most - 1] + "…"
    return f" {name}" if name.startswith("_") else name
