"""COCO JSON into `DetectionData`. Follows cocodataset.org/#format-data.

Besides the official fields an annotation may carry `score` (a pseudo-label's, 0..1), `ignore` (a region of which nothing
is known) and `difficult` (VOC's).
"""

from __future__ import annotations

import math
import os
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from detection.data.build import build
from detection.data.dataset import CROWD, DIFFICULT, IGNORE, UNKNOWN_LABEL, DetectionData
from detection.data.faults import Faults
from detection.data.ids import Id, encodable, id_of, plain, plainly
from detection.data.layout import ROLE, Layout
from detection.data.readers.coco_boxes import box_of
from detection.data.readers.coco_images import find_paths, holds_boxes, with_name_of
from detection.data.readers.json_stream import stream
from detection.errors import BadDataError
from detection.files import open_regular

_NO_CLASS = "\0"  # in the place of a category_id that is null or missing


def look(path: Path) -> Layout | None:
    """A .json file, or a folder with annotations where COCO, Roboflow and others put them."""
    if path.is_file():
        return Layout("coco", path, (), {path.stem: path}) if _is_json(path) else None
    files: list[Path] = []
    for pattern in ("annotations/*.json", "*.[jJ][sS][oO][nN]", "*/_annotations.coco.json", "*/*.json"):
        files = [file for file in sorted(path.glob(pattern)) if holds_boxes(file)]
        if files:
            break
    by_name = {_split_name(file): file for file in files}
    splits = tuple(by_name) if len(by_name) > 1 or ROLE.search("".join(by_name)) else ()
    return Layout("coco", path, splits, by_name) if files else None


def read(layout: Layout, split: str | None, images: str | os.PathLike | None = None) -> DetectionData:
    """See `read_coco`; each split is a file of its own."""
    if split is None and len(layout.files) > 1:
        raise BadDataError(f"{layout.path}: which split? It has {', '.join(layout.splits)}")
    return read_coco(layout.files[split] if split else next(iter(layout.files.values())), images)


def read_coco(annotations: str | os.PathLike, images: str | os.PathLike | None = None) -> DetectionData:
    """A COCO annotations file with the folder of its images (default: looked for nearby, see `coco_images`).

    Classes are ordered by their official id, which stays in `category_ids`. Boxes [x, y, w, h] become xyxy. Crowd boxes
    keep their flag. Entries that cannot be understood are counted as faults, and make their images doubtful (`build`).
    Raises BadDataError where the file is no COCO annotations file, lists no images or no classes, or gives an id twice.
    """
    annotations = Path(annotations)
    if images is not None and not Path(images).is_dir():
        raise BadDataError(f"{images}: no such folder of images")
    table, keys = _Columns(annotations), set[str]()
    for key, value in stream(annotations, keys):
        if key == "annotations":
            table.add_annotation(value)
        elif key == "images":
            table.add_image(value)
        elif key == "categories":
            table.add_category(value)
    if missing := [key for key in ("images", "annotations", "categories") if key not in keys]:
        raise BadDataError(f"{annotations}: not COCO ground truth: missing {', '.join(missing)}")
    return table.finish(images)


class _Columns:
    """Columns that grow while the file is read; images, annotations and categories may come in any order.

    Ids may be of any kind: each gets a number as it is met, `numbers[id]`, `classes[id]`.
    """

    def __init__(self, path: Path):
        self.path = path
        self.faults = Faults()
        self.names: list[str] = []
        self.numbers: dict[Id, int] = {}
        self.classes: dict[Id, int] = {}
        self.images, self.sizes = array("q"), array("i")
        self.owners, self.kinds = array("q"), array("q")
        self.boxes, self.areas, self.scores, self.flags = array("d"), array("d"), array("f"), array("B")
        self.doubtful: set[int] = set()  # numbers of images of which an annotation was not understood
        self.categories: dict[Id, dict] = {}
        self.entries = 0  # annotations met so far

    def add_image(self, image: Any) -> None:
        try:
            identity = id_of(image["id"])
        except (KeyError, TypeError):
            raise BadDataError(f"{self.path}: an image without id (a number or a text): {str(image)[:80]}") from None
        self.images.append(self.numbers.setdefault(identity, len(self.numbers)))
        self.names.append(encodable(str(image.get("file_name") or os.path.basename(str(image.get("coco_url") or "")))))
        self.sizes.extend((_side(image.get("height")), _side(image.get("width"))))

    def add_category(self, category: Any) -> None:
        try:
            identity = id_of(category["id"])
        except (KeyError, TypeError):
            self.faults.add("bad line", f"{self.path}: a category without id: {str(category)[:80]}")
            return
        before, name = self.categories.setdefault(identity, category), category.get("name")
        if before is not category:
            if before.get("name") != name:
                names = f"{before.get('name')!r} and {name!r}"
                raise BadDataError(f"{self.path}: category id {identity!r} stands twice, as {names}; which is it?")
            self.faults.add("same name", f"{self.path}: {name!r} (id {identity!r}) stands twice")
        elif _nameless(category):
            self.faults.add("no name", f"{self.path}: category {identity!r}")

    def add_annotation(self, entry: Any) -> None:
        self.entries += 1
        try:
            owner, kind = entry["image_id"], entry.get("category_id")
            if type(owner) is not int or type(kind) is not int:  # a test that millions of annotations need not pay for
                owner, kind = id_of(owner), _NO_CLASS if kind is None else id_of(kind)
        except (KeyError, TypeError, AttributeError):
            self.faults.add("bad line", f"{self.path}: {self._complaint(entry)}")
            return
        number = self.numbers.setdefault(owner, len(self.numbers))
        try:
            x, y, w, h = box_of(entry)
        except (KeyError, TypeError, ValueError, OverflowError):
            self.faults.add("bad line", f"{self.path}: {self._complaint(entry)}")
            self.doubtful.add(number)
            return
        self.owners.append(number)
        self.kinds.append(self.classes.setdefault(kind, len(self.classes)))
        self.boxes.extend((x, y, w, h))
        area, score = entry.get("area"), entry.get("score")
        self.areas.append(math.nan if area is None else self._number("area", area, math.nan, above=0.0))
        self.scores.append(1.0 if score is None else self._number("score", score, 1.0))
        crowd, ignore, difficult = entry.get("iscrowd"), entry.get("ignore"), entry.get("difficult")
        flags = 0
        if crowd or ignore or difficult:
            flags = IGNORE if _yes(ignore) else 0
            flags |= DIFFICULT if _yes(difficult) else CROWD if _yes(crowd) and not flags else 0
        self.flags.append(flags)

    def _number(self, name: str, value: Any, default: float, above: float | None = None) -> float:
        """A field that may be missing: what is no number there is counted, and the box is kept."""
        try:
            number = float(value)
            if above is None or above < number < math.inf:
                return number
        except (TypeError, ValueError, OverflowError):
            if value == "":
                return default
        self.faults.add("bad number", f"{self.path}: annotations[{self.entries - 1}] has {name} {str(value)[:40]!r}")
        return default

    def _complaint(self, entry: Any) -> str:
        what = f"annotations[{self.entries - 1}]"
        if not isinstance(entry, dict):
            return f"{what} is no object but {str(entry)[:60]!r}"
        if missing := [key for key in ("image_id", "category_id", "bbox") if key not in entry]:
            return f"{what} without {', '.join(missing)}"
        return f"{what} has " + ", ".join(
            f"{key} {str(entry.get(key))[:40]}" for key in ("image_id", "category_id", "bbox")
        )

    def finish(self, images: str | os.PathLike | None) -> DetectionData:
        if not self.names:
            raise BadDataError(f"{self.path}: lists no images; is it a results file, or another format?")
        categories = self._used_categories()
        if not categories:
            raise BadDataError(f"{self.path}: declares no classes (its categories list is empty)")
        ids, place = list(self.numbers), np.full(len(self.numbers), -1, np.int64)
        place[np.array(self.images)] = np.arange(len(self.images))
        for position, number in enumerate(self.images):
            if place[number] != position:
                raise BadDataError(f"{self.path}: two images have the id {ids[number]}")
        _match_plainly(ids, place)
        owners = place[np.array(self.owners, np.int64)]
        listed, lost = owners >= 0, np.flatnonzero(owners < 0)
        self.faults.add_all("no image", len(lost), (f"{self.path}: image_id {ids[self.owners[i]]}" for i in lost))
        paths = find_paths(self.path, self.names, images, self.faults)
        labels, flags = self._labels(list(categories), paths, owners), np.array(self.flags)
        flags[labels < 0] |= IGNORE
        names = [with_name_of(path, name) for path, name in zip(paths, self.names)]
        return build(
            [
                encodable(str(identity if _nameless(category) else category["name"]))
                for identity, category in categories.items()
            ],
            paths,
            owners[listed],
            np.array(self.boxes).reshape(-1, 4)[listed],
            labels[listed],
            sizes=np.array(self.sizes),
            image_ids=[ids[number] for number in self.images],
            xywh=True,
            scores=np.array(self.scores)[listed],
            areas=np.array(self.areas)[listed],
            flags=flags[listed],
            doubtful=[at for number in self.doubtful if (at := int(place[number])) >= 0],
            category_ids=list(categories),
            names=names,
            source="coco",
            origin=str(self.path),
            faults=self.faults,
        )

    def _labels(self, ids: list[Id], paths: list[str], owners: np.ndarray) -> np.ndarray:
        """The class 0..C-1 of each annotation, -1 where the file declares no such class (counted)."""
        met, place = list(self.classes), np.full(len(self.classes), UNKNOWN_LABEL, np.int64)
        for label, identity in enumerate(ids):
            if identity in self.classes:
                place[self.classes[identity]] = label
        _match_plainly(met, place, dict(zip(ids, range(len(ids)))))
        labels = place[np.array(self.kinds, np.int64)]
        odd = np.flatnonzero((labels < 0) & (owners >= 0))
        kinds = [None if met[self.kinds[i]] == _NO_CLASS else met[self.kinds[i]] for i in odd]
        where = (f"{paths[owners[i]] or self.path}: category_id {kind!r}" for i, kind in zip(odd, kinds))
        self.faults.add_all("undeclared class", len(odd), where)
        return labels

    def _used_categories(self) -> dict[Id, dict]:
        """Categories by id, less the parent that Roboflow writes as class 0 and never uses."""
        parents = {str(category.get("supercategory")) for category in self.categories.values()}
        ordered = sorted(self.categories, key=lambda identity: (isinstance(identity, str), identity))
        return {
            identity: self.categories[identity]
            for identity in ordered
            if identity != 0
            or 0 in self.classes
            or str(self.categories[identity].get("name")) not in parents
            or len(self.categories) == 1
        }


def _is_json(path: Path) -> bool:
    """By its name or its first character; empty files and lists are for the reader to explain."""
    if path.suffix.lower() == ".json":
        return True
    with open_regular(path) as file:
        return file.read(64).replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")[:1] == b"{"


def _nameless(category: dict) -> bool:
    return category.get("name") is None or category["name"] == ""


def _match_plainly(ids: list[Id], place: np.ndarray, known: dict[Id, int] | None = None) -> None:
    """Fills the places (-1) of ids that are written otherwise where they are declared: "7" for 7."""
    unknown = np.flatnonzero(place < 0)
    if len(unknown):
        if known is None:
            known = {identity: int(found) for identity, found in zip(ids, place) if found >= 0}
        by_text = plainly(known)
        place[unknown] = [by_text.get(plain(ids[i]), -1) for i in unknown]


def _side(value: Any) -> int:
    """Height or width of an image; 0 where it is no such number."""
    try:
        side = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0
    return int(side) if 0 < side < 1 << 31 else 0


def _yes(flag: Any) -> bool:
    """Whether a flag is set: 1, true, "1"; not "0" or "false"."""
    return flag.strip().lower() not in ("", "0", "false", "no") if isinstance(flag, str) else bool(flag)


def _split_name(file: Path) -> str:
    if file.stem == "_annotations.coco":
        return file.parent.name
    return file.stem.removeprefix("instances_")
