"""TensorFlow checkpoints (`NAME.index` and `NAME.data-00000-of-0000N`) as arrays by key: tensorflow/core/util/tensor_bundle,
whose index is a LevelDB table (table_format.md). No TensorFlow is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from detection.errors import BadWeightsError
from detection.weights.guard import read_beside, read_whole
from detection.weights.importers.folding import LARGEST
from detection.weights.importers.frozen_graph import DTYPES
from detection.weights.importers.schema import parse

FOOTER = 48
MAGIC = 0xDB4775248B80FB57
STRING = 7  # types.proto
LARGEST_INDEX = 1 << 24  # bytes: keys and places alone
MOST_KEYS, LONGEST_KEY = 100_000, 4096


class TensorBundle:
    """The arrays of a checkpoint, each read when it is asked for."""

    def __init__(self, index: Path) -> None:
        """index: NAME.index. Raises BadWeightsError, one line, where it is none."""
        self.index = index
        data = read_whole(index, LARGEST_INDEX, "the index of a TensorFlow checkpoint")
        if len(data) < FOOTER or int.from_bytes(data[-8:], "little") != MAGIC:
            raise BadWeightsError(f"{index}: no index of a TensorFlow checkpoint, or cut short; fetch it again")
        footer, at = data[-FOOTER:], 0
        for _ in range(2):  # the handle of the metaindex, which is empty
            _, at = _varint(footer, at)
        offset, at = _varint(footer, at)
        size, _ = _varint(footer, at)
        self._entries: dict[str, bytes] = {}
        shards = 1
        for _, handle in _block(data, offset, size, index):
            offset, at = _varint(handle, 0)
            size, _ = _varint(handle, at)
            for key, value in _block(data, offset, size, index):
                if len(self._entries) >= MOST_KEYS or len(key) > LONGEST_KEY or key.decode("utf-8", "replace") in self:
                    raise BadWeightsError(f"{index}: its keys are too many, too long, or one stands there twice")
                if key:
                    self._entries[key.decode("utf-8", "replace")] = value
                else:
                    shards = parse(value, "BundleHeader", index, "TensorFlow checkpoint").num_shards
        self._shards = shards

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def keys(self) -> list[str]:
        return list(self._entries)

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(dim.size for dim in self._entry(key).shape.dim)

    def array(self, key: str) -> np.ndarray:
        """Raises BadWeightsError, one line, for a shard that is missing or short, or a type that no weights have."""
        entry, shape = self._entry(key), self.shape(key)
        if entry.dtype not in DTYPES or entry.sliced or min(shape, default=0) < 0 or math.prod(shape) > LARGEST:
            raise BadWeightsError(f"{self.index}: {key} is stored in a way that is not supported")
        dtype = np.dtype(DTYPES[entry.dtype][0])
        if entry.size != math.prod(shape) * dtype.itemsize:
            raise BadWeightsError(
                f"{self.index}: {key} of shape {list(shape)} holds {entry.size} bytes; fetch it again"
            )
        return np.frombuffer(self._bytes(key), dtype.newbyteorder("<")).astype(dtype).reshape(shape)

    def text(self, key: str) -> bytes:
        """A single string: its length, a checksum of that, and its bytes. Raises BadWeightsError, one line."""
        data = self._bytes(key)
        length, at = _varint(data, 0)
        if self._entry(key).dtype != STRING or len(data) != at + 4 + length:
            raise BadWeightsError(f"{self.index}: {key} is stored in a way that is not supported")
        return data[at + 4 :]

    def _bytes(self, key: str) -> bytes:
        entry = self._entry(key)
        shard = f"{self.index.stem}.data-{entry.shard_id:05}-of-{self._shards:05}"
        data = read_beside(self.index, shard, entry.size, entry.offset)
        if len(data) != entry.size:
            raise BadWeightsError(f"{self.index}: {shard} ends before {key}; fetch it again")
        return data

    def _entry(self, key: str) -> Any:
        if key not in self._entries:
            raise BadWeightsError(f"{self.index}: {key} is missing")
        return parse(self._entries[key], "BundleEntry", self.index, "TensorFlow checkpoint")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _block(data: bytes, offset: int, size: int, index: Path) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a block: each key says how much of the one before it shares."""
    if data[offset + size] != 0:
        raise BadWeightsError(f"{index}: is compressed, which TensorFlow's own checkpoints are not")
    block = data[offset : offset + size]
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        at += fresh
        yield key, block[at : at + length]
        at += length
