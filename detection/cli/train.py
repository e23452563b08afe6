"""`mobilessd train`: from a folder of pictures and a starting point to weights that detect your own objects."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from detection.cli.common import device, fraction, name_list, positive_int
from detection.core.errors import MobileSSDError

EPILOG = """\
examples:
  mobilessd train --data BCCD --weights ssdlite_mobilenet_v2.coco --time-budget 20m
  mobilessd train --data coco/ --config ssdlite_mobilenet_v2_coco --output runs/coco
  mobilessd train --data coco/ --output runs/coco --resume
  torchrun --nproc-per-node 8 tools/train_det.py --data coco/ --config ssdlite_mobilenet_v2_coco
"""
FINETUNE = "finetune"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument("--data", required=True, metavar="PATH", help="COCO, PASCAL VOC or YOLO data; looked at to tell which")
    data.add_argument("--format", default="auto", choices=("auto", "coco", "voc", "yolo"))
    data.add_argument("--split", metavar="NAME", help="the split to train on (default: train, where there is one)")
    data.add_argument("--images", metavar="DIR", help="the pictures of a COCO file")
    data.add_argument("--val", metavar="NAME|PATH", help="validation: a split or another data set (default: found by looking)")
    data.add_argument("--val-images", metavar="DIR", help="the pictures of a COCO validation file")
    data.add_argument("--select", type=fraction, metavar="SHARE", help="keep back this share of the training pictures to choose the best weights; validation data are then scored once")  # fmt: skip
    data.add_argument("--classes", type=name_list, metavar="A,B", help="only these classes, in this order")
    data.add_argument("--unknown", type=name_list, metavar="A,B", default=[], help="classes that the data do not annotate: never background")  # fmt: skip
    start = parser.add_argument_group("starting point")
    start.add_argument("--weights", metavar="W", help="weights to start from: a name or a file")
    start.add_argument("--model", metavar="NAME", help="an architecture to train from scratch, or on a body given by --weights")
    start.add_argument("--class-map", type=name_list, metavar="MINE=THEIRS,...", default=[], help="which class of the weights one of yours continues")  # fmt: skip
    recipe = parser.add_argument_group("recipe")
    recipe.add_argument("--config", metavar="NAME|YAML", help=f"a recipe of configs/ or a file (default: {FINETUNE})")
    recipe.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one value of the recipe, as in optimizer.lr=0.01")  # fmt: skip
    recipe.add_argument("--time-budget", type=seconds, metavar="20m", help="as many steps as fit: 90s, 20m, 2h")
    recipe.add_argument("--pictures", type=positive_int, metavar="N", help="length of the run in pictures seen")
    recipe.add_argument("--epochs", type=float, metavar="N", help="length in passes over the data")
    recipe.add_argument("--steps", type=positive_int, metavar="N", help="length in steps")
    recipe.add_argument("--batch", type=positive_int, metavar="N", help="pictures of a step, of all processes together")
    recipe.add_argument("--input-size", type=positive_int, metavar="PIXELS")
    recipe.add_argument("--seed", type=int, metavar="N")
    run = parser.add_argument_group("run")
    run.add_argument("--output", metavar="DIR", help="the run's folder (default: runs/train, or the next free number)")
    run.add_argument("--resume", action="store_true", help="go on with the run in --output")
    run.add_argument("--device", type=device, default="auto", help="auto, cpu, cuda, mps")
    run.add_argument("--threads", type=positive_int, metavar="N", help="CPU threads of the network")
    run.add_argument("--workers", type=int, metavar="N", help="processes that load pictures")
    run.add_argument("--precision", choices=("auto", "float32", "bfloat16", "float16"))
    run.add_argument("--compile", choices=("auto", "yes", "no"), help="torch.compile (default: where it measures faster)")


def run(args: argparse.Namespace) -> int:
    import logging

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    own = logging.getLogger("mobilessd")  # ours alone: other libraries' news are not the run's
    own.handlers, own.propagate = [handler], False
    own.setLevel(logging.INFO)
    from detection.train.run import Request, train

    output = Path(args.output) if args.output else next_folder(Path("runs") / "train")
    request = Request(
        data=args.data,
        config=config_of(args, output),
        output=output,
        val=args.val,
        split=args.split,
        format=args.format,
        images=args.images,
        val_images=args.val_images,
        select=args.select,
        classes=args.classes,
        class_map=class_map(args.class_map),
        unknown=args.unknown,
        device=args.device,
        threads=args.threads,
        time_budget=args.time_budget,
        resume=args.resume,
    )
    train(request)
    return 0


def config_of(args: argparse.Namespace, output: Path):
    """The recipe with what the command line says otherwise; a resumed run keeps the recipe that it began with."""
    from detection.train.config import load_config

    if args.resume:
        if not (output / "config.yaml").exists():
            raise MobileSSDError(f"{output}: holds no run to go on with; name its folder with --output")
        return load_config(output / "config.yaml")
    given = {
        "weights": args.weights,
        "model": args.model,
        "pictures": args.pictures,
        "epochs": args.epochs,
        "steps": args.steps,
        "batch": args.batch,
        "input_size": args.input_size,
        "seed": args.seed,
        "workers": args.workers,
        "precision": args.precision,
        "compile": {"yes": True, "no": False, "auto": "auto", None: None}[args.compile],
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    for item in args.set:
        key, equals, value = item.partition("=")
        if not equals:
            raise MobileSSDError(f"--set {item}: write KEY=VALUE, as in optimizer.lr=0.01")
        import yaml

        overrides[key.strip()] = yaml.safe_load(value)
    return load_config(args.config or FINETUNE, overrides)


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
