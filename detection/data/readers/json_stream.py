"""Reads a large JSON file an element at a time. Imports the standard library and the errors of core.

`json.load` of COCO's instances_train2017.json (470 MB, most of it polygons) takes several gigabytes; here the peak is
the largest single element. The parser is the standard library's own, so the speed is too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import IO, Any

from detection.errors import BadDataError

BLOCK = 1 << 20
LARGEST = 1 << 26  # characters of one element
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_ENDS = tuple(" \t\r\n,]}:")


def stream(path: str | os.PathLike) -> Iterator[tuple[str, Any]]:
    """Yields (key, value) of the object at the top of a JSON file; of a value that is a list, (key, element) each.

    An empty list yields nothing. Raises BadDataError where the file is no JSON or ends early.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            yield from _members(_Buffer(file))
    except (ValueError, IndexError) as error:  # IndexError: the file ended; ValueError: wrong JSON or no UTF-8
        reason = "it ends too early" if isinstance(error, IndexError) else str(error)
        raise BadDataError(f"{path}: broken, cut off, or no JSON object of annotations ({reason})") from None


class _Buffer:
    """A window of text on a file that grows when a value does not fit and forgets what was read."""

    def __init__(self, file: IO[str]):
        self.file, self.text, self.at, self.done = file, "", 0, False

    def more(self) -> None:
        block = self.file.read(
            max(BLOCK, len(self.text) - self.at)
        )  # doubling: a large value costs no more than n log n
        self.done = not block
        self.text, self.at = self.text[self.at :] + block, 0

    def peek(self) -> str:
        """The next character that is no white space. Raises IndexError at the end of the file."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            if self.done:
                raise IndexError
            self.more()

    def take(self, wanted: str) -> None:
        if (found := self.peek()) != wanted:
            raise ValueError(f"{wanted!r} expected, {found!r} found")
        self.at += 1

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
                if self.done or self.text[end : end + 1] in _ENDS:  # a number at the edge may go on behind it
                    self.at = end
                    return value
            except ValueError:
                if self.done or len(self.text) - self.at > LARGEST:  # no element of annotations is that large
                    raise
            self.more()


def _members(buffer: _Buffer) -> Iterator[tuple[str, Any]]:
    buffer.take("{")
    while buffer.peek() != "}":
        key = buffer.value()
        buffer.take(":")
        if buffer.peek() == "[":
            buffer.take("[")
            while buffer.peek() != "]":
                yield key, buffer.value()
                if buffer.peek() == ",":
                    buffer.take(",")
            buffer.take("]")
        else:
            yield key, buffer.value()
        if buffer.peek() == ",":
            buffer.take(",")
