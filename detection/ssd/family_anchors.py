"""The anchors of MobileNet detectors, by the framework whose network it is, and with aspect ratios of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from detection.boxes.anchors import AnchorSpec
from detection.errors import MobileSSDError


def anchors_of_layout(layout: str, maps: int) -> AnchorSpec:
    """The layout's own anchors; a seventh, finer map gets half the smallest scale, which no framework has."""
    finer = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
    if layout == "tensorflow":
        small = ((0.05, 1.0), (0.1, 1.0), (0.1, 2.0), (0.1, 0.5))
        return AnchorSpec("tensorflow", {"scales": finer, "lowest": small} if maps == 7 else {})
    if layout == "torchvision":
        return AnchorSpec("torchvision", {"scales": finer} if maps == 7 else {})
    if layout == "caffe":  # chuanqi305: no steps, one square on the first map
        sizes = {"min_sizes": (60, 105, 150, 195, 240, 285), "max_sizes": (None, 150, 195, 240, 285, 300)}
        return AnchorSpec("caffe", sizes | {"ratios": ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2, 3))})
    return AnchorSpec(layout)


def with_aspect_ratios(anchors: AnchorSpec, asked: Sequence[float], maps: int) -> AnchorSpec:
    """The anchors with these ratios (width by height) on every one of `maps` maps but TensorFlow's first, which keeps
    its own three. torchvision's layout has the flip of each ratio, whether it is named or not. Raises MobileSSDError,
    one line, for other layouts and for what is no list of ratios."""
    if anchors.layout not in ("tensorflow", "torchvision"):
        raise MobileSSDError(
            f"aspect_ratios goes with the anchors of tensorflow and torchvision, not of {anchors.layout}"
        )
    try:
        ratios = tuple(float(ratio) for ratio in asked)
    except (TypeError, ValueError):
        ratios = ()
    if not ratios or not all(0.05 <= ratio <= 20 for ratio in ratios) or len(set(ratios)) < len(ratios):
        raise MobileSSDError(f"aspect_ratios: a list of different numbers from 0.05 to 20, not {asked!r}")
    if anchors.layout == "tensorflow":
        return replace(anchors, options=anchors.options | {"aspect_ratios": ratios})
    wide = sorted({round(max(ratio, 1 / ratio), 2) for ratio in ratios} - {1.0})
    maps -= "finer" in anchors.options  # whose anchors are its own
    return replace(anchors, options=anchors.options | {"ratios": (tuple(wide),) * maps})
