"""Text files that list images, a name a line: of any length, in any encoding, with names that are no text."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator

from detection.files import decode_text
from detection.images.addresses import fetch, is_address

START = 1 << 16  # bytes of a list by which its encoding is told


def lines_of(path: str) -> Iterator[str]:
    """Of a text file, in an encoding that `decode_text` knows by its beginning. Names of files may be no text: in a list
    that is no UTF-8 bytes stay as they are, unless only their Windows-1252 reading exists."""
    with io.BytesIO(fetch(path)) if is_address(path) else open(path, "rb") as file:
        start = file.read(START)
        if len(start) == START and b"\0" not in start:  # to the last whole line: a letter may be cut through
            start = start[: start.rfind(b"\n") + 1]
        try:
            encoding = decode_text(start)[1]
        except UnicodeError:
            encoding = "windows-1252"
        file.seek(0)
        western = encoding == "windows-1252"
        for line in io.TextIOWrapper(file, "utf-8" if western else encoding, errors="surrogateescape"):
            line = line.removeprefix("\ufeff")
            yield _western(line, os.path.dirname(path)) if western and not line.isascii() else line


def _western(line: str, folder: str) -> str:
    """A line with bytes that are no UTF-8, by the name that exists."""
    read = os.fsencode(line).decode("cp1252", "replace")
    exists = os.path.lexists(os.path.join(folder, line.strip()))
    return read if not exists and os.path.lexists(os.path.join(folder, read.strip())) else line
