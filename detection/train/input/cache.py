"""Decoded images kept in memory that all worker processes share. numpy and OpenCV only."""

from __future__ import annotations

import mmap
import multiprocessing
from typing import Any

import cv2
import numpy as np


class ImageCache:
    """Room for as many images as fit into a budget, each scaled down to a longer side of `max_side`.

    Where each image goes is planned from the sizes beforehand, so that nothing is ever evicted, and which images
    are kept depends on nothing but the data. The memory is one anonymous shared mapping: forked workers fill it
    together (a process that is started anew instead of forked gets an empty one of its own share of the budget).
    """

    def __init__(self, sizes: np.ndarray, budget_mb: float, max_side: int, sharers: int = 1):
        """sizes int32 [P, 2] (height, width); images of unknown size (0, 0) are not kept."""
        self.sizes, self.budget, self.max_side, self.sharers = sizes, int(budget_mb * 2**20), max_side, max(sharers, 1)
        scale = np.minimum(1.0, max_side / np.maximum(sizes.max(1), 1))
        self.shapes = np.maximum(np.rint(sizes * scale[:, None]), 1).astype(np.int64)
        self._allocate(self.budget)

    def _allocate(self, budget: int) -> None:
        lengths = np.where((self.sizes > 0).all(1), self.shapes.prod(1) * 3, 0)
        ends = np.cumsum(lengths)
        self.offsets = np.where((lengths > 0) & (ends <= budget), ends - lengths, -1)
        used = int(ends[self.offsets >= 0].max(initial=0))
        self.memory = mmap.mmap(-1, max(used, 1) + len(self.sizes))  # pages cost nothing until they are written
        self.pixels = np.frombuffer(self.memory, np.uint8, max(used, 1))
        self.filled = np.frombuffer(self.memory, np.uint8, len(self.sizes), offset=max(used, 1))
        self.lock = multiprocessing.Lock()

    @property
    def planned(self) -> int:
        """How many images there is room for."""
        return int((self.offsets >= 0).sum())

    def get(self, index: int) -> np.ndarray | None:
        """The image uint8 [h, w, 3], or None if it is not kept (yet). Not to be written to."""
        if self.offsets[index] < 0:
            return None
        with self.lock:  # orders the flag after the pixels on every processor
            if not self.filled[index]:
                return None
        view = self._view(index)
        view.flags.writeable = False
        return view

    def put(self, index: int, image: np.ndarray) -> np.ndarray:
        """Scales a freshly decoded image down, keeps it if there is room, and returns it.

        The size returned is the same whether or not it is kept: a run does not depend on who decoded what first.
        """
        height, width = self.shapes[index] if self.sizes[index].all() else image.shape[:2]
        if image.shape[:2] != (height, width):
            image = cv2.resize(image, (int(width), int(height)), interpolation=cv2.INTER_AREA)
        if self.offsets[index] >= 0:
            self._view(index)[...] = image  # two workers may do so at once: they write the same bytes
            with self.lock:
                self.filled[index] = 1
        return image

    def _view(self, index: int) -> np.ndarray:
        height, width = self.shapes[index]
        start = self.offsets[index]
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("sizes", "budget", "max_side", "sharers", "shapes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._allocate(self.budget // self.sharers)
