"""What views cost and what they find: times in turns on the same images, AP where there is ground truth, and a plot of both.

    python benchmarks/views.py --images photos/ --number 40
    python benchmarks/views.py --data instances.json --images images/ --number 60 --plot views.png --json views.json
    python benchmarks/views.py --images photos/ --limits 300,512=4.1 300,428,600=7.3 1+2x2=5.2

Each image is seen with every setting before the next one, in another order each time, so that what else the machine does
falls on all alike: compare the ratios; on a busy machine those of the processor's time. A time is that of one decoded image
until its boxes, alone, as in `live`; medians. With --data each setting is evaluated on all its images. Ends with code 1 where
a ratio is above its limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection import Detector
from detection.benchmark.machine import describe, machine
from detection.evaluate.categories import match_categories
from detection.evaluate.coco import evaluate
from detection.evaluate.detect import detect_all
from detection.evaluate.truth import ground_truth, open_evaluation
from detection.images.decode import read_image
from detection.images.sources import find_sources

SETTINGS = ("1", "300,428", "300,512", "300,428,600", "1+2x2")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, metavar="DIR")
    parser.add_argument("--data", metavar="GT", help="ground truth: AP, too")
    parser.add_argument("--number", type=int, default=40, metavar="N", help="images that are timed (default: 40)")
    parser.add_argument("--settings", nargs="+", default=SETTINGS, metavar="V", help=f"default: {' '.join(SETTINGS)}")
    parser.add_argument("--limits", nargs="+", default=(), metavar="V=RATIO", help="most times of one pass")
    parser.add_argument("--weights", metavar="W")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--json", metavar="OUT")
    parser.add_argument("--plot", metavar="OUT", help="AP against milliseconds; needs --data and matplotlib")
    args = parser.parse_args()
    base = Detector(args.weights, precision=args.precision, threads=args.threads, score=0.01)
    detectors = {views: base.with_views(views) for views in dict.fromkeys(("1", *args.settings))}
    spans = timed(detectors, args.images, args.number)
    rows = [{"views": views, "ms": ms * 1e3, "cpu_ms": cpu * 1e3} for views, (ms, cpu) in spans.items()]
    for row in rows:
        row["ratio"], row["cpu_ratio"] = row["ms"] / rows[0]["ms"], row["cpu_ms"] / rows[0]["cpu_ms"]
        if args.data:
            row["AP"], row["APs"] = accuracy(detectors[row["views"]], args.data, args.images)
        figures = "".join(f"  {name} {row[name]:.4f}" for name in ("AP", "APs") if name in row)
        wall, cpu = (f"{row[p + 'ms']:7.2f} ms  {row[p + 'ratio']:5.2f} x" for p in ("", "cpu_"))
        print(f"{row['views']:>16}  {wall}  processor {cpu}{figures}", flush=True)
    print(f"{base}", *describe(machine()), sep="\n")
    if args.json:
        Path(args.json).write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    if args.plot:
        draw(rows, args.plot)
    ratios = {row["views"]: row["ratio"] for row in rows}
    over = [one for one in args.limits if ratios[one.split("=")[0]] > float(one.split("=")[1])]
    for one in over:
        print(f"above its limit: {one}", file=sys.stderr)
    return 1 if over else 0


def timed(detectors: dict[str, Detector], folder: str, number: int) -> dict[str, tuple[float, float]]:
    """The median seconds of each setting, on the clock and of the processor (all threads); three uncounted images first."""
    sources = [source.path for source in find_sources([folder], recursive=True) if not source.video]
    spans: dict[str, list[tuple[float, float]]] = {views: [] for views in detectors}
    order = list(detectors)
    for k in range(-3, number):
        image = read_image(sources[k % len(sources)])
        for views in order:
            begin = time.perf_counter(), time.process_time()
            detectors[views].detect_batch([image])
            if k >= 0:
                spans[views].append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
        order = [*order[1:], order[0]]
    return {
        views: (statistics.median(one for one, _ in some), statistics.median(one for _, one in some))
        for views, some in spans.items()
    }


def accuracy(detector: Detector, data: str, images: str) -> tuple[float, float]:
    """AP and APs by the protocol of record."""
    truth = ground_truth(open_evaluation(data, None, images=images))
    card = detector.card
    results, _ = detect_all(detector, truth, match_categories(card.class_names, card.category_ids, truth))
    numbers = evaluate(truth, results)
    return numbers.AP, numbers.APs


def draw(rows: list[dict[str, Any]], path: str) -> None:
    """AP against milliseconds, a point a setting."""
    from matplotlib.figure import Figure

    figure = Figure((7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([row["ms"] for row in rows], [row["AP"] for row in rows], "o")
    for row in rows:
        axes.annotate(row["views"], (row["ms"], row["AP"]), xytext=(5, 4), textcoords="offset points")
    axes.set_xlabel("milliseconds an image")
    axes.set_ylabel("AP")
    axes.margins(x=0.25, y=0.1)  # for the words beside the last point
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
