"""`mobilessd classify`: what is in an image as a whole; top-1 of a classifier; training one on an image folder."""

from __future__ import annotations

import argparse

from detection.cli.common import batch_size, device, fraction, name_list, positive_int, thread_count
from detection.errors import MobileSSDError, need

EPILOG = """\
examples:
  mobilessd classify photo.jpg --weights mobilenet_v1_050.imagenet
  mobilessd classify --eval imagenet/val --weights runs/classify/best.safetensors
  mobilessd classify --train animals/ --weights mobilenet_v2.imagenet --output runs/animals
  mobilessd train --data coco/ --model ssdlite_mobilenet_v2 --weights runs/animals/best.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="*", metavar="IMAGE", help="images, folders or patterns to classify")
    add = parser.add_argument
    text = "a classifier by name or file; with --train whatever has a backbone (default with --train: from scratch)"
    add("--weights", metavar="W", help=text)
    add("--top", type=positive_int, default=5, metavar="N", help="best classes of an image")
    add("--json", metavar="OUT", help="write classes and scores, or those of --eval, as JSON (- for stdout)")
    text = (
        "measure top-1 and top-5 on a folder with a folder of images for each class, or on DIR/val of ImageNet's layout"
    )
    add("--eval", metavar="DIR", help=text)
    group = parser.add_argument_group("training")
    add = group.add_argument
    add("--train", metavar="DIR", help="train on such a folder; DIR/train and DIR/val where they exist")
    add("--val", metavar="DIR", help="images that choose the best weights (default: DIR/val, else a share of all)")
    text = "that share, of each class (default: 0.2)"
    add("--select", type=fraction, metavar="SHARE", help=text)
    add(
        "--model",
        metavar="NAME",
        help="backbone, its width with --set options.alpha=0.5 (default: that of the weights)",
    )
    text = "a recipe of configs/classify or a YAML file (default: finetune)"
    add("--config", metavar="NAME|YAML", help=text)
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="one value of it, as in ema.decay=0.99")
    text = "a classifier of the same classes whose soft targets are learned too"
    add("--teacher", type=name_list, metavar="W", help=text)
    add("--epochs", type=float, metavar="N", help="length in passes over the data (default: 10)")
    add("--steps", type=positive_int, metavar="N", help="length in steps (default: --epochs)")
    add("--batch", type=batch_size, metavar="N", help="images of a step, of all processes together (default: 32)")
    text = "highest learning rate, for --batch as it is (default: 0.001 for a batch of 32, in proportion for others)"
    add("--lr", type=float, metavar="RATE", help=text)
    add("--seed", type=int, metavar="N", help="start of all random numbers (default: 0)")
    add("--output", metavar="DIR", help="the run's folder (default: runs/classify, or the next free number)")
    add("--resume", action="store_true", help="go on with the run in --output")
    group = parser.add_argument_group("computation")
    add = group.add_argument
    add("--device", type=device, default="auto", help="auto, cpu, cuda, cuda:1, mps")
    add("--threads", type=thread_count, metavar="N", help="CPU threads of the network (default: all cores)")
    text = "of training (default: auto, what the processor has)"
    add("--precision", choices=("auto", "float32", "bfloat16", "float16"), help=text)


def run(args: argparse.Namespace) -> int:
    asked = [
        name for name, given in (("images", args.sources), ("--eval", args.eval), ("--train", args.train)) if given
    ]
    if not asked and args.resume:
        raise MobileSSDError("--resume needs the images that the run learns from: --train DIR")
    if not asked:
        raise MobileSSDError("nothing to do: name images, or give --eval DIR or --train DIR")
    if len(asked) > 1:
        raise MobileSSDError(f"{' and '.join(asked)}: one at a time")
    if args.teacher and len(args.teacher) > 1:
        raise MobileSSDError(f"--teacher {','.join(args.teacher)}: a classifier learns from one")
    if args.train is None and not args.weights:
        raise MobileSSDError(
            "no classifier ships with mobilessd: give --weights NAME_OR_FILE, as in mobilenet_v1_050.imagenet"
            " (`mobilessd info --list` shows all), or train one with --train DIR"
        )
    need("mobilessd classify", "torch", "torchvision")
    from detection.cli import classify_job as job

    return job.train(args) if args.train else job.evaluate(args) if args.eval else job.predict(args)
