"""The twelve COCO numbers of many results, by both engines: how long, and whether they are equal.

    python benchmarks/coco_numbers.py [--images 5000] [--boxes 19] [--rounds 5]

Ground truth and results are generated: 80 classes, 7 objects an image, some of them crowds, and so many boxes an image (19:
95,000 in all), most of them near an object. Engines take turns in this process; the clock runs from arrays in memory to the
numbers, without reading files and imports. Prints JSON.

Wanted: `faster` in at most 1.5 s, and no number further from pycocotools' own COCOeval than 1e-12.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection.benchmark.harness import run_script
from detection.benchmark.machine import machine
from detection.evaluate import coco
from detection.evaluate.coco import NAMES, evaluate
from detection.evaluate.results import Results
from detection.evaluate.truth import GroundTruth

SECONDS, APART = 1.5, 1e-12
CLASSES, OBJECTS, CROWD = 80, 7, 0.01
SIZE = (480, 640)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000, metavar="N")
    parser.add_argument("--boxes", type=int, default=19, metavar="N", help="of an image")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--json", metavar="OUT", help="the same into a file")
    args = parser.parse_args()
    truth, results = generated(args.images, args.boxes)
    with plain_cocoeval():
        begin = time.perf_counter()
        oracle = evaluate(truth, results, "pycocotools").twelve()
        plain = time.perf_counter() - begin
    seconds: dict[str, list[float]] = {"faster": [], "pycocotools": []}
    processor: dict[str, list[float]] = {"faster": [], "pycocotools": []}
    apart = dict.fromkeys(seconds, 0.0)
    for _ in range(args.rounds):
        for engine in seconds:
            begin, cpu = time.perf_counter(), time.process_time()
            numbers = evaluate(truth, results, engine).twelve()
            processor[engine].append(time.process_time() - cpu)
            seconds[engine].append(time.perf_counter() - begin)
            apart[engine] = max(apart[engine], *(abs(numbers[name] - oracle[name]) for name in NAMES))
    fast = statistics.median(seconds["faster"])
    said = {
        "images": args.images,
        "boxes": len(results),
        "seconds": {engine: round(statistics.median(all_), 3) for engine, all_ in seconds.items()},
        "cpu_seconds": {engine: round(statistics.median(all_), 3) for engine, all_ in processor.items()},
        "cocoeval_seconds": round(plain, 3),
        "apart": apart,
        "AP": oracle["AP"],
        "met": fast <= SECONDS and max(apart.values()) <= APART,
        "machine": machine(),
    }
    print(json.dumps(said, indent=1))
    if args.json:
        Path(args.json).write_text(json.dumps(said, indent=1) + "\n")
    return 0 if said["met"] else 1


@contextlib.contextmanager
def plain_cocoeval() -> Any:
    """Inside, the engine pycocotools is the library's own class, without our short cuts."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    kept, coco._library = coco._library, lambda engine: (COCO, lambda cocos, *_: COCOeval(*cocos, "bbox"))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        coco._library = kept


def generated(images: int, boxes: int) -> tuple[GroundTruth, Results]:
    """Objects, and results of which seven in ten lie near an object of their image, mostly with its class."""
    random = np.random.default_rng(1)
    count = images * OBJECTS
    image = np.repeat(np.arange(images), OBJECTS)
    category = np.minimum(random.geometric(0.06, count) - 1, CLASSES - 1)
    objects = _boxes(random, count)
    truth = GroundTruth(
        path="generated",
        image_ids=tuple(range(1, images + 1)),
        file_names=tuple(f"{i:012d}.jpg" for i in range(images)),
        paths=("",) * images,
        sizes=np.tile(np.array(SIZE), (images, 1)),
        category_ids=tuple(range(1, CLASSES + 1)),
        category_names=tuple(f"class {k}" for k in range(CLASSES)),
        image=image,
        category=category,
        boxes=objects,
        area=objects[:, 2] * objects[:, 3] * random.uniform(0.4, 1, count),
        crowd=random.random(count) < CROWD,
    )
    number = images * boxes
    owner = np.repeat(np.arange(images), boxes)
    nearby = owner * OBJECTS + random.integers(0, OBJECTS, number)
    near = random.random(number) < 0.7
    moved = objects[nearby] * random.normal(1, 0.1, (number, 4)) + random.normal(0, 3, (number, 4))
    found = np.where(near[:, None], moved, _boxes(random, number))
    found[:, 2:] = found[:, 2:].clip(1)
    kind = np.where(near & (random.random(number) < 0.8), category[nearby], random.integers(0, CLASSES, number))
    scores = random.beta(1, 4, number) * 0.5 + near * random.random(number) * 0.5
    return truth, Results(owner, kind, found, scores)


def _boxes(random: np.random.Generator, count: int) -> np.ndarray:
    """`xywh` [count, 4] in pixels."""
    sides = np.exp(random.normal(4.2, 0.9, (count, 2))).clip(4, SIZE)
    corner = random.random((count, 2)) * (np.array([SIZE[1], SIZE[0]]) - sides[:, ::-1])
    return np.column_stack([corner, sides[:, ::-1]])


if __name__ == "__main__":
    run_script(main)
