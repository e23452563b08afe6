"""`mobilessd pseudo-label`: boxes for images that nobody annotated, from a stronger detector."""

from __future__ import annotations

import argparse

from detection.cli.common import name_list, thread_count

EPILOG = """\
examples:
  mobilessd pseudo-label images/ --teacher deim.onnx --output pseudo.json
  mobilessd pseudo-label images/ more/ --teacher deim.onnx,picodet.onnx --output pseudo.json --views plain,mirror
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="SOURCE", help="images and folders of images")
    text = "detectors of the DEIM, D-FINE, RT-DETR family, or PP-PicoDet; several count as further views"
    parser.add_argument("--teacher", required=True, type=name_list, metavar="ONNX[,ONNX]", help=text)
    text = "COCO ground truth with scores; an existing file is continued"
    parser.add_argument("--output", required=True, metavar="JSON", help=text)
    parser.add_argument(
        "--views", type=name_list, default=["plain", "mirror", "zoom"], help="plain,mirror,zoom (default: all)"
    )
    parser.add_argument("--threads", type=thread_count, default=2, metavar="N", help="images labelled at once")


def run(args: argparse.Namespace) -> int:
    import cv2

    from detection.images.sources import find_sources
    from detection.train.teachers import labeling, onnx

    cv2.setNumThreads(1)
    views = labeling.views_named(args.views)
    images = [source.path for source in find_sources(args.images, recursive=True) if not source.video]
    teachers = [onnx.onnx_labeler(path, args.threads) for path in args.teacher]
    number = labeling.write_pseudo_labels(teachers, images, args.output, views, threads=args.threads)
    print(f"{number} images labelled; pseudo-labels in {args.output}")
    return 0
