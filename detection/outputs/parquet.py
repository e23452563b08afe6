"""Parquet: a shard of a bulk run, a row for each image; pyarrow is imported when the first one is written."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from detection.outputs import Record
from detection.outputs.json_lines import as_text


def encode(records: Sequence[Record]) -> bytes:
    """A shard's file; its columns stand in `detection.bulk.shards`."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table(_columns(records), schema=schema())
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def errors_in(data: bytes) -> dict[str, str]:
    """Of a shard's file: what is wrong with which image; empty texts for good ones."""
    from pyarrow import parquet

    columns = parquet.read_table(io.BytesIO(data), columns=["file", "error"]).to_pydict()
    return {file: error or "" for file, error in zip(columns["file"], columns["error"])}


def schema() -> Any:
    """The columns of a Parquet shard."""
    import pyarrow as pa

    small = pa.dictionary(pa.int32(), pa.string())
    numbers = [(name, pa.int32()) for name in ("class_id", "category_id")]
    floats = [(name, pa.float32()) for name in ("score", "x1", "y1", "x2", "y2")]
    found = pa.struct([("name", small), *numbers, *floats])
    sizes = [("width", pa.int32()), ("height", pa.int32())]
    return pa.schema([("file", pa.string()), *sizes, ("detections", pa.list_(found)), ("error", pa.string())])


def _columns(records: Sequence[Record]) -> list[Any]:
    """The columns of `schema`, built from whole arrays: a Python object a box would cost more than the encoding."""
    import pyarrow as pa

    found = [one.detections for one in records if one.detections is not None]
    counts = [0 if one.detections is None else len(one.detections) for one in records]
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
    sizes = [(None, None) if one.detections is None else one.detections.image_size for one in records]
    return [
        pa.array([as_text(one.name) for one in records], pa.string()),
        pa.array([width for _, width in sizes], pa.int32()),
        pa.array([height for height, _ in sizes], pa.int32()),
        pa.ListArray.from_arrays(boundaries, pa.StructArray.from_arrays(arrays, fields=list(fields))),
        pa.array([one.problem or None for one in records], pa.string()),
    ]
