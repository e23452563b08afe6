"""YOLO folders: a data.yaml that names images and classes, and one .txt of boxes for each image.

Where a .txt lies and what its lines say: `yolo_labels`. Images whose .txt cannot be read are left out; images without one
are images without objects, and counted.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from detection.data.build import build
from detection.data.dataset import IGNORE, UNKNOWN_LABEL, DetectionData
from detection.data.faults import Faults
from detection.data.folders import ImageFinder, Listing, count_unread, find_images, folders_with, is_image
from detection.data.image_files import size_or_zero
from detection.data.layout import Layout
from detection.data.readers.yolo_labels import LabelFinder, keypoints_of, parse
from detection.errors import BadDataError, MobileSSDError, quoted
from detection.files import decode_text, open_regular, read_text
from detection.yaml_reader import parse_yaml

SPLITS = ("train", "val", "valid", "validation", "test")
CLASS_FILES = ("classes.txt", "obj.names")
MOST_CLASSES = 100_000


def look(path: Path) -> Layout | None:
    """A data.yaml with names and splits, or the folder that holds one, or a classes.txt."""
    if path.is_file():
        if path.suffix.lower() not in (".yaml", ".yml"):
            return None
        return Layout("yolo", path, tuple(splits_of(read_config(path))))
    for file in (path / "data.yaml", path / "data.yml", *sorted(path.glob("*.[yY]*[mM][lL]"))):
        if file.is_file():
            try:
                config = read_config(file)
            except BadDataError:
                if file.stem == "data":
                    raise
                continue
            if "names" in config and splits_of(config):
                return Layout("yolo", file, tuple(splits_of(config)))
    return Layout("yolo", path) if class_file(path) else None


def read(layout: Layout, split: str | None, images: str | os.PathLike | None = None) -> DetectionData:
    """See `read_yolo`; data.yaml says where the images are."""
    return read_yolo(layout.path, split)


def read_yolo(path: str | os.PathLike, split: str | None = None) -> DetectionData:
    """A data.yaml (its `train`, `val` or `test`, default all of them together), or a folder with a classes.txt.

    Sizes come from the heads of the image files, as the boxes are fractions. Raises BadDataError.
    """
    path, faults = Path(path), Faults()
    if path.suffix.lower() in (".yaml", ".yml"):
        return read_from(read_config(path), path, split)
    names = _lines_of(class_file(path) or path / CLASS_FILES[0], faults)
    folder = path / "images" if (path / "images").is_dir() else path
    return _finish(path, split, names, [folder], find_images(folder), None, faults, "yolo")


def read_from(config: dict[str, Any], path: Path, split: str | None, source: str = "yolo") -> DetectionData:
    """What a data.yaml says, or another file that says the same: `names`, and folders or lists of images by split. path: of
    that file, to which the others are relative. Raises BadDataError."""
    names, splits = class_names_of(config, path), splits_of(config)
    if split is not None and split not in splits:
        raise BadDataError(f"{path}: no split {split!r}; it has {', '.join(splits) or 'none'}")
    folders, images = list[Path](), list[Path]()
    for name in [split] if split else splits:
        _add_images(config, name, path, folders, images)
    return _finish(path, split, names, folders, images, keypoints_of(config), Faults(), source)


def _finish(
    path: Path,
    split: str | None,
    names: list[str],
    folders: list[Path],
    images: list[Path],
    keypoints: tuple[int, int] | None,
    faults: Faults,
    source: str,
) -> DetectionData:
    if not names:
        raise BadDataError(f"{path}: names no classes")
    if not images:
        count_unread(faults, {os.fspath(folder): [] for folder in folders})
        reason = f" ({'; '.join(faults.brief())})" if faults else ""
        raise BadDataError(f"{path}: no images" + (f" in its split {split!r}" if split else "") + reason)
    origin = f"{path} ({split})" if split else str(path)
    return _read_images(list(dict.fromkeys(images)), folders, names, keypoints, origin, faults, source)


def read_config(path: Path) -> dict[str, Any]:
    """The content of a data.yaml. Raises BadDataError where it is none."""
    try:
        return parse_yaml(read_text(path), str(path))
    except (OSError, ValueError) as error:
        raise BadDataError(f"{path}: cannot be read as text ({error})") from None
    except MobileSSDError as error:
        raise BadDataError(str(error)) from None


def class_file(folder: Path) -> Path | None:
    """The file with a class a line: classes.txt (labelImg puts it beside the labels), obj.names (Darknet)."""
    listing = Listing()
    places = [(folder / inside, name) for name in CLASS_FILES for inside in ("", "labels", "images")]
    return next((place / found for place, name in places if (found := listing.find(place, name))), None)


def class_names_of(config: dict[str, Any], path: Path) -> list[str]:
    """`names`: a list, numbers with names, a text with commas, or a file with a name a line; else `nc` numbered classes."""
    names = config.get("names")
    if isinstance(names, dict):
        try:
            numbered = {int(number): name for number, name in names.items()}
        except (TypeError, ValueError):
            numbered = {}
        if len(numbered) < len(names) or set(numbered) != set(range(len(names))):
            raise BadDataError(f"{path}: the class numbers under names: must be 0..{len(names) - 1}, without gaps")
        names = [numbered[i] for i in range(len(names))]
    if isinstance(names, str):
        file = path.parent / names
        names = _lines_of(file, Faults()) if os.path.exists(file) else [name.strip() for name in names.split(",")]
    if names is None and isinstance(config.get("nc"), int):
        if config["nc"] > MOST_CLASSES:
            raise BadDataError(f"{path}: nc: {config['nc']} classes are more than {MOST_CLASSES:,}")
        names = [f"class {i}" for i in range(config["nc"])]
    if not isinstance(names, list) or not names:
        raise BadDataError(f"{path}: names no classes (names: is missing or empty)")
    if wrong := next((name for name in names if isinstance(name, (list, dict))), None):
        raise BadDataError(f"{path}: names: holds {quoted(wrong)} in the place of a class's name")
    return [str(name) for name in names]


def splits_of(config: dict[str, Any]) -> list[str]:
    return [name for name in SPLITS if config.get(name)]


def _lines_of(file: Path, faults: Faults) -> list[str]:
    """The lines of a text file that say something. Raises BadDataError where it is none."""
    try:
        with open_regular(file) as opened:
            text, encoding = decode_text(opened.read())
    except (OSError, UnicodeError) as error:
        raise BadDataError(f"{file}: cannot be read as text ({error})") from None
    if encoding == "windows-1252":
        faults.add("encoding", str(file))
    return [line.strip() for line in text.splitlines() if line.strip()]


def _add_images(config: dict[str, Any], split: str, path: Path, folders: list[Path], images: list[Path]) -> None:
    """Adds the images of a split, and the folders that it names."""
    entries = config[split] if isinstance(config[split], list) else [config[split]]
    root = path.parent / str(config.get("path") or "").replace("\\", "/")
    if wrong := next((entry for entry in entries if not isinstance(entry, str)), None):
        raise BadDataError(f"{path}: its {split}: names {quoted(wrong)} in the place of a folder or a list")
    for entry in (entry.replace("\\", "/") for entry in entries):
        # Roboflow writes ../train/images, meant from a folder that only its own notebooks have; others write where the
        # data lay on their machine
        parts = [part for part in entry.split("/") if part not in ("", ".", "..")]
        candidates = [
            root / entry,
            path.parent / entry,
            *(path.parent.joinpath(*parts[at:]) for at in range(len(parts))),
        ]
        found = next((candidate for candidate in candidates if os.path.exists(candidate)), None)
        if found is None:
            shown = entry if len(entry) <= 100 else quoted(entry)
            raise BadDataError(
                f"{path}: its {split}: {shown} does not exist (looked at {candidates[0]} and beside the file)"
            )
        if found.is_file():
            images += _listed_in(found, [folder for folder in (found.parent, path.parent, root) if folder.is_dir()])
        else:
            folders.append(found)
            images += find_images(found)


def _listed_in(file: Path, folders: list[Path]) -> list[Path]:
    """The images of a list, found by their names where the list was written on another machine."""
    below = (folder / "images" if (folder / "images").is_dir() else folder for folder in folders)
    finder = ImageFinder(*dict.fromkeys(folders), deep=list(dict.fromkeys(below)))
    names = [line.replace("\\", "/") for line in _lines_of(file, Faults())]
    return [finder.find(name) for name in names if is_image(os.path.basename(name))]


def _read_images(
    images: list[Path],
    folders: list[Path],
    names: list[str],
    keypoints: tuple[int, int] | None,
    origin: str,
    faults: Faults,
    source: str,
) -> DetectionData:
    listing = Listing()
    finder = LabelFinder(listing)
    with ThreadPoolExecutor(8) as pool:  # an image's head is a wait for the disk, not work
        sizes = np.array(list(pool.map(size_or_zero, images, chunksize=64)), np.int32)
    texts = [finder.find(image) for image in images]
    lines = [_read_lines(text, finder.of_another_kind(image), faults) for text, image in zip(texts, images)]
    kept = [i for i, rows in enumerate(lines) if rows is not None]
    _count_files(images, folders, [text for text in texts if text], finder, faults)
    if not kept:
        raise BadDataError(f"{origin}: no image that can be used ({'; '.join(faults.brief())})")
    owners, labels, boxes, scores, flags = array("q"), array("q"), array("d"), array("f"), array("B")
    doubtful = set[int]()
    for owner, index in enumerate(kept):
        text = texts[index]
        if text is None and sizes[index].all():  # a missing image is counted as such
            faults.add("no annotation", str(images[index]))
        scale = (np.maximum(sizes[index], 1)[[1, 0, 1, 0]]).tolist()
        for number, line in enumerate(lines[index] or (), 1):
            if not line.strip():
                continue
            row = parse(line, keypoints)
            if row is None:
                faults.add("bad line", f"{text}:{number}: {line.strip()[:60]!r}")
                doubtful.add(owner)
                continue
            kind, corners, score = row
            declared = 0 <= kind < len(names)
            if not declared:
                faults.add("undeclared class", f"{text}:{number}: class {kind}, but there are {len(names)} names")
            owners.append(owner)
            labels.append(kind if declared else UNKNOWN_LABEL)
            flags.append(0 if declared else IGNORE)
            scores.append(score)
            boxes.extend(value * side for value, side in zip(corners, scale))
    return build(
        names,
        [images[index] for index in kept],
        np.array(owners),
        np.array(boxes).reshape(-1, 4),
        np.array(labels),
        sizes=sizes[kept],
        scores=np.array(scores),
        flags=np.array(flags),
        doubtful=doubtful,
        category_ids=list(range(len(names))),
        source=source,
        origin=origin,
        faults=faults,
    )


def _read_lines(text: str | None, other: str | None, faults: Faults) -> list[str] | None:
    """The lines of a label file; none where there is no file; None where it cannot be read (counted), or there is only one of
    another kind."""
    if text is None and other is not None:
        faults.add("unread annotation", f"{other}: no .txt of YOLO")
        return None
    if text is None:
        return []
    try:
        with open_regular(text) as file:
            return decode_text(file.read())[0].splitlines()
    except (OSError, UnicodeError) as error:
        faults.add("unread annotation", f"{text}: {getattr(error, 'strerror', None) or 'no text'}")
        return None


def _count_files(
    images: list[Path], folders: list[Path], texts: Collection[str], finder: LabelFinder, faults: Faults
) -> None:
    """Counts the files that nobody read in the folders of the images and in those of their labels."""
    inside = {*folders_with(images, finder.listing), *map(os.fspath, folders)}
    beside: dict[str, list[str]] = {folder: [folder] for folder in sorted(inside)}
    for folder in sorted(inside):
        labels = os.path.dirname(finder.usual(os.path.join(folder, "x.jpg")))
        beside.setdefault(labels, []).append(folder)
    count_unread(faults, beside, set(texts), (".txt",), finder.listing)
