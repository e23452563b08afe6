"""`mobilessd live`: cameras, streams and videos with their objects, in a window, on a web page, or recorded."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import fields, replace

from detection.cli.common import add_detector_arguments, name_list, open_detector, positive_int
from detection.cli.pipes import words_beside
from detection.errors import MobileSSDError, shown
from detection.live.options import LiveOptions, PageOptions
from detection.live.stop import Stop

EPILOG = """examples:
  mobilessd live                          the first webcam; q or Escape ends
  mobilessd live 1 --classes person,dog   the second webcam
  mobilessd live door=rtsp://10.0.0.7/main yard=0 --record seen.mp4
  mobilessd live film.mp4 --headless --record out.mp4
  mobilessd live 0 --headless --line door=0.5,0,0.5,1 --events seen.jsonl
  mobilessd live 0 --on person --clips clips/ --run "notify-send somebody"
  mobilessd live 0 --page --host 0.0.0.0  a web page for other machines, which need the token it prints

A live source always shows its newest frame, a file shows every frame."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mobilessd live`."""
    parser.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="webcam number or device, URL, video file, images folder; NAME=SOURCE gives it a name (default: 0)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--window", dest="show", action="store_const", const="window", help="a window, or an error")
    where.add_argument("--page", dest="show", action="store_const", const="page", help="a web page (default: a window)")
    where.add_argument("--headless", dest="show", action="store_const", const="none", help="neither window nor page")
    parser.add_argument("--record", metavar="FILE", help="write what is shown to a video (.mp4, .mkv, .avi)")
    parser.add_argument("--record-minutes", type=minutes, metavar="M", help="begin a new file after M minutes")
    parser.add_argument("--speed", choices=("own", "max"), help="of files (default: own where shown, else max)")
    parser.add_argument("--loop", action="store_true", help="files begin again at their end")
    parser.add_argument("--frames", type=positive_int, metavar="N", help="stop after N frames of each source")
    parser.add_argument("--stats", action="store_true", help="p50 and p95 of capture, network, post-processing, total")
    parser.add_argument("--keep-trying", action="store_true", help="start even if no camera can be opened yet")
    parser.add_argument("--camera-size", type=size, metavar="WxH", help="ask webcams for this size")
    motion = parser.add_argument_group("motion")
    motion.add_argument("--motion", action="store_true", help="the network looks where something moves")
    motion.add_argument(
        "--motion-look", type=look, default=10.0, metavar="S", help="and after S seconds all the same (default: 10)"
    )
    motion.add_argument(
        "--motion-mask",
        dest="motion_masks",
        action="append",
        default=[],
        metavar="[SOURCE/]X,Y,X,Y,...",
        help="motion does not count here: two corners of a rectangle, or a polygon, as of --zone",
    )
    watch = parser.add_argument_group("watching")
    watch.add_argument("--track", action="store_true", help="give objects numbers that stay with them")
    watch.add_argument(
        "--line",
        dest="lines",
        action="append",
        default=[],
        metavar="[NAME=]X1,Y1,X2,Y2",
        help="count what crosses it, in pixels or in fractions of the image; SOURCE/ before it for one source",
    )
    watch.add_argument(
        "--zone", dest="zones", action="append", default=[], metavar="[NAME=]X,Y,X,Y,...", help="count what is inside"
    )
    watch.add_argument(
        "--watch", metavar="FILE.yaml", help="lines and zones of this file; what is drawn on the page is kept in it"
    )
    watch.add_argument("--on", type=name_list, default=[], metavar="A,B", help="act on these classes, lines and zones")
    watch.add_argument(
        "--run",
        metavar="COMMAND",
        help="a program and its options to run then, without a shell; it gets the event as JSON",
    )
    watch.add_argument("--clips", metavar="DIR", help="keep a clip then")
    watch.add_argument("--before", type=seconds, default=5.0, metavar="S", help="seconds of a clip before (default: 5)")
    watch.add_argument("--after", type=seconds, default=5.0, metavar="S", help="seconds of a clip after (default: 5)")
    watch.add_argument("--events", metavar="FILE", help="add what happens to a file of JSON lines (- for stdout)")
    watch.add_argument("--webhook", metavar="URL", help="POST what happens as JSON")
    watch.add_argument("--mqtt", metavar="URL", help="tell a broker, and Home Assistant: mqtt://user:pass@host/prefix")
    parser.add_argument("--jsonl", metavar="FILE", help="add what is seen, a JSON line a frame (- for stdout)")
    parser.add_argument("--csv", metavar="FILE", help="add what is seen, a row a box (- for stdout)")
    page = parser.add_argument_group("web page (where there is no window, or with --page)")
    page.add_argument("--host", default="127.0.0.1", help="listen here (default: 127.0.0.1, this machine alone)")
    page.add_argument("--port", type=port, default=8080, help="0 for any that is free (default: 8080)")
    page.add_argument("--token", help="what visitors must show (default: none on this machine, else made up)")
    page.add_argument("--cert", metavar="PEM", help="with --key: serve https, so that phones may use their cameras")
    page.add_argument("--key", metavar="PEM", help="the key of --cert")
    page.add_argument("--no-source", action="store_true", help="no camera of its own, only those of visitors")
    add_detector_arguments(parser, moving=True)


def run(args: argparse.Namespace) -> int:
    """Runs until the sources end, or somebody ends it; see the parser for `args`."""
    from detection.live import app
    from detection.views import AUTO

    args.page = PageOptions(args.host, args.port, args.token or os.environ.get("MOBILESSD_TOKEN"), args.cert, args.key)
    args.mqtt_password = os.environ.get("MOBILESSD_MQTT_PASSWORD")
    _check(args)
    args.sources = [] if args.no_source else args.sources or ["0"]
    args.show = _where(args)
    options = LiveOptions(**{field.name: getattr(args, field.name) for field in fields(LiveOptions)})
    options = replace(options, views=_moving_views(args))

    def tell(line: str) -> None:
        _tell(args, line)

    # --views auto takes several input sizes; what int8 loses is known at one
    int8 = tell if options.views != AUTO else None
    with _until_signal() as stop:
        return app.run(options, lambda: open_detector(args, tell=int8), stop, tell)


def _moving_views(args: argparse.Namespace) -> str | None:
    """`auto`, or `turn:` and a grid, which are no views of one image: taken out of `args`. None for all other --views."""
    from detection.views import AUTO, TURN, parse

    views = args.views or ""
    if views != AUTO and not views.startswith(TURN):
        return None
    if args.tiles:
        raise MobileSSDError(f"--views {views} and --tiles do not go together: name all in --views, as in turn:2x2")
    args.views = None
    if views != AUTO:
        parse(views.removeprefix(TURN))
    return views


def _tell(args: argparse.Namespace, line: str) -> None:
    """A line for people."""
    print(line, file=words_beside(jsonl=args.jsonl, csv=args.csv, events=args.events), flush=True)


def _check(args: argparse.Namespace) -> None:
    words_beside(jsonl=args.jsonl, csv=args.csv, events=args.events)  # raises where two are "-"
    for source in args.sources if args.record else ():
        if os.path.exists(source) and os.path.realpath(args.record) == os.path.realpath(source):
            raise MobileSSDError(f"{args.record}: is the video to be watched: record to another file")
    if args.no_source and args.sources:
        raise MobileSSDError(f"--no-source and {shown(args.sources[0])} do not go together")
    if bool(args.cert) != bool(args.key):
        raise MobileSSDError("--cert and --key go together: the certificate and its key")
    for path in filter(None, (args.cert, args.key)):
        if not os.path.isfile(path):
            raise MobileSSDError(f"{path}: no such file: name a PEM file")


def _where(args: argparse.Namespace) -> str:
    """Where to show it: as asked for, else in a window where there can be one, else on the page.

    Files that are to be recorded or listed without a window need nobody to look on.
    """
    from detection.live import server, window

    if args.show == "none":
        return "none"
    if args.show == "page" or args.no_source:
        server.need_packages()
        return "page"
    problem = window.window_problem()
    if problem and args.show == "window":
        raise MobileSSDError(f"no window: {problem}; leave --window away")
    if not problem:
        return "window"
    files = all(os.path.exists(source) for source in args.sources) and bool(args.sources)
    written = args.record or args.jsonl or args.csv or args.events
    if written and files:
        _tell(args, f"no window: {problem}; writing to {written}")
        return "none"
    try:
        server.need_packages()
    except MobileSSDError as error:
        _tell(args, f"no window: {problem}; no page: {error}")
        return "none"
    _tell(args, f"no window: {problem}; serving a page")
    return "page"


@contextlib.contextmanager
def _until_signal() -> Iterator[Stop]:
    """Gives a flag that SIGTERM and Ctrl-C set, so that recordings are closed; a second Ctrl-C interrupts at once."""
    stop = Stop()

    def handle(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():  # only the main thread may ask for signals
        yield stop
        return
    before = {which: signal.signal(which, handle) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def port(text: str) -> int:
    """argparse type: 0 to 65535."""
    if text.isdecimal() and int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")


def seconds(text: str) -> float:
    """argparse type: 0 to 60, as frames wait in memory."""
    with contextlib.suppress(ValueError):
        if 0 <= (value := float(text)) <= 60:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 60")


def look(text: str) -> float:
    """argparse type: 0.1 to 3600."""
    with contextlib.suppress(ValueError):
        if 0.1 <= (value := float(text)) <= 3600:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")


def minutes(text: str) -> float:
    """argparse type: a number above 0."""
    with contextlib.suppress(ValueError):
        if 0 < (value := float(text)) < 1e6:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes")


def size(text: str) -> tuple[int, int]:
    """argparse type: 1280x720."""
    match = re.fullmatch(r"([0-9]{2,5})[xX]([0-9]{2,5})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 1280x720")
    return int(match[1]), int(match[2])
