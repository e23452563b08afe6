"""YOLO folders: a data.yaml that names images and classes, and one .txt of boxes beside each image's folder.

A line of a .txt is `class cx cy w h` in fractions of the image; with a sixth number, the score of a pseudo-label; with
more, the outline of an object (`class x1 y1 x2 y2 x3 y3 ...`), whose box is taken. The .txt of `.../images/a/b.jpg` is
`.../labels/a/b.txt`; where there is no folder `images` in the path, it lies beside the image.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from detection.data.build import build
from detection.data.dataset import UNKNOWN_LABEL, DetectionData
from detection.data.faults import Faults
from detection.data.image_files import find_images, is_image, read_header
from detection.data.layout import Layout
from detection.errors import BadDataError, BadImageError, MobileSSDError
from detection.yaml_reader import parse_yaml


def look(path: Path) -> Layout | None:
    """A data.yaml with names and splits, or the folder that holds one, or a classes.txt."""
    if path.is_file():
        if path.suffix.lower() not in (".yaml", ".yml"):
            return None
        return Layout("yolo", path, tuple(splits_of(read_config(path))))
    for file in (path / "data.yaml", path / "data.yml", *sorted(path.glob("*.y*ml"))):
        if file.is_file():
            try:
                config = read_config(file)
            except BadDataError:
                if file.stem == "data":
                    raise
                continue
            if "names" in config and splits_of(config):
                return Layout("yolo", file, tuple(splits_of(config)))
    return Layout("yolo", path) if (path / "classes.txt").is_file() else None


def read(layout: Layout, split: str | None, images: str | os.PathLike | None = None) -> DetectionData:
    """See `read_yolo`; data.yaml says where the images are."""
    return read_yolo(layout.path, split)


def read_yolo(path: str | os.PathLike, split: str | None = None) -> DetectionData:
    """A data.yaml (its `train`, `val` or `test`, default all of them together), or a folder with a classes.txt.

    Sizes come from the heads of the image files, as the boxes are fractions. An image without a .txt is an image
    without objects. Raises BadDataError.
    """
    path = Path(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        config = read_config(path)
        names, splits = class_names_of(config, path), splits_of(config)
        if split is not None and split not in splits:
            raise BadDataError(f"{path}: no split {split!r}; it has {', '.join(splits) or 'none'}")
        images = [p for name in ([split] if split else splits) for p in _images_of(config, name, path)]
    else:
        names = [line.strip() for line in (path / "classes.txt").read_text("utf-8-sig").splitlines() if line.strip()]
        images = find_images(path / "images" if (path / "images").is_dir() else path)
    if not names:
        raise BadDataError(f"{path}: names no classes")
    if not images:
        raise BadDataError(f"{path}: no images" + (f" in its split {split!r}" if split else ""))
    origin = f"{path} ({split})" if split else str(path)
    return _read_images(list(dict.fromkeys(images)), names, origin)


def read_config(path: Path) -> dict[str, Any]:
    """The content of a data.yaml. Raises BadDataError where it is none."""
    try:
        return parse_yaml(path.read_text("utf-8-sig"), str(path))
    except (OSError, ValueError) as error:
        raise BadDataError(f"{path}: cannot be read as text ({error})") from None
    except MobileSSDError as error:
        raise BadDataError(str(error)) from None


def class_names_of(config: dict[str, Any], path: Path) -> list[str]:
    """`names` (a list, or numbers with names), else `nc` numbered classes."""
    names = config.get("names")
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise BadDataError(f"{path}: the class numbers under names: must be 0..{len(names) - 1}, without gaps")
        names = [names[i] for i in range(len(names))]
    if names is None and isinstance(config.get("nc"), int):
        names = [f"class {i}" for i in range(config["nc"])]
    if not isinstance(names, list) or not names:
        raise BadDataError(f"{path}: names no classes (names: is missing or empty)")
    return [str(name) for name in names]


def splits_of(config: dict[str, Any]) -> list[str]:
    return [name for name in ("train", "val", "valid", "test") if config.get(name)]


def label_path(image: str | os.PathLike) -> str:
    """The .txt file of an image."""
    parts = list(Path(image).parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i].lower() == "images":
            parts[i] = "labels"
            break
    return os.path.splitext(os.path.join(*parts))[0] + ".txt"


def _images_of(config: dict[str, Any], split: str, path: Path) -> list[Path]:
    entries = config[split] if isinstance(config[split], list) else [config[split]]
    root = path.parent / str(config.get("path") or "")
    images: list[Path] = []
    for entry in map(str, entries):
        # Roboflow writes ../train/images, meant from a folder that only its own notebooks have
        candidates = [root / entry, path.parent / entry, path.parent / entry.lstrip("./")]
        found = next((candidate for candidate in candidates if candidate.exists()), None)
        if found is None:
            raise BadDataError(
                f"{path}: its {split}: {entry} does not exist (looked at {candidates[0]} and beside the file)"
            )
        images += _listed_in(found) if found.is_file() else find_images(found)
    return images


def _listed_in(file: Path) -> list[Path]:
    lines = [line.strip() for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    paths = [Path(line) if os.path.isabs(line) else file.parent / line for line in lines]
    return [path for path in paths if is_image(path.name)]


def _read_images(images: list[Path], names: list[str], origin: str) -> DetectionData:
    faults = Faults()
    owners, labels, boxes, scores = array("q"), array("q"), array("d"), array("f")
    with ThreadPoolExecutor(8) as pool:  # an image's head is a wait for the disk, not work
        sizes = np.array(list(pool.map(_size_or_zero, images, chunksize=64)), np.int32)
    for index, image in enumerate(images):
        text = label_path(image)
        try:
            with open(text, encoding="utf-8-sig", errors="replace") as file:
                lines: Iterable[str] = file.readlines()
        except FileNotFoundError:
            continue
        scale = (np.maximum(sizes[index], 1)[[1, 0, 1, 0]]).tolist()
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            row = _parse(line)
            if row is None:
                faults.add("bad line", f"{text}:{number}: {line.strip()[:60]!r}")
                continue
            kind, corners, score = row
            if not 0 <= kind < len(names):
                faults.add("unknown class", f"{text}:{number}: class {kind}, but there are {len(names)} names")
                kind = UNKNOWN_LABEL
            owners.append(index)
            labels.append(kind)
            scores.append(score)
            boxes.extend(value * side for value, side in zip(corners, scale))
    return build(
        names,
        images,
        np.array(owners),
        np.array(boxes).reshape(-1, 4),
        np.array(labels),
        sizes=sizes,
        scores=np.array(scores),
        category_ids=list(range(len(names))),
        source="yolo",
        origin=origin,
        faults=faults,
    )


def _parse(line: str) -> tuple[int, tuple[float, float, float, float], float] | None:
    """A line -> (class, (x1, y1, x2, y2) in fractions, score), or None where it is no label."""
    try:
        kind, *values = map(float, line.split())
        if kind != int(kind):
            return None
    except (ValueError, OverflowError):
        return None
    if len(values) in (4, 5):
        cx, cy, w, h = values[:4]
        return int(kind), (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), values[4] if len(values) == 5 else 1.0
    if len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[0::2], values[1::2]
        return int(kind), (min(xs), min(ys), max(xs), max(ys)), 1.0
    return None


def _size_or_zero(path: Path) -> tuple[int, int]:
    try:
        header = read_header(path)
    except (BadImageError, OSError):
        return 0, 0
    return header.height, header.width
