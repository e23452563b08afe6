"""What the formats have in common that list images with their objects in a file a split: each of them is a function that
yields the entries of a file; here they are found, joined with the images on the disk, and what nobody reads is counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from detection.data.dataset import DetectionData
from detection.data.faults import Faults
from detection.data.folders import ImageFinder, Listing, count_unread, folders_with, is_image
from detection.data.ids import encodable
from detection.data.image_files import size_or_zero
from detection.data.layout import Layout, role_of
from detection.data.readers.columns import Columns, Object
from detection.errors import BadDataError
from detection.files import open_regular

ROLES = ("train", "val", "trainval", "test")
IMAGE_FOLDERS = ("images", "data", "img", "JPEGImages")


@dataclass(frozen=True)
class Entry:
    """An image as listed. file_name: as written. objects: their boxes in pixels, or in fractions where the format says so.
    size: (height, width), 0 where unknown. doubtful: an object was there that could not be read. split: where the file
    says so itself."""

    file_name: str
    objects: Sequence[Object] = ()
    size: tuple[int, int] = (0, 0)
    doubtful: bool = False
    split: str = ""


Parse = Callable[[Path, Faults], Iterable[Entry]]


def head_of(file: Path, size: int = 1 << 16) -> bytes:
    """The first bytes of a file, less those that only mark its encoding; none where it cannot be read."""
    try:
        with open_regular(file) as opened:
            return opened.read(size).replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    except OSError:
        return b""


def in_splits(path: Path, find: Callable[[Path], Path | None]) -> dict[str, Path]:
    """What `find` finds in a folder (under the name ""), else in its folders that are called train, valid, test."""
    if not path.is_dir():
        return {}
    if own := find(path):
        return {"": own}
    children = [child for child in sorted(path.iterdir()) if child.is_dir() and role_of(child.name) in ROLES]
    return {child.name: found for child in children if (found := find(child))}


def layout_of(format: str, path: Path, files: dict[str, Path]) -> Layout | None:
    return Layout(format, path, tuple(name for name in files if name), files) if files else None


def read_entries(
    layout: Layout,
    split: str | None,
    images: str | os.PathLike | None,
    parse: Parse,
    class_names: Sequence[str] = (),
    fractions: bool = False,
) -> DetectionData:
    """The images of a split (None: of all), with the classes of all splits. `layout.files` has the file, or folder, of each
    split; a file that several share says of each entry where it belongs. class_names: the classes in the data set's own
    order, where it has one. fractions: boxes are fractions of the image, whose size the file itself tells. Raises
    BadDataError where there is no image or no class."""
    columns, entries, found, listed = Columns(), list[Entry](), list[Path](), list[Path]()
    for file in dict.fromkeys(layout.files.values()):
        names = {name for name, one in layout.files.items() if one == file}
        wanted = names if split is None else names & {split}
        everything = list(parse(file, columns.faults if wanted else Faults()))
        columns.class_names.update(one.name for entry in everything for one in entry.objects if one.name)
        finder = ImageFinder(*([Path(images)] if images is not None else _places(file, layout.path, names)))
        paths = [finder.find(entry.file_name) for entry in everything]
        mine = [at for at, entry in enumerate(everything) if wanted and (not entry.split or entry.split in wanted)]
        listed += paths
        entries += [everything[at] for at in mine]
        found += [paths[at] for at in mine]
    _count_files(columns.faults, layout, listed, found)
    origin = f"{layout.path} ({split})" if split else str(layout.path)
    reason = f" ({'; '.join(columns.faults.brief())})" if columns.faults else ""
    if not entries:
        raise BadDataError(f"{origin}: no images that are annotated{reason}")
    if not columns.class_names and not class_names:
        raise BadDataError(f"{origin}: no object in it, so there is no class to learn{reason}")
    sizes = [entry.size for entry in entries]
    if fractions:
        with ThreadPoolExecutor(8) as pool:  # an image's head is a wait for the disk, not work
            sizes = list(pool.map(size_or_zero, found, chunksize=64))
    for entry, path, (height, width) in zip(entries, found, sizes):
        objects = entry.objects
        if fractions:
            objects = [replace(one, box=_scaled(one.box, max(width, 1), max(height, 1))) for one in objects]
        columns.add(path, objects, (height, width), entry.doubtful)
    return columns.finish(layout.format, origin, class_names)


def _scaled(box: tuple[float, float, float, float], width: int, height: int) -> tuple[float, float, float, float]:
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height


def name_of_label(label: object) -> str:
    """The class that a JSON file's label names, a text or a number; "" where it names none."""
    return encodable(str(label)) if isinstance(label, str | int) else ""


def count_no_box(faults: Faults, where: str, found: object, key: str) -> None:
    """Counts what stands in a JSON file in the place of a box. where: which one it is, `file: shapes[3]`; key: what says its
    kind, where it is an object at all."""
    kind = found.get(key) if isinstance(found, dict) else found
    faults.add("bad line", f"{where} is no box but {str(kind)[:40]!r}")


def number_or_zero(value: object) -> int:
    """A side of an image as written; 0 where it is no such number."""
    try:
        side = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return 0
    return int(side) if 0 < side < 1 << 31 else 0


def _places(file: Path, root: Path, splits: Iterable[str]) -> list[Path]:
    """Where the images of a file of annotations may lie, likeliest first."""
    own, root = file if file.is_dir() else file.parent, root if root.is_dir() else root.parent
    named = [name for name in splits if name]
    places = [
        base / middle / name for base in dict.fromkeys((own, root)) for middle in ("", *IMAGE_FOLDERS) for name in named
    ]
    above = [own.parent / name for name in IMAGE_FOLDERS] if own.name.lower() in LABEL_FOLDERS else []
    places += [own / name for name in IMAGE_FOLDERS] + above + [own]
    if own != root and root in own.parents:
        places += [*(root / name for name in IMAGE_FOLDERS), root]
    return list(dict.fromkeys(place for place in places if place.is_dir()))


LABEL_FOLDERS = ("annotations", "labels", "json", "jsons")


def _count_files(faults: Faults, layout: Layout, paths: Sequence[Path], images: Iterable[Path]) -> None:
    """Counts the images in the folders of `images` that no entry names, and the files there that nobody reads."""
    listing, listed = Listing(), {os.path.normpath(path) for path in paths}
    there = folders_with(images, listing)
    rest = [os.path.join(folder, name) for folder in there for name in listing.names(folder) if is_image(name)]
    unannotated = [path for path in rest if os.path.normpath(path) not in listed]
    faults.add_all("unannotated", len(unannotated), unannotated)
    read = {os.fspath(file) for file in layout.files.values()}
    count_unread(faults, {folder: [] for folder in there}, read, listing=listing)
