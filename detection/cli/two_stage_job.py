"""What `mobilessd train --model faster_rcnn_...` and `mobilessd eval` do with a two-stage detector: torch is needed here."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from detection.errors import MobileSSDError
from detection.evaluate.categories import match_categories
from detection.evaluate.results import Results
from detection.evaluate.truth import GroundTruth, ground_truth
from detection.files import write_text
from detection.runtimes.torch import choose_device
from detection.train.distributed import World
from detection.train.recipes import FINETUNE, load_config
from detection.train.request import Request, open_parts
from detection.train.run_folder import run_folder
from detection.two_stage import run
from detection.two_stage.card import TwoStageCard
from detection.weights.backbone import read_backbone

TRAINS_WITH = (
    "data format split images val val_images select select_ids classes weights model config set samples epochs steps batch"
    " lr input_size seed output device threads workers"
).split()
MEASURES_WITH = (
    "data format split images image_ids weights device threads score iou max_detections classes batch engine json csv"
    " report save_results errors draws quiet"
).split()


def train(args: argparse.Namespace, overrides: dict[str, Any], output: Path) -> None:
    """A run of `detection.two_stage.run`: writes config.yaml and last.safetensors, and prints the AP on the validation data."""
    _refuse_the_rest(args, TRAINS_WITH)
    if not args.data:
        raise MobileSSDError("nothing to train on: give --data PATH")
    config = load_config(args.config or FINETUNE, overrides)
    size = 300 if config.input_size is None else config.input_size
    if not isinstance(size, int):
        raise MobileSSDError(f"{args.model}: learns at a square size, as in --input-size 300")
    if config.weights is not None and config.norms == "train" and read_backbone(config.weights).folded:
        raise MobileSSDError(f"{config.weights}: its batch norms are folded away; add --set norms=frozen")
    device = _computer(args)
    if (output / "last.safetensors").exists():
        raise MobileSSDError(f"{output}: holds a run already; name another with --output")
    parts = open_parts(
        Request(
            args.data, config, output, args.val, args.split, args.format, args.images, args.val_images,
            select=args.select, select_ids=args.select_ids, classes=args.classes,
        )
    )  # fmt: skip
    torch.manual_seed(config.seed)
    card = TwoStageCard(args.model, parts.train.class_names, size, dict(config.options))
    network = run.build_network(card, config.weights)
    with run_folder(output, False, World()):
        write_text(output / "config.yaml", config.to_yaml())
        print(f"{len(parts.train):,} images to train on, {len(card.class_names)} classes", flush=True)
        run.train(network, card, parts.train, config, device)
        run.save(output / "last.safetensors", network, card)
        if (held := parts.final or parts.select) is not None:
            numbers = run.measure(network, card, ground_truth(held))
            print(f"AP {numbers.AP:.3f}, AP50 {numbers.AP50:.3f} on {numbers.images:,} validation images")
        print(f"{output / 'last.safetensors'}: the weights, for `mobilessd eval --weights`")


def find(args: argparse.Namespace, truth: GroundTruth) -> tuple[Results, str, float, dict[str, Any], tuple[str, ...]]:
    """Results, name, seconds, part of the protocol, and what a reader must know, for `mobilessd eval`."""
    _refuse_the_rest(args, MEASURES_WITH)
    network, card = run.load(args.weights)
    device, heads = _computer(args), network.roi_heads
    network.to(device)
    heads.score_thresh = heads.score_thresh if args.score is None else args.score
    heads.nms_thresh = heads.nms_thresh if args.iou is None else args.iou
    heads.detections_per_img = args.max_detections or heads.detections_per_img
    categories = match_categories(card.class_names, None, truth)
    began = time.perf_counter()
    results, unreadable = run.detect_all(network, card, truth, categories)
    protocol = {
        "score_floor": heads.score_thresh,
        "nms_iou": heads.nms_thresh,
        "max_detections": heads.detections_per_img,
        "runtime": f"torch, {device}, float32",
        "unreadable_images": len(unreadable),
    }
    notes = (*(categories.notes() if args.classes is None else ()), *unreadable)
    return results, str(args.weights), time.perf_counter() - began, protocol, notes


def _computer(args: argparse.Namespace) -> str:
    if args.threads:
        torch.set_num_threads(args.threads)
    return choose_device(args.device)


def _refuse_the_rest(args: argparse.Namespace, known: list[str]) -> None:
    """Nothing that was asked for is passed over."""
    for name, value in vars(args).items():
        if name in known or callable(value) or value in (None, False, [], "auto", "no") or name == "command":
            continue
        raise MobileSSDError(f"--{name.replace('_', '-')}: not with a two-stage detector")
