"""Cameras that give one still image for each request: asked again and again, a stream of frames like any other."""

from __future__ import annotations

import json
import time

from detection.errors import MobileSSDError
from detection.live.motion import Sieve, reduced
from detection.live.reader_messages import FRAME, HELLO, CannotOpen, Frame, Send

SNAPSHOT_PAUSE = 0.2  # seconds at least between two requests for a still image
SNAPSHOT_TRIES = 3  # in a row that may fail
SNAPSHOT_LARGEST = 64 << 20


def no_snapshot(address: str) -> str | None:
    """None where a web address gives one still image for each request; else why it does not."""
    from detection.images.web import open_web

    try:
        with open_web(address, timeout=8, trusting=True) as answer:
            kind = answer.headers.get_content_maintype()
            if kind == "image":
                return None
            # Some cameras say nothing, or that it is a text.
            start = b"" if kind in ("multipart", "video") else answer.read(16)
            return None if start.startswith((b"\xff\xd8\xff", b"\x89PNG")) else ""
    except OSError as error:
        return str(error)


def poll(address: str, sieve: Sieve, send: Send) -> None:
    """Asks for a still image again and again, as fast as it comes, at most every SNAPSHOT_PAUSE."""
    from detection.images.decode import decode_image
    from detection.images.web import open_web

    index = failed = 0
    while True:
        began = time.monotonic()
        try:
            # As FFmpeg does with streams: cameras make their certificates themselves.
            with open_web(address, timeout=8, trusting=True) as answer:
                data = answer.read(SNAPSHOT_LARGEST)
            image, arrived = decode_image(data, "the snapshot"), time.monotonic()
        except (OSError, MobileSSDError) as error:
            failed += 1
            if failed == SNAPSHOT_TRIES:
                raise CannotOpen(f"no snapshot: {error}") from None
            time.sleep(0.5)
            continue
        failed = 0
        keep, moved = sieve.keeps(reduced(image), image.shape, arrived) if sieve.on else (True, None)
        if keep:
            if not index:
                send(HELLO, json.dumps({"fps": 1 / max(SNAPSHOT_PAUSE, arrived - began), "count": 0}).encode())
            frame = Frame(image, index, arrived, moved=moved)
            send(FRAME, memoryview(frame.image).cast("B"), frame)
            index += 1
        time.sleep(max(0.0, began + SNAPSHOT_PAUSE - time.monotonic()))
