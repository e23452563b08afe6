"""One image to its boxes, in parts: resize, network, and post-processing at each score threshold; LiteRT beside it.

    python benchmarks/stages.py --images DIR --weights v1.int8.xml ssdlite_mobilenet_v2.mobilessd [--tflite detect.tflite]
    python benchmarks/stages.py --images DIR --weights v1.int8.xml --tflite detect.tflite --limits 0.40 --post 0.25 0.08

Every network is a process of its own, in turns, since runtimes in one process disturb each other. In a process each image
is resized once, goes through the network, and is post-processed with each threshold, in another order each time; medians
over images, then over rounds. `cpu` is the network's processor time, which a busy machine changes less. `total` is the sum
of the parts on the clock, `ratio` that to LiteRT's with the first --tflite file, which is resized and post-processed in the
same way. Ends with code 1 where the first weights miss a limit: --limits, the most ratio at each threshold; --post, the most
milliseconds of post-processing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.programs.litert_loop import LiteRT
from detection import Detector
from detection.benchmark.harness import Program, Series, run_script, side_by_side, table
from detection.benchmark.machine import describe, machine
from detection.boxes.postprocess import PostSettings, postprocess
from detection.images.decode import read_image
from detection.images.preprocess import stretch
from detection.images.sources import find_sources

WARM_UP = 3  # images
PARTS = ("resize", "network", "cpu")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, metavar="DIR")
    parser.add_argument("--weights", nargs="*", default=[], metavar="W")
    parser.add_argument("--tflite", nargs="*", default=[], metavar="FILE", help="what LiteRT runs")
    parser.add_argument("--scores", nargs="+", type=float, default=[0.01, 0.3, 0.5], metavar="S")
    parser.add_argument("--number", type=int, default=60, metavar="N", help="images (default: 60)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--merge", help="nms, vote or soft (default: what the weights say; LiteRT: nms)")
    parser.add_argument("--limits", nargs="+", type=float, default=[], metavar="RATIO")
    parser.add_argument("--post", nargs="+", type=float, default=[], metavar="MS")
    parser.add_argument("--json", metavar="OUT")
    parser.add_argument("--child", metavar="OUT", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        Path(args.child).write_text(json.dumps(child(args)))
        return 0
    words = ["--images", args.images, "--number", args.number, "--threads", args.threads, "--scores", *args.scores]
    words += ["--merge", args.merge] if args.merge else []
    program = partial(Program, threads=args.threads, warm_up=False)
    here = (str(Path(__file__).resolve()), *map(str, words))
    programs = [program(f"litert {Path(one).name}", (*here, "--tflite", one, "--child", "OUT")) for one in args.tflite]
    programs += [program(Path(one).name, (*here, "--weights", one, "--child", "OUT")) for one in args.weights]
    on = machine(args.threads)
    rows = [row for series in side_by_side(programs, args.rounds) for row in rows_of(series, args.scores)]
    base = {row["score"]: row["total"] for row in rows[: len(args.scores)]} if args.tflite else {}
    said = [("", "score", "resize ms", "network ms", "cpu ms", "post ms", "total ms", "ratio")]
    for row in rows:
        row["ratio"] = row["total"] / base[row["score"]] if base else None
        parts = [f"{row[part]:.3f}" for part in (*PARTS, "post", "total")]
        said.append((row["name"], f"{row['score']:g}", *parts, f"{row['ratio']:.2f}" if base else ""))
    print(table(said), *describe(on), sep="\n")
    first = rows[len(args.tflite) * len(args.scores) :]
    bars = [
        (f"{row['name']} at {row['score']:g}: {name} {row[name]:.3f}, wanted at most {limit:g}", row[name] <= limit)
        for name, limits in (("ratio", args.limits if base else []), ("post", args.post))
        for row, limit in zip(first, limits)
    ]
    for line, met in bars:
        print(f"{line}: {'met' if met else 'MISSED'}")
    if args.json:
        Path(args.json).write_text(json.dumps({"machine": on, "rows": rows, "bars": bars}, indent=1) + "\n")
    return 0 if all(met for _, met in bars) else 1


def rows_of(series: Series, scores: list[float]) -> list[dict[str, Any]]:
    """A row for each threshold: medians over the rounds, in milliseconds."""
    found = []
    for score in scores:
        parts = {name: statistics.median(run.answer[name] for run in series.runs) for name in PARTS}
        parts["post"] = statistics.median(run.answer["post"][str(score)] for run in series.runs)
        found.append(
            {"name": series.program.name, "score": score, **parts, "total": sum(parts.values()) - parts["cpu"]}
        )
    return found


def child(args: argparse.Namespace) -> dict[str, Any]:
    """Times one network. Returns medians in ms: resize, network, and post, that of each score threshold."""
    resize, network, posts = litert(args) if args.tflite else ours(args)
    paths = [source.path for source in find_sources([args.images], recursive=True) if not source.video]
    spans: dict[str, list[float]] = {name: [] for name in (*PARTS, *posts)}
    order = list(posts)
    for k in range(-WARM_UP, args.number):
        image = read_image(paths[k % len(paths)])
        marks = [time.perf_counter()]
        small = resize(image)
        marks.append(time.perf_counter())
        busy = time.process_time()
        raw = network(small)
        busy = time.process_time() - busy
        marks.append(time.perf_counter())
        for score in order:
            posts[score](*raw, image.shape[:2])
            marks.append(time.perf_counter())
        if k >= 0:
            spans["cpu"].append(busy * 1e3)
            for name, begin, end in zip(("resize", "network", *order), marks, marks[1:]):
                spans[name].append((end - begin) * 1e3)
        order = [*order[1:], order[0]]
    medians = {name: statistics.median(some) for name, some in spans.items()}
    parts = {name: medians[name] for name in PARTS}
    return parts | {"post": {key: medians[key] for key in posts}}


Stages = tuple[Callable, Callable, dict[str, Callable]]


def ours(args: argparse.Namespace) -> Stages:
    detector = Detector(args.weights[0], device="cpu", threads=args.threads, merge=args.merge)

    def network(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        encodings, logits = detector.runtime(batch)
        return encodings[0], logits[0]

    posts = {str(score): detector.postprocessor.with_score(score) for score in args.scores}
    return lambda image: detector.prepare([image]), network, posts


def litert(args: argparse.Namespace) -> Stages:
    model = LiteRT(args.tflite[0], args.threads)
    anchors, size = model.anchors(), (model.height, model.width)

    def post(settings: PostSettings, encodings: np.ndarray, logits: np.ndarray, image_size: tuple[int, int]) -> Any:
        names = tuple(map(str, range(logits.shape[1] - 1)))
        return postprocess(encodings, logits, anchors, image_size, names, settings)

    rules = {str(score): PostSettings(score, merge=args.merge or "nms") for score in args.scores}
    return lambda image: stretch(image, size), model.raw, {score: partial(post, rule) for score, rule in rules.items()}


if __name__ == "__main__":
    run_script(main)
