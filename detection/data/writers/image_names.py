"""The images of a data set that is written: what each is called there, and its file, hard-linked or copied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from detection.data.dataset import DetectionData


def names_of(data: DetectionData, taken: set[str], flat: bool = False) -> list[str]:
    """A name for each image below the folder of images, with "/" between folders: its own in the data set, made safe and, but
    for its extension, unlike those in `taken` (to which it is added). flat: without folders."""
    names = []
    for name, path in zip(data.file_names(), data.paths):
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..") and ":" not in part]
        whole = ("_" if flat else "/").join(parts) or "image"
        stem, ending = os.path.splitext(whole)[0], os.path.splitext(path)[1] or os.path.splitext(whole)[1]
        unique, number = stem, 1
        while unique.lower() in taken:
            number += 1
            unique = f"{stem}_{number}"
        taken.add(unique.lower())
        names.append(unique + ending)
    return names


def renamed(data: DetectionData, names: Sequence[str]) -> list[str]:
    """A line for the report where images could not keep their names."""
    pairs = [(old, new) for old, new in zip(data.file_names(), names) if old.replace("\\", "/") != new]
    return [f"{len(pairs):,} images have another name there, as {pairs[0][1]} for {pairs[0][0]}"] if pairs else []


def put_images(data: DetectionData, names: Sequence[str], folder: Path) -> None:
    """Makes each image file there: a hard link where the disk can, which takes no room, else a copy."""
    for source, name in zip(data.paths, names):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source = os.path.realpath(source)
        try:
            os.link(source, target)
        except OSError:  # another disk, or one without links
            shutil.copyfile(source, target)
