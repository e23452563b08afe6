"""From the pipeline to the browsers: each frame is packed once, however many watch, and only if somebody does.

A packet is what the page needs to show a frame: 4 bytes with the length of a JSON text (little-endian), the text, and
the frame as JPEG. Boxes go as numbers, so that the page can draw, filter and count them without asking again. Slow
browsers never slow the camera: nothing is queued for them, they get the newest packet when they are done with the last.
OpenCV and the standard library.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from detection.boxes.detections import Detections
from detection.boxes.drawing import encoded, reduced
from detection.live.pipeline import Result
from detection.live.zones import Gate

JPEG_QUALITY = 80
LARGEST_SIDE = 1280  # pixels of a frame in the page; a phone and a network want no more
SAMPLE_EVERY = 0.25  # seconds; the page takes the mean of a second, as one frame alone may err
HISTORY = 600  # samples that counts over time reach back


class View:
    """One source as browsers see it. Written by the source's own thread, read in the server's event loop.

    number: counts packets. viewers: how many watch.
    """

    def __init__(self, key: str, loop: asyncio.AbstractEventLoop) -> None:
        self.key = key
        self.number = 0
        self.packet = b""
        self.newest: Result | None = None
        self.gates: Callable[[], Sequence[Gate]] = tuple  # lines and zones, drawn and listed by the page
        self._loop = loop
        self._events: set[asyncio.Event] = set()
        self._history: deque[tuple[float, list[float]]] = deque(maxlen=HISTORY)
        self._lock = threading.Lock()
        self._packing = threading.Lock()

    @property
    def viewers(self) -> int:
        return len(self._events)

    def __call__(self, result: Result) -> Result:
        """A step of the pipeline: offers a result to whoever watches."""
        self.newest = result
        self._remember(result.detections)
        if self._events:
            self._pack()
            self._loop.call_soon_threadsafe(self._wake)
        return result

    def refresh(self) -> None:
        """Offers the newest frame anew, as its lines and zones have changed. From any thread."""
        if self._events and self.newest is not None:
            self._pack()
            self._loop.call_soon_threadsafe(self._wake)

    def watch(self) -> asyncio.Event:
        """An event that is set with each new packet. To be given back to `leave`."""
        event = asyncio.Event()
        if not self._events and self.newest is not None:  # what came last may be long ago: show it at once
            self._pack()
            event.set()
        self._events.add(event)
        return event

    def leave(self, event: asyncio.Event) -> None:
        self._events.discard(event)

    def history(self) -> list[tuple[float, list[float]]]:
        """A few samples of each second: (seconds since 1970, [class id, score, class id, score, ...]).

        They are kept by a clock that nobody can set; what the other one says now is right for all of them.
        """
        since_1970 = time.time() - time.monotonic()
        with self._lock:
            return [(round(when + since_1970, 2), sample) for when, sample in self._history]

    def _pack(self) -> None:
        with self._packing:  # by the source's thread and by those of editors: the newest frame must be the last
            assert self.newest is not None
            self.packet = pack(self.newest, self.gates())
            self.number += 1

    def _remember(self, detections: Detections) -> None:
        now = time.monotonic()
        if self._history and now - self._history[-1][0] < SAMPLE_EVERY:
            return
        sample: list[float] = []
        for class_id, score in zip(detections.class_ids, detections.scores):
            sample += int(class_id), round(float(score), 2)
        with self._lock:
            self._history.append((now, sample))

    def _wake(self) -> None:
        for event in self._events:
            event.set()


def pack(result: Result, gates: Sequence[Gate] = ()) -> bytes:
    """The packet of a result; see above. Its JSON: {n: frame, t: seconds, size: [height, width] that the boxes are in
    pixels of, age: milliseconds since the frame came out of the camera, d: [[class id, score, x1, y1, x2, y2, track]],
    gates: lines and zones}."""
    detections, frame = result.detections, result.frame
    text: dict[str, Any] = {
        "n": frame.index,
        "t": round(frame.time, 3),
        "size": list(detections.image_size),
        "age": round(1000 * (time.monotonic() - frame.arrived)),
        "d": rows(detections),
    }
    if gates:
        text["gates"] = [gate.to_dict(detections.image_size) for gate in gates]
    head = json.dumps(text, separators=(",", ":")).encode()
    return struct.pack("<I", len(head)) + head + encoded(reduced(frame.image, LARGEST_SIDE), ".jpg", JPEG_QUALITY)


def rows(detections: Detections) -> list[list[float]]:
    """[class id, score, x1, y1, x2, y2, track id or -1] of each detection."""
    tracks = detections.track_ids if detections.track_ids is not None else [-1] * len(detections)
    return [
        [int(class_id), round(float(score), 3), *(round(float(value), 1) for value in box), int(track)]
        for class_id, score, box, track in zip(detections.class_ids, detections.scores, detections.boxes, tracks)
    ]


async def wait(event: asyncio.Event, seconds: float) -> None:
    """Returns when the event is set, or after so many seconds."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
