"""What a source is to the rest of the program, and the sources that have an end: videos, folders, images.

Each is read by a thread of its own. A file loses no frame: its thread waits until the frame was taken. Cameras and
streams are in streams.py. Knows nothing of detectors.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from detection.errors import BadImageError, shown
from detection.images.decode import read_image
from detection.images.sources import Source, find_sources
from detection.images.video import Video
from detection.live.gate_spec import Point
from detection.live.mailbox import Mailbox
from detection.live.motion import Motion, Region
from detection.live.source_names import SourceName

STALE_AFTER = 1.0  # seconds after which a live source's last frame is no longer what is there now
IMAGES_PER_SECOND = 1.0  # of a folder

Masks = Sequence[Sequence[Point]]  # see motion.Motion

# The life of a source. OPENING -> LIVE <-> LOST (it is being tried again) -> ENDED (a file's end) or FAILED (for good).
OPENING, LIVE, LOST, ENDED, FAILED = "opening", "live", "lost", "ended", "failed"


@dataclass(frozen=True)
class Captured:
    """A frame. image: uint8 RGB [H, W, 3]; index: counts what the source delivered, so that gaps show dropped frames;
    time: seconds since the source began; arrived: `time.monotonic()` when it came out of the source. moved: where
    something moves, `xyxy` in pixels, where that is looked for; else None.
    """

    image: np.ndarray
    index: int
    time: float
    arrived: float
    moved: tuple[Region, ...] | None = None


class Capture:
    """A source being read. Iterate over it, or look into `box`.

    live: whether old frames are dropped for new ones. fps: what the source says, 25 if it does not. drawn_rate: gives the
    frames a second of an even recording in which every frame finds its place in time. state and message:
    how it is, for people. reconnects: how often a live source had to be opened again. arrived: `time.monotonic()` of
    the newest frame, 0 before the first. masks: where motion does not count; motion: whether it is looked for, at any
    time, from any thread.
    """

    def __init__(self, source: SourceName, live: bool, masks: Masks = (), motion: bool = False) -> None:
        self.source, self.name, self.live = source, source.name, live
        self.masks, self._motion = masks, motion
        self.fps = 25.0
        self.drawn_rate: Callable[[], float] = lambda: self.fps
        self.state, self.message = OPENING, ""
        self.reconnects = 0
        self.arrived = 0.0
        self.error: Exception | None = None
        self.box: Mailbox[Captured] = Mailbox()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._settled = threading.Event()  # opened, or failed once
        self._thread = threading.Thread(target=self._run, name=f"capture {self.name}", daemon=True)
        self._thread.start()

    @property
    def motion(self) -> bool:
        return self._motion

    @motion.setter
    def motion(self, on: bool) -> None:
        self._motion = on

    @property
    def stale(self) -> bool:
        """Whether its last frame is not what is there now."""
        if not self.live or self.state in (OPENING, ENDED):
            return False
        return self.state != LIVE or time.monotonic() - self.arrived > max(STALE_AFTER, 3 / self.fps)

    @property
    def age(self) -> float | None:
        """Seconds since its newest frame; None before the first."""
        return time.monotonic() - self.arrived if self.arrived else None

    def settled(self, timeout: float | None = None) -> bool:
        """Waits until it is open, or a first attempt has failed (`message` says why); False after `timeout` seconds."""
        return self._settled.wait(timeout)

    def fail(self, error: Exception) -> None:
        """Ends it because of an error, here or in what is done with its frames."""
        with self._lock:
            self.error, self.state, self.message = error, FAILED, str(error) or type(error).__name__
        self._closing.set()
        self._settled.set()
        self.box.close()

    def close(self) -> None:
        """Stops reading. Safe at any time, also twice."""
        self._closing.set()
        self.box.close()
        self._thread.join(timeout=5)

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Captured]:
        while (captured := self.box.take()) is not None:
            # What waited for us in a file has not grown old; a live frame has.
            yield captured if self.live else replace(captured, arrived=time.monotonic())
        if self.error:
            raise self.error

    def _become(self, state: str, message: str = "") -> None:
        with self._lock:
            if self.error is None:  # what has failed stays so, whatever its threads still do
                self.state, self.message = state, message

    def _deliver(self, captured: Captured, wait: bool) -> bool:
        self.arrived = captured.arrived
        if self.state != LIVE:
            self._become(LIVE)
        delivered = self.box.put(captured, wait)
        self._settled.set()
        return delivered

    def _run(self) -> None:
        try:
            self._read()
            self._become(ENDED, self.message)
        except Exception as error:  # told to whoever iterates
            self.fail(error)
        finally:
            self._settled.set()
            self.box.close()

    def _read(self) -> None:
        raise NotImplementedError


class FileCapture(Capture):
    """The frames of a video file, or the images of a folder or pattern, in order, none left out.

    loop: begins again at the end. tell: called with a line for people where a video is not whole. Raises MobileSSDError,
    one line, where there is nothing to be read; iterating raises it in the end where a video that was named is not whole.
    """

    def __init__(
        self,
        source: SourceName,
        loop: bool = False,
        tell: Callable[[str], object] = lambda line: None,
        masks: Masks = (),
        motion: bool = False,
    ) -> None:
        self._sources = find_sources([source.address])
        self._loop, self._tell = loop, tell
        self._problem = ""
        super().__init__(source, False, masks, motion)

    def _read(self) -> None:
        index, start = 0, 0.0
        motion = Motion(self.masks)
        while True:
            before = index
            for one in self._sources:
                first = index
                for image, seconds, length, number in self._frames(one):
                    index = first + number
                    moved = tuple(motion.compare(image, start + seconds)) if self.motion else None
                    frame = Captured(image, index, start + seconds, time.monotonic(), moved)
                    if not self._deliver(frame, wait=True):
                        return
                    index += 1
                    end = start + seconds + length
                start = end if index > before else start
            if not self._loop or index == before:
                break
        if not index:
            raise BadImageError(f"{shown(self.source.address)}: not one image or frame can be read")
        if self._problem:
            raise BadImageError(self._problem)

    def _frames(self, one: Source) -> Iterator[tuple[np.ndarray, float, float, int]]:
        """(image, seconds since its beginning, seconds that it lasts, its number) of each frame."""
        if one.video:
            with Video(one.name) as video:
                self.fps, self.drawn_rate = video.fps, video.even_rate
                for frame in video:
                    yield frame.image, frame.time, 1 / video.fps, frame.index
            if video.problem and one.named and video.broken and not self._loop:
                self._problem = f"{shown(one.name)}: {video.problem}: fetch it again, or repair it"
            elif video.problem:
                self._tell(f"warning: {shown(one.name)}: {video.problem}")
            return
        self.fps = IMAGES_PER_SECOND
        try:
            yield read_image(one.name), 0.0, 1 / IMAGES_PER_SECOND, 0
        except BadImageError as error:
            if one.named:
                raise
            self.message = str(error)
