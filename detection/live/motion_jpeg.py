"""Motion JPEG over HTTP (multipart/x-mixed-replace), frame by frame, each measured before it is decoded.

FFmpeg decodes whatever size a frame says it has: one of 256 megapixels takes 2.5 GB. Part of the process that reads a camera
(reader.py); imports OpenCV when the first frame comes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from detection.live.frame_limit import TooLarge, check_frame
from detection.live.motion import Region, Sieve

LARGEST = 64 << 20  # bytes of a frame
LONGEST_LINE = 1 << 16
TRIES = 3  # frames at the beginning that OpenCV may fail to decode; FFmpeg knows stranger ones


def open_motion_jpeg(address: str, timeout: float = 8.0) -> Any:
    """The open answer of a web camera that sends motion JPEG; None where it sends something else, or nothing."""
    from detection.images.web import open_web

    try:
        # As FFmpeg does with streams: cameras make their certificates themselves.
        answer = open_web(address, timeout, trusting=True)
    except OSError:
        return None
    if answer.headers.get_content_maintype() == "multipart":
        return answer
    with contextlib.suppress(OSError):
        answer.close()
    return None


def frames(answer: Any, sieve: Sieve | None = None) -> Iterator[tuple[Any, float, list[Region] | None]]:
    """(uint8 RGB [H, W, 3], `time.monotonic()` when it had come, where something moves in it) of each frame that can be
    decoded, and is worth it: JPEGs at an eighth of their size, which is much less work, tell in which nothing moves.

    Ends without a frame where the first ones cannot be decoded. Raises TooLarge for one of more pixels than an image may have,
    before it is decoded; OSError where the connection breaks off.
    """
    import cv2

    from detection.errors import BadImageError
    from detection.images.decode import decode_image, imdecode
    from detection.images.header import read_header

    came = failed = 0
    for data in _parts(answer):
        arrived = time.monotonic()
        if came and sieve and not sieve.wants(arrived):
            continue
        moved = None
        try:
            header = read_header(data)
            if header:
                check_frame(header.width, header.height)
            if came and sieve and sieve.on and header:
                small = imdecode(data, cv2.IMREAD_REDUCED_GRAYSCALE_8)
                if small is not None:
                    height, width = (small.shape[0] * 8, small.shape[1] * 8)
                    keep, moved = sieve.keeps(small, (height, width), arrived)
                    if not keep:
                        continue
            image = decode_image(data, "the frame")
        except (BadImageError, ValueError):
            failed += 1
            if not came and failed == TRIES:
                return
            continue
        came += 1
        yield image, arrived, moved


def _parts(answer: Any) -> Iterator[bytes]:
    """The content of each part. Where a length is said it is believed, and else the next boundary ends it."""
    mark = (answer.headers.get_param("boundary") or "").strip("-").encode("latin-1", "replace")

    def is_mark(line: bytes) -> bool:
        return line.startswith(b"--") and line.strip().strip(b"-") == mark.strip(b"-")

    line = answer.readline(LONGEST_LINE)
    while line:
        while line and not is_mark(line):
            line = answer.readline(LONGEST_LINE)
        length = None
        while (line := answer.readline(LONGEST_LINE)).strip():
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length" and value.strip().isdigit():
                length = int(value.strip()[:12])
        if not line:
            return
        if length is not None:
            if length > LARGEST:
                raise TooLarge(
                    f"a frame of it has {length} bytes, more than {LARGEST >> 20} MB: ask it for smaller ones"
                )
            data = answer.read(length)
            if len(data) < length:
                return
            yield data
            line = answer.readline(LONGEST_LINE)
            continue
        found = bytearray()
        while (line := answer.readline(LONGEST_LINE)) and not is_mark(line):
            found += line
            if len(found) > LARGEST:
                raise TooLarge(f"a frame of it has more than {LARGEST >> 20} MB: ask it for smaller ones")
        yield bytes(found.removesuffix(b"\n").removesuffix(b"\r"))
