"""The list of images in pieces, and what a piece looks like as a file: a row for each image, Parquet or JSON lines.

A row: `file`, `width`, `height` (null where the image could not be read), `detections`, best first, each a struct of
`name`, `class_id` (0, 1, ...), `category_id` (of the data set), `score`, `x1`, `y1`, `x2`, `y2` (pixels of the
image), and `error` (null, or what is wrong with the image). Numbers are the detector's own, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detection.errors import need
from detection.outputs import json_lines, parquet

FORMATS = {"parquet": parquet, "jsonl": json_lines}  # each with encode(records) -> bytes, and errors_in(those bytes)


@dataclass(frozen=True)
class Shard:
    """A piece of the list. index: 0, 1, ...; names: its images."""

    index: int
    names: tuple[str, ...]


def cut(names: Sequence[str], size: int) -> list[Shard]:
    """Consecutive pieces of `size` images; the last may be shorter. The same list gives the same pieces."""
    return [Shard(i // size, tuple(names[i : i + size])) for i in range(0, len(names), size)]


def file_name(index: int, kind: str) -> str:
    """`part-000012.parquet`; the order of the names is that of the images."""
    return f"part-{index:06d}.{kind}"


def check_format(kind: str) -> None:
    """MissingPackageError, before any work is done, where writing it needs what is not installed."""
    if kind == "parquet":
        need("--shard-format parquet (jsonl does without)", "pyarrow", extra="bulk")
