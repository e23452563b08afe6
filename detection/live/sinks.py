"""What is done with each result of a source: drawn, recorded, shown in a window. Steps of a `pipeline.Station`."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from detection.errors import MobileSSDError
from detection.live.mailbox import Mailbox
from detection.live.overlay import draw_tracked, put_status
from detection.live.pipeline import Result
from detection.live.stats import Stats
from detection.outputs.leftovers import leftovers, salvage
from detection.outputs.video import LONGEST_GAP, Recorder

Say = Callable[[str], object]


class DrawnImage:
    """A step that draws, for the window and for the recording; without either it draws nothing.

    window: where drawn frames are left for the thread that owns the windows. numbers: also draw the delay of each
    stage. score: boxes below it are not drawn. A recording that cannot go on ends with a line for people; detection
    goes on.
    """

    def __init__(
        self,
        stats: Stats,
        score: float,
        recording: Recording | None = None,
        window: Mailbox[np.ndarray] | None = None,
        numbers: bool = False,
        more: Callable[[np.ndarray], object] = lambda canvas: None,
    ) -> None:
        self._stats, self._score, self._numbers, self._more = stats, score, numbers, more
        self._recording, self._window = recording, window

    def __call__(self, result: Result) -> Result:
        recording = self._recording if self._recording and self._recording.running else None
        if recording is None and self._window is None:
            return result
        canvas = draw_tracked(result.frame.image, result.detections.above(self._score))
        self._more(canvas)
        put_status(canvas, [self._stats.line(), *(self._stats.table() if self._numbers else [])])
        if recording:
            recording.write(canvas, result.frame.time)
        if self._window:
            self._window.put(canvas)
        return result


class Recording:
    """A recording that goes on for weeks: a new file every `minutes`, and an end with a line where it cannot go on.

    Each frame is shown as long as it was in the source. live: whether an hour without a frame is no hour of film; quick:
    whether somebody watches meanwhile. fps, live: asked when the first frame is there, as a source does not know it
    before.
    """

    def __init__(
        self,
        path: Path,
        fps: Callable[[], float],
        live: Callable[[], bool],
        minutes: float | None,
        say: Say,
        quick: bool = True,
    ) -> None:
        self._quick = quick
        self._path, self._fps, self._live, self._minutes, self._say = path, fps, live, minutes, say
        Recorder(path, 1.0)  # complains at once about a name that cannot be recorded to
        left = leftovers(path.parent, path.stem, path.suffix)  # now: none of our own is among them
        threading.Thread(target=self._salvage, args=(left,), name="salvage", daemon=True).start()
        self._recorder: Recorder | None = None
        self._began = self._start = 0.0
        self._lock = threading.Lock()
        self.running = True

    def _salvage(self, left: list[Path]) -> None:
        for line in salvage(self._path.parent, self._path.stem, self._path.suffix, left):
            self._say(line)

    def write(self, canvas: np.ndarray, seconds: float) -> None:
        """Adds a frame, uint8 RGB; seconds: its time since the source began."""
        with self._lock:
            if not self.running:
                return
            try:
                if self._recorder and self._minutes and time.monotonic() - self._began >= 60 * self._minutes:
                    self._finish()
                if self._recorder is None:
                    path = self._path
                    if self._minutes:
                        path = path.with_stem(f"{path.stem}-{time.strftime('%Y%m%d-%H%M%S')}")
                    longest = LONGEST_GAP if self._live() else math.inf
                    self._recorder = Recorder(path, self._fps(), quick=self._quick or self._live(), longest_gap=longest)
                    self._began, self._start = time.monotonic(), seconds
                self._recorder.write(canvas, seconds - self._start)
            except (MobileSSDError, OSError) as error:
                self.running, self._recorder = False, None
                self._say(str(error))

    def close(self) -> None:
        """Finishes the file."""
        with self._lock:
            self.running = False
            try:
                self._finish()
            except (MobileSSDError, OSError) as error:
                self._say(str(error))

    def _finish(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.close()
            if recorder.frames:
                hint = f" ({recorder.hint})" if recorder.hint else ""
                self._say(f"recorded {recorder.frames} frames to {recorder.path}{hint}")


def path_of_source(path: str | Path, key: str, several: bool) -> Path:
    """`out.mp4` for one source; `out-front.mp4` for the source `front` of several."""
    path = Path(path)
    return path.with_stem(f"{path.stem}-{key}") if several else path
