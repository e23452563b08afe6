"""Memory that several threads share: images are read ahead by their bytes, not by their number. Standard library only."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

DECODING = 1 << 30  # bytes of decoded images at once: three of 100 megapixels, a thousand of a camera's videos


class Memory:
    """So many bytes, to be shared. Something larger than all of it has it alone, and waits until nobody else holds any."""

    def __init__(self, size: int) -> None:
        self.size, self._held = size, 0
        self._changed = threading.Condition()

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        """Waits until so many bytes are free, and holds them. For work that ends by itself: what waits for somebody else
        would wait for ever."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + size <= self.size)
            self._held += size
        try:
            yield
        finally:
            self._give_back(size)

    def keep(self, array: Any) -> bool:
        """Whether there is room for a numpy array, without waiting; if so, it holds its bytes for as long as it lives."""
        with self._changed:
            if self._held and self._held + array.nbytes > self.size:
                return False
            self._held += array.nbytes
        weakref.finalize(array, self._give_back, array.nbytes)
        return True

    def _give_back(self, size: int) -> None:
        with self._changed:
            self._held -= size
            self._changed.notify_all()
