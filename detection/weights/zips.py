"""Zips of anybody, opened with a limit of what lies in them: the directory is read whole before one member is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from detection.errors import BadWeightsError
from detection.files import open_regular

if TYPE_CHECKING:
    import zipfile

MOST_MEMBERS = 10_000
LARGEST_DIRECTORY = 1 << 22  # bytes


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip for reading. Raises BadWeightsError, one line, for one of more members than weights have; zipfile.BadZipFile and
    OSError as `ZipFile` does."""
    import zipfile  # not for a start with weights of our own

    with open_regular(path) as file:
        limited = _Limited(file, path)
        with zipfile.ZipFile(limited) as archive:  # type: ignore[call-overload]
            limited.most = None
            if (number := len(archive.filelist)) > MOST_MEMBERS:
                raise BadWeightsError(
                    f"{path}: a zip of {number:,} members, more than any weights have ({MOST_MEMBERS:,})"
                )
            yield archive


class _Limited:
    """A file of which no more than `most` bytes are read at once, as long as that is a number."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self.most: int | None = LARGEST_DIRECTORY
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if self.most is not None and size > self.most:
            raise BadWeightsError(
                f"{self._path}: a zip whose directory has {size:,} bytes, more than any ({self.most:,})"
            )
        return self._file.read(size)

    def close(self) -> None:
        pass
