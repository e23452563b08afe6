"""The box of a COCO annotation: its `bbox`, numbers or text; where it has none, the one around its segmentation."""

from __future__ import annotations

from typing import Any

import numpy as np

Box = tuple[float, float, float, float]


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
    counts = runs["counts"]
    if isinstance(counts, str):
        try:
            from pycocotools import mask
        except ImportError:
            raise ValueError from None
        x, y, w, h = mask.toBbox({"size": [height, width], "counts": counts.encode()}).tolist()
        return x, y, w, h
    ends = np.cumsum(np.asarray(counts, np.int64))
    if len(ends) and ends[-1] > height * width:
        raise ValueError
    inside = np.zeros(height * width, bool)
    for start, end in zip(ends[0::2], ends[1::2]):
        inside[start:end] = True
    columns, rows = np.nonzero(inside.reshape(width, height))
    if not len(rows):
        raise ValueError
    x, y = float(columns.min()), float(rows.min())
    return x, y, float(columns.max()) + 1 - x, float(rows.max()) + 1 - y
