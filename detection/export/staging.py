"""Files that appear only when they are found good: written into a folder beside their target, checked, then moved."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detection.core.errors import MobileSSDError


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
        files = [path.with_suffix(".bin"), path] if path.suffix == ".xml" else [path]
        for file in files:
            with open(file, "rb+") as written:
                os.fsync(written.fileno())
        if path.suffix == ".xml":
            target.unlink(missing_ok=True)  # never the old description beside the new numbers
        for file in files:
            os.replace(file, target.with_suffix(file.suffix))


def size_of(path: Path) -> int:
    """Bytes of an exported file, an .xml with its .bin."""
    size = path.stat().st_size
    return size + path.with_suffix(".bin").stat().st_size if path.suffix == ".xml" else size


def megabytes(path: Path) -> str:
    """`17.9 MB`."""
    return f"{size_of(path) / 1e6:.1f} MB"
