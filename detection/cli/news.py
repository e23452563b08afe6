"""The lines that a long command logs: on stdout, until nobody reads them."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable

from detection.cli.pipes import SIGPIPE, stop_printing


class News(logging.StreamHandler):
    """Log lines on stdout. Where its pipe is closed, the command ends as by Ctrl-C, at a place where it loses nothing, and
    says the rest on stderr; `unread` tells the two apart."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.setFormatter(logging.Formatter("%(message)s"))
        self.unread = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], BrokenPipeError):
            return super().handleError(record)
        self.unread, self.stream = True, sys.stderr
        stop_printing()
        signal.raise_signal(signal.SIGINT)


def with_news(work: Callable[[], object]) -> int:
    """Runs `work` with its log lines on stdout, those of the first of several processes. The exit code: 0, or 141 where
    nobody read them any more; Ctrl-C stays KeyboardInterrupt."""
    news, own = News(), logging.getLogger("mobilessd")  # ours alone: other libraries' news are not the run's
    own.handlers, own.propagate = [news], False
    own.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING)
    try:
        work()
    except KeyboardInterrupt:
        if not news.unread:
            raise
        return SIGPIPE
    return 0
