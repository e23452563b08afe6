"""The three jobs of `mobilessd classify`, behind its checks: torch is needed from here on."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from detection.classify import run
from detection.classify.config import FINETUNE, load_classifier_config
from detection.classify.images import VAL, open_image_folder
from detection.classify.network import open_classifier
from detection.classify.score import columns_of, score
from detection.cli.news import with_news
from detection.cli.pipes import words_beside
from detection.cli.train import next_folder, settings
from detection.errors import BadImageError, MobileSSDError
from detection.files import write_output
from detection.images.decode import read_image
from detection.images.sources import find_sources
from detection.runtimes.torch import choose_device


def predict(args: argparse.Namespace) -> int:
    """The best classes of each image, a line each. Exit code 2 where one that was named cannot be read."""
    opened = _opened(args)
    rows: list[dict[str, Any]] = []
    bad = 0
    for source in find_sources(args.sources):
        try:
            if source.video:
                raise BadImageError(f"{source.name}: a video; classify looks at images")
            scores = opened.probabilities([read_image(source.name)])[0]
        except BadImageError as error:
            print(f"error: {error}", file=sys.stderr)
            bad += 1
            continue
        best = scores.argsort()[::-1][: args.top]
        found = [{"name": opened.card.class_names[i], "score": round(float(scores[i]), 4)} for i in best]
        rows.append({"image": source.name, "classes": found})
        best_ones = ", ".join(f"{one['name']} {one['score']:.2f}" for one in found)
        print(f"{source.name}: {best_ones}", file=words_beside(json=args.json), flush=True)
    if args.json:
        write_output(args.json, json.dumps(rows, indent=1) + "\n")
    return 2 if bad else 0


def evaluate(args: argparse.Namespace) -> int:
    """Top-1 and top-5, and the classes in which most goes wrong."""
    opened = _opened(args)
    folder = Path(args.eval)
    folder = next((folder / name for name in VAL if (folder / name).is_dir() and (folder / "train").is_dir()), folder)
    images = open_image_folder(folder)
    for line in images.said:
        print(line, file=sys.stderr)
    card = opened.card
    columns = columns_of(images.class_names, card.class_names)
    found = score(opened.network, images, columns, card.input_size, card.crop, say=True)
    words = words_beside(json=args.json)
    print(
        f"{found.text()} of {images.root}, {card.input_size}x{card.input_size} pixels, crop {card.crop:g}", file=words
    )
    worst = sorted(found.by_class.items(), key=lambda pair: pair[1])[:10]
    print("lowest top-1: " + ", ".join(f"{name} {value:.3f}" for name, value in worst), file=words)
    if args.json:
        figures = {"images": found.images, "top1": found.top1, "top5": found.top5, "by_class": found.by_class}
        write_output(args.json, json.dumps(figures, indent=1) + "\n")
    return 0


def train(args: argparse.Namespace) -> int:
    """A run of `detection.classify.run`. Returns the exit code."""
    return with_news(lambda: _train(args))


def _train(args: argparse.Namespace) -> None:
    if args.resume and not args.output:
        raise MobileSSDError("--resume needs the folder of the run: --output DIR")
    output = Path(args.output) if args.output else next_folder(Path("runs") / "classify")
    config = str(output / "config.yaml") if args.resume and args.config is None else args.config or FINETUNE
    if args.resume and not Path(config).is_file() and args.config is None:
        raise MobileSSDError(f"{output}: no run of a classifier to go on with (no config.yaml)")
    given = {
        "weights": args.weights, "model": args.model, "epochs": args.epochs, "steps": args.steps, "batch": args.batch,
        "lr": args.lr, "seed": args.seed, "precision": args.precision,
        "distillation.teacher": args.teacher[0] if args.teacher else None,
    }  # fmt: skip
    overrides = {key: value for key, value in given.items() if value is not None} | settings(args.set)
    folder = run.train(
        run.Request(
            args.train, load_classifier_config(config, overrides), output, args.val,
            0.2 if args.select is None else args.select, args.device, args.threads, args.resume,
        )
    )  # fmt: skip
    print(f"{folder / 'best.safetensors'}: the weights that were best")


def _opened(args: argparse.Namespace) -> Any:
    if choose_device(args.device) != "cpu":
        print("classifiers run on the CPU here; --device is for --train", file=sys.stderr)
    if args.threads:
        torch.set_num_threads(args.threads)
    return open_classifier(args.weights)
