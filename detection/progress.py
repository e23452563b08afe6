"""What is shown while something takes its time. On a terminal alone: logs stay readable."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

PATIENCE = 2.0  # seconds; what is over sooner needs no word


@contextlib.contextmanager
def waiting(text: str) -> Iterator[None]:
    """Around work whose length nobody knows: behind two seconds `text` and the seconds so far stand on stderr, until it is
    done."""
    if not sys.stderr.isatty():
        yield
        return
    import threading  # a start that nobody watches does not pay for it

    done, begun = threading.Event(), time.monotonic()

    def show() -> None:
        wait, shown = PATIENCE, False
        while not done.wait(wait):
            sys.stderr.write(f"\r{text}: {time.monotonic() - begun:.0f} s ")
            sys.stderr.flush()
            wait, shown = 1.0, True
        if shown:
            sys.stderr.write("\r" + " " * (len(text) + 12) + "\r")
            sys.stderr.flush()

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
