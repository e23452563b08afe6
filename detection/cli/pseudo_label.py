"""`mobilessd teach`: soft labels for images that nobody labelled, from a stronger detector."""

from __future__ import annotations

import argparse

from detection.cli.common import name_list, positive_int
from detection.errors import MobileSSDError

EPILOG = """\
examples:
  mobilessd teach images/ --teacher deim.onnx --output soft.json
  mobilessd teach images/ more/ --teacher deim.onnx,picodet.onnx --output soft.json --views plain,mirror
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="SOURCE", help="images and folders of images")
    text = "detectors of the DEIM, D-FINE, RT-DETR family, or PP-PicoDet; of several, each counts as a view of its own"
    parser.add_argument("--teacher", required=True, type=name_list, metavar="ONNX[,ONNX]", help=text)
    parser.add_argument(
        "--output", required=True, metavar="JSON", help="COCO ground truth with scores; goes on where it was"
    )
    parser.add_argument(
        "--views", type=name_list, default=["plain", "mirror", "zoom"], help="plain,mirror,zoom (default: all)"
    )
    parser.add_argument("--threads", type=positive_int, default=2, metavar="N", help="images looked at at once")


def run(args: argparse.Namespace) -> int:
    import cv2

    from detection.images.sources import find_sources
    from detection.train.teachers.onnx import onnx_teacher
    from detection.train.teachers.pseudo_labels import views_named, write_soft_labels

    cv2.setNumThreads(1)
    try:
        views = views_named(args.views)
    except ValueError as error:
        raise MobileSSDError(str(error)) from None
    images = [source.name for source in find_sources(args.images, recursive=True) if not source.video]
    teachers = [onnx_teacher(path, args.threads) for path in args.teacher]
    number = write_soft_labels(teachers, images, args.output, views, threads=args.threads)
    print(f"{number} images looked at; soft labels in {args.output}")
    return 0
