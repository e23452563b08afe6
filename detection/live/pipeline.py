"""Frames in, frames with detections out: one network for all sources, taking turns, each at its newest frame.

A source whose last result has not been taken yet is passed over, so that slow drawing, recording or sending slows only
the source it belongs to, and a frame is never detected in vain.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detection.boxes.detections import Detections
from detection.live.capture import Capture, Captured
from detection.live.mailbox import Mailbox
from detection.live.standing import Standing

MOST_TOGETHER = 8  # frames that the network sees at once: more would make the first of them wait


@dataclass(frozen=True)
class Timing:
    """Seconds. waited: from the camera until the network began; network: with its resizing; post: post-processing.
    looked: whether the network has looked at all, or boxes stay as nothing moves."""

    waited: float
    network: float
    post: float
    looked: bool = True


@dataclass(frozen=True)
class Result:
    """A frame and what was found in it."""

    frame: Captured
    detections: Detections
    timing: Timing


Timed = tuple[Detections, float, float]
Detect = Callable[[np.ndarray], Timed]
Together = Callable[[Sequence[np.ndarray]], list[Timed]]


def timed(detector: Any) -> Detect:
    """A function: uint8 RGB image -> (detections, seconds of the network, seconds of post-processing). It runs the
    very steps of `detector(image)`; of a plain function, everything counts as the network."""
    if not hasattr(detector, "see"):

        def whole(image: np.ndarray) -> tuple[Detections, float, float]:
            begin = time.perf_counter()
            return detector(image), time.perf_counter() - begin, 0.0

        return whole

    def stepwise(image: np.ndarray) -> tuple[Detections, float, float]:
        begin = time.perf_counter()
        (raw,) = detector.compute([detector.see(image)])
        middle = time.perf_counter()
        detections = detector.conclude(raw, image.shape[:2])
        return detections, middle - begin, time.perf_counter() - middle

    return stepwise


def timed_together(detector: Any) -> Together:
    """As `timed`, for images of several sources at once. The seconds of each are those of all: so long it has taken."""

    def batch(images: Sequence[np.ndarray]) -> list[Timed]:
        begin = time.perf_counter()
        raw = detector.compute([detector.see(image) for image in images])
        middle = time.perf_counter()
        found = [detector.conclude(one, image.shape[:2]) for one, image in zip(raw, images)]
        end = time.perf_counter()
        return [(detections, middle - begin, end - middle) for detections in found]

    return batch


class Feed:
    """A source on its way through the network: frames come out of `capture.box`, results go into `results`. detect: what
    sees its frames; None: what sees those of all. standing: what of its frames is looked at, where motion is looked for."""

    def __init__(self, capture: Capture, detect: Detect | None = None, standing: Standing | None = None) -> None:
        self.capture, self.detect, self.standing = capture, detect, standing
        self.results: Mailbox[Result] = Mailbox()

    @property
    def ready(self) -> bool:
        return self.capture.box.full and not self.results.full


class Engine:
    """The thread with the network. An exception while detecting in a frame ends that source, not the others.

    together: sees frames of several sources that wait at the same time; without it each goes by itself."""

    def __init__(self, feeds: Sequence[Feed], detect: Detect, together: Together | None = None) -> None:
        self._together = together
        self.feeds = list(feeds)
        self._beat = time.monotonic()
        self._detect = detect
        self._wake = threading.Event()
        self._closing = False
        for feed in self.feeds:
            feed.capture.box.watch = self._wake.set
            feed.results.watch = self._wake.set
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)

    @property
    def stuck(self) -> float:
        """Seconds since its last sign of life; below 1 unless something is wrong."""
        return time.monotonic() - self._beat if self._thread.is_alive() else 0.0

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stops after the frame at hand; closes all results."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)
        for feed in self.feeds:
            feed.results.close()

    def _run(self) -> None:
        turn, open_feeds = 0, list(self.feeds)
        while open_feeds and not self._closing:
            self._beat = time.monotonic()
            self._wake.clear()
            for feed in [feed for feed in open_feeds if feed.capture.box.over]:
                feed.results.close()
                open_feeds.remove(feed)
            # The one whose turn is longest ago comes first, so that a fast source cannot starve a slow one.
            order = [open_feeds[(turn + k) % len(open_feeds)] for k in range(len(open_feeds))]
            ready = [feed for feed in order if feed.ready][: MOST_TOGETHER if self._together else 1]
            if not ready:
                self._wake.wait(0.5)
                continue
            turn = open_feeds.index(ready[-1]) + 1
            waiting = [(feed, frame) for feed in ready if (frame := self._taken(feed)) is not None]
            if len(waiting) > 1:
                self._serve_together(waiting)
            for feed, frame in waiting if len(waiting) == 1 else ():
                self._serve(feed, frame)

    def _taken(self, feed: Feed) -> Captured | None:
        """The next frame that the network is to look at; one in which nothing moves is a result already."""
        frame = feed.capture.box.take(0)
        if frame is None:
            return None
        now = time.monotonic()
        if not feed.capture.live:
            frame = replace(frame, arrived=now)  # what waited for us in a file has not grown old
        if frame.moved is None or feed.standing is None:
            return frame
        if feed.standing.wants(frame.moved, frame.image.shape, frame.time):
            return frame
        feed.results.put(Result(frame, feed.standing.still(), Timing(now - frame.arrived, 0.0, 0.0, looked=False)))
        return None

    def _serve(self, feed: Feed, frame: Captured) -> None:
        now = time.monotonic()
        try:
            found = (feed.detect or self._detect)(frame.image)
            self._give(feed, frame, found, now)
        except Exception as error:
            feed.capture.fail(error)
            feed.results.close()

    def _serve_together(self, waiting: Sequence[tuple[Feed, Captured]]) -> None:
        assert self._together is not None
        now = time.monotonic()
        try:
            found = self._together([frame.image for _, frame in waiting])
        except Exception:  # of one of them, by itself it shows of which
            for feed, frame in waiting:
                self._serve(feed, frame)
            return
        for (feed, frame), one in zip(waiting, found):
            self._give(feed, frame, one, now)

    def _give(self, feed: Feed, frame: Captured, found: Timed, now: float) -> None:
        detections, network, post = found
        if frame.moved is not None and feed.standing is not None:
            detections = feed.standing.looked(detections, frame.time)
        feed.results.put(Result(frame, detections, Timing(now - frame.arrived, network, post)))


class Station:
    """The thread that does what is to be done with the results of one source, in order: track, draw, record, send.

    steps: each gets a result and gives it on, changed or not. own_speed: holds each frame of a file back until its
    time has come. most: ends after so many results. An exception in a step ends this source; `done` is called at the
    end in any case.
    """

    def __init__(
        self,
        feed: Feed,
        steps: Sequence[Callable[[Result], Result]],
        own_speed: bool = False,
        most: int | None = None,
        done: Callable[[], object] = lambda: None,
    ) -> None:
        self.feed = feed
        self._steps, self._most, self._done = steps, most, done
        self._pace = Pace() if own_speed else None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"output {feed.capture.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        """Finishes the result at hand and ends."""
        self._closing.set()
        self.feed.results.close()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def _run(self) -> None:
        count = 0
        try:
            while count != self._most and (result := self.feed.results.take()) is not None:
                count += 1
                if self._pace and not self.feed.capture.live:
                    result = self._pace.hold(result, self._closing.wait)
                for step in self._steps:
                    result = step(result)
        except Exception as error:
            self.feed.results.close()
            self.feed.capture.fail(error)
        finally:
            self._done()


class Pace:
    """A file's own speed. Where detection is slower than the video, it plays slower, and does not hurry afterwards."""

    def __init__(self) -> None:
        self._start: float | None = None

    def hold(self, result: Result, sleep: Callable[[float], object] = time.sleep) -> Result:
        """Returns when the frame's time has come. The time that it was held back on purpose is no delay."""
        now = time.monotonic()
        self._start = now - result.frame.time if self._start is None else self._start
        wait = self._start + result.frame.time - now
        if wait <= 0:
            self._start -= wait
            return result
        sleep(wait)
        return replace(result, frame=replace(result.frame, arrived=result.frame.arrived + wait))
