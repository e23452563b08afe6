"""The run of `mobilessd detect` over its sources: images in batches, videos frame by frame, drawn as they are found."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from detection.boxes.detections import Detections
from detection.boxes.drawing import save_image
from detection.cli.common import open_detector, progress
from detection.cli.pipes import words_beside
from detection.detector import Detector
from detection.errors import BadImageError, MobileSSDError, printable, shown
from detection.images.cameras import photograph
from detection.images.decode import read_image
from detection.images.sources import Source, find_sources
from detection.images.video import Frame, Video
from detection.outputs import Output, Record
from detection.outputs.coco_json import CocoJson, ImageIds
from detection.outputs.csv_table import CsvTable
from detection.outputs.drawn import OutputNames, image_suffix
from detection.outputs.leftovers import salvage
from detection.outputs.video import Recorder
from detection.stream import Found, detect_stream, for_many_images, in_order

BATCH = 16  # images at once; fewer images than that go one by one, as a runtime gets ready for batches anew
BATCH_DRAWN = 4  # where decoded images are kept until they are drawn: photographs are large
DRAWING = 2  # threads that draw and save

Outcome = tuple[Source, "str | BadImageError"]  # what was found in it in words, or why it cannot be read


def detect_in_sources(args: argparse.Namespace, detector: Detector | None, notes: Sequence[str] = ()) -> int:
    """The command, with a detector that is getting ready; None: it is opened when the sources are found, as its weights
    may have to be fetched. notes: what there is to say of how it was opened. Returns the exit code."""
    sources = find_sources(args.sources, args.recursive, cameras=True)
    for path in filter(None, (args.json, args.csv)):
        if os.path.isdir(path):
            raise MobileSSDError(f"{path}: is a folder: name a file in it")
    words = words_beside(json=args.json, csv=args.csv)
    names = None if args.no_draw else OutputNames(args.output, sources)
    outputs: list[Output] = [CocoJson(args.json)] if args.json else []
    outputs += [CsvTable(args.csv)] if args.csv else []
    labels = None
    if args.labels:
        # It brings all that knows data sets, for which every start would wait.
        from detection.outputs.label_files import LabelFiles

        labels = LabelFiles(args.labels[0], args.labels[1], sources)
    outputs += [labels] if labels else []
    said = [*notes]
    detector = detector or open_detector(args, at_once=True, tell=said.append)
    print(detector, *said, sep="\n", file=words, flush=True)
    job = Job(detector, names, outputs, sources, words)
    if not job.few:
        detector.streams()  # compiled and tried here, not while images are waiting
    begin, stopped = time.perf_counter(), False
    try:
        job.run()
    except KeyboardInterrupt:
        stopped = True
    for output in outputs:  # not behind another exception: a file of some of the images looks like one of all
        output.close()
    seconds = time.perf_counter() - begin
    places = [f"drawn in {args.output}{f' ({job.hint})' if job.hint else ''}"] if names and job.done else []
    places += [f"boxes in {path}" for path in (args.json, args.csv) if path and path != "-"]
    places += [f"labels in {labels.folder}"] if labels and labels.records else []
    print("; ".join([f"{job.sum_up()} in {seconds:.1f} s", *places]), file=words)
    for note in labels.notes if labels else ():
        print(note, file=words)
    if stopped:
        print(f"interrupted: {job.done} of {len(sources)} sources done", file=sys.stderr)
        return 130
    return job.exit_code()


class Job:
    """One run over all sources, and its tally. names: of the drawn files; None draws nothing. outputs: where what is
    found goes; whoever opened them closes them. words: where it says what was found."""

    def __init__(
        self,
        detector: Detector,
        names: OutputNames | None,
        outputs: Sequence[Output],
        sources: list[Source],
        words: TextIO,
    ) -> None:
        self.words = words
        self.detector = detector
        self.names = names
        self.outputs = outputs
        self.sources = sources
        self.ids = ImageIds(sources)
        self.few = sum(not source.video for source in sources) < BATCH
        self.done = self.images = self.frames = self.boxes = self.bad = self.bad_named = self.torn_named = 0
        self.hint = ""  # what stands in the way of playing the drawn videos in a browser

    def run(self) -> None:
        """Raises BadImageError where the only source cannot be read; of several, that one is left out and counted."""
        with progress(len(self.sources), " sources") as bar:
            for video, part in groupby(self.sources, lambda source: source.video):
                for source, words in self._videos(part) if video else self._images(part):
                    if isinstance(words, BadImageError):
                        self._left_out(source, words, bar)
                    else:
                        self.done += 1
                        bar.write(printable(f"{source.shown}: {words}"), file=self.words)
                    bar.update()

    def _images(self, sources: Iterable[Source]) -> Iterator[Outcome]:
        """Each image with what was found in it, in words, when it is drawn; or with what is wrong with it."""
        draw = self.names is not None
        if not self.few:
            for_many_images()
        batch = 1 if self.few else BATCH_DRAWN if draw else BATCH
        found = detect_stream(self.detector, sources, _image_of, batch=batch, keep_image=draw)
        with closing(found), closing(in_order(_draw, self._to_draw(found), DRAWING, BATCH_DRAWN)) as drawn:
            for one in drawn:
                if one.error is not None:
                    yield one.item, one.error
                    continue
                assert one.detections is not None
                self._add(one.item, one.detections)
                self.images += 1
                yield one.item, one.detections.in_words()

    def _to_draw(self, found: Iterable[Found[Source]]) -> Iterator[tuple[Found[Source], Path | None]]:
        """Each image with the path of its drawing, if there is to be one. Names are given in the order of the images."""
        for one in found:
            path = None
            if self.names and one.detections is not None:
                path = self.names.path_for(one.item, image_suffix(one.item, one.size))
            yield one, path

    def _videos(self, sources: Iterable[Source]) -> Iterator[Outcome]:
        for source in sources:
            try:
                yield source, self._video(source)
            except BadImageError as error:
                yield source, error

    def _video(self, source: Source) -> str:
        """Detects in every frame of a video and writes the drawn one; returns what was seen in how many frames."""
        seen: Counter[str] = Counter()
        count = 0
        with Video(source.name) as video, progress(video.count or None, " frames") as bar:
            recorder = None
            if self.names:
                path = self.names.path_for(source, ".mp4")
                for line in salvage(path.parent, path.stem, path.suffix):
                    print(line, file=sys.stderr)
                recorder = Recorder(path, video.even_rate(), quick=False, longest_gap=math.inf)
            try:
                for frame, detections in self._frames(video):
                    self._add(source, detections, frame)
                    self.frames += 1
                    count += 1
                    seen.update(set(detections.names))
                    if recorder:
                        recorder.write(detections.draw(frame.image), frame.time)
                    bar.update()
            finally:
                if recorder:
                    recorder.close()
                    self.hint = recorder.hint
        if video.problem:
            print(f"warning: {shown(source.shown)}: {video.problem}", file=sys.stderr)
            self.torn_named += video.broken and source.named
        words = ", ".join(f"{name} in {frames}" for name, frames in seen.most_common(10)) or "nothing"
        return f"{count} frames: {words}"

    def _frames(self, video: Video) -> Iterator[tuple[Frame, Detections]]:
        frames = detect_stream(self.detector, video, lambda frame: frame.image, batch=BATCH_DRAWN, keep_image=True)
        with closing(frames):
            for one in frames:
                assert one.detections is not None  # a frame is an array already: there is nothing to go wrong
                yield one.item, one.detections

    def _add(self, source: Source, detections: Detections, frame: Frame | None = None) -> None:
        self.boxes += len(detections)
        record = Record(source.shown, detections, image_id=self.ids.next(source))
        if frame is not None:
            record = replace(record, frame=frame.index, time=frame.time)
        for output in self.outputs:
            output.add(record)

    def _left_out(self, source: Source, error: BadImageError, bar: Any) -> None:
        if len(self.sources) == 1:  # its error is the error of the run
            raise error
        self.bad += 1
        self.bad_named += source.named
        self.ids.next(source)  # the others' numbers do not depend on what can be read
        bar.write(f"warning: {error}", file=sys.stderr)

    def sum_up(self) -> str:
        """`12 images, 240 frames, 87 objects, 1 left out`."""
        parts = [(self.images, "image"), (self.frames, "frame"), (self.boxes, "object")]
        words = [f"{n} {what}{'' if n == 1 else 's'}" for n, what in parts if n or what == "object"]
        return ", ".join(words + ([f"{self.bad} that could not be read left out"] if self.bad else []))

    def exit_code(self) -> int:
        """0, or 2 where a file that was named itself could not be read, or none could; says so on stderr."""
        if self.bad == len(self.sources):
            print(f"error: none of the {self.bad} files could be read", file=sys.stderr)
            return 2
        if self.bad_named:
            print(f"error: {self.bad_named} of the files named could not be read", file=sys.stderr)
        if self.torn_named:
            hint = "what was read of it is done" if self.torn_named == 1 else "what was read of them is done"
            print(f"error: {self.torn_named} of the videos named is cut short or damaged: {hint}", file=sys.stderr)
        return 2 if self.bad_named or self.torn_named else 0


def _image_of(source: Source) -> str | np.ndarray:
    return photograph(source.name) if source.camera else source.name


def _draw(one: tuple[Found[Source], Path | None]) -> Found[Source]:
    found, path = one
    if path is not None and found.detections is not None:
        image = read_image(found.item.name) if found.image is None else found.image
        save_image(found.detections.draw(image), path)
    return replace(found, image=None)
