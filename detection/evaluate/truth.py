"""Ground truth for evaluation: a data set (`DetectionData`) seen as flat arrays, as COCO's numbers are computed from them.

Whatever format it came in, it is read and repaired by the code that training reads with. Boxes are those of the file
(float64 `xywh` in pixels), so that the numbers of faultless data equal those of pycocotools to the last digit.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detection.data.dataset import DetectionData
from detection.data.ids import in_order
from detection.data.open import read, recognise
from detection.data.repair import repair
from detection.errors import BadDataError

# Where annotations lie in a folder, in order of preference: COCO's own layout first, then what other tools write.
ANNOTATION_PLACES = (
    "annotations/instances_val2017.json",
    "annotations/instances_val2014.json",
    "annotations/instances_val*.json",
    "annotations/instances_default.json",
    "instances_val*.json",
    "instances.json",
    "annotations.json",
    "_annotations.coco.json",
    "valid/_annotations.coco.json",
)


@dataclass(frozen=True)
class GroundTruth:
    """N images, C categories and M objects, in flat arrays; images in the order of their ids.

    path: what was opened.  image_ids, category_ids: the data set's own ids; other_ids: further ids of a category, where
    the data set has it twice; left_out: ids of images that cannot be evaluated.  file_names: "" where the file gives
    none.  paths: the image files.  sizes: int64 [N, 2] (height, width), 0 where unknown.  Of each object: image and
    category int64 [M], indices into image_ids and category_ids; boxes float64 [M, 4] `xywh`; area float64 [M] in square
    pixels (of the segmentation, if the file has one); crowd bool [M], regions in which detections are neither right nor
    wrong: crowds, VOC's difficult objects and regions to ignore.
    """

    path: str
    image_ids: tuple[Hashable, ...]
    file_names: tuple[str, ...]
    sizes: np.ndarray
    category_ids: tuple[Hashable, ...]
    category_names: tuple[str, ...]
    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    paths: tuple[str, ...] = ()
    other_ids: Mapping[Any, int] = field(default_factory=dict)
    left_out: frozenset[Any] = frozenset()

    def select(self, images: Sequence[int] | None = None, categories: Sequence[int] | None = None) -> GroundTruth:
        """The same with only these images and categories (indices)."""
        some_images = indices(images, len(self.image_ids))
        some_categories = indices(categories, len(self.category_ids))
        new_image = renumber(some_images, len(self.image_ids))
        new_category = renumber(some_categories, len(self.category_ids))
        keep = (new_image[self.image] >= 0) & (new_category[self.category] >= 0)
        return GroundTruth(
            path=self.path,
            image_ids=tuple(self.image_ids[i] for i in some_images),
            file_names=tuple(self.file_names[i] for i in some_images),
            sizes=self.sizes[some_images],
            category_ids=tuple(self.category_ids[c] for c in some_categories),
            category_names=tuple(self.category_names[c] for c in some_categories),
            image=new_image[self.image[keep]],
            category=new_category[self.category[keep]],
            boxes=self.boxes[keep],
            area=self.area[keep],
            crowd=self.crowd[keep],
            paths=tuple(self.paths[i] for i in some_images) if self.paths else (),
            other_ids={i: int(new_category[c]) for i, c in self.other_ids.items() if new_category[c] >= 0},
            left_out=self.left_out,
        )

    @property
    def objects(self) -> np.ndarray:
        """int64 [C]: the objects of each category, without crowds."""
        return np.bincount(self.category[~self.crowd], minlength=len(self.category_ids))


def indices(chosen: Sequence[int] | None, total: int) -> np.ndarray:
    """int64: `chosen` sorted, each once; all of 0..total-1 for None."""
    return np.arange(total) if chosen is None else np.unique(np.asarray(chosen, np.int64))


def renumber(kept: np.ndarray, total: int) -> np.ndarray:
    """int64 [total]: the new index of each old one when only `kept` (sorted indices) stay; -1 for those that go."""
    new = np.full(total, -1, np.int64)
    new[kept] = np.arange(len(kept))
    return new


def ground_truth(data: DetectionData) -> GroundTruth:
    """A repaired data set as ground truth. Boxes without a class are left out; a region of which nothing is known is a crowd
    of every class."""
    order = in_order(data.image_ids.tolist())
    data = data if order == list(range(len(data))) else data.subset(order)
    data = data if (data.labels >= 0).all() else data.in_every_class()
    return GroundTruth(
        path=data.origin,
        image_ids=tuple(data.image_ids.tolist()),
        file_names=tuple(data.file_names()),
        sizes=data.sizes.astype(np.int64),
        category_ids=data.category_ids,
        category_names=data.class_names,
        image=data.owners(),
        category=data.labels.astype(np.int64),
        boxes=data.exact,
        area=data.areas,
        crowd=data.flags != 0,
        paths=tuple(data.paths),
        other_ids=data.other_ids,
        left_out=frozenset(data.left_out),
    )


def open_evaluation(
    path: str | os.PathLike,
    split: str | None = None,
    format: str = "auto",
    images: str | os.PathLike | None = None,
) -> DetectionData:
    """A data set of any format, read and repaired for evaluation; its `faults` say what was repaired or left out.

    split: None takes `val`, else `test`, else everything; in a COCO folder, COCO's own layout first
    (`ANNOTATION_PLACES`). images: the folder of a COCO file's images. Raises BadDataError with one line.
    """
    layout = recognise(path, format)
    if split is None and layout.format == "coco" and (found := _annotations_in(layout.path)):
        layout = recognise(found, "coco")
    name: str | None = None
    if split and (split != "all" or "all" in layout.splits):
        name = layout.resolve(split)
    elif not split:
        name = layout.default("val", "test")
    return repair(read(layout, name, images), for_evaluation=True)[0]


def read_truth(path: str | os.PathLike, images: str | os.PathLike | None = None) -> GroundTruth:
    """Ground truth from a COCO JSON file, or whatever `open_evaluation` opens."""
    return ground_truth(open_evaluation(path, images=images))


def _annotations_in(folder: Path) -> Path | None:
    return next((found for place in ANNOTATION_PLACES for found in sorted(folder.glob(place))), None)


def find_images(truth: GroundTruth) -> Path:
    """The folder that all images of `truth` lie in or below. Raises BadDataError where there are none."""
    if not any(path and os.path.isfile(path) for path in truth.paths):
        raise BadDataError(f"{truth.path}: its images are not beside it; say where they are with --images FOLDER")
    return Path(os.path.commonpath({os.path.dirname(os.path.abspath(path)) for path in truth.paths if path}))
