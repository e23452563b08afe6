"""How far a bulk run is: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO

EVERY = 60.0  # seconds between lines in a log


class Progress:
    """total: images of the whole run; done: of these, before this run began. To be used in a `with` block."""

    def __init__(self, total: int, done: int, stream: TextIO | None = None, every: float = EVERY) -> None:
        self.total, self.before, self.done = total, done, done
        self.stream, self.every = stream or sys.stderr, every
        self.start = self.told = time.perf_counter()
        self._bar = None
        if self.stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, initial=done, unit=" images", file=self.stream, dynamic_ncols=True, leave=False
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, images: int) -> None:
        """So many images more are done."""
        self.done += images
        if self._bar is not None:
            self._bar.update(images)
        elif time.perf_counter() - self.told >= self.every:
            self.told = time.perf_counter()
            print(self, file=self.stream, flush=True)

    def warn(self, line: str) -> None:
        """A line above the bar."""
        if self._bar is not None:
            self._bar.write(line, file=self.stream)
        else:
            print(line, file=self.stream, flush=True)

    @property
    def rate(self) -> float:
        """Images a second of this run, so far."""
        return (self.done - self.before) / max(time.perf_counter() - self.start, 1e-9)

    def __str__(self) -> str:
        left = in_time((self.total - self.done) / self.rate) if self.rate else "unknown time"
        return f"{self.done:,} of {self.total:,} images, {self.rate:.1f} images/s, {left} left"


def in_time(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 14 min`, `2 d 3 h`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
