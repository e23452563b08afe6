"""Whether a video file is all there, told from what its container says about its own length. No frame is decoded.

MP4 and MOV (ISO/IEC 14496-12), Matroska and WebM (RFC 9559), AVI (RIFF), ASF and WMV, FLV, GIF. The others (MPEG-TS, MPEG-PS,
Ogg, raw streams) say nothing: cut short, they are whole files of fewer frames.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

_HEAD = 1 << 16  # bytes in which the length of an ASF or FLV file stands
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # the File Properties Object
_SEGMENT = b"\x18\x53\x80\x67"


def counts_frames(path: str | os.PathLike) -> bool:
    """Whether its container counts the very frames of a video (AVI): what is missing of them is lost, not left out."""
    with open(path, "rb") as file:
        head = file.read(12)
    return head.startswith(b"RIFF") and head.endswith(b"AVI ")


def cut_short(path: str | os.PathLike) -> bool | None:
    """True where the file is shorter than its container says, False where it is as long, None where nothing is said.
    OSError where it cannot be read."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(_HEAD)
        if head.startswith(b"GIF8"):
            file.seek(max(0, size - 1024))
            return not file.read().rstrip(b"\0").endswith(b";")
        try:
            said = _said(file, head, size)
        except (struct.error, IndexError):  # it ends within its own header, or that is damaged
            return None
    return None if said is None else size < said


def _said(file: BinaryIO, head: bytes, size: int) -> int | None:
    """The length in bytes that a file should have at least."""
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return _chunks(file, size, b"RIFF", "<", 8)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return _boxes(file, size)
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return _segment_end(head)
    if head.startswith(_ASF):
        at = head.index(_ASF_FILE) + 40 if _ASF_FILE in head else len(head)
        return struct.unpack_from("<Q", head, at)[0] or None
    if head.startswith(b"FLV"):
        at = head.find(b"\x00\x08filesize\x00")  # a number of onMetaData, big-endian
        return int(struct.unpack_from(">d", head, at + 11)[0]) or None if at >= 0 else None
    return None


def _chunks(file: BinaryIO, size: int, name: bytes, order: str, header: int) -> int | None:
    """The end of the last RIFF chunk; files of more than 1 GB have several."""
    position = 0
    while position + header <= size:
        file.seek(position)
        kind, length = struct.unpack(order + "4sI", file.read(header))
        if kind != name:
            break  # bytes behind the end
        if length in (0, 0xFFFFFFFF):
            return None  # never finished: its writer was killed, or it is a live recording
        position += header + length
    return position


def _boxes(file: BinaryIO, size: int) -> int | None:
    """The end of the last box of an MP4."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length, kind = struct.unpack_from(">I4s", head)
        if length == 1:
            (length,) = struct.unpack_from(">Q", head, 8)
        if not kind.isalnum() or length < 8:  # 0: as far as the file goes; else bytes that are no box
            break
        position += length
    return position


def _segment_end(head: bytes) -> int | None:
    """The end of a Matroska file's segment."""
    at = head.find(_SEGMENT) + 4
    if at < 4:
        return None
    octets = 9 - head[at].bit_length()
    length = int.from_bytes(head[at : at + octets], "big") & ((1 << 7 * octets) - 1)
    unknown = length == (1 << 7 * octets) - 1  # a live recording
    return None if unknown else at + octets + length
