"""The box of a COCO annotation: its `bbox`, numbers or text; where it has none, the one around its segmentation."""

from __future__ import annotations

from typing import Any

import numpy as np

Box = tuple[float, float, float, float]
LARGEST = 1 << 16  # the side of an image


def box_of(entry: dict[str, Any]) -> Box:
    """[x, y, width, height] in pixels, float. Raises KeyError, TypeError, ValueError or OverflowError where there is none that
    can be read."""
    bbox = entry.get("bbox")
    if bbox is None or bbox == []:
        return _around(entry["segmentation"])
    if isinstance(bbox, str):
        bbox = bbox.strip("[]() ").replace(",", " ").split()
    if not isinstance(bbox, list):
        raise TypeError
    x, y, w, h = map(float, bbox)
    return x, y, w, h


def _around(segmentation: Any) -> Box:
    """Around polygons [[x1, y1, x2, y2, ...], ...] or run lengths {counts, size}, which go down the columns."""
    if isinstance(segmentation, dict):
        return _around_runs(segmentation)
    points = [float(value) for polygon in segmentation for value in polygon]
    if len(points) < 4 or any(len(polygon) % 2 for polygon in segmentation):
        raise ValueError
    xs, ys = points[0::2], points[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _around_runs(runs: dict[str, Any]) -> Box:
    height, width = (int(side) for side in runs["size"])
    if not (0 < height <= LARGEST and 0 < width <= LARGEST):
        raise ValueError
    counts = runs["counts"]
    if isinstance(counts, str):
        try:
            from pycocotools import mask
        except ImportError:
            raise ValueError from None
        x, y, w, h = mask.toBbox({"size": [height, width], "counts": counts.encode()}).tolist()
        return x, y, w, h
    lengths = np.asarray(counts, np.int64)
    ends = np.cumsum(lengths)
    if lengths.size and (lengths.min() < 0 or lengths.max() > height * width or ends[-1] > height * width):
        raise ValueError
    inside = lengths[1::2] > 0
    first, last = ends[0::2][: len(inside)][inside], ends[1::2][inside] - 1
    if not len(first):
        raise ValueError
    left, right = first // height, last // height
    # a run over the end of a column reaches the bottom of one and the top of the next
    top, bottom = np.where(left == right, first % height, 0), np.where(left == right, last % height, height - 1)
    x, y = float(left.min()), float(top.min())
    return x, y, float(right.max()) + 1 - x, float(bottom.max()) + 1 - y
