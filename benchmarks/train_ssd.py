"""Holds a folder of `mobilessd export --target train-ssd` to pytorch-ssd's own code: its network and its Predictor.

    git clone https://github.com/qfgaohao/pytorch-ssd     (or dusty-nv/pytorch-ssd)
    python benchmarks/train_ssd.py pytorch-ssd FOLDER --images photos/ --number 20 --score 0.5

Prints how far scores and priors are apart, and how many boxes both find (same class, corners within half a pixel): with its
rules as they are, and with each of the differences from ours taken away in turn. Ends with code 1 where scores differ by more
than 1e-4 or where the two suppressions, both on its raw outputs and with no difference left, do not keep the same boxes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from detection import Detector
from detection.boxes.geometry import iou_matrix
from detection.boxes.postprocess import suppress
from detection.images.decode import read_image
from detection.images.sources import find_sources

IOU = 0.45
CANDIDATES = 200
CREATED = {
    "mb1-ssd": "mobilenetv1_ssd",
    "mb1-ssd-lite": "mobilenetv1_ssd_lite",
    "mb2-ssd-lite": "mobilenetv2_ssd_lite",
    "vgg16-ssd": "vgg_ssd",
}
MODULES = CREATED | {"mb2-ssd-lite": "mobilenet_v2_ssd_lite"}
DIFFERENCES = ("as it is", "boxes cut", "boxes cut, ties alike", "boxes cut, ties alike, nothing added")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path, help="where their code lies")
    parser.add_argument("folder", type=Path, help="what was exported")
    parser.add_argument("--images", required=True, metavar="DIR")
    parser.add_argument("--number", type=int, default=20, metavar="N")
    parser.add_argument("--score", type=float, default=0.5, metavar="S")
    args = parser.parse_args()
    model = next(path for kind in CREATED for path in args.folder.glob(f"{kind}.pth"))
    net, predictor, box_utils = their_code(args.repository, model)
    ours = Detector(model, "cpu", "torch", score=args.score, iou=IOU, max_detections=1000, merge="nms")
    ours.settings = replace(ours.settings, per_class=CANDIDATES)
    worst, apart = 0.0, 0
    counts = {name: np.zeros(3, int) for name in DIFFERENCES}
    files = [source.path for source in find_sources([args.images]) if not source.video][: args.number]
    for file in files:
        image = read_image(file)
        with torch.no_grad():
            scores, boxes = (part[0] for part in net(predictor.transform(image)[None]))
        logits = torch.from_numpy(ours.runtime(ours.prepare([image]))[1][0])
        worst = max(worst, float((logits.softmax(1) - scores).abs().max()))
        found = ours(image)
        for name in DIFFERENCES:
            with changed(name, net, box_utils), contextlib.redirect_stdout(io.StringIO()):
                theirs, labels, _ = (part.numpy() for part in predictor.predict(image, -1, args.score))
            theirs = theirs.reshape(-1, 4).clip(0, np.array([image.shape[1], image.shape[0]] * 2))
            counts[name] += len(theirs), len(found), both(theirs, labels - 1, found)
        apart += suppressed_otherwise(scores, boxes.clamp(0, 1), args.score, box_utils, net)
    priors = float(np.abs(net.priors.numpy() - ours.anchors).max())
    print(f"{model.stem}, {len(files)} images: scores within {worst:.1e}, priors within {priors:.1e}")
    for name, (theirs, mine, same) in counts.items():
        print(f"  its rules {name}: {theirs} boxes, ours {mine}, the same {same}")
    print(f"  both suppressions of its raw outputs, no difference left: {apart} boxes kept by one alone")
    return int(worst > 1e-4 or apart > 0)


def their_code(repository: Path, model: Path) -> tuple[Any, Any, Any]:
    """The network with the file loaded as they do, its predictor, and their module of boxes."""
    sys.path.insert(0, str(repository))
    name = CREATED[model.stem]
    module = importlib.import_module(f"vision.ssd.{MODULES[model.stem]}")
    labels = (model.parent / "labels.txt").read_text().splitlines()
    net = getattr(module, f"create_{name}")(len(labels), is_test=True)
    net.load(model)
    predictor = getattr(module, f"create_{name}_predictor")(net, candidate_size=CANDIDATES, device=torch.device("cpu"))
    return net, predictor, importlib.import_module("vision.utils.box_utils")


@contextlib.contextmanager
def changed(name: str, net: Any, box_utils: Any) -> Iterator[None]:
    """Their code without some of its differences from ours."""
    sort, overlap = torch.Tensor.sort, box_utils.iou_of
    if "cut" in name:
        net.forward = lambda x: (lambda scores, boxes: (scores, boxes.clamp(0, 1)))(*type(net).forward(net, x))
    if "ties" in name:
        torch.Tensor.sort = lambda tensor, **options: sort(tensor, stable=True, **options)  # type: ignore[assignment]
    if "added" in name:
        box_utils.iou_of = lambda one, other: overlap(one, other, 1e-12)
    try:
        yield
    finally:
        net.__dict__.pop("forward", None)
        torch.Tensor.sort, box_utils.iou_of = sort, overlap  # type: ignore[assignment]


def both(theirs: np.ndarray, labels: np.ndarray, found: Any) -> int:
    """How many of their boxes are among ours."""
    same = 0
    for box, label in zip(theirs, labels):
        mine = found.boxes[found.class_ids == label]
        same += bool(len(mine) and np.abs(mine - box).max(1).min() < 0.5 and iou_matrix(box[None], mine).max() > 0)
    return same


def suppressed_otherwise(scores: Any, boxes: Any, score: float, box_utils: Any, net: Any) -> int:
    """Boxes that only one of the two suppressions keeps of the same candidates, over all classes."""
    apart = 0
    for column in range(1, scores.shape[1]):
        chosen = scores[:, column] > score
        rows = torch.cat([boxes[chosen], scores[chosen, column, None]], 1)
        if not len(rows):
            continue
        with changed(DIFFERENCES[-1], net, box_utils):
            theirs = box_utils.hard_nms(rows, IOU, -1, CANDIDATES)[:, :4]
        order = np.argsort(-rows[:, 4].numpy(), kind="stable")[:CANDIDATES]
        candidates = rows[order, :4].numpy()
        kept = candidates[suppress(candidates, np.zeros(len(order), np.int64), IOU, len(order))]
        apart += len(set(map(tuple, theirs.tolist())) ^ set(map(tuple, kept.tolist())))
    return apart


if __name__ == "__main__":
    sys.exit(main())
