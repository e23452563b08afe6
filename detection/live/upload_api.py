"""Detection for visitors: images sent to `POST /detect`, and frames of their own cameras. Never ahead of the cameras.

One thread works for all visitors, with a network request of its own beside that of the cameras; a queue that is full
says so at once, in the place of making everybody wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
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
BODIES = 96 << 20  # bytes of all bodies that are held at once
QUIET_SECONDS = 10.0  # without a byte, after which a body is cut off
SLOWEST = 16_000  # bytes a second that a body must come with in the long run, after QUIET_SECONDS


class Refused(Exception):
    """status: the HTTP status. Its text is one line for people."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class _Body:
    """A body on its way. whole: it is all there. cut: it had to give way to others."""

    def __init__(self) -> None:
        self.chunks, self.length, self.began = list[bytes](), 0, time.monotonic()
        self.whole = self.cut = False

    @property
    def rate(self) -> float:
        return self.length / max(time.monotonic() - self.began, 1e-3)


class Bodies:
    """The bodies of all requests: limited in size each and in sum, and in how slowly they may come."""

    def __init__(self, most: int = BODIES) -> None:
        self.most, self.held = most, 0
        self._open: list[_Body] = []

    @contextlib.asynccontextmanager
    async def read(self, request: Any, most: int = LARGEST_IMAGE, words: str = TOO_LARGE) -> AsyncIterator[bytes]:
        """The body of a starlette request, up to `most` bytes, held until the block ends.

        Raises Refused: 413, with `words`, for what is larger; 408 for what comes too slowly; 503 where there is no room.
        What is too large is read on and thrown away for a while: whoever is still sending would see a broken connection
        in the place of the answer.
        """
        body = _Body()
        self._open.append(body)
        try:
            await self._fill(body, request, most, words)
            body.whole = True
            data = b"".join(body.chunks)
            body.chunks.clear()
            yield data
        finally:
            self._drop(body)
            self._open.remove(body)

    async def _fill(self, body: _Body, request: Any, most: int, words: str) -> None:
        refusal = Refused(413, words)
        said = request.headers.get("content-length", "")
        too_large = said.isdecimal() and int(said[:20]) > most
        if too_large and "expect" in request.headers:  # it waits for our word before it sends
            raise refusal
        length, chunks = 0, request.stream()
        while True:
            due = body.began + (20 if too_large else QUIET_SECONDS + length / SLOWEST)
            patience = min(due - time.monotonic(), QUIET_SECONDS)
            try:
                chunk = await asyncio.wait_for(anext(chunks), max(patience, 0.01))
            except StopAsyncIteration:
                break
            except asyncio.TimeoutError:
                if too_large:
                    break
                raise Refused(408, "the image came too slowly: send it again") from None
            length += len(chunk)
            if length > most or too_large:
                too_large = True
                self._drop(body)
                if length > DRAIN:
                    break
            else:
                self._keep(body, chunk)
            if body.cut:
                raise Refused(503, "too many images are being sent at once: try again in a second")
        if too_large:
            raise refusal

    def _keep(self, body: _Body, chunk: bytes) -> None:
        """Adds a chunk. Where there is no room, the slowest gives way: whoever stalls, sooner or later."""
        while not body.cut and self.held + len(chunk) > self.most:
            on_their_way = (one for one in self._open if not one.whole and (one.length or one is body))
            slowest = min(on_their_way, key=lambda one: one.rate)
            slowest.cut = True
            self._drop(slowest)
        if not body.cut:
            body.chunks.append(chunk)
            body.length += len(chunk)
            self.held += len(chunk)

    def _drop(self, body: _Body) -> None:
        self.held -= body.length
        body.length = 0
        body.chunks.clear()


class UploadApi:
    """answers: how many requests ended with which HTTP status. seconds: of detection, in sum. bodies: on their way."""

    def __init__(self, detector: Any) -> None:
        self._detector = detector
        self.bodies = Bodies()
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
