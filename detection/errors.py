"""The errors that people see: one clear line that names the file and the way out, no traceback, exit code 2."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from detection.masking import without_secrets


class MobileSSDError(Exception):
    """Something a person can put right. Its message is one line: what is wrong, with which file, and what to do."""


class BadImageError(MobileSSDError):
    """A file that is no image, or a broken, empty or unreasonably large one."""


class BadWeightsError(MobileSSDError):
    """A weights file that is broken, of another kind, or does not fit the network asked for."""


class BadDataError(MobileSSDError):
    """Annotations or results that cannot be read, or do not fit together."""


class MissingPackageError(MobileSSDError):
    """An optional library that is not installed; the message holds the command that installs it."""


def nearest(word: str, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """Those of the known words that are most like `word`, the best first, whatever their case; at most `most`, and none
    that is less alike than `cutoff` (0 to 1, `difflib`'s ratio)."""
    import difflib  # only where something went wrong

    by_lower = {other.lower(): other for other in known}
    return [by_lower[found] for found in difflib.get_close_matches(word.lower(), by_lower, most, cutoff)]


def shown(name: str | os.PathLike) -> str:
    """A file's name or address as one line can hold it: line ends, and bytes that are no text, are spelt out, passwords of
    addresses are left out."""
    text = without_secrets(os.fsdecode(name))
    return text if text.isprintable() else ascii(text)


def quoted(value: object) -> str:
    """A value of somebody's file as a message shows it: at most 60 characters."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def some(names: Sequence[str], most: int = 10) -> str:
    """The first names of a list, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
