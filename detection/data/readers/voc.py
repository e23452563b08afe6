"""PASCAL VOC folders: Annotations/*.xml, JPEGImages/, ImageSets/Main/{train,val,trainval,test}.txt.

The same files in other places are read too: XML beside the images, in annotations/ beside images/, in a folder for each
split (train/, valid/, test/). What an XML file says: `voc_xml`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from detection.data.dataset import DetectionData
from detection.data.faults import Faults
from detection.data.folders import ImageFinder, Listing, count_unread, folders_with, is_image
from detection.data.layout import Layout, role_of
from detection.data.readers.columns import Columns
from detection.data.readers.voc_xml import Annotation, read_xml
from detection.errors import BadDataError
from detection.files import open_regular, read_text

SPLITS = ("train", "val", "trainval", "test")
XML_FOLDERS = ("Annotations", "annotations", "annotations/xmls", "xmls", "xml", "labels", "", "images", "JPEGImages")
IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "data", "")


def look(path: Path) -> Layout | None:
    """A folder with XML files in Annotations/, beside its images, or in a folder for each split."""
    if not path.is_dir():
        return None
    if xml_folder_of(path):
        return Layout("voc", path, tuple(available_splits(path)))
    children = [child for child in sorted(path.iterdir()) if child.is_dir() and role_of(child.name) in SPLITS]
    parts = {child.name: child for child in children if xml_folder_of(child)}
    return Layout("voc", path, tuple(parts), parts) if len(parts) > 1 else None


def read(layout: Layout, split: str | None, images: str | os.PathLike | None = None) -> DetectionData:
    """See `read_voc`; the images lie where VOC has them, or in `images`."""
    if layout.files:
        chosen = {split: layout.files[split]} if split else layout.files
        return _read(dict.fromkeys(chosen.values()), layout.files, str(layout.path), split, images=images)
    return read_voc(layout.path, split, images=images)


def read_voc(
    folder: str | os.PathLike,
    split: str | None = None,
    one_based: bool | None = None,
    images: str | os.PathLike | None = None,
) -> DetectionData:
    """A VOC folder (the one that holds `Annotations`).

    split: a list of ImageSets/Main; None means every annotated image. An image of the list without an XML file is an
    image without objects, one whose XML cannot be read is left out; both are counted. Classes are all names that occur in
    any XML of the folder, sorted (VOC's own order), so that every split of a folder has the same ones. `difficult` boxes
    keep their flag. one_based: see `voc_xml`. Raises BadDataError.
    """
    folder = Path(folder)
    if xml_folder_of(folder) is None:
        raise BadDataError(f"{folder}: no VOC folder (it has no Annotations/)")
    chosen = None if split is None else read_image_set(folder, split)
    return _read({folder: chosen}, {"": folder}, str(folder), split, one_based, images)


def xml_folder_of(folder: Path) -> Path | None:
    """Where in a data set's folder its XML files lie; None where there are none."""
    return next(
        (found for name in XML_FOLDERS if (names := _xml_names(found := folder / name)) and _is_voc(found / names[0])),
        None,
    )


def _is_voc(file: Path) -> bool:
    """Whether an .xml looks like VOC's; anything in a folder called Annotations does."""
    if file.parent.name.lower() == "annotations":
        return True
    try:
        with open_regular(file) as opened:
            return b"<annotation" in opened.read(2048).replace(b"\0", b"").lower()
    except OSError:
        return False


def available_splits(folder: Path) -> list[str]:
    """Names of the lists in ImageSets/Main; the per-class lists of VOC (`cat_train`) and empty ones are left out."""
    files = sorted((folder / "ImageSets" / "Main").glob("*.[tT][xX][tT]"))
    stems = [file.stem for file in files if file.stat().st_size > 0]
    per_class = {stem for stem in stems if stem.rpartition("_")[2] in SPLITS and "_" in stem}
    return [stem for stem in SPLITS if stem in stems] + [s for s in stems if s not in SPLITS and s not in per_class]


def read_image_set(folder: Path, split: str) -> list[str]:
    """Stems of the images in ImageSets/Main/{split}.txt. In a per-class list (`cat_train`), those not marked -1."""
    lists = folder / "ImageSets" / "Main"
    file = lists / (Listing().find(lists, f"{split}.txt") or f"{split}.txt")
    if not file.is_file():
        raise BadDataError(
            f"{folder}: no split {split!r}; ImageSets/Main has {', '.join(available_splits(folder)) or 'none'}"
        )
    stems = []
    for line in _text_of(file).splitlines():
        name, mark = line.strip(), ""
        head, _, tail = name.rpartition(" ")
        if tail in ("1", "0", "-1") and head.strip():
            name, mark = head.strip(), tail
        if name and mark != "-1":
            stems.append(os.path.splitext(name)[0] if is_image(name) else name)
    return list(dict.fromkeys(stems))


def _text_of(file: Path) -> str:
    try:
        return read_text(file)
    except UnicodeError:
        raise BadDataError(f"{file}: a list of images, but no text") from None


def _xml_names(folder: Path) -> list[str]:
    try:
        return sorted(n for n in os.listdir(folder) if n.lower().endswith(".xml") and not n.startswith("."))
    except OSError:
        return []


def _read(
    chosen: Mapping[Path, list[str] | None],
    everywhere: Mapping[str, Path],
    origin: str,
    split: str | None,
    one_based: bool | None = None,
    images: str | os.PathLike | None = None,
) -> DetectionData:
    """The chosen stems of some folders (None: all that are annotated), with the classes of the whole data set."""
    columns = Columns()
    for folder in everywhere.values():
        _read_folder(columns, folder, chosen.get(folder, []), one_based, images)
    if not columns.paths:
        place = f" in ImageSets/Main/{split}.txt" if split and len(everywhere) == 1 else f" in {split}" if split else ""
        reason = f" that can be used ({'; '.join(columns.faults.brief())})" if columns.faults else ""
        raise BadDataError(f"{origin}: no images{place or ' that are annotated'}{reason}")
    if not columns.class_names:
        reason = f" ({'; '.join(columns.faults.brief())})" if columns.faults else ""
        raise BadDataError(f"{origin}: no object in any XML file, so there is no class to learn{reason}")
    return columns.finish("voc", f"{origin} ({split})" if split else origin)


def _read_folder(
    columns: Columns, folder: Path, chosen: list[str] | None, one_based: bool | None, images: str | os.PathLike | None
) -> None:
    xml_folder = xml_folder_of(folder)
    if xml_folder is None:
        return
    names = {os.path.splitext(name)[0]: name for name in _xml_names(xml_folder)}
    stems, listing = list(names) if chosen is None else chosen, Listing()
    wanted, places = set(stems), [Path(images)] if images is not None else _image_folders(folder, xml_folder)
    finder, paths = ImageFinder(*places), list[Path]()
    read = dict[str, Annotation | None]()
    for stem, name in names.items():
        read[stem] = annotation = read_xml(xml_folder / name, one_based, columns.faults if stem in wanted else Faults())
        if annotation:
            columns.class_names.update(one.name for one in annotation.objects if one.name)
    for stem in stems:
        known = stem if stem in read else os.path.splitext(listing.find(xml_folder, f"{stem}.xml") or "")[0]
        annotation = read.get(known)
        path = _image(finder, stem, annotation)
        paths.append(path)
        if annotation is None and known:
            continue  # counted as unread
        if annotation is None and path.exists():
            columns.faults.add("no annotation", str(path))
        if annotation is None:
            columns.add(path)
        else:
            columns.add(path, annotation.objects, annotation.size, annotation.doubtful)
    seen, inside = set(map(str, paths)), sorted({*map(str, places), *folders_with(paths, listing)})
    if chosen is None:
        rest = [os.path.join(place, name) for place in inside for name in listing.names(place) if is_image(name)]
        unannotated = [path for path in rest if path not in seen]
        columns.faults.add_all("unannotated", len(unannotated), unannotated)
    count_unread(columns.faults, {place: [] for place in [*inside, str(xml_folder)]}, listing=listing)


def _image_folders(folder: Path, xml_folder: Path) -> list[Path]:
    """Where the images may lie: those of the usual folders that hold some; VOC's own where none does."""
    places = [folder / name for name in IMAGE_FOLDERS] + [xml_folder]
    holding = [place for place in places if place.is_dir() and any(is_image(name) for name in os.listdir(place))]
    return list(dict.fromkeys(holding or [place for place in places if place.is_dir()]))


def _image(finder: ImageFinder, stem: str, annotation: Annotation | None) -> Path:
    """By the name of the XML file; where there is no such image, by the <filename> written in it."""
    names = [f"{stem}.jpg", *([annotation.file_name] if annotation and annotation.file_name else []), stem]
    return next((found for name in names if (found := finder.look(name))), None) or finder.find(names[0])
