"""One XML file of PASCAL VOC: its image, its objects, and whether all of it was understood.

Pixels. VOC counts pixels from 1 and includes the last one: a box xmin..xmax covers [xmin - 1, xmax) of our edges, so 1
is subtracted from xmin and ymin only. Tools that write VOC XML today (LabelImg, CVAT, the blood cells) count from 0
without the last pixel; for those nothing is subtracted. A file whose XML says VOC (its <database> or <annotation>) is
read by VOC's rule, any other by the second; `one_based` overrides. Subtracting 1 blindly puts -1 into such data, and a
NaN after it (dusty-nv/jetson-inference#1010).

Tags are read in any case and namespace. An object without a <bndbox> has the box around its <polygon> or <robndbox>.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from detection.data.dataset import CROWD, DIFFICULT, IGNORE
from detection.data.faults import Faults
from detection.data.readers.columns import Object
from detection.files import decode_text, open_regular

SIDES = ("xmin", "ymin", "xmax", "ymax")
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


class Entities(Exception):
    """XML that declares entities: a few bytes of it may stand for gigabytes, and no labels need them."""

    def __str__(self) -> str:
        return "it declares entities, which no labels need"


@dataclass(frozen=True)
class Annotation:
    """file_name: of the image, without folders, "" where none is written. size: (height, width), 0 where unknown.
    doubtful: an object was there that could not be read."""

    file_name: str
    size: tuple[int, int]
    objects: tuple[Object, ...]
    doubtful: bool


def read_xml(path: Path, one_based: bool | None, faults: Faults) -> Annotation | None:
    """The annotation in a file; None where it cannot be read at all. What is wrong is counted in `faults`."""
    try:
        with open_regular(path) as file:
            data = file.read()
        root = parse_root(data, path, faults)
    except Exception as error:  # ParseError, OSError, ValueError, LookupError, and what a declared encoding may raise
        faults.add("unread annotation", f"{path}: no XML that can be read ({error})")
        return None
    for element in root.iter():
        element.tag = str(element.tag).rpartition("}")[2].lower()
    if root.tag != "annotation":
        faults.add("unread annotation", f"{path}: no <annotation> of VOC but <{root.tag}>")
        return None
    shift = float(_counts_from_one(root) if one_based is None else one_based)
    objects, doubtful = list[Object](), False
    for item in root.iter("object"):
        name, box = _text(item, "name"), _box(item)
        if box is None:
            faults.add("bad line", f"{path}: object {name!r} has no bndbox of four numbers")
            doubtful = True
            continue
        if not name:
            faults.add("undeclared class", f"{path}: an object without a name")
        x1, y1, x2, y2 = box
        # never below 0 by our own doing: rescaled and hand-made VOC files hold coordinates from 0
        box = max(x1 - shift, min(x1, 0.0)), max(y1 - shift, min(y1, 0.0)), x2, y2
        objects.append(Object(name, box, _flags(item)))
    size = _whole(_text(root, "size/height")), _whole(_text(root, "size/width"))
    file_name = _text(root, "filename").replace("\\", "/").rpartition("/")[2]
    return Annotation(file_name, size, tuple(objects), doubtful)


def parse_root(data: bytes, path: Path, faults: Faults) -> ElementTree.Element:
    """Of XML in any encoding, whatever its declaration says of it. Raises Entities, ParseError, ValueError, LookupError."""
    if b"<!ENTITY" in data.replace(b"\0", b""):  # in UTF-16, too
        raise Entities
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError):
        declared = _DECLARED.match(data)
        if declared and declared[1].lower() not in (b"utf-8", b"utf-16"):
            text = data.decode(declared[1].decode())  # Python knows encodings that its XML parser does not
        else:
            text, encoding = decode_text(data)
            if encoding == "windows-1252":
                faults.add("encoding", str(path))
        if "<!ENTITY" in text:
            raise Entities from None
        return ElementTree.fromstring(_DECLARATION.sub("", text, count=1))


def _counts_from_one(root: ElementTree.Element) -> bool:
    return "VOC" in f"{_text(root, 'source/database')} {_text(root, 'source/annotation')}".upper()


def _flags(item: ElementTree.Element) -> int:
    """VOC's difficult, and what our own VOC files say besides: of a crowd, of a region to ignore."""
    crowd, ignore, difficult = (
        _text(item, tag).lower() in ("1", "true", "yes") for tag in ("iscrowd", "ignore", "difficult")
    )
    if crowd or ignore:  # other programs are told that these are difficult
        return CROWD if crowd else IGNORE
    return DIFFICULT if difficult else 0


def _box(item: ElementTree.Element) -> tuple[float, float, float, float] | None:
    """The corners of an object as written; None where there are none that can be read."""
    try:
        if item.find("bndbox") is not None:
            x1, y1, x2, y2 = (_number(_text(item, f"bndbox/{side}")) for side in SIDES)
            return x1, y1, x2, y2
        if (turned := item.find("robndbox")) is not None:
            cx, cy, w, h, angle = (_number(_text(turned, name)) for name in ("cx", "cy", "w", "h", "angle"))
            half_w = (abs(w * math.cos(angle)) + abs(h * math.sin(angle))) / 2
            half_h = (abs(w * math.sin(angle)) + abs(h * math.cos(angle))) / 2
            return cx - half_w, cy - half_h, cx + half_w, cy + half_h
        outline = item.find("polygon")
        points = [] if outline is None else [one for one in outline.iter() if re.fullmatch(r"[xy]\d*", one.tag)]
        xs = [_number(one.text or "") for one in points if one.tag[0] == "x"]
        ys = [_number(one.text or "") for one in points if one.tag[0] == "y"]
        return (min(xs), min(ys), max(xs), max(ys)) if xs and len(xs) == len(ys) else None
    except ValueError:
        return None


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(text: str) -> float:
    return float(text.strip().replace(",", "."))


def _whole(text: str) -> int:
    try:
        value = _number(text or "0")
    except ValueError:
        return 0
    return int(value) if math.isfinite(value) and 0 < value < 1 << 31 else 0
