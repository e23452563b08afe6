"""Anchors: the boxes that an SSD starts from, for each framework's layout, from the feature maps' real sizes.

`AnchorSpec` says in numbers what a layout is; `anchors_for` lays it over the maps. Order everywhere: map, row, column,
anchor of the cell (fastest). Sizes and centres are fractions of the input, so a spec holds at any input size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from detection.errors import MobileSSDError

Size = tuple[int, int]  # height, width
Grid = tuple[float, float, float, float]  # centres of one map in pixels: of its first cell (y, x), and the steps (y, x)
PIXELS = 2**25  # of an input: what a forged card may ask for at most
MOST_ANCHORS = 10_000_000  # of any network that is of use; a forged card may ask for more


@dataclass(frozen=True)
class AnchorSpec:
    """A named layout and its numbers; `LAYOUTS` lists the names, each function's arguments are the options.

    base: the input (height, width) that the sizes are meant for; None: any. With a base the anchors are as many pixels
    large at every input size, which is what a network that was trained at the base sees in a smaller image.
    centred_at: the input at which the weights learned what lies between the layout's centres and the places where the
    network looks; None: that of the input itself. At another size the centres follow the network (`moved_grid`).
    """

    layout: str = "tensorflow"
    options: dict[str, Any] = field(default_factory=dict)
    base: Size | None = None
    centred_at: Size | None = None

    def cells(self, maps: int, input_size: Size) -> list[Cell]:
        """The anchors of one cell of each of `maps` feature maps, for an input of (height, width) pixels."""
        cells = self._laid_out(maps, input_size)
        if self.base is None:
            return cells
        meant = self._laid_out(maps, self.base)
        return [
            replace(cell, sizes=_in_pixels(one, self.base, input_size), clamp=None) for cell, one in zip(cells, meant)
        ]

    def _laid_out(self, maps: int, input_size: Size) -> list[Cell]:
        if self.layout not in LAYOUTS:
            raise MobileSSDError(f"unknown anchor layout {self.layout!r}; known: {', '.join(LAYOUTS)}")
        try:
            return LAYOUTS[self.layout](maps, input_size, **self.options)
        except (TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise MobileSSDError(f"anchors: these options make no {self.layout} layout ({error})") from None

    def per_cell(self, maps: int, input_size: Size) -> tuple[int, ...]:
        """How many anchors a cell of each map has: what the heads need to know."""
        return tuple(len(cell.sizes) for cell in self.cells(maps, input_size))


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


def _in_pixels(cell: Cell, base: Size, input_size: Size) -> tuple[tuple[float, float], ...]:
    """A cell's sizes at `base`, clamped there, as fractions of another input."""
    most = math.inf if cell.clamp is None else 1.0
    (base_h, base_w), (height, width) = base, input_size
    return tuple((min(w, most) * base_w / width, min(h, most) * base_h / height) for w, h in cell.sizes)


def anchors_for(
    spec: AnchorSpec, feature_maps: Sequence[Size], input_size: Size, grids: Sequence[Grid] = ()
) -> np.ndarray:
    """All anchors of a network as `cxcywh` float32 [A, 4] in fractions of the input.

    feature_maps: (height, width) of each map as the network really makes them; input_size: (height, width) in pixels.
    grids: the centres of each map (`moved_grid`) where `spec.centred_at` is another size than `input_size`.
    Raises MobileSSDError, one line, where they are needed and missing or senseless, or the anchors are too many.
    """
    cells = spec.cells(len(feature_maps), input_size)
    follows = spec.centred_at not in (None, input_size)
    if follows and (len(grids) != len(cells) or not np.isfinite(grids).all()):
        raise MobileSSDError(
            f"anchors: they lie where the network looks, and the card tells {len(grids)} of {len(cells)} maps"
        )
    count = sum(rows * columns * len(cell.sizes) for cell, (rows, columns) in zip(cells, feature_maps))
    if count > MOST_ANCHORS:
        raise MobileSSDError(f"anchors: {count:,} are more than {MOST_ANCHORS:,}")
    of_maps: Sequence[Grid | None] = grids if follows else [None] * len(cells)
    levels = [_lay(*each, input_size) for each in zip(cells, feature_maps, of_maps, strict=True)]
    return np.concatenate(levels).astype(np.float32)


def moved_grid(trained: Cell, input_size: Size, maps: tuple[Size, Size], looks: tuple[Grid, Grid]) -> Grid:
    """The centres of one map at another input size than its weights were trained at.

    trained: the layout's cell at the size `input_size` of the training; maps: (height, width) of the map there and here;
    looks: where its cells look there and here, the middle of pixel 0 at 0.5 (`ssd.cell_centres`).

    A box head predicts distances from anchors of what lies around the place where its cell looks. So it learned the
    difference between the two as well, which is added to the places of today at the same relative place of the map.
    Everything is linear in the number of the cell, so first centre and step say it all.
    """
    (there, here), (old, new) = maps, looks
    steps = trained.step or (input_size[0] / there[0], input_size[1] / there[1])
    centres = []
    for axis in (0, 1):
        learned = trained.offset[axis] * steps[axis] - old[axis]
        slope = steps[axis] - old[2 + axis]  # of what was learned, a cell of the old map
        if here[axis] > 1:
            first, a_cell = learned, slope * (there[axis] - 1) / (here[axis] - 1)
        else:
            first, a_cell = learned + slope * (there[axis] - 1) / 2, 0.0
        centres.append((new[axis] + first, new[2 + axis] + a_cell))
    (y, step_y), (x, step_x) = centres
    return y, x, step_y, step_x


def _lay(cell: Cell, map_size: Size, grid: Grid | None, input_size: Size) -> np.ndarray:
    rows, columns = map_size
    if grid is None:
        step_y, step_x = cell.step or (input_size[0] / rows, input_size[1] / columns)
        cy = (np.arange(rows) + cell.offset[0]) * step_y / input_size[0]
        cx = (np.arange(columns) + cell.offset[1]) * step_x / input_size[1]
    else:
        cy = (grid[0] + np.arange(rows) * grid[2]) / input_size[0]
        cx = (grid[1] + np.arange(columns) * grid[3]) / input_size[1]
    sizes = np.asarray(cell.sizes, np.float64)
    if cell.clamp == "size":
        sizes = sizes.clip(0, 1)
    laid = np.empty((rows, columns, len(sizes), 4))
    laid[..., 0], laid[..., 1] = cx[None, :, None], cy[:, None, None]
    laid[..., 2:] = sizes
    if cell.clamp == "all":
        laid = laid.clip(0, 1)
    return laid.reshape(-1, 4)


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
