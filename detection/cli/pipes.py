"""Standard output: who gets it where it carries data for programs (`--json -`), and what happens when nobody reads it any
more (`| head`)."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

from detection.errors import MobileSSDError

SIGPIPE = 141  # the exit code that shells give a command that a closed pipe has ended


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
