"""From an image file or its bytes to upright RGB pixels, in one way for every command."""

from __future__ import annotations

import os
import stat

import cv2
import numpy as np

from detection.errors import BadImageError, shown
from detection.images.addresses import fetch, is_address
from detection.images.header import ImageHeader, explain_no_image, read_header

MAX_PIXELS = 100_000_000  # 100 megapixels: beyond any camera's single shot, 300 MB once decoded
STRIP = 64  # rows at once of an image with transparency

# JPEG is OpenCV's own libjpeg-turbo. simplejpeg 1.9 gives the same pixels in 0.88 of the time, PyTurboJPEG 1.8 in 0.92 (COCO
# photographs, OpenCV 5.0, AMD EPYC, one thread, 1.03 ms an image with OpenCV): of a folder, where decoding is a quarter of the
# work, 3 %, which is not worth a second decoder.
# Decodes straight to RGB where this OpenCV can (4.11 and newer); the same bits as BGR with the channels swapped.
_TO_RGB = getattr(cv2, "IMREAD_COLOR_RGB", None)


def read_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads an image from a file, or from an address (s3://...): uint8 RGB [H, W, 3], upright.

    JPEG (also grey and CMYK), PNG (also grey, palette, 16 bits), WebP, BMP, GIF and TIFF; of several frames the first.
    Exif's orientation is applied. 16-bit channels are scaled to 8. Transparent parts show white, as on a page (in TIFF
    black, as libtiff multiplies them).

    Raises BadImageError, one line with the file's name and the way out, if the file is missing, a folder, empty, no
    image, cut short, broken, or of more than `max_pixels` (known from its header, before anything is decoded).
    MobileSSDError where a store does not answer.
    """
    return decode_image(read_file(path, max_pixels), path, max_pixels)


def read_file(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> bytes:
    """The content of an image file, or of an address, as it is. Raises as `read_image` for what cannot be read at all."""
    name = os.fspath(path)
    if is_address(name):
        return fetch(name)
    try:
        status = os.stat(name)
        if stat.S_ISDIR(status.st_mode):
            raise _bad(name, "is a folder, not an image: name one of its files")
        if not stat.S_ISREG(status.st_mode):
            raise _bad(name, "is no regular file: save the image to a file first")
        if status.st_size > 8 * max_pixels + (64 << 20):  # 4 channels of 16 bits, uncompressed
            raise _bad(name, f"is larger than any image of {max_pixels / 1e6:g} megapixels: make it smaller")
        with open(name, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise _bad(name, "no such file: check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise _bad(name, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


def decoded_bytes(data: bytes) -> int:
    """The memory that `decode_image` takes for these bytes of an image file, at most; 0 for what it refuses."""
    try:
        header = read_header(data)
    except ValueError:
        return 0
    pixels = max(header.width, 0) * max(header.height, 0) if header else 0
    return 0 if header is None or pixels > MAX_PIXELS else pixels * (11 if header.alpha else 3)  # 16 bits, 4 channels


def check_pixels(width: float, height: float, name: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> None:
    """Raises BadImageError for an image or frame that is too large, before any memory is taken for it."""
    if width * height > max_pixels:
        size, limit = f"{width:.0f} x {height:.0f}", f"{max_pixels / 1e6:g} megapixels"
        raise _bad(name, f"has {size} pixels, more than {limit}: make it smaller or cut it up")


def decode_image(data: bytes, name: str | os.PathLike = "image", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes the bytes of an image file; `name` is what errors call it. Otherwise as `read_image`."""
    header = _checked_header(data, name, max_pixels)
    pixels = _decode_alpha(data) if header.alpha else None
    if pixels is None:
        # Turning it here, and not in OpenCV, makes PNG and WebP equal to JPEG in every OpenCV version. TIFF is the
        # exception: told to ignore the orientation, OpenCV returns its rows mirrored.
        keep = 0 if header.kind == "tiff" else cv2.IMREAD_IGNORE_ORIENTATION
        pixels = imdecode(data, (cv2.IMREAD_COLOR if _TO_RGB is None else _TO_RGB) | keep)
        if pixels is None:
            raise _bad(
                name, f"is a broken {_KINDS[header.kind]}, or of a variant that OpenCV cannot read: save it anew"
            )
        if _TO_RGB is None:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return upright(pixels, header.orientation)


_KINDS = {"jpeg": "JPEG", "png": "PNG", "webp": "WebP", "gif": "GIF", "bmp": "BMP", "tiff": "TIFF"}


def _checked_header(data: bytes, name: str | os.PathLike, max_pixels: int) -> ImageHeader:
    if not data:
        raise _bad(name, "is empty (0 bytes): fetch it again")
    try:
        header = read_header(data)
    except ValueError as error:
        raise _bad(name, f"is cut short or broken ({error}): fetch it again") from None
    if header is None:
        raise _bad(name, f"is no image but {explain_no_image(data)}")
    if header.width < 1 or header.height < 1:
        raise _bad(name, f"says that it has {header.width} x {header.height} pixels: save it anew")
    check_pixels(header.width, header.height, name, max_pixels)
    if not header.complete:
        raise _bad(name, f"is a {_KINDS[header.kind]} cut short (its end is missing): fetch it again")
    return header


def _decode_alpha(data: bytes) -> np.ndarray | None:
    """RGB on a white page from an image with transparency; None if OpenCV finds none in it after all."""
    pixels = imdecode(data, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 4:
        return None
    rgb = np.empty((*pixels.shape[:2], 3), np.uint8)
    for top in range(0, len(pixels), STRIP):  # of 100 megapixels, each copy of the whole would be half a gigabyte
        strip = pixels[top : top + STRIP]
        if strip.dtype == np.uint16:
            strip = (strip >> 8).astype(np.uint8)  # what OpenCV does with opaque 16-bit images
        rgb[top : top + STRIP] = on_white(strip[..., [2, 1, 0, 3]])
    return rgb


def on_white(rgba: np.ndarray) -> np.ndarray:
    """uint8 RGBA [H, W, 4] -> RGB [H, W, 3] as on a white page."""
    alpha: np.ndarray = rgba[..., 3:].astype(np.uint16)
    colour: np.ndarray = rgba[..., :3].astype(np.uint16)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def imdecode(data: bytes, flags: int) -> np.ndarray | None:
    """`cv2.imdecode`, and None for whatever it raises; `flags` are its own."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except Exception:  # cv2.error, and whatever else a decoder makes of a stranger's bytes (no memory)
        return None


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies Exif's orientation: 1 upright, 2 mirrored, 3 upside down, 4 both, 5-8 the same with sides exchanged."""
    if orientation in (5, 6, 7, 8):
        pixels = cv2.transpose(pixels)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return pixels if flip is None else cv2.flip(pixels, flip)


def _bad(name: str | os.PathLike, what: str) -> BadImageError:
    return BadImageError(f"{shown(name)}: {what}")
