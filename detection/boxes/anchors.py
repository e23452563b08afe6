"""Anchors: the boxes that an SSD starts from, for each framework's layout, from the feature maps' real sizes.

`AnchorSpec` says in numbers what a layout is; `anchors_for` lays it over the maps. Order everywhere: map, row, column,
anchor of the cell (fastest). Sizes and centres are fractions of the input, so a spec holds at any input size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from detection.boxes.anchor_layouts import LAYOUTS, Cell
from detection.boxes.anchor_layouts import Size as Size
from detection.errors import MobileSSDError

Grid = tuple[float, float, float, float]  # centres of one map in pixels: of its first cell (y, x), and the steps (y, x)
PIXELS = 2**25  # of an input: what a forged card may ask for at most
MOST_ANCHORS = 10_000_000  # of any network that is of use; a forged card may ask for more


@dataclass(frozen=True)
class AnchorSpec:
    """A named layout and its numbers; `LAYOUTS` lists the names, each function's arguments are the options.

    Every layout takes the option `finer`, too: pairs (share of the input's shorter side, width by height), the anchors of one
    more map in front of those that the layout lays out.

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
        options = dict(self.options)
        finer = options.pop("finer", None)
        try:
            if finer is None:
                return LAYOUTS[self.layout](maps, input_size, **options)
            return [_pairs(finer, input_size), *LAYOUTS[self.layout](maps - 1, input_size, **options)]
        except (TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise MobileSSDError(f"anchors: these options make no {self.layout} layout ({error})") from None

    def per_cell(self, maps: int, input_size: Size) -> tuple[int, ...]:
        """How many anchors a cell of each map has: what the heads need to know."""
        return tuple(len(cell.sizes) for cell in self.cells(maps, input_size))


def _pairs(pairs: Sequence[tuple[float, float]], input_size: Size) -> Cell:
    """A cell with an anchor for each pair: the share of the input's shorter side, width by height."""
    (height, width), side = input_size, min(input_size)
    return Cell(tuple((s * math.sqrt(r) * side / width, s / math.sqrt(r) * side / height) for s, r in pairs))


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
