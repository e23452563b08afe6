"""Standard output: who gets it where it carries data for programs (`--json -`), and what happens when nobody reads it any
more (`| head`)."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from detection.errors import MobileSSDError, printable

CURSOR_UP = "\x1b[A"  # tqdm's, for a bar below another
SIGPIPE = 141  # the exit code that shells give a command that a closed pipe has ended


class Printable:
    """A stream of text on which only what can be seen reaches a terminal, whoever prints: names of files, classes and cameras
    may hold orders to it (`printable`). Line ends and tabs pass, and what a progress bar moves the cursor with."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As of any stream; the number is that of the characters that were given."""
        if not text.isprintable():
            text_parts = text.split(CURSOR_UP)
            self._stream.write(CURSOR_UP.join(printable(part, "\n\r\t") for part in text_parts))
        else:
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def printable_streams() -> Iterator[None]:
    """Standard output and error as `Printable` within the block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Printable(sys.stdout), Printable(sys.stderr)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def words_beside(**outputs: str | None) -> TextIO:
    """Where words for people go: standard output, or beside it where one of the outputs is "-", standard output itself.
    outputs: by the names of their options. Raises MobileSSDError where two are "-"."""
    data = [f"--{name.replace('_', '-')} -" for name, path in outputs.items() if path == "-"]
    if len(data) > 1:
        raise MobileSSDError(f"{' and '.join(data)} cannot both be standard output: name a file for one of them")
    return sys.stderr if data else sys.stdout


def stop_printing() -> None:
    """What goes to stdout from now on is lost: its pipe was closed, and each further line would be an error."""
    with contextlib.suppress(OSError, ValueError):  # a stdout that is no real file (tests, notebooks)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
