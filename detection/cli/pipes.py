"""`mobilessd ... | head`: what happens when nobody reads standard output any more."""

from __future__ import annotations

import contextlib
import os
import sys

SIGPIPE = 141  # the exit code that shells give a command that a closed pipe has ended


def stop_printing() -> None:
    """What goes to stdout from now on is lost: its pipe was closed, and each further line would be an error."""
    with contextlib.suppress(OSError, ValueError):  # a stdout that is no real file (tests, notebooks)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
