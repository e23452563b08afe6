"""Which shards of a folder are whole: by the sizes and sums that its manifest holds. A shard that the manifest does not know
yet (a kill came between the two) is read."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable
from dataclasses import replace

from detection.bulk.folder import Folder
from detection.bulk.manifest import NAME, Manifest, read
from detection.bulk.shards import FORMATS, Shard, file_name

EVERY = 5.0  # seconds between two writes of the manifest


class Finished:
    """The shards that are finished, and their notes in the manifest of `folder`; `manifest`: of this run."""

    def __init__(self, folder: Folder, manifest: Manifest, kind: str) -> None:
        self._folder, self._manifest, self._kind = folder, manifest, kind
        self._known = dict(read(folder).finished)
        self._written = time.monotonic()
        self._changed = False

    def whole(self, shards: Iterable[Shard], sizes: dict[str, int]) -> tuple[set[int], list[str]]:
        """(the numbers of the shards that are there and whole, the names of those that are there and are not). sizes: of
        the files in the folder. Sums are compared where the files lie on this machine."""
        good, damaged = set[int](), list[str]()
        for shard in shards:
            name = file_name(shard.index, self._kind)
            if name not in sizes:
                self._known.pop(name, None)
            elif self._is_whole(shard, name, sizes[name]):
                good.add(shard.index)
            else:
                damaged.append(name)
                self._known.pop(name, None)
        return good, damaged

    def _is_whole(self, shard: Shard, name: str, size: int) -> bool:
        if (note := self._known.get(name)) is not None:
            return size == note[0] and (not self._folder.near or _sum(self._folder.read(name)) == note[1])
        data = self._folder.read(name)
        try:
            rows = FORMATS[self._kind].errors_in(data)
        except Exception:  # what JSON and Parquet say of half a file
            return False
        if len(rows) != len(shard.names):
            return False
        self.add(name, data)
        return True

    def add(self, name: str, data: bytes) -> None:
        """Notes a shard that was just written."""
        self._known[name] = len(data), _sum(data)
        self._changed = True
        if time.monotonic() - self._written > EVERY:
            self.write()

    def write(self) -> None:
        """Writes the manifest, if there is something new in it."""
        if self._changed:
            known = {name: self._known[name] for name in sorted(self._known)}
            self._folder.write(NAME, replace(self._manifest, finished=known).to_json().encode())
            self._written, self._changed = time.monotonic(), False


def _sum(data: bytes) -> str:
    return f"{zlib.crc32(data):08x}"  # finds faults of disks, not of people
