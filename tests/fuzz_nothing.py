"""Readers with every fault that `fuzz` finds, for its own test."""

import os

from fuzz import Target

from detection.errors import MobileSSDError


def _write(folder):
    (folder / "file").write_bytes(b"good")
    return folder / "file"


def _damage(random, path):
    path.write_text(str(random.random()), encoding="utf-8")


def _refuses(path):
    raise MobileSSDError(f"{path}: no good")


class _TwoLines(MobileSSDError):
    """Every error of ours is one line by itself; this one is not."""

    def __str__(self):
        return "one\ntwo"


def _two_lines(path):
    raise _TwoLines("one")


def _fails(path):
    raise KeyError(path.read_text())


def _eats(path):
    bytearray(1100 << 20)


def _strays(path):
    open("/etc/passwd").close()


TARGETS = (
    Target("reads", _write, _damage, lambda path: path.read_bytes()),
    Target("refuses", _write, _damage, _refuses),
    Target("two-lines", _write, _damage, _two_lines),
    Target("fails", _write, _damage, _fails),
    Target("eats", _write, _damage, _eats),
    Target("strays", _write, _damage, _strays),
    Target("dies", _write, _damage, lambda path: os._exit(3)),
    Target("lives-on", _write, _damage, lambda path: None),
)
