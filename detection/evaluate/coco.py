"""The twelve COCO numbers, by pycocotools (the oracle) or, asked for, faster-coco-eval (faster still, equal numbers).

Both libraries are imported inside the functions.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from detection.errors import MissingPackageError, MobileSSDError, install_line
from detection.evaluate.results import Results
from detection.evaluate.truth import GroundTruth

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
MAX_DETECTIONS = (1, 10, 100)  # of one class in one image, as COCO counts them
ENGINES = ("auto", "pycocotools", "faster")


@dataclass(frozen=True)
class ClassNumbers:
    """The numbers of one category, fractions; nan where the data hold no object of it."""

    name: str
    id: Any
    objects: int
    detections: int
    AP: float
    AP50: float
    AP75: float
    AR100: float


@dataclass(frozen=True)
class CocoNumbers:
    """The twelve numbers of COCO as fractions, and each class. nan (pycocotools' -1, "-" in tables, null in JSON)
    where the data hold no such object: no large ones, say. Without detections AP is 0."""

    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    AR1: float
    AR10: float
    AR100: float
    ARs: float
    ARm: float
    ARl: float
    per_class: tuple[ClassNumbers, ...]
    images: int
    detections: int
    engine: str

    def twelve(self) -> dict[str, float]:
        """The twelve numbers by name, in COCO's order."""
        return {name: getattr(self, name) for name in NAMES}

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: the twelve by name (None for nan), images, detections, engine, per_class {name: {...}}."""
        classes = {}
        for one in self.per_class:
            key = one.name if one.name not in classes else f"{one.name} ({one.id})"
            classes[key] = {name: none_for_nan(value) for name, value in asdict(one).items() if name != "name"}
        rest = {"images": self.images, "detections": self.detections, "engine": self.engine, "per_class": classes}
        return {**{name: none_for_nan(value) for name, value in self.twelve().items()}, **rest}


def evaluate(truth: GroundTruth, results: Results, engine: str = "auto") -> CocoNumbers:
    """The COCO box numbers of `results` on all images and categories of `truth`.

    engine: "pycocotools"; "faster" (faster-coco-eval); "auto": pycocotools, or faster where only that is
    installed. They agree to 1e-12.
    Raises MissingPackageError if the engine is not installed.
    """
    engine = choose_engine(engine)
    coco_class, eval_of = _library(engine)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints at every step
        run = eval_of(_cocos(coco_class, truth, results), truth, results)
        run.params.maxDets = list(MAX_DETECTIONS)
        run.evaluate()
        run.accumulate()
        run.summarize()
    stats = {name: nan_for_minus_one(value) for name, value in zip(NAMES, run.stats[:12])}
    # precision [T, R, K, A, M], recall [T, K, A, M]; area range 0 is "all", the last M is 100 detections
    precision, recall = np.asarray(run.eval["precision"])[..., 0, -1], np.asarray(run.eval["recall"])[..., 0, -1]
    objects = truth.objects
    found = np.bincount(results.category, minlength=len(truth.category_ids))
    classes = tuple(
        ClassNumbers(
            name=truth.category_names[k],
            id=truth.category_ids[k],
            objects=int(objects[k]),
            detections=int(found[k]),
            AP=_mean(precision[:, :, k]),
            AP50=_mean(precision[0, :, k]),
            AP75=_mean(precision[5, :, k]),
            AR100=_mean(recall[:, k]),
        )
        for k in range(len(truth.category_ids))
    )
    images, detections = len(truth.image_ids), len(results)
    return CocoNumbers(**stats, per_class=classes, images=images, detections=detections, engine=engine)


def choose_engine(engine: str = "auto") -> str:
    """ "pycocotools" or "faster". Raises MissingPackageError if it is not installed."""
    if engine not in ENGINES:
        raise MobileSSDError(f"unknown evaluation engine {engine!r}: one of {', '.join(ENGINES)}")
    packages = {"pycocotools": "pycocotools", "faster": "faster_coco_eval"}
    for name in packages if engine == "auto" else (engine,):
        if importlib.util.find_spec(packages[name]):
            return name
    package = "pycocotools" if engine == "auto" else packages[engine].replace("_", "-")
    raise MissingPackageError(f"{package} is not installed: {install_line('eval')}")


def none_for_nan(value: Any) -> Any:
    """JSON knows no nan."""
    return None if isinstance(value, float) and math.isnan(value) else value


def nan_for_minus_one(value: float) -> float:
    """pycocotools says -1 where there is nothing to measure."""
    return float(value) if value > -1 else math.nan


def _library(engine: str) -> tuple[type, Callable[..., Any]]:
    """The engine's class of annotations, and what makes an evaluation of two of them, the truth and the results."""
    if engine == "faster":
        from faster_coco_eval import COCO

        from detection.evaluate.faster_coco import ArrayEval

        return COCO, ArrayEval
    from pycocotools.coco import COCO

    from detection.evaluate.fast_coco import QuickEval

    return COCO, lambda cocos, truth, results: QuickEval(*cocos, "bbox")


def _cocos(coco_class: type, truth: GroundTruth, results: Results) -> tuple[Any, Any]:
    """Ground truth and results as objects of the library, with ids of our own: indices + 1.

    Not through loadRes: it fails on an empty list and copies every image. Not with the file's annotation ids either:
    pycocotools takes an object with id 0 for one that nobody found.
    """
    shared = {
        "info": {},
        "images": [{"id": i + 1, "height": int(h), "width": int(w)} for i, (h, w) in enumerate(truth.sizes)],
        "categories": [{"id": c + 1, "name": name} for c, name in enumerate(truth.category_names)],
    }
    objects = zip(truth.image.tolist(), truth.category.tolist(), truth.boxes.tolist(), truth.area.tolist(), truth.crowd)
    found = zip(results.image.tolist(), results.category.tolist(), results.boxes.tolist(), results.scores.tolist())
    rows: list[list[dict]] = [
        [
            {"id": n + 1, "image_id": i + 1, "category_id": c + 1, "bbox": box, "area": area, "iscrowd": int(crowd)}
            for n, (i, c, box, area, crowd) in enumerate(objects)
        ],
        [
            {
                "id": n + 1,
                "image_id": i + 1,
                "category_id": c + 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
                "score": score,
            }
            for n, (i, c, box, score) in enumerate(found)
        ],
    ]
    cocos = []
    for part in rows:
        coco = coco_class()
        coco.dataset = {**shared, "annotations": part}
        coco.createIndex()
        cocos.append(coco)
    return cocos[0], cocos[1]


def _mean(values: np.ndarray) -> float:
    values = values[values > -1]
    return float(values.mean()) if values.size else math.nan
