"""`mobilessd data check PATH`: what is wrong with a data set, before a training is spent on it; `data convert` writes it
in another format, `data show` draws it, `data split` divides it, `data merge`
joins several."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from detection.boxes.anchors import anchors_for
from detection.cli.common import name_list, positive_int
from detection.data import gallery, readers, writers
from detection.data.build import concatenate
from detection.data.check import check
from detection.data.convert import convert, is_file, repaired, write
from detection.data.dataset import DetectionData
from detection.data.faults import Faults
from detection.data.merging import merge
from detection.data.open import open_data, open_pair, open_parts
from detection.data.repair import repair
from detection.data.splitting import groups_of, split
from detection.errors import BadDataError, MobileSSDError, some
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
  mobilessd data convert data.yaml --split all --to coco --output all.json
  mobilessd data convert coco/ --to yolo --output coco-yolo/        every split, with its images
  mobilessd data convert BCCD --to labelstudio --output tasks/

What is written is what training reads: repaired, without images and boxes that cannot be used; all of these are named, and so is
what the format cannot hold. Images are hard-linked where the disk can, else copied.
"""
SHOW_EPILOG = """examples:
  mobilessd data show BCCD --output cells.html                      24 at random
  mobilessd data show coco/ --order class --samples 160 --output classes.html
  mobilessd data show labelled/ --order worst --output doubtful.png

Doubtful are boxes without a class or a size, beyond the image, labelled twice, of two classes in one place, or very thin.
"""
SPLIT_EPILOG = """examples:
  mobilessd data split labelled/ --to coco --output divided/
  mobilessd data split frames/ --shares train=0.7,val=0.15,test=0.15 --group 'video_\\d+' --to yolo --output divided/

Every class goes to the splits by their shares; images of one group, and copies of one file, stay together.
"""
MERGE_EPILOG = """examples:
  mobilessd data merge BCCD mine/ --to coco --output both/

Splits are joined by what they are for (train, val, test), classes by name. Classes that one of the sets does not have are named.
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
    converting.add_argument(
        "--split", metavar="S", help="train, val, test, the data set's own name, or all as one (default: each of them)"
    )
    _add_output(converting, "a new folder; for COCO also a .json")
    showing = _action(actions, "show", "labelled images on a page or in one image", SHOW_EPILOG)
    showing.add_argument("--split", metavar="S", help="train, val, test or the data set's own name (default: all)")
    showing.add_argument("--classes", type=name_list, metavar="A,B", help="only these classes")
    text = "random; class: some of each class; worst: the most doubtful boxes first (default: random)"
    showing.add_argument("--order", choices=gallery.ORDERS, default="random", help=text)
    showing.add_argument("--samples", type=positive_int, default=24, metavar="N", help="images (default: 24)")
    showing.add_argument("--seed", type=int, default=0, metavar="N", help="other images (default: 0)")
    showing.add_argument("--output", required=True, metavar="FILE", help="a page (.html) or an image (.png, .jpg)")
    splitting = _action(actions, "split", "divide a data set into splits that are alike, class by class", SPLIT_EPILOG)
    splitting.add_argument("--split", metavar="S", help="divide only this split (default: all images)")
    text = "name=share of each, of their sum (default: train=0.8,val=0.2)"
    splitting.add_argument("--shares", type=_shares, default={"train": 0.8, "val": 0.2}, metavar="A=X,B=Y", help=text)
    text = "images in whose names this regular expression matches the same stay together"
    splitting.add_argument("--group", metavar="REGEX", help=text)
    splitting.add_argument("--seed", type=int, default=0, metavar="N", help="another division (default: 0)")
    _add_output(splitting, "a new folder")
    merging = actions.add_parser("merge", help="write several data sets as one", epilog=MERGE_EPILOG)
    merging.add_argument(
        "paths", nargs="+", metavar="PATH", help="data sets of any format that is recognised by looking"
    )
    _add_output(merging, "a new folder")


def _add_output(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--to", required=True, choices=sorted(writers.FORMATS), help="the format to write")
    parser.add_argument("--output", required=True, metavar="PATH", help=text)


def _shares(text: str) -> dict[str, float]:
    """`train=0.8,val=0.2`, in the order given."""
    shares = dict[str, float]()
    for part in text.split(","):
        name, _, number = (word.strip() for word in part.partition("="))
        try:
            share = float(number)
        except ValueError:
            share = 0.0
        if not re.fullmatch(r"[\w-]+", name) or name in shares or not 0 < share < float("inf"):
            raise argparse.ArgumentTypeError(f"{part!r} is no name=share, as in train=0.8,val=0.2")
        shares[name] = share
    return shares


def _action(actions: argparse._SubParsersAction, name: str, text: str, epilog: str) -> argparse.ArgumentParser:
    """The parser of an action, with what all actions take."""
    parser = actions.add_parser(name, help=text, epilog=epilog)
    parser.add_argument("path", help="a data set's folder or file: COCO, VOC, YOLO, CVAT, labelme, ... (docs/train.md)")
    formats = ("auto", *sorted(readers.FORMATS))
    parser.add_argument("--format", default="auto", choices=formats, help="default: by looking")
    parser.add_argument("--images", metavar="DIR", help="the images of a COCO .json")
    return parser


def run(args: argparse.Namespace) -> int:
    """Checks or converts, and prints what was found."""
    return {"check": _check, "convert": _convert, "show": _show, "split": _split, "merge": _merge}[args.action](args)


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
    failed = dict[str, str]()
    if is_file(args.to, args.output):
        parts = {"": open_data(args.path, args.split or "all", args.format, images=args.images)}
    else:
        parts = open_parts(args.path, args.split, args.format, args.images, failed)
    done = convert(parts, args.to, args.output, failed)
    _say(args.output, done.parts, [*done.notes, *done.faults.lines()])
    _check_whole(args.output, failed, len(done.parts))
    return 0


def _check_whole(output: str, failed: Mapping[str, str], written: int) -> None:
    """Raises BadDataError where splits could not be used: what was written is right, and less than was asked for."""
    if failed:
        every = len(failed) + written
        lost = f"{', '.join(failed)} ({'; '.join(failed.values())})"  # names first: a long message is cut short
        raise BadDataError(f"{output}: without {len(failed)} of {every} splits, which could not be used: {lost}")


def _everything(args: argparse.Namespace) -> DetectionData:
    """All images of a data set, or those of --split. Raises BadDataError, for one of several splits that cannot be read with
    the way to go on without it."""
    try:
        return open_data(args.path, args.split or "all", args.format, images=args.images)
    except BadDataError:
        if args.split:
            raise
    failed = dict[str, str]()
    parts = open_parts(args.path, None, args.format, args.images, failed)
    for name, why in failed.items():
        others = " or ".join(f"--split {other}" for other in parts)
        raise BadDataError(f"{args.path}: the split {name} cannot be read: mend it, or take {others} alone ({why})")
    return concatenate(*parts.values())


def _show(args: argparse.Namespace) -> int:
    data, faults = _everything(args), Faults()
    if args.classes:
        data = data.with_classes(args.classes)
    if args.order != "worst":  # which shows what is wrong, before it is put right
        data, faults = repair(data)
    if args.classes:
        holds = np.zeros(len(data), bool)
        holds[data.owners()[data.labels >= 0]] = True
        data = data.subset(holds)
    choices = gallery.choose(data, args.order, args.samples, args.seed)
    lost = gallery.write(data, choices, args.output)
    shown = sum(len(choice.images) for choice in choices) - len(lost)
    print(f"{args.output}: {shown:,} of {len(data):,} images of {data.origin}")
    for line in (*(f"not drawn: {one}" for one in lost), *faults.lines()):
        print(line)
    return 0


def _split(args: argparse.Namespace) -> int:
    data, faults = repair(_everything(args))
    parts = split(data, args.shares, groups_of(data, args.group), args.seed)
    notes = write(parts, args.to, _folder(args))
    few = [
        f"{name}: no box of {some([c for c, n in zip(part.class_names, part.class_counts()) if not n], 6)}"
        for name, part in parts.items()
        if not part.class_counts().all()
    ]
    return _say(args.output, parts, [*few, *notes, *faults.lines()])


def _merge(args: argparse.Namespace) -> int:
    folder, sets, faults, failed = _folder(args), [], Faults(), dict[str, str]()
    for path in args.paths:
        lost = dict[str, str]()
        fixed, found = repaired(open_parts(path, failed=lost), lost)
        faults = faults.merged(found)
        sets.append(fixed)
        failed |= {f"{path} {name}": why for name, why in lost.items()}
    parts, notes = merge(sets)
    notes += write(parts, args.to, folder)
    _say(args.output, parts, [*notes, *faults.lines()])
    _check_whole(args.output, failed, sum(map(len, sets)))
    return 0


def _folder(args: argparse.Namespace) -> str:
    if is_file(args.to, args.output):
        raise MobileSSDError(f"{args.output}: several splits need a folder; name one")
    return str(args.output)


def _say(output: str, parts: Mapping[str, DetectionData], notes: Sequence[str]) -> int:
    """What was written, a line for each split, and what should be known of it."""
    for name, data in parts.items():
        boxes, classes = int((data.labels >= 0).sum()), len(data.class_names)
        place = f"{output} ({name})" if name else output
        print(f"{place}: {len(data):,} images, {boxes:,} boxes, {classes} classes of {data.origin}")
    for line in notes:
        print(line)
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
