"""What a person reads after an evaluation: tables, JSON, CSV, and the warnings that belong beside a mAP.

A mAP without its protocol is worth little, so the protocol is always printed with it.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from detection.evaluate.bootstrap import Difference
from detection.evaluate.coco import MAX_DETECTIONS, CocoNumbers, none_for_nan
from detection.evaluate.errors import ErrorSplit
from detection.evaluate.thresholds import Thresholds

HIGH_THRESHOLD = 0.05  # a score threshold above this cuts the end off the precision-recall curve
MEANING = {
    "classification": "right place, wrong class",
    "localisation": "right class, badly placed",
    "both": "wrong class and badly placed",
    "duplicate": "found a second time",
    "background": "nothing there",
    "missed": "not found at all",
}


MERGED = {"vote": ", boxes voted", "soft": ", soft-NMS"}


@dataclass(frozen=True)
class Protocol:
    """How the numbers came about. None: not known. score_floor: the score threshold.  max_detections: boxes kept of an
    image; COCO's own limit is beside it.  (Of a results file: the lowest score and the most boxes found in it.)  merge: see
    `PostSettings`."""

    annotations: str
    split: str
    images: int
    score_floor: float | None
    nms_iou: float | None
    max_detections: int | None
    model: str
    runtime: str | None
    engine: str
    classes: tuple[str, ...] | None = None
    images_trained_on: int | None = None
    unreadable_images: int | None = None
    merge: str | None = None

    def line(self) -> str:
        """In one line."""
        of_coco = "/".join(map(str, MAX_DETECTIONS))
        parts = [
            f"split {self.split}",
            f"{self.images} images",
            f"score threshold {_known(self.score_floor)}",
            f"NMS IoU {_known(self.nms_iou)}" + MERGED.get(self.merge or "nms", ""),
            f"{_known(self.max_detections)} boxes an image (COCO maxDets {of_coco})",
            self.engine,
        ]
        if self.classes:
            parts.append(f"only {len(self.classes)} classes: {', '.join(self.classes)}")
        return ", ".join(parts)


def warnings_of(protocol: Protocol, numbers: CocoNumbers) -> list[str]:
    """What makes a number look better or worse than it is, one line each. (tensorflow/models#6636: a threshold of 0.3
    costs several points of AP.)"""
    lines = []
    full = numbers.detections >= 0.5 * MAX_DETECTIONS[-1] * numbers.images  # weak ones made room for better ones
    if protocol.score_floor is not None and protocol.score_floor > HIGH_THRESHOLD and not full:
        lines.append(
            f"the score threshold {protocol.score_floor:.3g} is above {HIGH_THRESHOLD}: weak detections that COCO counts "
            "are gone, and AP is lower than it would be at 0.01"
        )
    if protocol.runtime and protocol.max_detections is not None and protocol.max_detections < MAX_DETECTIONS[-1]:
        lines.append(f"only {protocol.max_detections} boxes an image are kept: COCO counts up to {MAX_DETECTIONS[-1]}")
    if protocol.images_trained_on:
        lines.append(
            f"the model was trained on {protocol.images_trained_on} of the {protocol.images} scored images: "
            "the numbers are flattered and say nothing about new images"
        )
    return lines


def summary(numbers: CocoNumbers, protocol: Protocol, thresholds: Thresholds | None = None) -> str:
    """The twelve numbers with their protocol, and the threshold of best F1."""
    values = {name: show(value) for name, value in numbers.twelve().items()}
    lines = [
        "AP  {AP}   AP50 {AP50}   AP75 {AP75}   small {APs}   medium {APm}   large {APl}".format(**values),
        "AR1 {AR1}   AR10 {AR10}   AR100 {AR100}  small {ARs}   medium {ARm}   large {ARl}".format(**values),
        f"    {protocol.line()}",
        f"    {protocol.model}" + (f"; {protocol.runtime}" if protocol.runtime else ""),
    ]
    if thresholds is not None:
        best = thresholds.overall
        lines.append(
            f"best F1 {show(best.f1)} at score {show(best.score)} "
            f"(precision {show(best.precision)}, recall {show(best.recall)}, IoU 0.5)"
        )
    return "\n".join(lines)


def class_table(numbers: CocoNumbers, thresholds: Thresholds | None = None) -> str:
    """A line for each class, best AP first; with the threshold of its best F1."""
    width = max(5, *(len(one.name) for one in numbers.per_class))
    lines = [
        f"{'class':<{width}}  objects   found     AP   AP50   AP75  AR100" + ("  best F1   score" * bool(thresholds))
    ]
    rows = sorted(enumerate(numbers.per_class), key=lambda row: -row[1].AP if row[1].AP == row[1].AP else 2.0)
    for index, one in rows:
        figures = "  ".join(f"{show(value):>5}" for value in (one.AP, one.AP50, one.AP75, one.AR100))
        line = f"{one.name:<{width}}  {one.objects:>7} {one.detections:>7}  {figures}"
        if thresholds is not None:
            best = thresholds.per_class[index]
            line += f"  {show(best.f1):>7}  {show(best.score):>6}"
        lines.append(line)
    return "\n".join(lines)


def error_table(split: ErrorSplit) -> str:
    """The AP50 that each kind of error takes away, the costliest first."""
    lines = [f"AP50 {show(split.AP50)}; lost by"]
    for kind in sorted(split.lost, key=lambda kind: -split.lost[kind]):
        lines.append(f"  {kind:<15} {show(split.lost[kind])}  ({split.counts[kind]} times: {MEANING[kind]})")
    return "\n".join(lines)


def difference_table(differences: Sequence[Difference], draws: int) -> str:
    """A against B with the intervals of the paired bootstrap."""
    lines = [f"A - B, 95 % interval of {draws} draws of the images (paired bootstrap):"]
    for one in differences:
        verdict = "a difference" if one.significant else "no difference that these images could show"
        lines.append(
            f"  {one.measure:<5} A {show(one.a)}  B {show(one.b)}  {one.difference:+.3f}  "
            f"[{one.low:+.3f}, {one.high:+.3f}]  A better in {one.a_better:.0%} of draws: {verdict}"
        )
    return "\n".join(lines)


def to_dict(
    numbers: CocoNumbers,
    protocol: Protocol,
    thresholds: Thresholds | None = None,
    errors: ErrorSplit | None = None,
    differences: Sequence[Difference] | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Everything, ready for JSON: the twelve numbers as fractions (None where there is nothing to measure), "images",
    "per_class" {name: {id, objects, detections, AP, AP50, AP75, AR100, best_f1, best_score}}, "protocol", ..."""
    data = numbers.to_dict()
    data["protocol"] = {**asdict(protocol), "coco_max_detections": list(MAX_DETECTIONS)}
    if thresholds is not None:
        data["best_f1"] = {name: none_for_nan(value) for name, value in asdict(thresholds.overall).items()}
        for row, best in zip(data["per_class"].values(), thresholds.per_class):
            row["best_f1"], row["best_score"] = none_for_nan(best.f1), none_for_nan(best.score)
    if errors is not None:
        data["errors"] = {
            "AP50": none_for_nan(errors.AP50),
            "lost": {kind: none_for_nan(value) for kind, value in errors.lost.items()},
            "counts": errors.counts,
        }
    if differences is not None:
        data["versus"] = [asdict(one) | {"significant": one.significant} for one in differences]
    if seconds is not None:
        data["seconds"] = round(seconds, 3)
    return data


def to_csv(data: dict[str, Any]) -> str:
    """The per-class table of `to_dict` as CSV; the first line is all classes. Empty where nothing is measured."""
    columns = ["class", "id", "objects", "detections", "AP", "AP50", "AP75", "AR100", "best_f1", "best_score"]
    best = data.get("best_f1") or {}
    everything = {
        "class": "all",
        "objects": sum(row["objects"] for row in data["per_class"].values()),
        "best_f1": best.get("f1"),
        "best_score": best.get("score"),
        **{key: data[key] for key in ("detections", "AP", "AP50", "AP75", "AR100")},
    }
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerow(everything)
    writer.writerows({"class": name, **row} for name, row in data["per_class"].items())
    return text.getvalue()


def show(value: float) -> str:
    """Three decimals; "-" where there is nothing to measure."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def _known(value: float | int | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
