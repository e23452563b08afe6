"""Images with their boxes drawn on them, under names that never collide."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from detection.boxes.drawing import LONGEST
from detection.errors import MobileSSDError
from detection.images.sources import Source


class OutputNames:
    """Hands out the paths of drawn files below `folder`, no two alike and none that is a source.

    Images from subfolders keep their place. Where two sources have the same name the second becomes `name-2.jpg`.
    The same command run again gives the same names.
    """

    def __init__(self, folder: str | os.PathLike, sources: Iterable[Source]) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise MobileSSDError(f"{self.folder}: is a file: name a folder for the drawn images")
        self._taken = {_same(source.path) for source in sources}

    def path_for(self, source: Source, suffix: str) -> Path:
        """Where the drawing of `source` goes, with the ending `suffix`."""
        wished = self.folder / source.relative.with_suffix(suffix)
        path, number = wished, 1
        while _same(path) in self._taken:
            number += 1
            path = wished.with_name(f"{wished.stem}-{number}{suffix}")
        self._taken.add(_same(path))
        return path


def _same(path: Path) -> str:
    return os.path.realpath(path).casefold()  # some file systems do not tell upper case from lower


def image_suffix(source: Source, size: tuple[int, int]) -> str:
    """The ending of a drawn image of `size` (height, width): that of the source where every program reads it, else .jpg;
    .png where neither takes an image as long as this one.
    """
    suffix = source.ending
    if suffix not in LONGEST:
        suffix = ".jpg"
    return suffix if max(size) <= LONGEST[suffix] else ".png"
