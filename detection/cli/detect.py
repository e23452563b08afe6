"""`mobilessd detect`: objects in images, folders and videos; drawn, and as JSON or CSV. `detection.cli.bulk` does it for
very many images.

Images are read ahead and drawn in threads of their own while the network works; results come in the sources' order.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detection.cli.bulk import add_bulk_arguments, check, run_bulk
from detection.cli.common import add_detector_arguments, in_words, open_detector, progress
from detection.errors import BadImageError, MobileSSDError

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from detection.cli.detect_outputs import Findings, OutputNames
    from detection.detector import Detector
    from detection.images.sources import Source

OUTPUT = "runs/detect"
AHEAD = 6  # images in memory at once, on either side of the network

EPILOG = """examples:
  mobilessd detect dog.jpg
  mobilessd detect holiday/ --recursive --classes person,dog --output drawn/
  mobilessd detect 'shots/*.jpg' --weights model.safetensors --json boxes.json --no-draw
  mobilessd detect film.mp4 --score 0.5
  mobilessd detect s3://bucket/images --recursive --shards boxes/      (a million images; stopped, it goes on)

A broken image that was named itself ends with exit code 2, after the others are done. One that came out of a folder,
a pattern or a list is reported and left out; exit code 2 only if none could be read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mobilessd detect`."""
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="image, video, folder, pattern, or .txt with one of them a line"
    )
    parser.add_argument("--output", default=OUTPUT, metavar="DIR", help=f"drawn files (default: {OUTPUT})")
    parser.add_argument("--json", metavar="OUT", help="write COCO results, with file_name")
    parser.add_argument("--csv", metavar="OUT", help="write a table of all boxes")
    parser.add_argument("--no-draw", action="store_true", help="draw nothing")
    parser.add_argument("--recursive", action="store_true", help="also look into the subfolders of folders")
    add_detector_arguments(parser, auto_score=True)
    add_bulk_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Detects in every source; see the parser for `args`. Returns the exit code."""
    check(args, OUTPUT)
    if args.shards:
        return run_bulk(args)
    quick = not args.weights or Path(args.weights).suffix in (".xml", ".onnx")  # nothing to fetch or to convert
    detector = open_detector(args, at_once=True) if quick else None
    from detection.cli.detect_outputs import Findings, OutputNames
    from detection.images.sources import find_sources

    sources = find_sources(args.sources, args.recursive)
    for path in filter(None, (args.json, args.csv)):
        if os.path.isdir(path):
            raise MobileSSDError(f"{path}: is a folder: name a file in it")
    names = None if args.no_draw else OutputNames(args.output, sources)
    findings = Findings(sources)
    detector = detector or open_detector(args, at_once=True)
    print(detector, flush=True)
    job = _Job(detector, names, findings, alone=len(sources) == 1)
    begin, stopped = time.perf_counter(), False
    try:
        job.run(sources)
    except KeyboardInterrupt:
        stopped = True
    finally:
        if args.json:
            findings.write_json(args.json)
        if args.csv:
            findings.write_csv(args.csv)
    seconds = time.perf_counter() - begin
    places = [f"drawn in {args.output}"] if names and job.done else []
    places += [f"boxes in {path}" for path in (args.json, args.csv) if path]
    print("; ".join([f"{job.sum_up()} in {seconds:.1f} s", *places]))
    if stopped:
        print(f"interrupted: {job.done} of {len(sources)} sources done", file=sys.stderr)
        return 130
    return job.exit_code(len(sources))


class _Job:
    """One run over all sources, and its tally."""

    def __init__(self, detector: Detector, names: OutputNames | None, findings: Findings, alone: bool) -> None:
        self.detector = detector
        self.names = names
        self.findings = findings
        self.alone = alone  # a single source: its error is the error of the run
        self.done = self.images = self.frames = self.boxes = self.bad = self.bad_named = 0

    def run(self, sources: list[Source]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        from detection.cli.detect_outputs import image_suffix

        with ThreadPoolExecutor(2) as pool, progress(len(sources), " sources") as bar:
            saving: deque[Future] = deque()
            try:
                for source, read in _read_ahead(sources, pool):
                    try:
                        if source.video:
                            words = self._video(source)
                        else:
                            image = read()
                            detections = self.detector(image)
                            self.findings.add(source, detections)
                            self.images += 1
                            self.boxes += len(detections)
                            words = in_words(detections)
                            if self.names:
                                path = self.names.path_for(source, image_suffix(source.path, image))
                                saving.append(pool.submit(_draw, image, detections, path))
                        self.done += 1
                        bar.write(f"{source.path}: {words}", file=sys.stdout)
                    except BadImageError as error:
                        self._bad(source, error, bar.write)
                    bar.update()
                    while len(saving) > AHEAD:
                        saving.popleft().result()
                for future in saving:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _video(self, source: Source) -> str:
        """Detects in every frame of a video and writes the drawn one; returns what was seen in how many frames."""
        from detection.images.sources import Video
        from detection.live.recorder import Recorder

        seen: Counter[str] = Counter()
        count = 0
        with Video(source.path) as video, progress(video.count or None, " frames") as bar:
            recorder = Recorder(self.names.path_for(source, ".mp4"), video.fps) if self.names else None
            try:
                for frame in video:
                    detections = self.detector(frame.image)
                    self.findings.add(source, detections, frame.index, frame.time)
                    self.boxes += len(detections)
                    self.frames += 1
                    count += 1
                    seen.update(set(detections.names))
                    if recorder:
                        recorder.write(detections.draw(frame.image))
                    bar.update()
            finally:
                if recorder:
                    recorder.close()
        words = ", ".join(f"{name} in {frames}" for name, frames in seen.most_common(10)) or "nothing"
        return f"{count} frames: {words}"

    def _bad(self, source: Source, error: BadImageError, write: Callable) -> None:
        if self.alone:
            raise error
        self.bad += 1
        self.bad_named += source.named
        self.findings.skip()
        write(f"warning: {error}", file=sys.stderr)

    def sum_up(self) -> str:
        """`12 images, 240 frames, 87 objects, 1 left out`."""
        parts = [(self.images, "image"), (self.frames, "frame"), (self.boxes, "object")]
        words = [f"{n} {what}{'' if n == 1 else 's'}" for n, what in parts if n or what == "object"]
        return ", ".join(words + ([f"{self.bad} that could not be read left out"] if self.bad else []))

    def exit_code(self, total: int) -> int:
        if self.bad == total:
            print(f"error: none of the {total} files could be read", file=sys.stderr)
            return 2
        if self.bad_named:
            print(f"error: {self.bad_named} of the files named could not be read", file=sys.stderr)
        return 2 if self.bad_named else 0


def _read_ahead(sources: list[Source], pool: ThreadPoolExecutor) -> Iterator[tuple[Source, Callable[[], np.ndarray]]]:
    """The sources in order, each with a function that gives its pixels (or raises); a few are read in advance."""
    from detection.images.decode import read_image

    waiting: deque[tuple[Source, Future | None]] = deque()
    for source in sources:
        waiting.append((source, None if source.video else pool.submit(read_image, source.path)))
        if len(waiting) > AHEAD:
            yield _take(waiting)
    while waiting:
        yield _take(waiting)


def _take(waiting: deque[tuple[Source, Future | None]]) -> tuple[Source, Callable[[], np.ndarray]]:
    source, future = waiting.popleft()
    return source, (lambda: np.empty(0)) if future is None else future.result


def _draw(image: np.ndarray, detections, path: Path) -> None:
    from detection.cli.detect_outputs import save_image

    save_image(detections.draw(image), path)
