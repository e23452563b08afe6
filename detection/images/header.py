"""What an image file says about itself, read from its header without decoding a pixel.

Needed before OpenCV sees the bytes: a PNG of a few kilobytes can unfold to 30,000 x 30,000 pixels, and a JPEG that was
cut short decodes to an image whose lower part is grey. Formats: JPEG (ITU T.81), PNG 1.2 with eXIf, WebP (RFC 9649),
GIF89a, BMP, TIFF 6 and BigTIFF; orientation is tag 274 of Exif 2.3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_NOT_OURS = (  # (where, bytes, what it is) of files that people take for images
    (4, b"ftyphei", "a HEIC image: save it as JPEG"),
    (4, b"ftypmif1", "a HEIC image: save it as JPEG"),
    (4, b"ftypavi", "an AVIF image: save it as JPEG or PNG"),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image: save it as JPEG or PNG"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image: save it as JPEG or PNG"),
    (0, b"%PDF", "a PDF document: save its pages as images"),
    (0, b"PK\x03\x04", "a zip archive: unpack it first"),
    (0, b"\x1f\x8b", "a gzip archive: unpack it first"),
    (0, b"8BPS", "a Photoshop file: save it as JPEG or PNG"),
    (0, b"version https://git-lfs", "a Git LFS pointer: fetch the image with `git lfs pull`"),
)


_VIDEOS = (
    (4, b"ftyp", "MP4 or another media file"),
    (4, b"moov", "MOV"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (8, b"AVI LIST", "AVI"),
    (0, b"FLV\x01", "FLV"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF or WMV"),
    (0, b"\x00\x00\x01\xba", "MPEG-PS"),
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "MXF"),
    (0, b"OggS", "Ogg"),
)


@dataclass(frozen=True)
class ImageHeader:
    """kind: jpeg, png, webp, gif, bmp or tiff. width, height: as stored, before the orientation is applied.

    orientation: Exif's 1..8 (1: upright). alpha: there may be transparency. complete: the end of the file is there
    (always True for kinds whose decoder finds that out itself).
    """

    kind: str
    width: int
    height: int
    orientation: int = 1
    alpha: bool = False
    complete: bool = True


def read_header(data: bytes) -> ImageHeader | None:
    """The header of an image; None if the bytes are no image of a known kind.

    Raises ValueError, and nothing else, if it is one, but broken before its size could be read.
    """
    try:
        for signature, parse in _PARSERS:
            if data.startswith(signature):
                return parse(data)
    except (struct.error, IndexError):
        raise ValueError("it ends inside its header") from None
    except ValueError:
        raise
    except Exception:  # an offset of 2^64 is no index, and what else a stranger may write there
        raise ValueError("its header is broken") from None
    return None


def explain_no_image(data: bytes) -> str:
    """What a file is that `read_header` does not know: "a text file", "a HEIC image: save it as JPEG", ..."""
    for where, signature, meaning in _NOT_OURS:
        if data.startswith(signature, where):
            return meaning
    start = data[:512]
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page (a download that failed?)"
    if b"\0" not in start and sum(byte < 32 and byte not in b"\t\r\n\f" for byte in start) == 0:
        return "a text file"
    if kind := video_kind(data):
        return f"a video ({kind})"
    return "of an unknown kind, no JPEG, PNG, WebP, BMP, GIF or TIFF"


def video_kind(data: bytes) -> str | None:
    """The container of a video by its first bytes (400 will do), None for anything else: whatever its name ends in."""
    for where, signature, kind in _VIDEOS:
        if data.startswith(signature, where):
            return kind
    for size, first in ((188, 0), (192, 4)):  # packets of MPEG-TS, also with the time codes of cameras
        if len(data) > first + size and data[first] == data[first + size] == 0x47:
            return "MPEG-TS"
    return None


def gif_is_animated(data: bytes) -> bool:
    """True if a GIF holds more than one frame."""
    try:
        position, frames = 13 + _gif_palette(data[10]), 0
        while data[position] != 0x3B:
            if data[position] == 0x2C:  # an image: descriptor, palette, code size, blocks
                frames += 1
                if frames > 1:
                    return True
                position += 11 + _gif_palette(data[position + 9])
            else:  # an extension: its label, then blocks
                position += 2
            while data[position]:
                position += 1 + data[position]
            position += 1
    except IndexError:  # cut short: what is there counts
        pass
    return False


def _gif_palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _jpeg(data: bytes) -> ImageHeader:
    position, orientation, width, height = 2, 1, 0, 0
    while True:
        while data[position] != 0xFF:  # decoders skip stray bytes between segments
            position += 1
        while data[position] == 0xFF:
            position += 1
        marker = data[position]
        position += 1
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD7:
            continue
        if marker == 0xD9 or (marker == 0xDA and not width):
            raise ValueError("it holds no image")
        (length,) = struct.unpack_from(">H", data, position)
        if marker == 0xDA:
            break
        if marker == 0xE1 and data.startswith(b"Exif\0\0", position + 2) and orientation == 1:
            orientation = _exif_orientation(data[position + 8 : position + length])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, position + 3)
        position += length
    # Nearly all files end with the end-of-image marker. Some carry more after it (a second image, padding), which
    # costs a search; compressed data has its 0xFF stuffed, so that the first marker found is the real one.
    complete = data.endswith(b"\xff\xd9") or data.find(b"\xff\xd9", position) >= 0
    return ImageHeader("jpeg", width, height, orientation, complete=complete)


def _png(data: bytes) -> ImageHeader:
    width, height, _depth, colour = struct.unpack_from(">IIBB", data, 16)
    position, orientation, alpha, complete = 8, 1, colour in (4, 6), False
    while position + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        if name == b"tRNS":
            alpha = True
        elif name == b"eXIf":
            orientation = _exif_orientation(data[position + 8 : position + 8 + length])
        elif name == b"IEND":
            complete = True
            break
        position += 12 + length
    return ImageHeader("png", width, height, orientation, alpha, complete)


def _webp(data: bytes) -> ImageHeader | None:
    if data[8:12] != b"WEBP":
        return None
    kind = data[12:16]
    orientation = 1
    if kind == b"VP8 ":
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", data, 26))
        alpha = False
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height, alpha = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    elif kind == b"VP8X":
        alpha = bool(data[20] & 0x10)
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        position = 12
        while position + 8 <= len(data):
            name, length = struct.unpack_from("<4sI", data, position)
            if name == b"EXIF":
                exif = data[position + 8 : position + 8 + length]
                orientation = _exif_orientation(exif.removeprefix(b"Exif\0\0"))
            position += 8 + length + length % 2
    else:
        raise ValueError("its header is broken")
    (size,) = struct.unpack_from("<I", data, 4)
    return ImageHeader("webp", width, height, orientation, alpha, complete=len(data) >= size + 8)


def _gif(data: bytes) -> ImageHeader:
    return ImageHeader("gif", *struct.unpack_from("<HH", data, 6))


def _bmp(data: bytes) -> ImageHeader:
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size == 12:
        return ImageHeader("bmp", *struct.unpack_from("<HH", data, 18))
    width, height = struct.unpack_from("<ii", data, 18)
    return ImageHeader("bmp", width, abs(height))  # a negative height: rows from the top


def _tiff(data: bytes) -> ImageHeader:
    tags = _tiff_tags(data)
    if 256 not in tags or 257 not in tags:
        raise ValueError("its header is broken")
    # Orientation stays 1: OpenCV applies TIFF's own tag while decoding, whatever it is told.
    return ImageHeader("tiff", tags[256], tags[257])


def _exif_orientation(exif: bytes) -> int:
    try:
        value = _tiff_tags(exif).get(274, 1)
    except Exception:  # a broken note about the image does not break the image
        return 1
    return value if 1 <= value <= 8 else 1


def _tiff_tags(data: bytes) -> dict[int, int]:
    """The whole-number tags of the first directory of a TIFF structure (which Exif is, too)."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ValueError("its header is broken")
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    start, entry, value_at = (start + 8, 20, 12) if big else (start + 2, 12, 8)
    formats = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"} | ({16: "Q", 17: "q"} if big else {})
    tags: dict[int, int] = {}
    for position in range(start, min(start + count * entry, len(data)), entry):
        tag, kind = struct.unpack_from(order + "HH", data, position)
        if (
            kind in formats
        ):  # of a tag that stands twice the first counts, as in libtiff: else the size is not the image's
            tags.setdefault(tag, struct.unpack_from(order + formats[kind], data, position + value_at)[0])
    return tags


_PARSERS = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"RIFF", _webp),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
    (b"BM", _bmp),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
    (b"II+\0", _tiff),
    (b"MM\0+", _tiff),
)
