"""Numbers written on the picture: speed, delay, dropped frames. OpenCV through `detection.core.drawing`."""

from __future__ import annotations

import math

import numpy as np

from detection.core.drawing import Area, draw_detections, fit_text, put_text
from detection.live.pipeline import Meter, Result

DARK = (24, 24, 28)


def draw_result(result: Result, meter: Meter, live: bool, dropped: int = 0) -> np.ndarray:
    """A copy of the frame, uint8 RGB, with boxes and a line of numbers in its upper left corner."""
    canvas = draw_detections(result.frame.image, result.detections)
    put_status(canvas, status_line(meter, live, dropped))
    return canvas


def status_line(meter: Meter, live: bool, dropped: int = 0) -> str:
    """`23.8 fps  31 ms` and, for live sources, how many frames were passed over because newer ones had come."""
    text = f"{meter.fps:.1f} fps  {meter.delay * 1000:.0f} ms"
    return f"{text}  {dropped} dropped" if live and dropped else text


def put_status(canvas: np.ndarray, text: str) -> None:
    """Writes `text` into the upper left corner, if there is room for it. Changes `canvas`."""
    height, width = canvas.shape[:2]
    size, scale = fit_text(text, max(10, round(math.sqrt(height * width) * 0.02)), width)
    if scale and size[1] <= height:
        put_text(canvas, text, Area(0, 0, *size), scale, DARK)
