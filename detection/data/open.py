"""One door for data sets: looks at a path, says what it is and which splits it has, and reads it.

`open_data("BCCD")`, `open_data("coco/", "val")`, `open_data("instances.json", images="images/")`,
`open_data("data.yaml")`. What was looked for is in the error where nothing is recognised.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detection.data.dataset import DetectionData
from detection.data.readers.coco import read_coco
from detection.data.readers.voc import available_splits, read_voc
from detection.data.readers.yolo import read_config, read_yolo, splits_of
from detection.errors import BadDataError

FORMATS = ("coco", "voc", "yolo")
LOOKED_FOR = (
    "COCO: a .json file, annotations/instances_*.json, instances.json, */_annotations.coco.json; "
    "VOC: Annotations/*.xml with JPEGImages/; YOLO: data.yaml, or classes.txt with images and .txt files"
)
_ROLE = re.compile(r"trainval|train|valid|val|test", re.IGNORECASE)
_NOT_BOXES = ("captions", "person_keypoints", "stuff", "panoptic", "image_info")


@dataclass(frozen=True)
class Layout:
    """A data set as found: its format, the folder or file, and the splits by name with the file of each (COCO)."""

    format: str
    path: Path
    splits: tuple[str, ...] = ()
    files: dict[str, Path] = field(default_factory=dict)

    def resolve(self, split: str) -> str:
        """The name of the split that `split` means: `val` is also `valid` and `val2017`. Raises BadDataError."""
        if split in self.splits:
            return split
        matches = [name for name in self.splits if role_of(name) == role_of(split) and split == role_of(split)]
        if len(matches) == 1:
            return matches[0]
        trouble = f"more than one split {split!r}" if matches else f"no split {split!r}"
        raise BadDataError(f"{self.path}: {trouble}; it has {', '.join(self.splits) or 'none'}")

    def default(self, *roles: str) -> str | None:
        """The first split that has one of these roles, if exactly one has it."""
        for role in roles:
            matches = [name for name in self.splits if role_of(name) == role]
            if role in matches or len(matches) == 1:
                return role if role in matches else matches[0]
        return None

    def read(self, split: str | None, images: str | os.PathLike | None = None) -> DetectionData:
        """Reads a split by its exact name; None reads everything that is annotated."""
        if self.format == "voc":
            return read_voc(self.path, split)
        if self.format == "yolo":
            return read_yolo(self.path, split)
        if split is None and len(self.files) > 1:
            raise BadDataError(f"{self.path}: which split? It has {', '.join(self.splits)}")
        return read_coco(self.files[split] if split else next(iter(self.files.values())), images)


def open_data(
    path: str | os.PathLike,
    split: str | None = None,
    format: str = "auto",
    class_names: Sequence[str] | None = None,
    images: str | os.PathLike | None = None,
) -> DetectionData:
    """Reads a data set.

    split: `train`, `val`, `test` or the data set's own name for one; None takes `train` where there is one, else
    everything; "all" takes everything (COCO with several files excepted). format: coco, voc, yolo or auto (by looking).
    class_names: the classes wanted, in order (`DetectionData.with_classes`). images: folder of a COCO file's images.
    Raises BadDataError with one line.
    """
    layout = recognise(path, format)
    if split == "all" and "all" not in layout.splits:
        name = None
    else:
        name = layout.resolve(split) if split else layout.default("train")
    data = layout.read(name, images)
    return data if class_names is None else data.with_classes(class_names)


def open_pair(
    path: str | os.PathLike,
    split: str | None = None,
    val: str | os.PathLike | None = None,
    format: str = "auto",
    class_names: Sequence[str] | None = None,
    images: str | os.PathLike | None = None,
    val_images: str | os.PathLike | None = None,
) -> tuple[DetectionData, DetectionData | None]:
    """Training and validation data; validation gets the classes of training.

    `val`: a split of the same data set, or the path of another; None looks for the split `val` (then `valid`, `test`)
    and gives None where there is none.
    """
    train = open_data(path, split, format, class_names, images)
    layout = recognise(path, format)
    own = split or layout.default("train")
    if val is None:
        name = layout.default("val", "test")
        if name is None or own is None or name == own or role_of(name) == role_of(own):
            return train, None
        held = layout.read(name, val_images or images)
    elif os.path.exists(val) and os.fspath(val) not in layout.splits:
        other = recognise(val, "auto")
        held = other.read(other.default("val", "test"), val_images)
    else:
        held = layout.read(layout.resolve(os.fspath(val)), val_images or images)
    return train, held.with_classes(train.class_names, train.category_ids)


def recognise(path: str | os.PathLike, format: str = "auto") -> Layout:
    """Which format a path holds, and which splits. A folder whose only data set lies one level down is opened there."""
    path = Path(path)
    if format not in ("auto", *FORMATS):
        raise BadDataError(f"unknown data format {format!r}: known are auto, {', '.join(FORMATS)}")
    if not path.exists():
        raise BadDataError(f"{path}: no such file or folder")
    if layout := _look_at(path, format):
        return layout
    below = [found for child in _children(path) if (found := _look_at(child, format))]
    if len(below) == 1:
        return below[0]
    if below:
        raise BadDataError(
            f"{path}: holds several data sets, give one: {', '.join(str(found.path) for found in below)}"
        )
    wanted = LOOKED_FOR if format == "auto" else next(p for p in LOOKED_FOR.split("; ") if p.lower().startswith(format))
    raise BadDataError(f"{path}: no data set recognised. Looked for {wanted}")


def role_of(split: str) -> str:
    """train, val, test, trainval, or the name itself: `val2017` and `valid` are val."""
    found = _ROLE.search(split)
    return {"valid": "val"}.get(role := found.group().lower(), role) if found else split


def _look_at(path: Path, format: str) -> Layout | None:
    looks = {"yolo": _look_yolo, "voc": _look_voc, "coco": _look_coco}
    for name, look in looks.items():
        if format in ("auto", name) and (layout := look(path)):
            return layout
    return None


def _look_yolo(path: Path) -> Layout | None:
    if path.is_file():
        if path.suffix.lower() not in (".yaml", ".yml"):
            return None
        return Layout("yolo", path, tuple(splits_of(read_config(path))))
    for file in (path / "data.yaml", path / "data.yml", *sorted(path.glob("*.y*ml"))):
        if file.is_file():
            try:
                config = read_config(file)
            except BadDataError:
                continue
            if "names" in config and splits_of(config):
                return Layout("yolo", file, tuple(splits_of(config)))
    return Layout("yolo", path) if (path / "classes.txt").is_file() else None


def _look_voc(path: Path) -> Layout | None:
    if not (path / "Annotations").is_dir() or not any(
        name.endswith(".xml") for name in os.listdir(path / "Annotations")
    ):
        return None
    return Layout("voc", path, tuple(available_splits(path)))


def _look_coco(path: Path) -> Layout | None:
    if path.is_file():
        return Layout("coco", path, (), {path.stem: path}) if path.suffix.lower() == ".json" else None
    files: list[Path] = []
    for pattern in ("annotations/*.json", "*.json", "*/_annotations.coco.json", "*/*.json"):
        files = [file for file in sorted(path.glob(pattern)) if _holds_boxes(file)]
        if files:
            break
    by_name = {_split_name(file): file for file in files}
    splits = tuple(by_name) if len(by_name) > 1 or _ROLE.search("".join(by_name)) else ()
    return Layout("coco", path, splits, by_name) if files else None


def _split_name(file: Path) -> str:
    if file.stem == "_annotations.coco":
        return file.parent.name
    return file.stem.removeprefix("instances_")


def _holds_boxes(file: Path) -> bool:
    """By its name, else by a glance at its first kilobytes (the whole would take seconds)."""
    if file.name.startswith(_NOT_BOXES):
        return False
    if file.name.startswith("instances") or file.name == "_annotations.coco.json":
        return True
    with open(file, "rb") as stream:
        head = stream.read(1 << 16).lstrip()
    return head.startswith(b"{") and any(key in head for key in (b'"images"', b'"annotations"', b'"categories"'))


def _children(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")) if path.is_dir() else []
