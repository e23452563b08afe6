"""Images with their boxes drawn on them, under names that never collide."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from detection.errors import MobileSSDError
from detection.files import atomic_write
from detection.images.sources import Source

LONGEST = {".jpg": 65_500, ".jpeg": 65_500, ".png": 10**9, ".webp": 16_383}  # pixels of a side that a format can hold


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


def image_suffix(source: Source, image: np.ndarray) -> str:
    """The ending of a drawn image: that of the source where every program reads it, else .jpg; .png where neither
    takes an image as long as this one.
    """
    suffix = source.ending
    if suffix not in LONGEST:
        suffix = ".jpg"
    return suffix if max(image.shape) <= LONGEST[suffix] else ".png"


def save_image(image: np.ndarray, path: Path) -> None:
    """Writes uint8 RGB [H, W, 3] to `path`, atomically; quality 92 where the kind has one."""
    options = {".png": [], ".webp": [cv2.IMWRITE_WEBP_QUALITY, 92]}.get(path.suffix, [cv2.IMWRITE_JPEG_QUALITY, 92])
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    with atomic_write(path) as temporary:
        temporary.write_bytes(data.tobytes())
