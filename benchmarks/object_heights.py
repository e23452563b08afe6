"""AP by how tall an object is: what a camera of 640 x 480 sees at a distance, from results files of `eval --save-results`.

    python benchmarks/object_heights.py --annotations instances.json 300=one.json 300+512=views.json [--classes person,car]

An image is thought of as scaled into 640 x 480; an object's height is counted in those pixels. In each band the objects of
other heights are neither asked for nor held against a detector, as COCO's areas are: a box that finds none of the band's
objects counts as wrong only if its own height lies in the band. AP is COCO's, mean over IoU 0.50 to 0.95; AP50 beside it.
Prints Markdown: one table a class, the number of objects in the first row.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

FRAME = (640, 480)
BANDS = ((8, 20), (20, 40), (40, 80), (80, 160), (160, 480))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--classes", default="person,car,cat,dog")
    parser.add_argument("results", nargs="+", metavar="NAME=JSON")
    args = parser.parse_args()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(args.annotations)
    scale = {number: min(FRAME[0] / i["width"], FRAME[1] / i["height"]) for number, i in truth.imgs.items()}
    by_height(truth.anns.values(), scale)
    for name in args.classes.split(","):
        if not (ids := truth.getCatIds(catNms=[name])):
            print(f"\n{name}: no class of {args.annotations}")
            continue
        category = ids[0]
        columns = {}
        for pair in args.results:
            label, _, file = pair.partition("=")
            rows = [row for row in json.loads(Path(file).read_text()) if row["category_id"] == category]
            columns[label] = scores(truth, rows, category, scale) if rows else None
        heights = [a["area"] for a in truth.anns.values() if a["category_id"] == category and not a.get("iscrowd")]
        counts = [sum(least <= height < most for height in heights) for least, most in BANDS]
        print(f"\n| {name}, height in pixels | " + " | ".join(f"{least}-{most}" for least, most in BANDS) + " |")
        print("|---" * (len(BANDS) + 1) + "|")
        print("| objects | " + " | ".join(map(str, counts)) + " |")
        for label, found in columns.items():
            row = [(0.0 if count else float("nan"),) * 2 for count in counts] if found is None else found
            print(
                f"| {label} | " + " | ".join("-" if ap != ap else f"{ap:.3f} ({ap50:.2f})" for ap, ap50 in row) + " |"
            )


def by_height(boxes, scale: dict[int, float]) -> None:
    """Puts the height in pixels of the frame where pycocotools looks for the area."""
    for box in boxes:
        box.setdefault("iscrowd", 0)
        box["area"] = box["bbox"][3] * scale[box["image_id"]]


def scores(truth: COCO, rows: list[dict], category: int, scale: dict[int, float]) -> list[tuple[float, float]]:
    """AP and AP50 of a class in each band, from its rows, one at least; nan where it has no object."""
    with contextlib.redirect_stdout(io.StringIO()):
        found = truth.loadRes(rows)
        by_height(found.anns.values(), scale)
        run = COCOeval(truth, found, "bbox")
        run.params.catIds = [category]
        run.params.areaRng = [[least, most - 1e-6] for least, most in BANDS]
        run.params.areaRngLbl = [f"{least}-{most}" for least, most in BANDS]
        run.evaluate()
        run.accumulate()
    found_precision = run.eval["precision"][:, :, 0, :, -1]  # IoUs, recalls, bands at most detections
    found_precision = np.where(found_precision < 0, np.nan, found_precision)
    return [(float(p.mean()), float(p[0].mean())) for p in np.moveaxis(found_precision, 2, 0)]


if __name__ == "__main__":
    main()
