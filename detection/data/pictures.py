"""Picture files: which names are pictures, their size without decoding them, and a decode that is bounded in size.

Imports `detection.core.preprocess` for the decoding itself; Pillow, for headers only, inside the function that uses it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from detection.core.errors import BadPictureError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".jpe", ".jp2")
REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


@dataclass(frozen=True)
class Header:
    """What the head of a picture file says. height, width: as displayed, after EXIF. orientation: EXIF's 1..8."""

    height: int
    width: int
    orientation: int = 1

    @property
    def raw_size(self) -> tuple[int, int]:
        """(height, width) as stored, before the EXIF rotation."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def read_header(path: str | os.PathLike) -> Header:
    """Size and EXIF orientation of a picture, without decoding it. Raises BadPictureError, FileNotFoundError."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about very large pictures and odd metadata; the decoder judges those
            with Image.open(path) as picture:
                width, height = picture.size
                turned = "exif" in picture.info or picture.format == "TIFF"  # getexif decodes a PNG that has none
                orientation = int(picture.getexif().get(0x0112, 1)) if turned else 1
    except FileNotFoundError:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
        raise BadPictureError(f"{path}: no picture that can be read ({_first_line(error)})") from None
    orientation = orientation if 1 <= orientation <= 8 else 1
    return Header(width, height, orientation) if orientation >= 5 else Header(height, width, orientation)


def load_picture(path: str | os.PathLike, max_side: int | None = None) -> np.ndarray:
    """A picture as uint8 RGB [H, W, 3], EXIF applied. Raises BadPictureError.

    With `max_side` a JPEG is decoded at 1/2, 1/4 or 1/8 of its size while its longer side stays at least `max_side`:
    a photograph of 12 megapixels then costs a fraction of the time, which a network of 300 pixels cannot tell.
    """
    from detection.core.preprocess import read_image

    if max_side is not None and os.path.splitext(path)[1].lower() in (".jpg", ".jpeg", ".jpe"):
        try:
            longer = max(read_header(path).raw_size)
        except FileNotFoundError:
            longer = 0
        factor = max((f for f in REDUCED if longer / f >= max_side), default=1)
        if factor > 1 and (bgr := cv2.imread(os.fspath(path), REDUCED[factor])) is not None:
            return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return read_image(path)


def find_pictures(folder: str | os.PathLike) -> list[Path]:
    """All picture files below a folder, sorted by path; hidden ones are left out."""
    found = []
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in files if is_picture(name)]
    return sorted(found)


def is_picture(name: str) -> bool:
    """By its extension; macOS's hidden `._` companions are no pictures."""
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


class PictureFinder:
    """Finds the file of an annotated picture in a folder: by its name, else by its stem with another extension.

    Annotations often survive a conversion of the pictures (`.jpg` written in the XML, `.webp` on the disk). The folder
    is listed once.
    """

    def __init__(self, *folders: str | os.PathLike):
        self.folders = [Path(folder) for folder in folders]
        self.listed: list[tuple[set[str], dict[str, str]]] | None = None

    def find(self, name: str) -> Path:
        """The file; where there is none, the path at which it was looked for first (the check reports it missing)."""
        if self.listed is None:
            names = [_names_in(folder) for folder in self.folders]
            self.listed = [(set(found), {os.path.splitext(n)[0]: n for n in found if is_picture(n)}) for found in names]
        stem = name if not is_picture(name) else os.path.splitext(name)[0]
        for folder, (names, stems) in zip(self.folders, self.listed):
            if name in names:
                return folder / name
            if stem in stems:
                return folder / stems[stem]
            if "/" in name and (folder / name).exists():
                return folder / name
        return self.folders[0] / name


def _names_in(folder: Path) -> Iterable[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
