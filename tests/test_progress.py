"""A wait of unknown length says what it waits for, on a terminal and only there."""

import io
import time

from detection import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_long_wait_speaks_and_leaves_nothing_behind(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(progress, "PATIENCE", 1.5)
    with progress.waiting("loading torch"):
        time.sleep(0.1)
    assert screen.getvalue() == "", "a short one needs no word"
    monkeypatch.setattr(progress, "PATIENCE", 0.05)
    with progress.waiting("loading torch"):
        for _ in range(100):
            time.sleep(0.05)
            if screen.getvalue():
                break
    assert screen.getvalue().startswith("\rloading torch: 0 s") and screen.getvalue().endswith("\r")


def test_a_log_stays_as_it_is(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    with progress.waiting("loading torch"):
        time.sleep(0.1)
    assert log.getvalue() == ""
