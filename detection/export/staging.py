"""Files that appear only when they are found good: written into a folder beside their target, checked, then moved."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from detection.errors import MobileSSDError
from detection.weights.formats import by_ending


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A path of the same name in a folder of its own beside `target`. On a clean exit what was written there (an .xml
    with its .bin) takes its place at `target`; on an exception nothing is left, and an older file stays as it was."""
    if target.is_dir():
        raise MobileSSDError(f"{target}: is a folder: name a file in it")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".exporting-") as folder:
        path = Path(folder) / target.name
        yield path
        files = files_of(path)[::-1]  # the one that a reader looks for last
        for file in files:
            with open(file, "rb+") as written:
                os.fsync(written.fileno())
        if len(files) > 1:
            target.unlink(missing_ok=True)  # never the old description beside the new numbers
        for file in files:
            os.replace(file, target.with_suffix(file.suffix))


@contextmanager
def staged_folder(target: Path, parts: Sequence[str]) -> Iterator[Path]:
    """An empty folder beside `target`, which takes its place on a clean exit; on an exception nothing is left. An older
    folder is replaced where it holds nothing but files of the names `parts`, else MobileSSDError is raised at once."""
    if target.is_file():
        raise MobileSSDError(f"{target}: is a file; name a folder")
    if target.is_dir() and (others := sorted({p.name for p in target.iterdir()} - set(parts))):
        raise MobileSSDError(f"{target}: holds other files ({others[0]}); name a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".exporting-") as temporary:
        place = Path(temporary) / "folder"
        place.mkdir()
        yield place
        if target.is_dir():
            for name in parts:
                (target / name).unlink(missing_ok=True)
            target.rmdir()
        os.replace(place, target)


def files_of(path: Path) -> list[Path]:
    """An exported file and, behind it, the one that belongs to it."""
    format = by_ending(path)
    return [path] if format is None else format.files(path)


def size_of(path: Path) -> int:
    """Bytes of an exported file, an .xml with its .bin."""
    return sum(file.stat().st_size for file in files_of(path))


def megabytes(path: Path) -> str:
    """`17.9 MB`."""
    return f"{size_of(path) / 1e6:.1f} MB"
