"""Reads a large JSON file an element at a time.

`json.load` of COCO's instances_train2017.json (470 MB, most of it polygons) takes several gigabytes; here the peak is
the largest single element. The parser is the standard library's own, so the speed is too.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from typing import IO, Any, BinaryIO

from detection.errors import BadDataError
from detection.files import open_json

BLOCK = 1 << 20
NEEDED = "an object with images, annotations, categories"
LARGEST = 1 << 26  # characters of one element
_SPACE = re.compile(r"[ \t\r\n]*")
_BLANKS = " \t\r\n"
_DECODER = json.JSONDecoder()
_ENDS = tuple(" \t\r\n,]}:")


def stream(path: str | os.PathLike, keys: set[str] | None = None) -> Iterator[tuple[str, Any]]:
    """Yields (key, value) of the object at the top of a JSON file; of a value that is a list, (key, element) each.

    An empty list yields nothing; all keys are added to `keys`. Raises BadDataError, with the place, where the file is
    no JSON object or ends early.
    """
    with open_json(path) as raw, io.TextIOWrapper(raw, _encoding_of(raw)) as file:
        buffer = _Buffer(file)
        try:
            if (first := buffer.peek()) != "{":
                what = " but a list (results? give those with --results)" if first == "[" else ""
                raise BadDataError(f"{path}: not COCO ground truth{what}: needs {NEEDED}")
            yield from _members(buffer, set() if keys is None else keys)
        except json.JSONDecodeError as error:
            raise _broken(path, f"{error.msg} in {buffer.place(error.pos)}") from None
        except UnicodeError:
            raise _broken(path, "not a text file in UTF-8 or UTF-16") from None
        except IndexError:  # there is no next character
            end = buffer.place(len(buffer.text))
            raise _broken(path, f"it ends too early, in {end}" if buffer.started else "the file is empty") from None
        except _Unexpected as error:
            raise _broken(path, f"{error} in {buffer.place(buffer.at)}") from None
        except RecursionError:
            raise BadDataError(f"{path}: not COCO: nested too deep") from None
        except ValueError:  # a number of more than 4300 digits
            raise _broken(path, f"a number that is too long in {buffer.place(buffer.at)}") from None


def _encoding_of(raw: BinaryIO) -> str:
    start = raw.read(4)
    raw.seek(0)
    return json.detect_encoding(start)


def _broken(path: str | os.PathLike, reason: str) -> BadDataError:
    return BadDataError(f"{path}: not JSON: {reason}")


class _Unexpected(Exception):
    """Another character than JSON's grammar has there."""


class _Buffer:
    """A window of text on a file that grows when a value does not fit and forgets what was read."""

    def __init__(self, file: IO[str]):
        self.file, self.text, self.at, self.done = file, "", 0, False
        self.line, self.column = 1, 1  # of the first character of `text`
        self.started = False  # something stood there

    def more(self) -> None:
        block = self.file.read(
            max(BLOCK, len(self.text) - self.at)
        )  # doubling: a large value costs no more than n log n
        self.done, self.started = not block, self.started or not block.isspace() and block != ""
        self.line, self.column = self._after(self.at)
        self.text, self.at = self.text[self.at :] + block, 0

    def place(self, at: int) -> str:
        """Where character `at` of the window stands in the file."""
        line, column = self._after(at)
        return f"line {line}, column {column}"

    def _after(self, at: int) -> tuple[int, int]:
        lines = self.text.count("\n", 0, at)
        return self.line + lines, at - self.text.rfind("\n", 0, at) if lines else self.column + at

    def peek(self) -> str:
        """The next character that is no white space. Raises IndexError at the end of the file."""
        if (found := self.text[self.at : self.at + 1]) and found not in _BLANKS:
            return found
        while True:
            self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            if self.done:
                raise IndexError
            self.more()

    def take(self, wanted: str) -> None:
        if (found := self.peek()) != wanted:
            raise _Unexpected(f"{wanted!r} expected, {found!r} found")
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


def _members(buffer: _Buffer, keys: set[str]) -> Iterator[tuple[str, Any]]:
    buffer.take("{")
    while buffer.peek() != "}":
        keys.add(key := buffer.value())
        buffer.take(":")
        if buffer.peek() == "[":
            buffer.take("[")
            while buffer.peek() != "]":
                yield key, buffer.value()
                if buffer.peek() == ",":
                    buffer.at += 1
            buffer.take("]")
        else:
            yield key, buffer.value()
        if buffer.peek() == ",":
            buffer.take(",")
