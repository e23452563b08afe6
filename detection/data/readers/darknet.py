"""Darknet's obj.data: `names`, `train` and `valid` as lines of `key = value`; the last two are lists of images, whose .txt lie
beside them. CVAT writes it as "YOLO 1.1". The rest is YOLO (`yolo`). Follows github.com/AlexeyAB/darknet (README)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from detection.data.dataset import DetectionData
from detection.data.layout import Layout
from detection.data.readers.entries import head_of
from detection.data.readers.yolo import class_file, read_from, splits_of
from detection.errors import BadDataError
from detection.files import read_text

KEYS = ("train", "valid", "test")


def look(path: Path) -> Layout | None:
    """A .data file with names and lists of images, or a folder that holds one (or has it in data/)."""
    files = [path] if path.is_file() else [*sorted(path.glob("*.data")), *sorted(path.glob("data/*.data"))]
    for file in files:
        if file.suffix.lower() == ".data" and b"names" in head_of(file) and (config := _config_of(file)):
            return Layout("darknet", file, tuple(splits_of(config)))
    return None


def read(layout: Layout, split: str | None, images: str | os.PathLike | None = None) -> DetectionData:
    """The lists say where the images are, wherever they were written."""
    config = _config_of(layout.path)
    names = config.get("names", "")
    parts = [part for part in names.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    folder = layout.path.parent
    places = [folder.joinpath(*parts[at:]) for at in range(len(parts))]
    file = next((place for place in places if place.is_file()), None) or class_file(folder)
    if file is None:
        raise BadDataError(f"{layout.path}: its names: {names!r} does not exist")
    classes: dict[str, Any] = {"names": [line.strip() for line in read_text(file).splitlines() if line.strip()]}
    return read_from({**config, **classes}, layout.path, split, "darknet")


def _config_of(file: Path) -> dict[str, Any]:
    """{key: value}; none where it names no images or no classes."""
    try:
        pairs = [line.split("#")[0].partition("=") for line in read_text(file).splitlines()]
    except (OSError, UnicodeError):
        return {}
    config = {key.strip().lower(): value.strip() for key, equals, value in pairs if equals and value.strip()}
    return config if "names" in config and any(key in config for key in KEYS) else {}
