"""`mobilessd live` put together: sources, network, outputs, and the one thread that waits for the end.

Threads: one reads each source (and for cameras and streams a process beside it), one runs the network, one for each
source draws, records and sends; the caller's own thread shows the windows and waits.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from detection.errors import MobileSSDError
from detection.live.capture import ENDED, FAILED, LOST, OPENING
from detection.live.channels import Channel, Outlets, add_steps
from detection.live.gate_book import Reread
from detection.live.motion import masks_of
from detection.live.options import LiveOptions
from detection.live.overlay import stale_image
from detection.live.pipeline import Detect, Engine, Station, timed, timed_together
from detection.live.server import PageServer
from detection.live.sinks import Say
from detection.live.source_names import name_sources
from detection.live.standing import Standing
from detection.live.stop import Stop
from detection.live.streams import WAIT_TOLD, open_capture, wait_for_sources
from detection.live.view_time import AutoViews, InTurn, Room
from detection.live.window import Window
from detection.views import AUTO, TURN

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 600.0  # seconds between two words about a source that has not come yet
LOWEST = 0.1  # the lowest score that the page's slider reaches, and that may continue a track


def run(options: LiveOptions, open_detector: Callable[[], Any], stop: Stop, say: Say = print) -> int:
    """Runs until the sources end, `frames` are done, a window is closed or `stop` is set. Returns the exit code.

    open_detector: called once the sources are being opened, as both take their time. say: gets lines for people.
    Raises MobileSSDError, one line, for what is wrong from the start, and where no source is left.
    """
    with ExitStack() as stack:
        captures = []
        named = name_sources(options.sources)
        masks = {name.name: masks_of(options.motion_masks, name.name, [one.name for one in named]) for name in named}
        for name in named:
            capture = open_capture(
                name, options.loop, options.camera_size, tell=say, masks=masks[name.name], motion=options.motion
            )
            captures.append(stack.enter_context(capture))
        detector = open_detector()
        say(str(detector))
        if not options.keep_trying:
            wait_for_sources(captures, stop.is_set, say)
        channels = [Channel(capture) for capture in captures]
        names = [capture.name for capture in captures]
        outlets = Outlets(options, names, detector.class_names, say, stop.set, stack)
        detector, score, lowest = _with_lower_score(detector, options, outlets.tracks)
        for channel in channels:
            channel.feed.standing = Standing(options.motion_look, score)
        plain = options.views is None and hasattr(detector, "see")
        together = timed_together(detector) if plain else None
        engine = Engine([channel.feed for channel in channels], _detect_of(detector, options, channels, say), together)
        stack.callback(engine.close)
        page = None
        if options.show == "page":
            page = PageServer(options.page, channels, detector, score, lowest, engine, outlets.book, say, outlets.lost)
            stack.callback(page.close)

        def gates_changed() -> None:
            for channel in channels:
                if channel.watch:
                    channel.watch.set_gates(outlets.book.of(channel.name))
            if page:
                page.refresh()

        outlets.book.on_change = gates_changed
        own_speed = (options.speed or ("max" if options.show == "none" else "own")) == "own"
        for channel in channels:
            add_steps(channel, outlets, score, len(channels) > 1, say)
            if page:
                channel.steps.insert(-1, page.view_of(channel))
            channel.station = Station(channel.feed, channel.steps, own_speed, options.frames, channel.done)
            channel.station.start()
            stack.callback(channel.station.close)
        if outlets.mqtt:
            outlets.mqtt.refresh(channels)
        engine.start()
        if page:
            say(f"watch it at {page.url}")
        _wait(channels, outlets, options, stop, say)
        if outlets.mqtt:
            outlets.mqtt.refresh(channels)  # the last counts of files
    for channel in channels:
        say(_summary(channel))
        if options.stats:
            for row in channel.stats.table():
                say(f"  {row}")
    return _exit_code(channels)


def _with_lower_score(detector: Any, options: LiveOptions, tracks: bool) -> tuple[Any, float, float]:
    """(detector, score, lowest). score: from which on boxes are drawn, recorded and counted. lowest: from which on the
    detector gives boxes; lower where the page's slider chooses, and where a tracker goes on with boxes not shown."""
    if not hasattr(detector, "settings"):
        return detector, 0.0, 0.0
    score = lowest = detector.settings.score
    if options.show == "page" or tracks:
        lowest = min(score, LOWEST)
        detector = detector.with_score(lowest)
    return detector, score, lowest


def _detect_of(detector: Any, options: LiveOptions, channels: list[Channel], say: Say) -> Detect:
    """What the network's thread does with a frame."""
    captures = [channel.capture for channel in channels]

    def rate() -> float:
        return max(sum(capture.fps for capture in captures if capture.state not in (ENDED, FAILED)), 1.0)

    if options.views == AUTO:
        return AutoViews(detector, rate, say)
    if options.views is not None:
        for channel in channels:
            channel.feed.detect = InTurn(detector, options.views.removeprefix(TURN))
    paced = any(capture.live for capture in captures)  # a file is waited for
    plain = options.views is None and getattr(detector, "plan", None) is None
    return Room(timed(detector), rate, say) if paced and plain else timed(detector)


def _wait(channels: list[Channel], outlets: Outlets, options: LiveOptions, stop: Stop, say: Say) -> None:
    reread = Reread(outlets.book, say)
    windows = _Windows(channels) if options.show == "window" else None
    told, complained, looked = 0.0, set[str](), time.monotonic()
    began, waiting = looked, Waiting(say)
    try:
        # The page stays when files have come to their end: somebody may want to look, or use it for other images.
        stay = options.show == "page" and options.frames is None
        while not stop.is_set() and (stay or any(channel.station.running for channel in channels if channel.station)):
            if windows and not windows.turn():
                break
            if not windows:
                stop.wait(0.1)
            now = time.monotonic()
            if now - looked < 0.2:
                continue
            looked = now
            _complain(channels, complained)
            if now - began > WAIT_TOLD:
                waiting.tell(channels, now)
            reread(now)
            if outlets.mqtt:
                outlets.mqtt.refresh(channels)
            if not windows and now - told >= (1 if options.show == "none" else 10):
                told = now
                for channel in channels:
                    if line := _status(channel, len(channels) > 1, options):
                        say(line)
    finally:
        _complain(channels, complained)
        if windows:
            windows.close()


def _status(channel: Channel, several: bool, options: LiveOptions) -> str:
    result, capture = channel.newest, channel.capture
    if result is None or options.show != "none" and not options.stats:
        return ""
    name = f"{channel.name}  " if several else ""
    if capture.stale:
        return f"{result.frame.time:7.1f} s  {name}{capture.message or 'no frame'}, image is {capture.age:.0f} s old"
    seen = result.detections.in_words()
    if options.stats:
        stages = (f"{stage} {p50 * 1e3:.0f}/{p95 * 1e3:.0f}" for stage, (p50, p95) in channel.stats.stages())
        seen = f"{' '.join(stages)} ms  {seen}"
    return f"{result.frame.time:7.1f} s  {name}{channel.stats.line()}  {seen}"


def _summary(channel: Channel) -> str:
    stats = channel.stats
    took = max(time.monotonic() - stats.started, 1e-9)
    p50, p95 = stats.percentiles("total")
    words = f"{channel.name}: {stats.results} frames in {took:.1f} s ({stats.results / took:.1f} fps), "
    words += f"delay {p50 * 1000:.0f} ms, 95 of 100 below {p95 * 1000:.0f} ms"
    words += f", {stats.dropped} dropped for newer ones" if stats.dropped else ""
    return words + (f", nothing moved in {stats.still}" if stats.still else "")


class Waiting:
    """Says which sources have not been open yet: at once, then after pauses that grow to ten minutes."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._next: dict[str, tuple[float, float]] = {}  # by name: (when it is said again, the pause after that)

    def tell(self, channels: list[Channel], now: float) -> None:
        for capture in (channel.capture for channel in channels):
            due, pause = self._next.get(capture.name, (now, FIRST_PAUSE))
            if capture.state not in (OPENING, LOST) or capture.arrived or now < due:
                continue
            self._next[capture.name] = now + pause, min(2 * pause, LONGEST_PAUSE)
            self._say(f"{capture.name}: {capture.message or 'no image yet'}; waiting for it")


def _complain(channels: list[Channel], already: set[str]) -> None:
    """Says, once for each, why sources have ended for good."""
    for capture in (channel.capture for channel in channels):
        if capture.state != FAILED or capture.name in already:
            continue
        already.add(capture.name)
        if isinstance(capture.error, MobileSSDError):
            print(f"error: {capture.error}", file=sys.stderr)
        elif capture.error:
            print(f"error: {capture.name} ended by a fault of the program:", file=sys.stderr)
            traceback.print_exception(capture.error)


def _exit_code(channels: list[Channel]) -> int:
    errors = [channel.capture.error for channel in channels if channel.capture.error]
    return 0 if not errors else 2 if all(isinstance(error, MobileSSDError) for error in errors) else 1


class _Windows:
    """A window for each source, all of them served by the one thread that may."""

    def __init__(self, channels: list[Channel]) -> None:
        self._channels = channels
        self._windows = [Window(f"mobilessd: {channel.name}") for channel in channels]
        self._last: list[np.ndarray | None] = [None] * len(channels)
        self._dimmed = [0.0] * len(channels)

    def turn(self) -> bool:
        """Shows what is new. False: the person wants to stop."""
        shown = False
        for index, (channel, window) in enumerate(zip(self._channels, self._windows)):
            assert channel.drawn is not None
            if channel.drawn.full:
                self._last[index] = image = channel.drawn.take(0)
            elif channel.capture.stale and time.monotonic() - self._dimmed[index] > 0.5:
                self._dimmed[index] = time.monotonic()
                image = self._stale(index)
            else:
                continue
            if image is not None:
                shown = True
                if not window.show(image):
                    return False
        return shown or self._windows[0].idle()

    def _stale(self, index: int) -> np.ndarray | None:
        last, capture = self._last[index], self._channels[index].capture
        if last is None:
            return None
        return stale_image(last, f"{capture.message or 'no frame'}, image is {capture.age or 0:.0f} s old")

    def close(self) -> None:
        for window in self._windows:
            window.close()
