"""The image files of a COCO annotations file: where they may lie, which belongs to which entry, and which to none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from detection.data.faults import Faults
from detection.data.folders import ImageFinder, Listing, count_unread, is_image
from detection.files import open_regular

NOT_BOXES = ("captions", "person_keypoints", "stuff", "panoptic", "image_info")
PROBES = 20  # images that are looked for in the folders nearby before those further off are


def find_paths(annotations: Path, names: Sequence[str], images: str | os.PathLike | None, faults: Faults) -> list[str]:
    """The file of each image, "" where it has no name. Looked for in `images`, else in the folders nearby, and further up
    only where none is found there. Files beside them that nobody reads are counted."""
    near, far = ([Path(images)], []) if images is not None else image_folders(annotations)
    # where the annotations lie, others may have written drawn copies of the same names
    deep = [
        folder for folder in near if images is not None or folder not in (annotations.parent, annotations.parent.parent)
    ]
    finder = ImageFinder(*near, deep=deep)
    probe = [name for name in names if name][:PROBES]
    if far and probe and not any(map(finder.look, probe)):
        further = ImageFinder(*near, *far, deep=deep)
        finder = further if any(map(further.look, probe)) else finder
    paths = [str(finder.find(name)) if name else "" for name in names]
    _drop_strangers(annotations, names, paths, finder.folders[0], faults)
    _count_files(annotations, paths, finder.folders, faults)
    return paths


def image_folders(annotations: Path) -> tuple[list[Path], list[Path]]:
    """Where the images of an annotations file may lie, likeliest first: nearby, and one folder further up.

    For `annotations/instances_val2017.json`: `val2017/` beside `annotations/`, `images/val2017/`, `images/`. For
    `instances.json`: `images/` beside it, a folder of the file's own name, `data/` (FiftyOne), its own
    folder (Roboflow).
    """
    base, stem = annotations.parent, annotations.stem
    split = stem.split("_", 1)[1] if "_" in stem else stem
    names = list(dict.fromkeys((split, f"images/{split}", "images", stem, "data")))

    def existing(root: Path) -> list[Path]:
        return [root / name for name in names if (root / name).is_dir()]

    above = existing(base.parent)
    if base.name.lower() in ("annotations", "labels"):
        return [*above, *existing(base), base], [base.parent]
    return [*existing(base), base], [*above, base.parent]


def holds_boxes(file: Path) -> bool:
    """By its name, else by a glance at its first kilobytes (the whole would take seconds)."""
    if file.name.startswith(NOT_BOXES):
        return False
    if file.name.startswith("instances") or file.name == "_annotations.coco.json":
        return True
    try:
        with open_regular(file) as stream:
            head = stream.read(1 << 16).replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")  # in any encoding
    except OSError:
        return False
    return head.startswith(b"{") and any(key in head for key in (b'"images"', b'"annotations"', b'"categories"'))


def with_name_of(path: str, name: str) -> str:
    """`name` as annotated, with the file name that the image really has on the disk (`.webp` for `.jpg`)."""
    real = os.path.basename(path)
    return name if name.endswith(real) else os.path.join(os.path.dirname(name), real)


def _drop_strangers(annotations: Path, names: Sequence[str], paths: list[str], folder: Path, faults: Faults) -> None:
    """Of several images that lead to one file, those whose name it is not lose it."""
    users: dict[str, list[int]] = {}
    for at, path in enumerate(paths):
        users.setdefault(path, []).append(at)
    for path, same in users.items():
        if not path or len({names[at] for at in same}) < 2:
            continue
        for at in same:
            name = names[at].replace("\\", "/")
            if not path.endswith(name.removeprefix("./")):
                faults.add("same file", f"{annotations}: {names[at]!r}, for want of its own, and {path}")
                paths[at] = os.path.join(folder, "missing", name.lstrip("/"))


def _count_files(annotations: Path, paths: Sequence[str], roots: Sequence[Path], faults: Faults) -> None:
    """Counts the files in the images' folders that nobody reads, and images that are not listed: those only where no other
    annotations beside these may list them."""
    own = tuple(os.path.join(os.path.abspath(root), "") for root in roots)
    inside = sorted({os.path.dirname(path) for path in paths if path})
    folders = [f for f in inside if os.path.isdir(f) and os.path.join(os.path.abspath(f), "").startswith(own)]
    listing, found = Listing(), set(paths)
    count_unread(faults, {folder: [] for folder in folders}, listing=listing)
    if sum(holds_boxes(file) for file in annotations.parent.glob("*.json")) > 1:
        return
    there = [os.path.join(folder, name) for folder in folders for name in listing.names(folder) if is_image(name)]
    rest = [path for path in there if path not in found]
    faults.add_all("unannotated", len(rest), rest)
