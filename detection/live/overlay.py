"""Boxes, lines, zones and numbers drawn on the image. OpenCV through `detection.boxes.drawing`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from detection.boxes.detections import Detections
from detection.boxes.drawing import Area, class_color, draw_boxes, fit_text, put_text
from detection.live.zones import Gate

DARK = (24, 24, 28)
WHITE = (255, 255, 255)
WARNING = (255, 196, 0)


def draw_tracked(image: np.ndarray, detections: Detections) -> np.ndarray:
    """A copy of the frame, uint8 RGB, with boxes, names, scores, and the numbers of what is being tracked."""
    tracks = detections.track_ids if detections.track_ids is not None else np.full(len(detections), -1)
    texts = [
        f"{name} #{track} {score:.2f}" if track >= 0 else f"{name} {score:.2f}"
        for name, track, score in zip(detections.names, tracks, detections.scores)
    ]
    colors = [class_color(int(class_id)) for class_id in detections.class_ids]
    return draw_boxes(image, detections.boxes, colors, texts)


def draw_gates(canvas: np.ndarray, gates: Sequence[Gate]) -> None:
    """Draws lines and zones with their counts. Changes `canvas`, uint8 RGB."""
    height, width = canvas.shape[:2]
    thick = max(1, round(math.sqrt(height * width) / 300))
    for gate in gates:
        points = np.round(gate.spec.pixels((height, width))).astype(np.int32)
        for color, more in ((DARK, 2), (WHITE, 0)):
            cv2.polylines(canvas, [points], gate.kind == "zone", color, thick + more, cv2.LINE_AA)
        text = f"{gate.name}: {gate.counts}"
        size, scale = fit_text(text, max(10, round(math.sqrt(height * width) * 0.02)), width)
        if scale and size[1] <= height:
            x, y = points.mean(axis=0)
            left = int(min(max(x - size[0] / 2, 0), width - size[0]))
            top = int(min(max(y - size[1] / 2, 0), height - size[1]))
            put_text(canvas, text, Area(left, top, left + size[0], top + size[1]), scale, WHITE)


def put_status(canvas: np.ndarray, lines: Sequence[str], color: tuple[int, int, int] = DARK) -> None:
    """Writes lines into the upper left corner, as far as there is room for them. Changes `canvas`."""
    height, width = canvas.shape[:2]
    top = 0
    for text in lines:
        size, scale = fit_text(text, max(10, round(math.sqrt(height * width) * 0.02)), width)
        if not scale or top + size[1] > height:
            return
        put_text(canvas, text, Area(0, top, size[0], top + size[1]), scale, color)
        top += size[1]


def stale_image(image: np.ndarray, message: str) -> np.ndarray:
    """A copy of a last frame that nobody can take for what is there now: grey, dark, and with the reason on it."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) // 2
    put_status(grey, [message], WARNING)
    return grey
