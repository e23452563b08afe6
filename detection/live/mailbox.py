"""One slot between two threads, where the newest item wins. Standard library only."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """One slot between two threads. dropped: how many items nobody took.

    watch: called, if set, after every change, so that one thread can look after several boxes.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self.watch: Callable[[], object] | None = None
        self._item: T | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T, wait: bool = False) -> bool:
        """Lays `item` in, over an older one, or (`wait`) once the older one was taken. False: the box is closed."""
        with self._changed:
            while wait and self._item is not None and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify_all()
        self._tell()
        return True

    def take(self, timeout: float | None = None) -> T | None:
        """The item, as soon as there is one; None once the box is closed and empty. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._item is not None or self._closed, timeout):
                raise TimeoutError
            item, self._item = self._item, None
            self._changed.notify_all()
        self._tell()
        return item

    @property
    def full(self) -> bool:
        return self._item is not None

    @property
    def over(self) -> bool:
        """Closed, and nothing left to take."""
        return self._closed and self._item is None

    def close(self) -> None:
        """No more items: `put` refuses, `take` gives what is left and then None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._tell()

    def _tell(self) -> None:
        if self.watch:
            self.watch()
