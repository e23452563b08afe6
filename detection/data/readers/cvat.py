"""CVAT's own XML ("CVAT for images 1.1"): one annotations.xml with an <image> for each image, and boxes, polygons, masks and
ellipses in it. The subsets of a project are the splits. Follows docs.cvat.ai (XML annotation format).

Points, lines and cuboids without a box are counted, and nothing in their image is background; tags say nothing of a place.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from detection.data.dataset import DetectionData
from detection.data.faults import Faults
from detection.data.layout import Layout
from detection.data.readers.columns import Object
from detection.data.readers.entries import Entry, head_of, in_splits, layout_of, number_or_zero, read_entries
from detection.data.readers.voc_xml import parse_root
from detection.errors import BadDataError
from detection.files import open_regular

SHAPES = ("box", "polygon", "mask", "ellipse", "polyline", "points", "cuboid", "skeleton")
NO_SUBSET = "default"  # what CVAT itself calls the images of no subset
Box = tuple[float, float, float, float]


def look(path: Path) -> Layout | None:
    """An .xml that begins with <annotations>, or a folder with one, or with one in each split."""
    if path.is_file():
        files = {"": path} if _is_cvat(path) else {}
    else:
        files = in_splits(path, lambda folder: next(filter(_is_cvat, sorted(folder.glob("*.[xX][mM][lL]"))), None))
    if list(files) == [""]:
        subsets = _subsets(files[""])
        files = dict.fromkeys(subsets, files[""]) if len(subsets) > 1 else files
    return layout_of("cvat", path, files)


def read(layout: Layout, split: str | None, images: str | os.PathLike | None = None) -> DetectionData:
    """Classes are the labels that the file declares, in their order."""
    declared = [name for file in dict.fromkeys(layout.files.values()) for name in _labels(_open(file, Faults()))]
    return read_entries(layout, split, images, _parse, declared)


def _is_cvat(file: Path) -> bool:
    return file.suffix.lower() == ".xml" and b"<annotations" in head_of(file, 2048)


def _open(file: Path, faults: Faults) -> ElementTree.Element:
    try:
        with open_regular(file) as opened:
            return parse_root(opened.read(), file, faults)
    except Exception as error:  # ParseError, OSError, ValueError, LookupError, and what a declared encoding may raise
        raise BadDataError(f"{file}: no XML that can be read ({error})") from None


def _subsets(file: Path) -> list[str]:
    try:
        return sorted(_subsets_of(_open(file, Faults())))
    except BadDataError:
        return []  # the reader says what is wrong


def _subsets_of(root: ElementTree.Element) -> set[str]:
    return {image.get("subset") or NO_SUBSET for image in root.findall("image")}


def _labels(root: ElementTree.Element) -> list[str]:
    found = (label.findtext("name") for meta in root.iter("meta") for label in meta.iter("label"))
    return [name.strip() for name in found if name and name.strip()]


def _parse(file: Path, faults: Faults) -> Iterator[Entry]:
    root = _open(file, faults)
    if not root.findall("image"):
        tracks = len(root.findall("track"))
        what = f"holds {tracks} tracks of a video" if tracks else "has no <image>"
        raise BadDataError(f"{file}: {what}; export from CVAT as 'CVAT for images 1.1'")
    split_up = len(_subsets_of(root)) > 1
    for image in root.findall("image"):
        name = image.get("name", "")
        if not name:
            faults.add("no image", f"{file}: <image id={image.get('id')!r}> without a name")
            continue
        objects, doubtful = list[Object](), False
        for shape in image:
            if shape.tag not in SHAPES:
                continue
            box, label = _box(shape), shape.get("label", "")
            if box is None:
                faults.add("bad line", f"{file}: <{shape.tag} label={label!r}> of {name} is no box")
                doubtful = True
                continue
            if not label:
                faults.add("undeclared class", f"{file}: a <{shape.tag}> of {name} without a label")
            objects.append(Object(label, box))
        size = number_or_zero(image.get("height")), number_or_zero(image.get("width"))
        yield Entry(name, objects, size, doubtful, (image.get("subset") or NO_SUBSET) if split_up else "")


def _box(shape: ElementTree.Element) -> Box | None:
    """The box around a shape; None where it has none that can be read."""

    def numbers(*names: str) -> list[float]:
        return [float(shape.attrib[name]) for name in names]

    try:
        if shape.tag == "box":
            x1, y1, x2, y2 = numbers("xtl", "ytl", "xbr", "ybr")
            if not (degrees := float(shape.get("rotation") or 0)):
                return x1, y1, x2, y2
            return _turned((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, degrees)
        if shape.tag == "mask":
            left, top, width, height = numbers("left", "top", "width", "height")
            return left, top, left + width, top + height
        if shape.tag == "ellipse":
            cx, cy, rx, ry = numbers("cx", "cy", "rx", "ry")
            angle = math.radians(float(shape.get("rotation") or 0))
            half_w = math.hypot(rx * math.cos(angle), ry * math.sin(angle))
            half_h = math.hypot(rx * math.sin(angle), ry * math.cos(angle))
            return cx - half_w, cy - half_h, cx + half_w, cy + half_h
        if shape.tag == "polygon":
            xs, ys = zip(*(map(float, point.split(",")) for point in shape.attrib["points"].split(";")))
            return min(xs), min(ys), max(xs), max(ys)
    except (KeyError, ValueError):
        pass
    return None


def _turned(cx: float, cy: float, width: float, height: float, degrees: float) -> Box:
    """The box around one that is turned about its centre."""
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    half_w, half_h = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    return cx - half_w, cy - half_h, cx + half_w, cy + half_h
