"""`mobilessd train`: from a folder of images and a starting point to weights that detect your own objects."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from detection.cli.common import device, fraction, name_list, positive_int
from detection.data.readers import FORMATS
from detection.errors import MobileSSDError
from detection.yaml_reader import parse_value

EPILOG = """\
examples:
  mobilessd train --data BCCD --weights ssdlite_mobilenet_v2.coco --time-budget 20m
  mobilessd train --data coco/ --config ssdlite_mobilenet_v2_coco --output runs/coco
  mobilessd train --output runs/coco --resume
  torchrun --nproc-per-node 8 tools/train_det.py --data coco/ --config ssdlite_mobilenet_v2_coco
"""
FINETUNE = "finetune"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    add = data.add_argument
    add("--data", metavar="PATH", help="COCO, PASCAL VOC or YOLO data; looked at to tell which")
    add("--format", choices=("auto", *sorted(FORMATS)))
    add("--split", metavar="NAME", help="the split to train on (default: train, where there is one)")
    add("--images", metavar="DIR", help="the images of a COCO file")
    add("--val", metavar="NAME|PATH", help="validation: a split or another data set (default: found by looking)")
    add("--val-images", metavar="DIR", help="the images of a COCO validation file")
    text = "keep back this share of the training images to choose the best weights; validation is then scored once"
    add("--select", type=fraction, metavar="SHARE", help=text)
    add("--select-ids", metavar="FILE", help="keep back the images whose ids this file lists, in place of a share")
    text = "train on this data set or folder of images too; classes that it lacks are unknown there, not background"
    add("--extra", action="append", default=[], metavar="PATH", help=text)
    text = "add pseudo-labels (mobilessd pseudo-label) where nothing is annotated"
    _add_renamed(data, "--pseudo-labels", "--soft", action="append", default=[], metavar="JSON", help=text)
    text = "score from which on pseudo-labels are targets (default: 0.5)"
    _add_renamed(data, "--keep-pseudo-labels", "--keep-soft", type=fraction, metavar="SCORE", help=text)
    text = "score from which on, up to that, they are neither targets nor background (default: 0.25)"
    _add_renamed(data, "--ignore-pseudo-labels", "--ignore-soft", type=fraction, metavar="SCORE", help=text)
    add("--classes", type=name_list, metavar="A,B", help="only these classes, in this order")
    text = "classes that the data do not annotate: never background"
    add("--unknown", type=name_list, metavar="A,B", default=[], help=text)
    start = parser.add_argument_group("starting point")
    add = start.add_argument
    add("--weights", metavar="W", help="weights to start from: a name or a file")
    add("--model", metavar="NAME", help="an architecture to train from scratch, or on a backbone given by --weights")
    text = "which class of the weights one of yours continues"
    add("--class-map", type=name_list, metavar="MINE=THEIRS,...", default=[], help=text)
    recipe = parser.add_argument_group("recipe")
    add = recipe.add_argument
    add("--config", metavar="NAME|YAML", help=f"a recipe of configs/ or a file (default: {FINETUNE})")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="one value of it, as in optimizer.lr=0.01")
    add("--time-budget", type=seconds, metavar="20m", help="as many steps as fit: 90s, 20m, 2h")
    add("--samples", "--pictures", type=positive_int, metavar="N", help="length of the run in images seen")
    add("--epochs", type=float, metavar="N", help="length in passes over the data")
    add("--steps", type=positive_int, metavar="N", help="length in steps")
    add("--batch", type=positive_int, metavar="N", help="images of a step, of all processes together")
    add("--input-size", type=positive_int, metavar="PIXELS")
    add("--seed", type=int, metavar="N")
    run = parser.add_argument_group("run")
    add = run.add_argument
    add("--output", metavar="DIR", help="the run's folder (default: runs/train, or the next free number)")
    add("--resume", action="store_true", help="go on with the run in --output")
    add("--keep-every", type=float, metavar="N", help="keep weights of their own every N steps, epochs or images")
    add("--device", type=device, default="auto", help="auto, cpu, cuda, mps")
    add("--threads", type=positive_int, metavar="N", help="CPU threads of the network")
    add("--workers", type=int, metavar="N", help="processes that load images")
    add("--precision", choices=("auto", "float32", "bfloat16", "float16"))
    add("--compile", choices=("auto", "yes", "no"), help="torch.compile (default: where it measures faster)")


def _add_renamed(group: argparse._ArgumentGroup, name: str, former: str, **options: Any) -> None:
    """An option, and the name that it had before 0.2, which --help does not show."""
    group.add_argument(name, **options)
    group.add_argument(former, dest=name[2:].replace("-", "_"), **options | {"help": argparse.SUPPRESS})


def run(args: argparse.Namespace) -> int:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    own = logging.getLogger("mobilessd")  # ours alone: other libraries' news are not the run's
    own.handlers, own.propagate = [handler], False
    own.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING)  # one process tells the news
    if not args.data and not args.resume:
        raise MobileSSDError("nothing to train on: give --data PATH, or --resume with the --output of a run")
    if args.resume and not args.output:
        raise MobileSSDError("--resume needs the folder of the run: --output DIR")
    from detection.train import origin, recipes, request, run  # torch and OpenCV with them

    output = Path(args.output) if args.output else next_folder(Path("runs") / "train")
    overrides = overrides_of(args)
    asked = request.Request(
        data=args.data or "",
        config=origin.resumed_config(output, args.config, overrides)
        if args.resume
        else recipes.load_config(args.config or FINETUNE, overrides),
        output=output,
        val=args.val,
        split=args.split,
        format=args.format,
        images=args.images,
        val_images=args.val_images,
        select=args.select,
        select_ids=args.select_ids,
        extra=args.extra,
        pseudo_labels=args.pseudo_labels,
        keep_pseudo_labels=args.keep_pseudo_labels,
        ignore_pseudo_labels=args.ignore_pseudo_labels,
        classes=args.classes,
        class_map=class_map(args.class_map),
        unknown=args.unknown,
        device=args.device,
        threads=args.threads,
        time_budget=args.time_budget,
        resume=args.resume,
    )
    run.train(asked)
    return 0


def overrides_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of the recipe, by dotted key."""
    given = {
        "weights": args.weights,
        "model": args.model,
        "samples": args.samples,
        "epochs": args.epochs,
        "steps": args.steps,
        "batch": args.batch,
        "input_size": args.input_size,
        "seed": args.seed,
        "keep_every": args.keep_every,
        "workers": args.workers,
        "precision": args.precision,
        "compile": {"yes": True, "no": False, "auto": "auto", None: None}[args.compile],
    }
    return {key: value for key, value in given.items() if value is not None} | settings(args.set)


def settings(items: list[str]) -> dict[str, Any]:
    """KEY=VALUE items as values by dotted key."""
    found: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            raise MobileSSDError(f"--set {item}: write KEY=VALUE, as in optimizer.lr=0.01")
        try:
            found[key.strip()] = parse_value(value)
        except yaml.YAMLError:
            raise MobileSSDError(f"--set {item}: {value!r} is no value that YAML can read") from None
    return found


def class_map(items: list[str]) -> dict[str, str]:
    """mine=theirs items as a dict."""
    pairs = [item.partition("=") for item in items]
    if wrong := [item for item, (_, equals, _) in zip(items, pairs) if not equals]:
        raise MobileSSDError(f"--class-map {wrong[0]}: write MINE=THEIRS, as in goalkeeper=person")
    return {mine.strip(): theirs.strip() for mine, _, theirs in pairs}


def seconds(text: str) -> float:
    """argparse type: 90s, 20m, 1.5h, or seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90s, 20m or 2h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def next_folder(folder: Path) -> Path:
    """runs/train, runs/train2, runs/train3: the first that is free."""
    number = 1
    while (candidate := folder if number == 1 else folder.with_name(f"{folder.name}{number}")).exists():
        number += 1
    return candidate
