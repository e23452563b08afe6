"""`mobilessd data check PATH`: what is wrong with a data set, before a training is spent on it; `data convert` writes it
in another format."""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np

from detection.boxes.anchors import anchors_for
from detection.cli.common import name_list
from detection.data import readers, writers
from detection.data.check import check
from detection.data.convert import convert
from detection.data.open import open_data, open_pair
from detection.ssd.families import list_architectures
from detection.weights.card_check import spec_of
from detection.weights.names import spec_for
from detection.weights.resolve import open_weights

CHECK_EPILOG = """examples:
  mobilessd data check BCCD                                  a VOC folder: its train and val lists
  mobilessd data check coco/ --split val
  mobilessd data check instances.json --images images/ --json
  mobilessd data check data.yaml --model ssdlite_mobilenet_v2   also: which boxes its anchors can match
"""
CONVERT_EPILOG = """examples:
  mobilessd data convert BCCD --split val --to coco --output val.json
  mobilessd data convert data.yaml --to coco --output all.json

What is written is what training reads: repaired, without images and boxes that cannot be used; all of these are named.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the actions of `mobilessd data`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "report faulty boxes, missing images, classes, leaks between train and val"
    checking = _action(actions, "check", text, CHECK_EPILOG)
    checking.add_argument(
        "--split", metavar="S", help="train, val, test, all or the data set's own name (default: train)"
    )
    checking.add_argument(
        "--val", metavar="V", help="a split of the data set, or another path (default: its val split)"
    )
    checking.add_argument("--no-val", action="store_true", help="do not look at a validation split")
    checking.add_argument("--classes", type=name_list, metavar="A,B", help="only these classes, in this order")
    checking.add_argument("--model", metavar="NAME", help="model name or weights: report which boxes its anchors match")
    checking.add_argument("--decode", action="store_true", help="decode every image, not only its header (slower)")
    checking.add_argument("--no-content", action="store_true", help="do not compare files to find copies")
    checking.add_argument("--json", action="store_true", help="print the report as JSON (as --json -)")
    converting = _action(actions, "convert", "write a data set in another format", CONVERT_EPILOG)
    converting.add_argument("--split", metavar="S", help="train, val, test or the data set's own name (default: all)")
    converting.add_argument("--to", required=True, choices=sorted(writers.FORMATS), help="the format to write")
    converting.add_argument("--output", required=True, metavar="FILE", help="the file to write; a COCO .json")


def _action(actions: argparse._SubParsersAction, name: str, text: str, epilog: str) -> argparse.ArgumentParser:
    """The parser of an action, with what all actions take."""
    parser = actions.add_parser(name, help=text, epilog=epilog)
    parser.add_argument("path", help="COCO .json or folder, VOC folder, YOLO data.yaml or folder")
    formats = ("auto", *sorted(readers.FORMATS))
    parser.add_argument("--format", default="auto", choices=formats, help="default: by looking")
    parser.add_argument("--images", metavar="DIR", help="the images of a COCO .json")
    return parser


def run(args: argparse.Namespace) -> int:
    """Checks or converts, and prints what was found."""
    return _convert(args) if args.action == "convert" else _check(args)


def _check(args: argparse.Namespace) -> int:
    if args.no_val or (args.split and not args.val):
        train, val = open_data(args.path, args.split, args.format, args.classes, args.images), None
    else:
        train, val = open_pair(args.path, args.split, args.val, args.format, args.classes, args.images)
    anchors, input_size = _anchors_of(args.model) if args.model else (None, None)
    report = check(train, val, anchors, input_size, decode=args.decode, content=not args.no_content)
    if args.json:
        json.dump(report.to_dict(), sys.stdout, indent=1, ensure_ascii=False)
        print()
    else:
        print(report.text())
    return 0


def _convert(args: argparse.Namespace) -> int:
    data, faults = convert(
        open_data(args.path, args.split or "all", args.format, images=args.images), args.to, args.output
    )
    boxes, classes = int((data.labels >= 0).sum()), len(data.class_names)
    print(f"{args.output}: {len(data):,} images, {boxes:,} boxes, {classes} classes of {data.origin}")
    if faults:
        print("\n".join(faults.lines()))
    return 0


def _anchors_of(model: str) -> tuple[np.ndarray, tuple[int, int]]:
    """(anchors [A, 4], (height, width)) of weights, by file or name, or of an architecture by name."""
    if model in list_architectures():
        from detection.ssd.network import anchors_of, build  # torch

        spec = spec_for(model)
        return anchors_of(build(spec)), spec.input.size
    card = open_weights(model).card
    spec = spec_of(card, model)
    return anchors_for(spec.anchors, card.feature_maps, spec.input.size, card.anchor_grids), spec.input.size
