"""Anchor layouts: what anchors a cell of each feature map has, by the rules of each framework, in fractions of the input.

Each is a function of the number of maps, the input's (height, width) and the layout's own options; `LAYOUTS` has them by name.
A programming error apart, what raises here is told by `anchors.AnchorSpec` in one line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from detection.errors import MobileSSDError

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Cell:
    """The anchors of one cell of one map.

    sizes: (width, height) of each anchor as fractions of the input.
    step: distance between centres in input pixels (y, x); None: the input divided evenly among the cells.
    offset: where in its cell a centre lies (y, x).
    clamp: None, "size" (width and height at most 1, torchvision) or "all" (all four numbers within 0..1, qfgaohao).
    """

    sizes: tuple[tuple[float, float], ...]
    step: tuple[float, float] | None = None
    offset: tuple[float, float] = (0.5, 0.5)
    clamp: str | None = None


def tensorflow(
    maps: int,
    input_size: Size,
    min_scale: float = 0.2,
    max_scale: float = 0.95,
    aspect_ratios: Sequence[float] = (1.0, 2.0, 0.5, 3.0, 0.3333),
    interpolated: bool = True,
    reduce_lowest: bool = True,
    scales: Sequence[float] | None = None,
    lowest: Sequence[tuple[float, float]] | None = None,
) -> list[Cell]:
    """TensorFlow's `ssd_anchor_generator` (multiple_grid_anchor_generator.py): interpolated square last, third ratio
    0.3333, and on the first map (unless `reduce_lowest` is off) only a 0.1 square and ratios 2 and 0.5 of `min_scale`.

    Beyond TensorFlow: `scales` of the maps written out, one entry more than there are maps, and `lowest`, the pairs
    (scale, ratio) of the first map.
    """
    if scales is None:
        scales = [min_scale + (max_scale - min_scale) * i / max(maps - 1, 1) for i in range(maps)] + [1.0]
    _expect(maps, scales=scales[:-1])
    height, width = input_size
    to_h, to_w = min(height, width) / height, min(height, width) / width

    def size(scale: float, ratio: float) -> tuple[float, float]:
        return scale * math.sqrt(ratio) * to_w, scale / math.sqrt(ratio) * to_h

    cells = []
    for i, scale in enumerate(scales[:-1]):
        if i == 0 and lowest is not None:
            pairs = [(s, r) for s, r in lowest]
        elif i == 0 and reduce_lowest:
            pairs = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        else:
            pairs = [(scale, ratio) for ratio in aspect_ratios]
            if interpolated:
                pairs.append((math.sqrt(scale * scales[i + 1]), 1.0))
        cells.append(Cell(tuple(size(*pair) for pair in pairs)))
    return cells


def caffe(
    maps: int,
    input_size: Size,
    min_sizes: Sequence[float] = (),
    max_sizes: Sequence[float | None] = (),
    ratios: Sequence[Sequence[float]] = (),
    steps: Sequence[float] | None = None,
    base: int = 300,
    integer_sizes: bool = True,
    clamp: str | None = None,
) -> list[Cell]:
    """Caffe's PriorBox (prior_box_layer.cpp): the square, the interpolated square, then each ratio and its flip.

    Sizes and steps are pixels of a `base` input; Caffe truncates min and max sizes to whole pixels (`integer_sizes`).
    A map whose max size is None has no interpolated square. No `steps`: the input divided evenly among the cells.
    """
    _expect(maps, min_sizes=min_sizes, max_sizes=max_sizes, ratios=ratios)
    cells = []
    for i in range(maps):
        low, high = min_sizes[i], max_sizes[i]
        if integer_sizes:
            low, high = int(low), None if high is None else int(high)
        sizes: list[tuple[float, float]] = [(low, low)]
        if high is not None:
            sizes.append((math.sqrt(low * high), math.sqrt(low * high)))
        for ratio in ratios[i]:
            root = math.sqrt(ratio)
            sizes += [(low * root, low / root), (low / root, low * root)]
        step = (steps[i] * input_size[0] / base, steps[i] * input_size[1] / base) if steps else None
        cells.append(Cell(tuple((w / base, h / base) for w, h in sizes), step, clamp=clamp))
    return cells


def torchvision(
    maps: int,
    input_size: Size,
    min_scale: float = 0.2,
    max_scale: float = 0.95,
    scales: Sequence[float] | None = None,
    ratios: Sequence[Sequence[float]] | None = None,
    steps: Sequence[float] | None = None,
) -> list[Cell]:
    """torchvision's DefaultBoxGenerator: as Caffe's, in fractions, with width and height clamped to the image.

    `scales` has one entry more than there are maps; without it they are spread evenly and closed with 1.
    """
    if scales is None:
        scales = [min_scale + (max_scale - min_scale) * i / max(maps - 1, 1) for i in range(maps)] + [1.0]
    ratios = ratios or [(2, 3)] * maps
    _expect(maps, ratios=ratios, scales=scales[:-1])
    cells = []
    for i in range(maps):
        scale, between = scales[i], math.sqrt(scales[i] * scales[i + 1])
        sizes = [(scale, scale), (between, between)]
        for ratio in ratios[i]:
            w, h = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            sizes += [(w, h), (h, w)]
        cells.append(Cell(tuple(sizes), (steps[i], steps[i]) if steps else None, clamp="size"))
    return cells


def mmdet(
    maps: int,
    input_size: Size,
    strides: Sequence[float] = (16, 32, 64, 107, 160, 320),
    min_sizes: Sequence[float] = (48, 100, 150, 202, 253, 304),
    max_sizes: Sequence[float] = (100, 150, 202, 253, 304, 320),
    ratios: Sequence[Sequence[float]] = ((2, 3),) * 6,
    base: int = 320,
) -> list[Cell]:
    """mmdet's SSDAnchorGenerator: square, interpolated square, then for each ratio r (height/width) 1/r before r."""
    _expect(maps, strides=strides, min_sizes=min_sizes, max_sizes=max_sizes, ratios=ratios)
    cells = []
    for i in range(maps):
        low, between = min_sizes[i], math.sqrt(min_sizes[i] * max_sizes[i])
        sizes = [(low, low), (between, between)]
        for ratio in ratios[i]:
            root = math.sqrt(ratio)
            sizes += [(low * root, low / root), (low / root, low * root)]
        step = (strides[i] * input_size[0] / base, strides[i] * input_size[1] / base)
        cells.append(Cell(tuple((w / base, h / base) for w, h in sizes), step))
    return cells


def qfgaohao(
    maps: int,
    input_size: Size,
    sizes: Sequence[Sequence[float]] = ((60, 105), (105, 150), (150, 195), (195, 240), (240, 285), (285, 330)),
    shrinkages: Sequence[float] = (16, 32, 64, 100, 150, 300),
    ratios: Sequence[Sequence[float]] = ((2, 3),) * 6,
    base: int = 300,
) -> list[Cell]:
    """qfgaohao/pytorch-ssd's priors: Caffe's order, centres by `base / shrinkage` cells, all four numbers clamped."""
    _expect(maps, sizes=sizes, shrinkages=shrinkages, ratios=ratios)
    low, high = [s[0] for s in sizes], [s[1] for s in sizes]
    return caffe(maps, input_size, low, high, ratios, shrinkages, base, integer_sizes=False, clamp="all")


def multiscale(
    maps: int,
    input_size: Size,
    min_level: int = 3,
    anchor_scale: float = 4.0,
    scales_per_octave: int = 2,
    aspect_ratios: Sequence[float] = (1.0, 2.0, 0.5),
) -> list[Cell]:
    """TensorFlow's `multiscale_anchor_generator` of the FPN models (after RetinaNet, Lin et al. 2017, section 4).

    Level l has base size `anchor_scale` * 2^l pixels. Within a cell the ratios vary slowest. Centres lie half a stride
    into their cell, but at the cell's corner where the stride does not divide the input (multiscale_grid_anchor_generator.py).
    """
    if not (0 <= min_level <= 16 and 1 <= scales_per_octave <= 64):
        raise MobileSSDError(f"anchors: level {min_level} with {scales_per_octave} scales an octave makes no layout")
    octaves = [2 ** (k / scales_per_octave) for k in range(scales_per_octave)]
    height, width = input_size
    cells = []
    for level in range(min_level, min_level + maps):
        stride, base = 2**level, anchor_scale * 2**level
        sizes = [
            (base * octave * math.sqrt(ratio) / width, base * octave / math.sqrt(ratio) / height)
            for ratio in aspect_ratios
            for octave in octaves
        ]
        offset = (0.5 if height % stride in (0, 1) else 0.0, 0.5 if width % stride in (0, 1) else 0.0)
        cells.append(Cell(tuple(sizes), (stride, stride), offset))
    return cells


def explicit(maps: int, input_size: Size, sizes: Sequence[Sequence[Sequence[float]]] = ()) -> list[Cell]:
    """Any layout written out: for each map the (width, height) of each anchor of a cell, fractions of the input.

    What an importer falls back to when a file's anchors follow no rule known here.
    """
    _expect(maps, sizes=sizes)
    return [Cell(tuple((float(w), float(h)) for w, h in level)) for level in sizes]


LAYOUTS: dict[str, Callable[..., list[Cell]]] = {
    "tensorflow": tensorflow,
    "caffe": caffe,
    "torchvision": torchvision,
    "mmdet": mmdet,
    "qfgaohao": qfgaohao,
    "multiscale": multiscale,
    "explicit": explicit,
}


def _expect(maps: int, **given: Sequence) -> None:
    for name, values in given.items():
        if len(values) != maps:
            raise MobileSSDError(f"anchors: {name} has {len(values)} entries, the network has {maps} feature maps")
