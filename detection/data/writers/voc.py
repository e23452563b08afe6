"""`DetectionData` as PASCAL VOC has it: Annotations/, JPEGImages/ and ImageSets/Main/, as `readers.voc` reads it back.

Pixels count from 0, without the last one, as tools of today write them, and are whole numbers, as many programs that read VOC
need. What VOC has no mark for is `difficult`, with a tag of our own beside it (`iscrowd`, `ignore`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from detection.data.dataset import CROWD, IGNORE, DetectionData
from detection.data.writers.image_names import names_of, put_images, renamed


def write(parts: Mapping[str, DetectionData], folder: Path) -> list[str]:
    """A list in ImageSets/Main for each part that has a name."""
    taken, notes = set[str](), list[str]()
    (folder / "Annotations").mkdir(parents=True)
    for split, data in parts.items():
        names = names_of(data, taken, flat=True)
        notes += renamed(data, names)
        put_images(data, names, folder / "JPEGImages")
        data = data.in_every_class()
        for index, name in enumerate(names):
            tree = ElementTree.ElementTree(_annotation(data, index, name))
            ElementTree.indent(tree)
            tree.write(folder / "Annotations" / f"{name.rpartition('.')[0]}.xml", encoding="utf-8")
        if split:
            file = folder / "ImageSets" / "Main" / f"{split}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{name.rpartition('.')[0]}\n" for name in names), encoding="utf-8")
    return notes + _lost(list(parts.values()))


def _annotation(data: DetectionData, index: int, name: str) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", name)
    _add(_add(root, "source"), "database", "Unknown")
    height, width = data.sizes[index].tolist()
    size = _add(root, "size")
    for tag, value in (("width", width), ("height", height), ("depth", 3)):
        _add(size, tag, value)
    for row in range(data.starts[index], data.starts[index + 1]):
        flags, item = int(data.flags[row]), _add(root, "object")
        _add(item, "name", data.class_names[data.labels[row]])
        _add(item, "pose", "Unspecified")
        _add(item, "truncated", 0)
        _add(item, "difficult", int(flags != 0))
        for bit, tag in ((CROWD, "iscrowd"), (IGNORE, "ignore")):
            if flags & bit:
                _add(item, tag, 1)
        box = _add(item, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), _whole(data.exact[row], (width, height))):
            _add(box, tag, value)
    return root


def _whole(xywh: np.ndarray, sides: tuple[int, int]) -> list[int]:
    """The nearest whole corners; of a box thinner than a pixel, those of the pixel that it lies in."""
    near, far = np.rint(xywh[:2]), np.rint(xywh[:2] + xywh[2:])
    thin = far <= near
    near[thin] = np.minimum(np.floor(xywh[:2]), np.array(sides) - 1)[thin]
    far[thin] = near[thin] + 1
    return [int(value) for value in (*near, *far)]


def _add(parent: ElementTree.Element, tag: str, text: object = None) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag)
    element.text = None if text is None else str(text)
    return element


def _lost(parts: list[DetectionData]) -> list[str]:
    notes = ["VOC has whole pixels, and no ids of images and classes, and no areas of outlines: not written"]
    if scored := sum(int((part.scores != 1).sum()) for part in parts):
        notes.append(f"VOC has no scores: {scored:,} boxes written without")
    used = {label for part in parts for label in np.unique(part.labels).tolist()}
    if unused := [name for label, name in enumerate(parts[0].class_names) if label not in used]:
        notes.append(f"VOC has no list of classes: {len(unused)} without an object are lost, as {unused[0]!r}")
    return notes
