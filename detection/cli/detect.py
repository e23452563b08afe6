"""`mobilessd detect`: objects in images, folders and videos; drawn, and as JSON or CSV. `detection.cli.bulk` does it for
very many images.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from detection.cli.bulk import add_bulk_arguments, check, run_bulk
from detection.cli.common import add_detector_arguments, open_detector
from detection.data.writers import FORMATS
from detection.errors import MobileSSDError

OUTPUT = "runs/detect"

EPILOG = """examples:
  mobilessd detect dog.jpg
  mobilessd detect holiday/ --recursive --classes person,dog --output drawn/
  mobilessd detect 'shots/*.jpg' --weights model.safetensors --json boxes.json --no-draw
  mobilessd detect film.mp4 --score 0.5
  mobilessd detect unlabelled/ --weights best.safetensors --labels yolo labelled/ --no-draw
  mobilessd detect 0                      (one image of the first webcam)
  mobilessd detect s3://bucket/images --recursive --shards boxes/      (a million images; stopped, it goes on)

A broken image that was named itself ends with exit code 2, after the others are done. One that came out of a folder,
a pattern or a list is reported and left out; exit code 2 only if none could be read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mobilessd detect`."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="image, video, folder, pattern, web address, camera (0), or .txt with one of them a line",
    )
    parser.add_argument("--output", default=OUTPUT, metavar="DIR", help=f"drawn files (default: {OUTPUT})")
    parser.add_argument("--json", metavar="OUT", help="write COCO results, with file_name (- for stdout)")
    parser.add_argument("--csv", metavar="OUT", help="write a table of all boxes (- for stdout)")
    text = f"write what was found as a data set, with the images, into a new folder: {', '.join(sorted(FORMATS))}"
    parser.add_argument("--labels", nargs=2, metavar=("FORMAT", "DIR"), help=text)
    parser.add_argument("--no-draw", action="store_true", help="draw nothing")
    parser.add_argument("--recursive", action="store_true", help="also look into the subfolders of folders")
    add_detector_arguments(parser, auto_score=True)
    add_bulk_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Detects in every source; see the parser for `args`. Returns the exit code."""
    check(args, OUTPUT)
    # numpy is not there yet. Its threads, of which nothing here has use, wait for work with all they have when they start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if args.shards:
        return run_bulk(args)
    if args.labels and args.labels[0] not in FORMATS:
        raise MobileSSDError(
            f"--labels {args.labels[0]}: known formats are {', '.join(sorted(FORMATS))}, and DIR follows"
        )
    # nothing to fetch or to convert
    quick = args.input_size is None and (not args.weights or Path(args.weights).suffix in (".xml", ".onnx"))
    one = not any(
        map(os.path.isdir, args.sources)
    )  # images of a folder go through a network of their own, several at a time
    notes: list[str] = []
    detector = open_detector(args, at_once=one, tell=notes.append) if quick else None
    from detection.cli.detect_job import detect_in_sources  # OpenCV is imported while the network compiles

    return detect_in_sources(args, detector, notes)
