"""Image files: their size without decoding them, and a decode that is bounded in size."""

from __future__ import annotations

import os
from dataclasses import dataclass

import cv2
import numpy as np

from detection.errors import BadImageError
from detection.files import open_regular
from detection.images import header as image_header
from detection.images.decode import MAX_PIXELS, decode_image, imdecode, read_file
from detection.images.preprocess import halved, halvings

# A JPEG decoded at a half, a quarter, an eighth of its size: by the number of halvings.
REDUCED = {1: cv2.IMREAD_REDUCED_COLOR_2, 2: cv2.IMREAD_REDUCED_COLOR_4, 3: cv2.IMREAD_REDUCED_COLOR_8}
HEAD = 1 << 20  # of a larger file only this much is read for its header, and its last bytes


@dataclass(frozen=True)
class Header:
    """What the head of an image file says. height, width: as displayed, after EXIF. orientation: EXIF's 1..8."""

    height: int
    width: int
    orientation: int = 1


def read_header(path: str | os.PathLike) -> Header:
    """Size and EXIF orientation of an image, without decoding it; a file that is cut short is found out.

    Raises BadImageError, FileNotFoundError.
    """
    try:
        with open_regular(path) as file:
            data = file.read(HEAD)
            if os.fstat(file.fileno()).st_size > len(data):
                file.seek(-64, os.SEEK_END)
                head = image_header.read_header(data + file.read())
                if head is None or not head.complete:  # not to be told from both ends
                    file.seek(0)
                    head = image_header.read_header(file.read())
            else:
                head = image_header.read_header(data)
    except ValueError as error:
        raise BadImageError(f"{path}: a broken image ({error})") from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadImageError(f"{path}: cannot be read ({error.strerror or error})") from None
    if head is None:
        what = image_header.explain_no_image(data) if data else "empty (0 bytes)"
        raise BadImageError(f"{path}: no image but {what}" if data else f"{path}: {what}")
    if not head.complete:
        raise BadImageError(f"{path}: cut short (its end is missing)")
    if not 0 < min(head.width, head.height) <= max(head.width, head.height) < 1 << 31:
        raise BadImageError(f"{path}: a broken image (it says that it has {head.width} x {head.height} pixels)")
    if head.orientation >= 5:
        return Header(head.width, head.height, head.orientation)
    return Header(head.height, head.width, head.orientation)


def size_or_zero(path: str | os.PathLike) -> tuple[int, int]:
    """(height, width) of an image as displayed; zeros where it cannot be read."""
    try:
        header = read_header(path)
    except (BadImageError, OSError):
        return 0, 0
    return header.height, header.width


def load_image(path: str | os.PathLike, input_size: tuple[int, int]) -> np.ndarray:
    """An image as uint8 RGB, EXIF applied, as large as `images.preprocess.halved` leaves it for a network of `input_size`
    (height, width). Raises BadImageError.

    A JPEG is decoded at that size at once, for half of the time: libjpeg draws the small image from the low frequencies of
    each block, where `halved` averages pixels. At an input of 300 pixels the two differ by 0.4 of 255 on the mean, and by
    0.0004 in AP (0.3842 and 0.3846: benchmarks/large_photographs.py, 100 photographs of 12 megapixels).
    """
    data = read_file(path)
    try:
        head = image_header.read_header(data)
    except ValueError:
        head = None  # `decode_image` says what is wrong
    if head is not None and head.kind == "jpeg" and head.complete and head.width * head.height <= MAX_PIXELS:
        sides = (head.width, head.height) if head.orientation >= 5 else (head.height, head.width)
        times = min(halvings(sides, input_size), max(REDUCED))
        if times and (bgr := imdecode(data, REDUCED[times])) is not None:
            whole = bgr[: sides[0] >> times, : sides[1] >> times]  # libjpeg rounds up
            return halved(cv2.cvtColor(whole, cv2.COLOR_BGR2RGB), input_size)
    return halved(decode_image(data, path), input_size)
