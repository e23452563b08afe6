"""Ground truth in COCO format, read into flat arrays, with one clear line for everything that can be wrong with it.

Imports numpy and the errors of the house. Boxes stay as the file has them (float64 `xywh` in pixels), so that the
numbers equal those of pycocotools to the last digit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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
    """N images, C categories and M objects, in flat arrays; images and categories in the order of their ids.

    image_ids, category_ids: the data set's own ids.  file_names: "" where the file gives none.  sizes: int64 [N, 2]
    (height, width), 0 where unknown.  Of each object: image and category int64 [M], indices into image_ids and
    category_ids; boxes float64 [M, 4] `xywh`; area float64 [M] in square pixels (of the segmentation, if the file has
    one); crowd bool [M], regions in which detections are neither right nor wrong.
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


def find_annotations(path: str | os.PathLike) -> Path:
    """The annotation file that `path` means: itself, or the one inside a folder in COCO's layout (or a like one).

    Raises BadDataError if there is none.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for place in ANNOTATION_PLACES:
        if found := sorted(path.glob(place)):
            return found[0]
    raise BadDataError(f"{path}: no annotations/instances_val2017.json or the like in this folder; name the JSON file")


def find_images(truth: GroundTruth, images: str | os.PathLike | None = None) -> Path:
    """The folder that holds the images of `truth`: `images` if given, else looked for beside the annotations.

    annotations/instances_val2017.json has its images in ../val2017; other layouts use images/ or the same folder.
    Raises BadDataError if it is not there.
    """
    if images is not None:
        if not Path(images).is_dir():
            raise BadDataError(f"{images}: no such folder of images")
        return Path(images)
    here = Path(truth.path).parent
    split = Path(truth.path).stem.removeprefix("instances_")
    places = [root / name for root in (here, here.parent) for name in (split, f"images/{split}", "images", "")]
    probe = [name for name in truth.file_names if name][:20]
    for place in places:
        if any(image_path(place, name).is_file() for name in probe):
            return place
    raise BadDataError(f"{truth.path}: its images are not beside it; say where they are with --images FOLDER")


def image_path(images: Path, file_name: str) -> Path:
    """`images / file_name`; without the folders inside file_name where only that exists ("val2017/1.jpg")."""
    whole, bare = images / file_name, images / Path(file_name).name
    return bare if not whole.is_file() and bare.is_file() else whole


def read_truth(path: str | os.PathLike) -> GroundTruth:
    """Reads COCO ground truth from a JSON file, or from the folder that holds it (see find_annotations).

    Needed are images (id; file_name only to find the images), categories (id, name) and annotations (image_id,
    category_id, bbox). Missing `area` is taken from the box, missing `iscrowd` is 0, annotation ids do not matter.
    Raises BadDataError, one line, naming each missing key, the unknown ids, or the first broken box.
    """
    path = find_annotations(path)
    data = load_json(path)
    if isinstance(data, list):
        raise BadDataError(f"{path}: not COCO ground truth but a list (results? give those with --results)")
    if not isinstance(data, dict):
        raise BadDataError(f"{path}: not COCO ground truth: needs an object with images, annotations, categories")
    parts = ("images", "annotations", "categories")
    if missing := [key for key in parts if key not in data]:
        raise BadDataError(f"{path}: not COCO ground truth: missing {_list(missing)}")
    if wrong := [key for key in parts if not isinstance(data[key], list)]:
        raise BadDataError(f"{path}: not COCO ground truth: {_list(wrong)} must be a list")
    images, annotations, categories = (data[key] for key in parts)
    for name, rows, keys in (
        ("images", images, ("id",)),
        ("categories", categories, ("id", "name")),
        ("annotations", annotations, ("image_id", "category_id", "bbox")),
    ):
        require_keys(path, name, rows, keys)
    for name, rows in (("images", images), ("categories", categories)):
        if not rows:
            raise BadDataError(f"{path}: not usable as ground truth: its {name} list is empty")

    images, categories = _by_id(path, "images", images), _by_id(path, "categories", categories)
    image_ids, category_ids = tuple(row["id"] for row in images), tuple(row["id"] for row in categories)
    image = indices_of(path, "annotations", "image_id", annotations, image_ids)
    category = indices_of(path, "annotations", "category_id", annotations, category_ids)
    boxes = boxes_of(path, "annotations", annotations)
    area = numbers_of(path, "annotations", "area", annotations, lambda i: boxes[i, 2] * boxes[i, 3])
    return GroundTruth(
        path=str(path),
        image_ids=image_ids,
        file_names=tuple(str(row.get("file_name") or "") for row in images),
        sizes=np.array([[_size(row, "height"), _size(row, "width")] for row in images], np.int64).reshape(-1, 2),
        category_ids=category_ids,
        category_names=tuple(str(row["name"]) for row in categories),
        image=image,
        category=category,
        boxes=boxes,
        area=area,
        crowd=np.array([bool(row.get("iscrowd")) for row in annotations], bool),
    )


def load_json(path: str | os.PathLike) -> Any:
    """The content of a JSON file. BadDataError if it is missing, empty, cut short or something else."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise BadDataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise BadDataError(f"{path}: a folder, where a JSON file is needed") from None
    if not content.strip():
        raise BadDataError(f"{path}: not JSON: the file is empty")
    try:
        return json.loads(content)
    except UnicodeDecodeError:
        raise BadDataError(f"{path}: not JSON: not a text file") from None
    except json.JSONDecodeError as error:
        raise BadDataError(f"{path}: not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise BadDataError(f"{path}: not COCO: nested too deep") from None


def require_keys(path: object, name: str, rows: list, keys: Sequence[str]) -> None:
    """BadDataError that names every key that some row lacks, with the first such row and how many there are."""
    lacking: dict[str, tuple[int, int]] = {}  # key: (first row, how many)
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise BadDataError(f"{path}: {name}[{index}] is no object but {str(row)[:40]!r}")
        for key in keys:
            if key not in row:
                first, count = lacking.get(key, (index, 0))
                lacking[key] = (first, count + 1)
    if lacking:
        texts = [f"{key} ({count} of {len(rows)}, first {name}[{i}])" for key, (i, count) in lacking.items()]
        raise BadDataError(f"{path}: {name} without {_list(texts)}")


def indices_of(path: object, name: str, key: str, rows: list[dict], known: Sequence[Hashable]) -> np.ndarray:
    """int64 [len(rows)]: where each row's id stands in `known`. BadDataError naming some of the unknown ids."""
    where = {identity: index for index, identity in enumerate(known)}
    try:
        return np.array([where[row[key]] for row in rows], np.int64)
    except (KeyError, TypeError):  # TypeError: a list or an object as an id
        unknown = [row[key] for row in rows if not isinstance(row[key], Hashable) or row[key] not in where]
    kinds = list(dict.fromkeys(map(str, unknown)))
    examples = ", ".join(kinds[:5]) + (", ..." if len(kinds) > 5 else "")
    raise BadDataError(f"{path}: {len(unknown)} {name} with an unknown {key}: {examples}")


def boxes_of(path: object, name: str, rows: list[dict]) -> np.ndarray:
    """float64 [len(rows), 4] from their `bbox`. BadDataError for the first that is not 4 finite numbers, w, h >= 0."""
    try:
        boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(len(rows), 4)
        bad = ~(np.isfinite(boxes).all(1) & (boxes[:, 2:] >= 0).all(1))
    except (TypeError, ValueError):
        bad = np.array([not _is_box(row["bbox"]) for row in rows])
    if bad.any():
        first = int(bad.argmax())
        more = f" ({bad.sum()} such boxes)" if bad.sum() > 1 else ""
        raise BadDataError(
            f"{path}: {name}[{first}] has bbox {str(rows[first]['bbox'])[:60]}{more}; "
            "needs [x, y, width, height], finite, width and height not negative"
        )
    return boxes


def numbers_of(path: object, name: str, key: str, rows: list[dict], default: Callable[[int], float]) -> np.ndarray:
    """float64 [len(rows)] from `key`, `default(row index)` where absent. BadDataError for the first that is none."""
    values = np.empty(len(rows), np.float64)
    for index, row in enumerate(rows):
        value = row.get(key)
        try:
            values[index] = default(index) if value is None else value
        except (TypeError, ValueError):
            values[index] = np.nan
        if not np.isfinite(values[index]):
            raise BadDataError(f"{path}: {name}[{index}] has {key} {str(value)[:40]!r}, which is no finite number")
    return values


def _is_box(value: Any) -> bool:
    numbers = isinstance(value, (list, tuple)) and len(value) == 4
    return numbers and all(isinstance(v, (int, float)) and np.isfinite(v) for v in value) and min(value[2:]) >= 0


def _by_id(path: object, name: str, rows: list[dict]) -> list[dict]:
    """The rows in the order of their ids, as pycocotools takes them (it decides ties of scores). Ids must differ."""
    seen: set[Hashable] = set()
    for index, row in enumerate(rows):
        if not isinstance(row["id"], (int, str)):
            raise BadDataError(f"{path}: {name}[{index}] has id {str(row['id'])[:40]}; needs a number or a text")
        if row["id"] in seen:
            raise BadDataError(f"{path}: two {name} with the id {row['id']}")
        seen.add(row["id"])
    return sorted(rows, key=lambda row: (isinstance(row["id"], str), row["id"]))


def _size(row: dict, key: str) -> int:
    value = row.get(key)
    return int(value) if isinstance(value, (int, float)) and 0 < value < 1 << 31 else 0


def _list(words: Sequence[str]) -> str:
    return ", ".join(words)
