"""PASCAL VOC folders: Annotations/*.xml, JPEGImages/, ImageSets/Main/{train,val,trainval,test}.txt.

Pixels. VOC counts pixels from 1 and includes the last one: a box xmin..xmax covers [xmin - 1, xmax) of our edges, so 1
is subtracted from xmin and ymin only. Tools that write VOC XML today (LabelImg, CVAT, the blood cells) count from 0
without the last pixel; for those nothing is subtracted. A folder whose XML says VOC (its <database> or <annotation>) is
read by VOC's rule, any other by the second; `one_based` overrides. Subtracting 1 blindly puts -1 into such data, and a
NaN after it (dusty-nv/jetson-inference#1010).
"""

from __future__ import annotations

import math
import os
from array import array
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from detection.data.build import build
from detection.data.dataset import DIFFICULT, DetectionData
from detection.data.faults import Faults
from detection.data.image_files import ImageFinder, is_image
from detection.data.layout import Layout
from detection.errors import BadDataError

SPLITS = ("train", "val", "trainval", "test")
SIDES = ("xmin", "ymin", "xmax", "ymax")


def look(path: Path) -> Layout | None:
    """A folder with XML files in Annotations/."""
    folder = path / "Annotations"
    if not folder.is_dir() or not any(name.endswith(".xml") for name in os.listdir(folder)):
        return None
    return Layout("voc", path, tuple(available_splits(path)))


def read(layout: Layout, split: str | None, images: str | os.PathLike | None = None) -> DetectionData:
    """See `read_voc`; the images lie where VOC has them."""
    return read_voc(layout.path, split)


def read_voc(folder: str | os.PathLike, split: str | None = None, one_based: bool | None = None) -> DetectionData:
    """A VOC folder (the one that holds `Annotations`).

    split: a list of ImageSets/Main; None means every annotated image. An image of the list without an XML file is an
    image without objects. Classes are all names that occur in any XML of the folder, sorted (VOC's own order), so
    that every split of a folder has the same ones. `difficult` boxes keep their flag. Raises BadDataError.
    """
    folder = Path(folder)
    xml_folder = folder / "Annotations"
    if not xml_folder.is_dir():
        raise BadDataError(f"{folder}: no VOC folder (it has no Annotations/)")
    annotated = sorted(name[:-4] for name in os.listdir(xml_folder) if name.endswith(".xml") and name[0] != ".")
    chosen = annotated if split is None else read_image_set(folder, split)
    if not chosen:
        raise BadDataError(
            f"{folder}: no images" + (f" in ImageSets/Main/{split}.txt" if split else " in Annotations/")
        )
    wanted, columns = set(chosen), _Columns(one_based)
    for stem in annotated:
        columns.read(stem, xml_folder / f"{stem}.xml", keep=stem in wanted)
    if not columns.all_names:
        raise BadDataError(f"{xml_folder}: no object in any XML file, so there is no class to learn")
    return columns.finish(folder, chosen, split)


def available_splits(folder: Path) -> list[str]:
    """Names of the lists in ImageSets/Main; the per-class lists of VOC (`cat_train`) and empty ones are left out."""
    files = sorted((folder / "ImageSets" / "Main").glob("*.txt"))
    stems = [file.stem for file in files if file.stat().st_size > 0]
    per_class = {stem for stem in stems if stem.rpartition("_")[2] in SPLITS and "_" in stem}
    return [stem for stem in SPLITS if stem in stems] + [s for s in stems if s not in SPLITS and s not in per_class]


def read_image_set(folder: Path, split: str) -> list[str]:
    """Stems of the images in ImageSets/Main/{split}.txt. In a per-class list (`cat_train`), those not marked -1."""
    file = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not file.is_file():
        raise BadDataError(
            f"{folder}: no split {split!r}; ImageSets/Main has {', '.join(available_splits(folder)) or 'none'}"
        )
    stems = []
    for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        name, mark = line.strip(), ""
        head, _, tail = name.rpartition(" ")
        if tail in ("1", "0", "-1") and head.strip():
            name, mark = head.strip(), tail
        if name and mark != "-1":
            stems.append(os.path.splitext(name)[0] if is_image(name) else name)
    return list(dict.fromkeys(stems))


class _Columns:
    """What the XML files say, in columns. The rows of a file begin at `first[stem]`."""

    def __init__(self, one_based: bool | None):
        self.one_based = one_based
        self.faults = Faults()
        self.all_names: set[str] = set()
        self.rows: dict[str, tuple[int, int]] = {}
        self.files: dict[str, str] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        self.boxes, self.flags = array("d"), array("B")
        self.names: list[str] = []

    def read(self, stem: str, path: Path, keep: bool) -> None:
        try:
            root = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, OSError, ValueError) as error:
            if keep:
                self.faults.add("bad line", f"{path}: no XML that can be read ({error})")
            return
        objects = root.findall("object")
        self.all_names.update(name for item in objects if (name := (item.findtext("name") or "").strip()))
        if not keep:
            return
        shift = float(self._counts_from_one(root))
        first = len(self.names)
        for item in objects:
            self._read_object(item, path, shift)
        self.rows[stem] = first, len(self.names)
        self.files[stem] = os.path.basename((root.findtext("filename") or "").strip().replace("\\", "/"))
        self.sizes[stem] = _whole(root.findtext("size/height")), _whole(root.findtext("size/width"))

    def _counts_from_one(self, root: ElementTree.Element) -> bool:
        if self.one_based is not None:
            return self.one_based
        source = f"{root.findtext('source/database')} {root.findtext('source/annotation')}".upper()
        return "VOC" in source

    def _read_object(self, item: ElementTree.Element, path: Path, shift: float) -> None:
        name = (item.findtext("name") or "").strip()
        try:
            x1, y1, x2, y2 = (float(item.findtext(f"bndbox/{side}", "")) for side in SIDES)
        except ValueError:
            self.faults.add("bad line", f"{path}: object {name!r} has no bndbox of four numbers")
            return
        if not name:
            self.faults.add("bad line", f"{path}: an object without a name")
            return
        # never below 0 by our own doing: rescaled and hand-made VOC files hold coordinates from 0
        self.boxes.extend((max(x1 - shift, min(x1, 0.0)), max(y1 - shift, min(y1, 0.0)), x2, y2))
        self.flags.append(DIFFICULT if (item.findtext("difficult") or "0").strip() in ("1", "true", "True") else 0)
        self.names.append(name)

    def finish(self, folder: Path, chosen: list[str], split: str | None) -> DetectionData:
        class_names = sorted(self.all_names)
        finder = ImageFinder(*(folder / name for name in ("JPEGImages", "images", "Images", "Annotations")))
        paths = [self._image(finder, stem) for stem in chosen]
        spans = [self.rows.get(stem, (0, 0)) for stem in chosen]
        order = np.concatenate([np.arange(first, last) for first, last in spans] or [np.zeros(0, np.int64)])
        number = {name: i for i, name in enumerate(class_names)}
        return build(
            class_names,
            paths,
            np.repeat(np.arange(len(chosen)), [last - first for first, last in spans]),
            np.array(self.boxes).reshape(-1, 4)[order],
            np.array([number[name] for name in self.names], np.int64)[order],
            sizes=[self.sizes.get(stem, (0, 0)) for stem in chosen],
            flags=np.array(self.flags)[order],
            source="voc",
            origin=f"{folder} ({split})" if split else str(folder),
            faults=self.faults,
        )

    def _image(self, finder: ImageFinder, stem: str) -> Path:
        """By the name of the XML file; where there is no such image, by the <filename> written in it."""
        found = finder.find(f"{stem}.jpg")
        if not found.exists() and (written := self.files.get(stem)):
            other = finder.find(written)
            return other if other.exists() else found
        return found


def _whole(text: str | None) -> int:
    try:
        value = float(text or 0)
    except ValueError:
        return 0
    return int(value) if math.isfinite(value) and value > 0 else 0
