"""`mobilessd pseudo-label`: boxes for images that nobody annotated, from a stronger detector."""

from __future__ import annotations

import argparse

from detection.cli.common import name_list, thread_count

EPILOG = """\
examples:
  mobilessd pseudo-label images/ --teacher deim.onnx --output pseudo.json
  mobilessd pseudo-label images/ more/ --teacher deim.onnx,picodet.onnx --output pseudo.json --views mirror
  mobilessd pseudo-label 4k/ --teacher deim.onnx --output pseudo.json --views mirror+tiles
"""


VIEWS = "mirror+2x2@0.333"  # a tile has 0.6 of each side of the image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="SOURCE", help="images and folders of images")
    text = "detectors of the DEIM, D-FINE, RT-DETR family, or PP-PicoDet; several count as further views"
    parser.add_argument("--teacher", required=True, type=name_list, metavar="ONNX[,ONNX]", help=text)
    text = "COCO ground truth with scores; an existing file is continued"
    parser.add_argument("--output", required=True, metavar="JSON", help=text)
    text = "how a teacher looks at an image: 1, mirror, 2x2, 3x2@0.2 (overlap), tiles, joined with + (default: %(default)s)"
    parser.add_argument("--views", default=VIEWS, metavar="V", help=text)
    parser.add_argument("--threads", type=thread_count, default=2, metavar="N", help="images labelled at once")


def run(args: argparse.Namespace) -> int:
    from detection.images.sources import find_sources
    from detection.stream import for_many_images
    from detection.train.teachers import labeling, onnx
    from detection.views import parse

    for_many_images()
    plan = parse(args.views)
    images = [source.path for source in find_sources(args.images, recursive=True) if not source.video]
    teachers = [onnx.onnx_labeler(path, args.threads) for path in args.teacher]
    labeling.check_views(teachers, plan)
    number = labeling.write_pseudo_labels(teachers, images, args.output, plan, threads=args.threads)
    print(f"{number} images labelled; pseudo-labels in {args.output}")
    return 0
