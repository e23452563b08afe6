"""`mobilessd live`: a webcam, a stream or a video with its objects, in a window, in a recording, or in words."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

from detection.cli.common import add_detector_arguments, in_words, open_detector, positive_int
from detection.core.errors import MobileSSDError

EPILOG = """examples:
  mobilessd live                          the first webcam; q or Escape ends
  mobilessd live 1 --classes person,dog   the second webcam
  mobilessd live film.mp4 --record out.mp4
  mobilessd live rtsp://camera/stream --no-window

A live source always shows its newest frame, a file shows every frame."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mobilessd live`."""
    parser.add_argument("source", nargs="?", default="0", help="webcam number, video file or URL (default: 0)")
    parser.add_argument("--record", metavar="FILE", help="write what is shown to a video (.mp4, .avi)")
    parser.add_argument("--no-window", action="store_true", help="open no window even where one can be")
    parser.add_argument("--speed", choices=("own", "max"), help="of a file (default: own in a window, else max)")
    parser.add_argument("--frames", type=positive_int, metavar="N", help="stop after N frames")
    add_detector_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Runs until the source ends, or somebody ends it; see the parser for `args`."""
    from detection.live.capture import Capture
    from detection.live.overlay import draw_result, status_line
    from detection.live.pipeline import Meter, detect_frames, paced
    from detection.live.recorder import Recorder
    from detection.live.window import Window, window_problem

    problem = "--no-window was given" if args.no_window else window_problem()
    if problem and not args.no_window:
        print(f"no window: {problem}; {f'recording to {args.record}' if args.record else 'printing what is seen'}")
    if args.record and os.path.exists(args.source) and os.path.realpath(args.record) == os.path.realpath(args.source):
        raise MobileSSDError(f"{args.record}: is the video to be watched: record to another file")
    with ExitStack() as stack:
        stack.enter_context(_terminated_like_interrupted())
        capture = stack.enter_context(Capture(args.source))
        detector = open_detector(args)
        print(detector, flush=True)
        recorder = None
        if args.record:
            recorder = Recorder(args.record, capture.fps)
            stack.callback(lambda: recorder.frames and print(f"recorded {recorder.frames} frames to {args.record}"))
            stack.enter_context(recorder)
        window = None
        if not problem:
            window = Window(f"mobilessd: {args.source}")
            stack.callback(window.close)
        results = detect_frames(capture, detector)
        if not capture.live and (args.speed or ("own" if window else "max")) == "own":
            results = paced(results)
        meter, last_words = Meter(), 0.0
        try:
            for result in results:
                drawn = draw_result(result, meter, capture.live, capture.dropped)
                if recorder:
                    recorder.write(drawn, result.frame.time if capture.live else None)
                go_on = window.show(drawn) if window else True
                meter.add(result.frame)
                if not window and time.monotonic() - last_words >= 1:
                    last_words = time.monotonic()
                    numbers = status_line(meter, capture.live, capture.dropped)
                    print(f"{result.frame.time:7.1f} s  {numbers}  {in_words(result.detections)}", flush=True)
                if not go_on or meter.count == args.frames:
                    break
        except KeyboardInterrupt:
            print("stopped")
        _sum_up(meter, capture.dropped)
    return 0


def _sum_up(meter, dropped: int) -> None:
    took = max(time.monotonic() - meter.started, 1e-9)
    words = f"{meter.count} frames in {took:.1f} s ({meter.count / took:.1f} fps), "
    words += f"delay {meter.delay * 1000:.0f} ms, 95 of 100 below {meter.delay_p95 * 1000:.0f} ms"
    print(words + (f", {dropped} dropped for newer ones" if dropped else ""))


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Within it SIGTERM ends like Ctrl-C, so that a recording is closed and playable."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only the main thread may ask for signals
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
