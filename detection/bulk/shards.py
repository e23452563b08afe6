"""The list of images in pieces, and what a piece looks like as a file: a row for each image, Parquet or JSON lines.

A row: `file`, `width`, `height` (null where the image could not be read), `detections`, best first, each a struct of
`name`, `class_id` (0, 1, ...), `category_id` (of the data set), `score`, `x1`, `y1`, `x2`, `y2` (pixels of the
image), and `error` (null, or what is wrong with the image). Numbers are the detector's own, to the last bit.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detection.boxes.detections import Detections
from detection.images.addresses import need

FORMATS = ("parquet", "jsonl")


@dataclass(frozen=True)
class Shard:
    """A piece of the list. index: 0, 1, ...; names: its images."""

    index: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Looked:
    """One image, looked at. detections: None where it could not be read, and then `problem` says why."""

    name: str
    detections: Detections | None
    problem: str = ""


def cut(names: Sequence[str], size: int) -> list[Shard]:
    """Consecutive pieces of `size` images; the last may be shorter. The same list gives the same pieces."""
    return [Shard(i // size, tuple(names[i : i + size])) for i in range(0, len(names), size)]


def file_name(index: int, kind: str) -> str:
    """`part-000012.parquet`; the order of the names is that of the images."""
    return f"part-{index:06d}.{kind}"


def check_format(kind: str) -> None:
    """MissingPackageError, before any work is done, where writing it needs what is not installed."""
    if kind == "parquet":
        need("pyarrow", "bulk", "--shard-format parquet (jsonl does without)")


def encode(looked: Sequence[Looked], kind: str) -> bytes:
    """A shard's file."""
    if kind == "jsonl":
        return b"".join(json.dumps(_row(one), ensure_ascii=False).encode() + b"\n" for one in looked)
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table(_columns(looked), schema=schema())
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def errors_in(data: bytes, kind: str) -> dict[str, str]:
    """Of a shard's file: what is wrong with which image; empty texts for good ones."""
    if kind == "jsonl":
        rows = [json.loads(line) for line in data.splitlines()]
        return {row["file"]: row["error"] or "" for row in rows}
    from pyarrow import parquet

    columns = parquet.read_table(io.BytesIO(data), columns=["file", "error"]).to_pydict()
    return {file: error or "" for file, error in zip(columns["file"], columns["error"])}


def as_text(name: str) -> str:
    """A file's name as both formats can hold it: bytes that are no text are spelt out."""
    return name.encode("utf-8", "backslashreplace").decode()


def schema() -> Any:
    """The columns of a Parquet shard."""
    import pyarrow as pa

    small = pa.dictionary(pa.int32(), pa.string())
    numbers = [(name, pa.int32()) for name in ("class_id", "category_id")]
    floats = [(name, pa.float32()) for name in ("score", "x1", "y1", "x2", "y2")]
    found = pa.struct([("name", small), *numbers, *floats])
    sizes = [("width", pa.int32()), ("height", pa.int32())]
    return pa.schema([("file", pa.string()), *sizes, ("detections", pa.list_(found)), ("error", pa.string())])


def _columns(looked: Sequence[Looked]) -> list[Any]:
    """The columns of `schema`, built from whole arrays: a Python object a box would cost more than the encoding."""
    import pyarrow as pa

    found = [one.detections for one in looked if one.detections is not None]
    counts = [0 if one.detections is None else len(one.detections) for one in looked]
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(one.boxes for one in found)])
    scores = np.concatenate([np.zeros(0, np.float32), *(one.scores for one in found)])
    ids = np.concatenate([np.zeros(0, np.int64), *(one.class_ids for one in found)]).astype(np.int32)
    names = found[0].class_names if found else ()
    categories = np.asarray((found[0].category_ids if found else None) or range(len(names)), np.int32)
    fields = schema().field("detections").type.value_type
    values = [
        pa.DictionaryArray.from_arrays(pa.array(ids), pa.array(names, pa.string())),
        ids,
        categories[ids],
        scores,
        *boxes.T,
    ]
    arrays = [value if isinstance(value, pa.Array) else pa.array(np.ascontiguousarray(value)) for value in values]
    boundaries = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    sizes = [(None, None) if one.detections is None else one.detections.image_size for one in looked]
    return [
        pa.array([as_text(one.name) for one in looked], pa.string()),
        pa.array([width for _, width in sizes], pa.int32()),
        pa.array([height for height, _ in sizes], pa.int32()),
        pa.ListArray.from_arrays(boundaries, pa.StructArray.from_arrays(arrays, fields=list(fields))),
        pa.array([one.problem or None for one in looked], pa.string()),
    ]


def _row(one: Looked) -> dict[str, Any]:
    row: dict[str, Any] = {"file": as_text(one.name), "width": None, "height": None, "detections": [], "error": None}
    if one.detections is None:
        return row | {"error": one.problem}
    d = one.detections
    height, width = d.image_size
    ids = d.category_ids or range(len(d.class_names))
    # A float32 in its own shortest decimals, 0.7599 and not 0.7598999738693237: it reads back as the same float32.
    numbers = np.concatenate([d.scores[:, None], d.boxes], 1).astype(np.float32).astype(str)
    row["detections"] = [
        {"name": name, "class_id": int(c), "category_id": int(ids[c])}
        | dict(zip(("score", "x1", "y1", "x2", "y2"), map(float, values)))
        for name, c, values in zip(d.names, d.class_ids, numbers)
    ]
    return row | {"width": width, "height": height}
