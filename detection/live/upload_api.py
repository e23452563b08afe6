"""Detection for visitors: images sent to `POST /detect`, and frames of their own cameras. Never ahead of the cameras.

One thread works for all visitors, with a network request of its own beside that of the cameras; a queue that is full
says so at once, in the place of making everybody wait.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from detection.boxes.detections import Detections
from detection.errors import BadImageError
from detection.images.decode import MAX_PIXELS, decode_image
from detection.images.header import read_header

LARGEST_IMAGE = 32 << 20  # bytes
TOO_LARGE = f"the image is larger than {LARGEST_IMAGE >> 20} MB: make it smaller"
LONGEST_QUEUE = 64
DRAIN = 1 << 30  # bytes of a body that is too large that are read before the answer, so that the answer arrives


class Refused(Exception):
    """status: the HTTP status. Its text is one line for people."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class UploadApi:
    """answers: how many requests ended with which HTTP status. seconds: of detection, in sum."""

    def __init__(self, detector: Any) -> None:
        self._detector = detector
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="visitors")
        self.waiting = 0
        self.answers: Counter[int] = Counter()
        self.seconds = 0.0

    async def detect(self, data: bytes, name: str = "the image") -> Detections:
        """What is in an encoded image. Raises Refused."""
        if self.waiting >= LONGEST_QUEUE:
            raise Refused(503, "too many images are waiting: try again in a second")
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._detect, data, name)
        finally:
            self.waiting -= 1

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _detect(self, data: bytes, name: str) -> Detections:
        image = _decode(data, name)
        begin = time.perf_counter()
        found = self._detector(image)
        self.seconds += time.perf_counter() - begin
        return found


def _decode(data: bytes, name: str) -> Any:
    if not data:
        raise Refused(400, "the body is empty: send the image's bytes, as in curl --data-binary @dog.jpg")
    try:
        return decode_image(data, name)
    except BadImageError as error:
        raise Refused(_status_of(data), str(error)) from None
    except MemoryError:
        raise Refused(413, f"{name}: is too large for this machine's memory") from None


def _status_of(data: bytes) -> int:
    """415: no image of a known kind. 413: too many pixels. 422: an image, but a broken one."""
    try:
        header = read_header(data)
    except ValueError:
        return 422
    if header is None:
        return 415
    return 413 if header.width * header.height > MAX_PIXELS else 422


async def read_body(request: Any, most: int = LARGEST_IMAGE, words: str = TOO_LARGE) -> bytes:
    """The body of a starlette request, up to `most` bytes. Raises Refused, with `words` for what is larger.

    What is too large is read on and thrown away for a while: whoever is still sending would see a broken connection in
    the place of the answer.
    """
    refusal = Refused(413, words)
    said = request.headers.get("content-length", "")
    too_large = said.isdecimal() and int(said) > most
    if too_large and "expect" in request.headers:  # it waits for our word before it sends
        raise refusal
    data, length, until = bytearray(), 0, time.monotonic() + 20
    async for chunk in request.stream():
        length += len(chunk)
        if length > most or too_large:
            too_large = True
            data.clear()
            if length > DRAIN or time.monotonic() > until:
                break
        else:
            data += chunk
    if too_large:
        raise refusal
    return bytes(data)
