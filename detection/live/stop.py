"""The wish to end, from a signal, a window or another thread. Standard library only."""

from __future__ import annotations

import time


class Stop:
    """A flag that a signal handler may set at any moment.

    threading.Event is no such flag: its `set` takes a lock that the very thread which the handler interrupted may hold,
    inside `wait`, and then waits for itself for ever. This one has no lock, and is looked at every `pause` seconds.
    """

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, pause: float) -> bool:
        """Sleeps `pause` seconds, then says whether it is set."""
        time.sleep(pause)
        return self._set
