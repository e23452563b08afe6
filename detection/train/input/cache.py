"""Decoded images kept in memory that all worker processes share."""

from __future__ import annotations

import mmap
import multiprocessing
from typing import Any

import numpy as np

from detection.images.preprocess import halvings


class ImageCache:
    """Room for as many images as fit into a budget, each as large as it is loaded for a network of `input_size`.

    Where each image goes is planned from the sizes beforehand, so that nothing is ever evicted, and which images
    are kept depends on nothing but the data. The memory is one anonymous shared mapping: forked workers fill it
    together (a process that is started anew instead of forked gets an empty one of its own share of the budget).
    """

    def __init__(self, sizes: np.ndarray, budget_mb: float, input_size: tuple[int, int], sharers: int = 1):
        """sizes int32 [P, 2] (height, width) of the files; images of unknown size (0, 0) are not kept."""
        self.sizes, self.budget, self.sharers = sizes, int(budget_mb * 2**20), max(sharers, 1)
        self.shapes = sizes.astype(np.int64) >> np.array([[halvings(tuple(s), input_size)] for s in sizes.tolist()])
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

    def put(self, index: int, image: np.ndarray) -> None:
        """Keeps an image if there is room for it. One of another size than its file should have is not kept."""
        if self.offsets[index] >= 0 and image.shape[:2] == tuple(self.shapes[index]):
            self._view(index)[...] = image  # two workers may do so at once: they write the same bytes
            with self.lock:
                self.filled[index] = 1

    def _view(self, index: int) -> np.ndarray:
        height, width = self.shapes[index]
        start = self.offsets[index]
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("sizes", "budget", "sharers", "shapes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._allocate(self.budget // self.sharers)
