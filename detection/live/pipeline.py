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


@dataclass(frozen=True)
class Timing:
    """Seconds. waited: from the camera until the network began; network: with its resizing; post: post-processing."""

    waited: float
    network: float
    post: float


@dataclass(frozen=True)
class Result:
    """A frame and what was found in it."""

    frame: Captured
    detections: Detections
    timing: Timing


Detect = Callable[[np.ndarray], tuple[Detections, float, float]]


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


class Feed:
    """A source on its way through the network: frames come out of `capture.box`, results go into `results`. detect: what
    sees its frames; None: what sees those of all."""

    def __init__(self, capture: Capture, detect: Detect | None = None) -> None:
        self.capture, self.detect = capture, detect
        self.results: Mailbox[Result] = Mailbox()

    @property
    def ready(self) -> bool:
        return self.capture.box.full and not self.results.full


class Engine:
    """The thread with the network. An exception while detecting in a frame ends that source, not the others."""

    def __init__(self, feeds: Sequence[Feed], detect: Detect) -> None:
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
            ready = next((feed for feed in order if feed.ready), None)
            if ready is None:
                self._wake.wait(0.5)
                continue
            turn = open_feeds.index(ready) + 1
            self._serve(ready)

    def _serve(self, feed: Feed) -> None:
        frame = feed.capture.box.take(0)
        if frame is None:
            return
        now = time.monotonic()
        if not feed.capture.live:
            frame = replace(frame, arrived=now)  # what waited for us in a file has not grown old
        try:
            detections, network, post = (feed.detect or self._detect)(frame.image)
        except Exception as error:
            feed.capture.fail(error)
            feed.results.close()
            return
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
