"""Rows of CSV files that people's tools wrote: columns by name in any case, text in any encoding."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator
from pathlib import Path

from detection.data.readers.entries import head_of
from detection.errors import BadDataError
from detection.files import read_text


def has_columns(file: Path, wanted: Collection[str]) -> bool:
    """Whether the first line of a file names these columns (in lower case)."""
    line = head_of(file).decode("utf-8", errors="replace").split("\n", 1)[0]
    return set(wanted) <= {name.strip().strip('"').lower() for name in line.split(_delimiter(line))}


def rows_of(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, {column in lower case: text}) of each row that is not empty. Raises BadDataError where it is no text."""
    try:
        text = read_text(file)
    except (OSError, UnicodeError) as error:
        raise BadDataError(f"{file}: cannot be read as text ({error})") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text.split("\n", 1)[0]))
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, {name: cell.strip() for name, cell in zip(names, row)}
    except csv.Error as error:
        raise BadDataError(f"{file}: line {reader.line_num} is no CSV ({error})") from None


def _delimiter(line: str) -> str:
    return ";" if line.count(";") > line.count(",") else ","
