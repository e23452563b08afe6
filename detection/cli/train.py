"""`mobilessd train`: from a folder of images and a starting point to weights that detect your own objects."""

from __future__ import annotations

import argparse
import os
import re
import time
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from detection.cli.common import batch_size, device, fraction, input_size, name_list, positive_int, thread_count
from detection.cli.news import with_news
from detection.data.readers import FORMATS
from detection.errors import MobileSSDError
from detection.progress import waiting
from detection.two_stage.names import NAMES
from detection.yaml_reader import parse_value

EPILOG = """\
examples:
  mobilessd train --data BCCD --weights ssdlite_mobilenet_v2.coco --time-budget 20m
  mobilessd train --data coco/ --config ssdlite_mobilenet_v2_coco --output runs/coco
  mobilessd train --output runs/coco --resume
  torchrun --nproc-per-node 8 tools/train_det.py --data coco/ --config ssdlite_mobilenet_v2_coco
"""
FINETUNE = "finetune"
AUTO = "auto"
LEAST_BUDGET = 20  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    add = data.add_argument
    add("--data", metavar="PATH", help="COCO, PASCAL VOC or YOLO data; looked at to tell which")
    add("--format", choices=("auto", *sorted(FORMATS)), help="of the data (default: auto)")
    add("--split", metavar="NAME", help="the split to train on (default: train, where there is one)")
    add("--images", metavar="DIR", help="the images of a COCO file (default: looked for beside it)")
    add("--val", metavar="NAME|PATH", help="validation: a split or another data set (default: found by looking)")
    add("--val-images", metavar="DIR", help="the images of a COCO validation file (default: looked for beside it)")
    text = "keep back this share of the training images to choose the best weights; validation is then scored once"
    add("--select", type=fraction, metavar="SHARE", help=f"{text} (default: 0.15 where there is no validation, else 0)")
    add("--select-ids", metavar="FILE", help="keep back the images whose ids this file lists, in place of a share")
    text = "train on this data set or folder of images too; classes that it lacks are unknown there, not background"
    add("--extra", action="append", default=[], metavar="PATH", help=text)
    text = "add pseudo-labels (mobilessd pseudo-label) where nothing is annotated"
    add("--pseudo-labels", action="append", default=[], metavar="JSON", help=text)
    text = "score from which on pseudo-labels are targets (default: 0.5)"
    add("--keep-pseudo-labels", type=fraction, metavar="SCORE", help=text)
    text = "score from which on, up to that, they are neither targets nor background (default: 0.25)"
    add("--ignore-pseudo-labels", type=fraction, metavar="SCORE", help=text)
    add("--classes", type=name_list, metavar="A,B", help="only these classes, in this order (default: all)")
    text = "classes that the data do not annotate: never background"
    add("--unknown", type=name_list, metavar="A,B", default=[], help=text)
    start = parser.add_argument_group("starting point")
    add = start.add_argument
    text = "weights to start from: a name or a file (default: bundled weights; with --model: none)"
    add("--weights", metavar="W", help=text)
    text = "an architecture to train from scratch, or on a backbone given by --weights (default: that of the weights)"
    add("--model", metavar="NAME", help=text)
    text = "which class of the weights one of yours continues (default: the one of the same name)"
    add("--class-map", type=name_list, metavar="MINE=THEIRS,...", default=[], help=text)
    recipe = parser.add_argument_group("recipe (defaults without --config)")
    add = recipe.add_argument
    add("--config", metavar="NAME|YAML", help=f"a recipe of configs/ or a file (default: {FINETUNE})")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="one value of it, as in ema.decay=0.99")
    text = "as many steps as fit, from start to report: 90s, 20m, 2h (default: --samples)"
    add("--time-budget", type=seconds, metavar="20m", help=text)
    add("--samples", type=positive_int, metavar="N", help="length of the run in images seen (default: 10000)")
    add("--epochs", type=float, metavar="N", help="length in passes over the data (default: --samples)")
    add("--steps", type=positive_int, metavar="N", help="length in steps (default: --samples)")
    text = "images of a step, of all processes together, or auto: as many as the memory takes (default: 16)"
    add("--batch", type=batch_size_or_auto, metavar="N", help=text)
    text = "highest learning rate, for --batch as it is (default: 0.001 for a batch of 16, in proportion for others)"
    add("--lr", type=float, metavar="RATE", help=text)
    text = "pixels of the network's input, S or HEIGHTxWIDTH (default: the network's own)"
    add("--input-size", type=input_size, metavar="S", help=text)
    add("--seed", type=int, metavar="N", help="start of all random numbers (default: 0)")
    run = parser.add_argument_group("run")
    add = run.add_argument
    add("--output", metavar="DIR", help="the run's folder (default: runs/train, or the next free number)")
    add("--resume", action="store_true", help="go on with the run in --output")
    text = "keep weights of their own every N steps, epochs or images (default: only the best and the last)"
    add("--keep-every", type=float, metavar="N", help=text)
    text = "also log to tensorboard, mlflow, wandb (default: tensorboard where it is installed)"
    add("--log", type=name_list, metavar="A,B", help=text)
    add("--device", type=device, default="auto", help="auto, cpu, cuda, cuda:1, mps")
    add("--threads", type=thread_count, metavar="N", help="CPU threads of the network (default: all cores)")
    add("--workers", type=int, metavar="N", help="processes that load images (default: 1 on a CPU, at most 8 on a GPU)")
    text = "of the computation (default: auto, what the processor has)"
    add("--precision", choices=("auto", "float32", "bfloat16", "float16"), help=text)
    text = "torch.compile (default: auto, where it measures faster)"
    add("--compile", choices=("auto", "yes", "no"), help=text)


def explain_option(name: str) -> str | None:
    """An option that is a key of the recipe: `--patience` is --set patience=VALUE."""
    from detection.config import keys_of
    from detection.train.config import TrainConfig

    word = name[2:].replace("-", "_")
    found = [key for key, _ in keys_of(TrainConfig) if key.rsplit(".", 1)[-1] == word]
    return f"here it is {' or '.join(f'--set {key}=VALUE' for key in found)}" if found else None


def run(args: argparse.Namespace) -> int:
    """Trains; see the parser for `args`."""
    began = time.monotonic()
    return with_news(lambda: _train(args, began))


def _train(args: argparse.Namespace, began: float) -> None:
    if args.model in NAMES:
        from detection.cli.two_stage_job import train  # torchvision with it

        if overrides_of(args).get("batch") == AUTO:
            raise MobileSSDError("--batch auto: not with a two-stage detector; give a number")
        folder = Path(args.output) if args.output else next_folder(Path("runs") / "train")
        return train(args, overrides_of(args), folder)
    if args.resume and not args.output:
        raise MobileSSDError("--resume needs the folder of the run: --output DIR")
    if args.time_budget is not None:
        # Read when torch loads. Threads that spin while they wait for one another starve as soon as another job comes: a
        # step then takes three times as long. With this they sleep after a microsecond or so.
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    with waiting("loading torch"):
        from detection.train import origin, recipes, request, run  # OpenCV with it

    if not args.data and not args.resume and not (args.config and recipes.data_section(args.config)):
        raise MobileSSDError("nothing to train on: give --data PATH, or --resume with the --output of a run")
    output = Path(args.output) if args.output else next_folder(Path("runs") / "train")
    overrides = overrides_of(args)
    at_batch = None
    if overrides.get("batch") == AUTO:
        del overrides["batch"]
        at_batch = partial(at_another_batch, args.config or FINETUNE, overrides)
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
        began=began,
        at_batch=at_batch,
    )
    run.train(asked if args.resume else origin.repeated(asked, args.config))


def overrides_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of the recipe, by dotted key."""
    given = {
        "weights": args.weights,
        "model": args.model,
        "samples": args.samples,
        "epochs": args.epochs,
        "steps": args.steps,
        "batch": args.batch,
        "input_size": _size(args.input_size),
        "lr": args.lr,
        "seed": args.seed,
        "keep_every": args.keep_every,
        "workers": args.workers,
        "log": args.log,
        "precision": args.precision,
        "compile": {"yes": True, "no": False, "auto": "auto", None: None}[args.compile],
    }
    return {key: value for key, value in given.items() if value is not None} | settings(args.set)


def at_another_batch(recipe: str, overrides: dict[str, Any], batch: int) -> Any:
    """The `TrainConfig` that the command line means with this batch."""
    from detection.train.recipes import load_config  # OpenCV with it

    return load_config(recipe, overrides | {"batch": batch})


def batch_size_or_auto(text: str) -> int | str:
    """argparse type: images of a step, or auto."""
    return AUTO if text == AUTO else batch_size(text)


def _size(size: tuple[int, int] | None) -> int | list[int] | None:
    """Height and width as a recipe has them: one number for a square."""
    return size[0] if size and size[0] == size[1] else list(size) if size else None


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
    budget = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
    if budget < LEAST_BUDGET:
        raise argparse.ArgumentTypeError(
            f"{text} is too short: start and report take that long; give {LEAST_BUDGET}s or more"
        )
    return budget


def next_folder(folder: Path) -> Path:
    """runs/train, runs/train2, runs/train3: the first that is free."""
    number = 1
    while (candidate := folder if number == 1 else folder.with_name(f"{folder.name}{number}")).exists():
        number += 1
    return candidate
