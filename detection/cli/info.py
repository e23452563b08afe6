"""`mobilessd info`: what a model is and what it costs, without running or downloading anything.

A name, a name with a recipe or any weights file -> its card, feature maps and anchors, and its parameters and
multiply-adds by part, by kind of layer and layer by layer. `--list` shows all names.
"""

from __future__ import annotations

import argparse
import json

from detection.cli.common import input_size, positive_int, width
from detection.cli.info_text import format_listing, format_report
from detection.errors import MobileSSDError

EPILOG = """examples:
  mobilessd info --list
  mobilessd info ssdlite_mobilenet_v2.coco
  mobilessd info ssdlite_mobilenet_v2 --alpha 0.5 --input-size 224 --num-classes 3
  mobilessd info mobilenet_v2 --layers
  mobilessd info detect.tflite --json
  mobilessd info ssdlite_mobilenet_v2 --anchors --data data.yaml --split val

Parameters are weights and biases of convolutions and linear layers, gamma and beta of batch norms; multiply-adds are
those of convolutions and linear layers, for one image."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a name, a name with a recipe, or a weights file")
    parser.add_argument("--list", action="store_true", help="show all names")
    parser.add_argument("--alpha", type=width, metavar="A", help="width multiplier (alpha) of an architecture")
    parser.add_argument("--input-size", type=input_size, metavar="S", help="input in pixels: S, or HEIGHTxWIDTH")
    parser.add_argument("--num-classes", type=positive_int, metavar="N", help="object classes, without background")
    parser.add_argument("--layout", metavar="L", help="whose network: tensorflow, torchvision, mmdet, qfgaohao, caffe")
    parser.add_argument("--no-norm", action="store_true", help="count without the batch norms' parameters")
    parser.add_argument("--layers", action="store_true", help="show every layer")
    text = "also: which boxes of a data set its anchors can match (the data set here, or with --data)"
    parser.add_argument("--anchors", metavar="PATH", nargs="?", const="", help=text)
    parser.add_argument(
        "--data", metavar="PATH", help="COCO, VOC or YOLO data, found by looking: its boxes, for --anchors"
    )
    parser.add_argument("--split", metavar="S", help="of that data set (default: train)")
    parser.add_argument("--images", metavar="DIR", help="the images of a COCO .json")
    parser.add_argument("--json", action="store_true", help="print JSON (as --json -)")


def run(args: argparse.Namespace) -> int:
    from detection.cli.info_model import describe, find, listing

    if args.list:
        rows = list(listing())
        print(json.dumps(rows, indent=2) if args.json else format_listing(rows))
        return 0
    if not args.model:
        raise MobileSSDError("which model? `mobilessd info MODEL`, or `mobilessd info --list` for all names")
    if args.anchors == "" and not args.data:
        raise MobileSSDError("--anchors: of which data set? give --data PATH, too")
    if args.anchors and args.data:
        raise MobileSSDError(f"two data sets, {args.anchors} and {args.data}: give one")
    subject = find(args)
    try:
        report = describe(subject, norms=not args.no_norm)
    except ValueError as error:  # the backbones' own complaints: an input too small, an unknown option
        raise MobileSSDError(f"{args.model}: {error}") from None
    text = "" if args.json else format_report(report, args.layers)
    if path := args.data or args.anchors:
        from detection.cli.info_anchors import reach

        found = reach(subject, path, args.split, args.images)
        report, text = report | {"reach": found.to_dict()}, "\n".join([text, "", *found.lines()])
    print(json.dumps(report, indent=2) if args.json else text)
    return 0
