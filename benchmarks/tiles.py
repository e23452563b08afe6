"""Tiles beside those of others: SAHI on the same tiles with the same network, and a 4K frame cut by hand.

    python benchmarks/tiles.py sahi --data instances.json --images images/ [--grid 2x2] [--number 552]
    python benchmarks/tiles.py frame --data instances.json --images images/ [--frames 5]

sahi: `sahi` (pip, MIT) slices each image into our grid and sees the whole image as well; its network is our Detector, one
call a slice as it calls all of its models; AP of both, of SAHI with its defaults (greedy merging, intersection over the
smaller box 0.5) and with class-wise NMS at our IoU; milliseconds an image, in turns. Ends with code 1 where ours is worse or
slower.
frame: images are pasted into frames of 3840 x 2160, six by four. By hand: crops of the network's own size, an overlap of
0.2, each seen by itself, all boxes kept. Counts the people and cars of the ground truth that a box of the right class hits
(score 0.3, IoU 0.5), and which of them `--views tiles` finds too; beside it, how many the same crops find from other places,
which is chance alone. Ends with code 1 below 95 %.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection import Detector
from detection.benchmark.machine import describe, machine
from detection.boxes.detections import Detections
from detection.boxes.geometry import iou_matrix
from detection.data.open import open_data
from detection.evaluate.categories import match_categories
from detection.evaluate.coco import evaluate
from detection.evaluate.detect import to_results
from detection.evaluate.results import Results, concatenate
from detection.evaluate.truth import ground_truth, open_evaluation
from detection.images.decode import read_image

FRAME = (2160, 3840)
CELLS = (4, 6)  # rows and columns of images in a frame
NAMES = ("person", "car")
"""The objects that are counted in a frame."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("sahi", "frame"))
    parser.add_argument("--data", required=True, metavar="GT")
    parser.add_argument("--images", required=True, metavar="DIR")
    parser.add_argument("--grid", default="2x2", help="of sahi: COLUMNSxROWS (default: 2x2)")
    parser.add_argument("--number", type=int, help="of sahi: how many images (default: all)")
    parser.add_argument("--frames", type=int, default=5, help="of frame: how many frames (default: 5)")
    parser.add_argument("--weights", metavar="W")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    code = against_sahi(args) if args.what == "sahi" else frames(args)
    print(*describe(machine()), sep="\n")
    return code


def against_sahi(args: argparse.Namespace) -> int:
    """AP and time on the same tiles."""
    detector = Detector(args.weights, threads=args.threads, score=0.01)
    ours = detector.with_views(f"1+{args.grid}")
    truth = ground_truth(open_evaluation(args.data, None, images=args.images))
    categories = match_categories(detector.card.class_names, detector.card.category_ids, truth)
    variants = {
        "ours": lambda image: ours.detect_batch([image])[0],
        "sahi, as it comes": Sliced(ours, "GREEDYNMM", "IOS", 0.5),
        "sahi, NMS": Sliced(ours, "NMS", "IOU", detector.settings.iou),
    }
    found: dict[str, list[Results]] = {name: [] for name in variants}
    spans: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants)
    chosen = list(range(len(truth.paths)))[: args.number]
    for index in chosen:
        image = read_image(truth.paths[index])
        for name in order:
            begin = time.perf_counter()
            detections = variants[name](image)
            spans[name].append(time.perf_counter() - begin)
            found[name].append(to_results(detections, index, categories))
        order = [*order[1:], order[0]]
    figures = {}
    for name in variants:
        numbers = evaluate(truth.select(chosen), concatenate(found[name]))
        figures[name] = (numbers.AP, statistics.median(spans[name]))
        print(f"{name:>18}  AP {numbers.AP:.4f}  APs {numbers.APs:.4f}  {1e3 * figures[name][1]:.1f} ms an image")
    return int(any(figures["ours"][0] < ap or figures["ours"][1] > span for ap, span in figures.values()))


class Sliced:
    """SAHI with our network as one of its models: image -> detections, at most 100."""

    def __init__(self, detector: Detector, kind: str, metric: str, threshold: float) -> None:
        from sahi.models.base import DetectionModel
        from sahi.prediction import ObjectPrediction

        one, names = detector.with_views("1").with_rules(merge="nms"), detector.class_names

        class Network(DetectionModel):
            def load_model(self) -> None:
                self.model, self.category_mapping = one, {str(i): name for i, name in enumerate(names)}

            def perform_inference(self, image: np.ndarray) -> None:
                self._original_predictions = [one.detect_batch([image])[0]]

            def _create_object_prediction_list_from_original_predictions(
                self, shift_amount_list: Any = ((0, 0),), full_shape_list: Any = None
            ) -> None:
                shift, full = shift_amount_list, full_shape_list  # of one image, or of each of a list with one
                shift = shift[0] if isinstance(shift[0], (list, tuple)) else shift
                full = full[0] if full and isinstance(full[0], (list, tuple)) else full
                self._object_prediction_list_per_image = [
                    [
                        ObjectPrediction(
                            bbox=box.tolist(), category_id=int(label), category_name=names[label], score=float(score),
                            shift_amount=list(shift), full_shape=full,
                        )
                        for box, score, label in zip(seen.boxes, seen.scores, seen.class_ids)
                    ]
                    for seen in self._original_predictions
                ]  # fmt: skip

        self.detector, self.rules, self.network = (
            detector,
            (kind, metric, threshold),
            Network(confidence_threshold=0.01),
        )

    def __call__(self, image: np.ndarray) -> Detections:
        from sahi.predict import get_sliced_prediction

        height, width = image.shape[:2]
        assert self.detector.plan is not None
        tile = self.detector.plan.views((height, width), self.detector.input_size)[1]
        x1, y1, x2, y2 = tile.region
        kind, metric, threshold = self.rules
        overlap = self.detector.plan.terms[-1].overlap
        answer = get_sliced_prediction(
            image, self.network, slice_height=y2 - y1, slice_width=x2 - x1,
            overlap_height_ratio=overlap, overlap_width_ratio=overlap,
            postprocess_type=kind, postprocess_match_metric=metric, postprocess_match_threshold=threshold,
            force_postprocess_type=True, verbose=0,
        )  # fmt: skip
        rows = sorted(answer.object_prediction_list, key=lambda row: -row.score.value)[:100]
        boxes = np.array([row.bbox.to_xyxy() for row in rows], np.float32).reshape(-1, 4)
        return Detections(
            boxes, np.array([row.score.value for row in rows], np.float32), np.array([row.category.id for row in rows], int),
            self.detector.class_names, (height, width), self.detector.card.category_ids,
        )  # fmt: skip


def frames(args: argparse.Namespace) -> int:
    """What tiles by hand find of the people and cars of a 4K frame, and how much of it `--views tiles` does."""
    by_hand = Detector(args.weights, threads=args.threads, score=0.3)
    tiled = by_hand.with_views("tiles")
    data = open_data(args.data, "all", images=args.images)
    wanted = [data.class_names.index(name) for name in NAMES]
    total = np.zeros(4, int)
    for number in range(args.frames):
        frame, boxes, labels = pasted(data, number * CELLS[0] * CELLS[1])
        kept = np.isin(labels, wanted)
        boxes, names = boxes[kept], [data.class_names[label] for label in labels[kept]]
        begin = time.perf_counter()
        hand, other = (hit(boxes, names, cut_by_hand(by_hand, frame, even)) for even in (True, False))
        middle = time.perf_counter()
        ours = hit(boxes, names, tiled.detect_batch([frame])[0])
        spans = (middle - begin) / 2, time.perf_counter() - middle
        print(f"frame {number}: {len(boxes)} objects; by hand {hand.sum()} in {spans[0]:.2f} s, from other places"
              f" {other.sum()}; tiles {ours.sum()} in {spans[1]:.2f} s", flush=True)  # fmt: skip
        total += [hand.sum(), (hand & ours).sum(), (hand & other).sum(), (ours & ~hand).sum()]
    share = total[1] / max(total[0], 1)
    print(f"of {total[0]} people and cars that tiles by hand find, tiles find {total[1]} ({100 * share:.1f} %), and {total[3]}"
          f" others; by hand from other places {total[2]}")  # fmt: skip
    return int(share < 0.95)


def pasted(data: Any, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A frame uint8 [2160, 3840, 3] of 24 images at the size that they have, smaller where they do not fit; the boxes
    `xyxy` [n, 4] of its ordinary objects in pixels and their labels [n]."""
    frame = np.full((*FRAME, 3), 114, np.uint8)
    high, wide = FRAME[0] // CELLS[0], FRAME[1] // CELLS[1]
    boxes, labels = [np.empty((0, 4))], [np.empty(0, int)]
    for place in range(CELLS[0] * CELLS[1]):
        entry = data.image((first + place) % len(data))
        image = read_image(entry.path)
        scale = min(1.0, high / image.shape[0], wide / image.shape[1])
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
        top, left = place // CELLS[1] * high, place % CELLS[1] * wide
        frame[top : top + image.shape[0], left : left + image.shape[1]] = image
        ordinary = entry.flags == 0
        boxes.append(entry.boxes[ordinary] * scale + [left, top, left, top])
        labels.append(entry.labels[ordinary])
    return frame, np.concatenate(boxes), np.concatenate(labels)


def cut_by_hand(detector: Detector, frame: np.ndarray, even: bool) -> Detections:
    """All boxes of all crops of the network's size, shifted to where they lie in the frame; nothing merged. even: the crops
    lie evenly, as those of `--views tiles`; else from the left and the top in steps of four fifths."""

    def places(length: int, side: int) -> list[int]:
        count = math.ceil((length - side / 5) / (side * 4 / 5))
        if even:
            return [round(i * (length - side) / (count - 1)) for i in range(count)]
        return [min(i * side * 4 // 5, length - side) for i in range(count)]

    (high, wide), found = detector.input_size, []
    for y in places(FRAME[0], high):
        for x in places(FRAME[1], wide):
            seen = detector.detect_batch([frame[y : y + high, x : x + wide]])[0]
            found.append((seen.boxes + np.array([x, y, x, y], np.float32), seen.scores, seen.class_ids))
    boxes, scores, class_ids = (np.concatenate(parts) for parts in zip(*found))
    return Detections(boxes, scores, class_ids, detector.class_names, FRAME, detector.card.category_ids)


def hit(boxes: np.ndarray, names: list[str], found: Detections) -> np.ndarray:
    """Which objects [n] a box of their class overlaps by IoU 0.5 or more."""
    overlaps = iou_matrix(boxes.astype(np.float32), found.boxes)
    of_class = np.array([[found.class_names[label] == name for label in found.class_ids] for name in names], bool)
    return (overlaps * of_class.reshape(overlaps.shape) >= 0.5).any(1)


if __name__ == "__main__":
    sys.exit(main())
