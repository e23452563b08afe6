"""Which boxes of a data set a network's anchors can match at all.

A box that no anchor overlaps by half is matched only by force, to an anchor that hardly sees it: the commonest reason
why small objects are missed (tensorflow/models#3196, qfgaohao/pytorch-ssd#128). Better known before training than
after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from detection.boxes.geometry import iou_matrix, to_xyxy
from detection.data.dataset import DetectionData

EDGES = (0, 8, 16, 32, 64, 128, np.inf)  # side (square root of the area) in pixels of the input


@dataclass(frozen=True)
class Row:
    """One line of the table. boxes: how many (of the sample); reached: share with an anchor of IoU >= the threshold;
    reached_centred: the same if an anchor were placed exactly on each box, that is, by size and shape alone."""

    name: str
    boxes: int
    reached: float
    reached_centred: float


@dataclass(frozen=True)
class Coverage:
    """Share of boxes that the anchors can match, in all, by size and by class. `best`: IoU [n] of the sampled boxes."""

    total: Row
    by_size: list[Row]
    by_class: list[Row]
    threshold: float
    input_size: tuple[int, int]
    smallest_anchor: float
    advice: list[str]
    best: np.ndarray = field(repr=False)

    def lines(self) -> list[str]:
        """For people: the total, a table by size, the worst classes, the advice."""
        height, width = self.input_size
        text = [
            f"anchors at {width} x {height}: {1 - self.total.reached:.1%} of the boxes have no anchor with IoU >= "
            f"{self.threshold:g} ({1 - self.total.reached_centred:.1%} even if one were placed on the box)"
        ]
        text.append(f"  {'side in input pixels':<22}{'boxes':>9}{'reached':>10}{'by size alone':>15}")
        for row in self.by_size:
            text.append(f"  {row.name:<22}{row.boxes:>9,}{row.reached:>10.1%}{row.reached_centred:>15.1%}")
        worst = [row for row in self.by_class if row.reached < min(0.8, self.total.reached)][:5]
        if worst:
            text.append("  hardest classes: " + ", ".join(f"{row.name} {row.reached:.0%}" for row in worst))
        return text + [f"  {line}" for line in self.advice]

    def to_dict(self) -> dict:
        return {
            "input_size": list(self.input_size),
            "threshold": self.threshold,
            "smallest_anchor": self.smallest_anchor,
            "total": asdict(self.total),
            "by_size": [asdict(row) for row in self.by_size],
            "by_class": [asdict(row) for row in self.by_class],
            "advice": self.advice,
        }


def coverage(
    data: DetectionData,
    anchors: np.ndarray,
    input_size: tuple[int, int],
    threshold: float = 0.5,
    most: int = 20_000,
) -> Coverage:
    """Best IoU between each box and the anchors float32 [A, 4] (cxcywh, fractions of the input), whole images
    stretched to `input_size` (height, width). Of more than `most` boxes a fixed random sample is taken."""
    rows = np.flatnonzero(data.targets)
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
    sizes = data.sizes[data.owners()[rows]][:, [1, 0, 1, 0]].astype(np.float32)
    boxes = data.boxes[rows] / np.maximum(sizes, 1)
    best = best_overlap(boxes, anchors)
    centred = _best_centred(boxes[:, 2:] - boxes[:, :2], np.unique(anchors[:, 2:].round(6), axis=0))
    labels = data.labels[rows]
    side = np.sqrt(np.prod((boxes[:, 2:] - boxes[:, :2]) * np.array(input_size[::-1], np.float32), 1))

    def row(name: str, mask: np.ndarray) -> Row:
        number = int(mask.sum())
        if not number:
            return Row(name, 0, 1.0, 1.0)
        hit, hit_centred = (best[mask] >= threshold).mean(), (centred[mask] >= threshold).mean()
        return Row(name, number, float(hit), float(hit_centred))

    by_size = [row(_range(low, high), (side >= low) & (side < high)) for low, high in zip(EDGES, EDGES[1:])]
    by_class = [row(name, labels == i) for i, name in enumerate(data.class_names)]
    total = row("all", np.ones(len(rows), bool))
    smallest = float(np.sqrt(anchors[:, 2:].prod(1).min() * input_size[0] * input_size[1]))
    return Coverage(
        total=total,
        by_size=[entry for entry in by_size if entry.boxes],
        by_class=sorted((entry for entry in by_class if entry.boxes), key=lambda entry: entry.reached),
        threshold=threshold,
        input_size=input_size,
        smallest_anchor=smallest,
        advice=_advice(total, side, best < threshold, centred < threshold, smallest),
        best=best,
    )


def best_overlap(boxes: np.ndarray, anchors: np.ndarray, chunk: int = 1024) -> np.ndarray:
    """float32 [n]: the highest IoU of each box [n, 4] xyxy with any anchor [A, 4] cxcywh, both in fractions."""
    corners = to_xyxy(anchors.astype(np.float32))
    parts = [iou_matrix(boxes[i : i + chunk], corners).max(1) for i in range(0, len(boxes), chunk)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _best_centred(sides: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """The same if every anchor shape [S, 2] could lie on the centre of every box (width, height) [n, 2]."""
    inter = np.minimum(sides[:, None], shapes[None]).prod(-1)
    return (inter / (sides.prod(1)[:, None] + shapes.prod(1)[None] - inter)).max(1, initial=0)


def _advice(total: Row, side: np.ndarray, missed: np.ndarray, missed_by_size: np.ndarray, smallest: float) -> list[str]:
    if total.reached >= 0.9 or not missed.any():
        return []
    text, small = [], missed & (side < smallest)
    if small.sum() > 0.5 * missed.sum():
        text.append(
            f"most of them are smaller than the smallest anchor (side {smallest:.0f}): a tap at stride 8 with smaller "
            f"anchors, or a larger input with smaller scales, would reach them; so would cutting images into tiles"
        )
    placed = missed & ~missed_by_size
    if placed.sum() > 0.3 * missed.sum():
        text.append("many lie between the anchors' centres: a larger input, or a tap at stride 8, lays them denser")
    shape = missed_by_size & ~small
    if shape.sum() > 0.3 * missed.sum():
        text.append(
            "many have a shape that no anchor has (long and thin): further aspect ratios (width by height) would reach "
            "them, as in train --set options.aspect_ratios=[1,2,0.5,3,0.333,5,0.2]"
        )
    return text


def _range(low: Sequence | float, high: Sequence | float) -> str:
    return f"{low:g} and more" if high == np.inf else f"{low:g} to {high:g}"


__all__ = ["Coverage", "Row", "best_overlap", "coverage"]
