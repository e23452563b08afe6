"""The files of a data set's folders: which are images, where an annotated image lies, and which nobody reads."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from detection.data.faults import Faults
from detection.files import open_regular
from detection.images.header import explain_no_image
from detection.images.sources import IMAGES

# Files that people and tools put beside images and labels, and that annotate nothing.
BENIGN_ENDINGS = frozenset(".cache .md .db .ini .yaml .yml .py .html .log .lock .sh .npy .names .data .rst".split())
BENIGN_NAMES = ("readme", "license", "licence", "classes.txt", "labels.txt", "obj.names", "predefined_classes.txt")
LISTS = re.compile(r"(autosplit_)?(train|val|valid|validation|test|trainval)\.txt", re.IGNORECASE)
ANNOTATIONS = frozenset((".txt", ".xml", ".json", ".csv"))


def is_image(name: str) -> bool:
    """By its extension; macOS's hidden `._` companions are no images."""
    return os.path.splitext(name)[1].lower() in IMAGES and not name.startswith(".")


def walk(folder: str | os.PathLike) -> Iterator[tuple[str, list[str]]]:
    """(folder, its files) of a folder and all below it, each once: links are followed, but to no place a second time. Hidden
    ones are left out."""
    seen = set[str]()
    for root, folders, files in os.walk(os.fspath(folder), followlinks=True):
        if (real := os.path.realpath(root)) in seen:
            folders.clear()
            continue
        seen.add(real)
        # real folders first: what is found through them has its labels in the place that its path says
        folders[:] = sorted(
            (one for one in folders if not one.startswith(".")), key=lambda one: (_is_link(root, one), one)
        )
        yield root, [name for name in files if not name.startswith(".")]


def find_images(folder: str | os.PathLike) -> list[Path]:
    """All image files below a folder, sorted by path, each once; hidden ones are left out."""
    return sorted(Path(root, name) for root, files in walk(folder) for name in files if is_image(name))


class Listing:
    """The names in folders, each folder listed once; names are found in upper and lower case, and however their accents are
    composed (macOS writes them in two parts)."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, list[str]]] = {}

    def names(self, folder: str | os.PathLike) -> list[str]:
        """All names in a folder; none where it cannot be listed."""
        return [name for names in self._of(folder).values() for name in names]

    def find(self, folder: str | os.PathLike, name: str) -> str | None:
        """The name as it is in the folder: `name` itself, else the only one that differs in case."""
        found = self._of(folder).get(_alike(name), ())
        return name if name in found else found[0] if len(found) == 1 else None

    def _of(self, folder: str | os.PathLike) -> dict[str, list[str]]:
        key = os.fspath(folder)
        if key not in self._folders:
            listed: dict[str, list[str]] = {}
            try:
                for name in sorted(os.listdir(key or os.curdir)):
                    listed.setdefault(_alike(name), []).append(name)
            except OSError:
                pass
            self._folders[key] = listed
        return self._folders[key]


class ImageFinder:
    """Finds the file of an annotated image by its name, wherever the annotation was written.

    Annotations often survive a conversion of the images (`.jpg` written in the XML, `.webp` on the disk), come from another
    system (a drive and backslashes) or a web page (`%20`), or name folders that are not there (`/home/me/val2017/1.jpg`). In
    this order: the path as it is; its last parts, below one of the folders; the bare name in one of them, in other case or
    with another extension of images; the only image of that name below one of the folders `deep` (default: all).
    """

    def __init__(self, *folders: str | os.PathLike, deep: Sequence[str | os.PathLike] | None = None):
        self.folders = [Path(folder) for folder in folders]
        self.deep = self.folders if deep is None else [Path(folder) for folder in deep]
        self._listing = Listing()
        self._stems: dict[Path, dict[str, str]] = {}
        self._below: dict[str, list[str]] | None = None

    def find(self, name: str) -> Path:
        """The file; where there is none, the path at which it was looked for first (the check reports it missing)."""
        return self.look(name) or self.folders[0] / name.replace("\\", "/")

    def look(self, name: str) -> Path | None:
        """The file, or None where there is none."""
        parts = [part for part in name.strip().replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts:
            return None
        return self._look(name, parts) or (self.look(unquote(name)) if "%" in name and unquote(name) != name else None)

    def _look(self, name: str, parts: list[str]) -> Path | None:
        if len(parts) > 1:
            if os.path.isabs(name) and os.path.exists(name):
                return Path(name)
            for start in range(len(parts)):
                for folder in self.folders if start < len(parts) - 1 else ():
                    if os.path.exists(path := folder.joinpath(*parts[start:])):  # False for a name that is too long
                        return path
        for folder in self.folders:
            if found := self._listing.find(folder, parts[-1]) or self._by_stem(folder).get(_alike(_stem(parts[-1]))):
                return folder / found
        return self._further_below(parts)

    def _by_stem(self, folder: Path) -> dict[str, str]:
        if folder not in self._stems:
            self._stems[folder] = {_alike(_stem(name)): name for name in self._listing.names(folder) if is_image(name)}
        return self._stems[folder]

    def _further_below(self, parts: Sequence[str]) -> Path | None:
        """The only file of that name (of those that share most of the path's end) anywhere below the deep folders."""
        if self._below is None:
            self._below = {}
            for path in sorted({os.fspath(path) for folder in self.deep for path in find_images(folder)}):
                for key in {_alike(os.path.basename(path)), _alike(_stem(path))}:
                    self._below.setdefault(key, []).append(path)
        found = self._below.get(_alike(parts[-1])) or self._below.get(_alike(_stem(parts[-1]))) or []
        for count in range(2, len(parts) + 1):
            if len(found) <= 1:
                break
            tail = [part.lower() for part in parts[-count:-1]]
            found = [path for path in found if [p.lower() for p in Path(path).parts[-count:-1]] == tail] or found
        return Path(found[0]) if len(found) == 1 else None


def folders_with(images: Iterable[str | os.PathLike], listing: Listing) -> list[str]:
    """The folders in which at least one of these images lies, as a regular file. Labels may name any place: where there is
    none of their images nothing is counted, and no file looked into."""
    found: set[str] = set()
    for image in images:
        folder, name = os.path.split(os.fspath(image))
        if folder in found or (there := listing.find(folder, name)) is None:
            continue
        if os.path.isfile(os.path.join(folder, there)):  # /dev holds no images
            found.add(folder)
    return sorted(found)


def count_unread(
    faults: Faults,
    folders: Mapping[str, Collection[str]],
    read: Collection[str] = (),
    endings: Collection[str] = (),
    listing: Listing | None = None,
) -> None:
    """Counts, by name, the files of a data set's folders that nobody reads: images of a kind that is not read, and
    annotations (with these endings) that belong to no image.

    folders: those that hold images or annotations, each with the folders whose images the annotations in it belong to.
    read: the paths of annotations that were read. Notes, caches and lists that annotate nothing are passed over.
    """
    listing = listing or Listing()
    for folder, image_folders in folders.items():
        beside = [name for other in image_folders for name in listing.names(other)]
        stems = {os.path.splitext(name)[0] for name in beside if os.path.splitext(name)[1].lower() not in ANNOTATIONS}
        for name in listing.names(folder):
            path, ending = os.path.join(folder, name), os.path.splitext(name)[1].lower()
            if name.startswith(".") or is_image(name) or ending in BENIGN_ENDINGS:
                continue
            if path in read or name.lower().startswith(BENIGN_NAMES) or os.path.isdir(path):
                continue
            if ending not in ANNOTATIONS:
                faults.add("unread", f"{path}: {_kind(path)}")
            elif ending in endings and not LISTS.fullmatch(name) and os.path.splitext(name)[0] not in stems:
                faults.add("unread", f"{path}: belongs to no image")


def _kind(path: str) -> str:
    try:
        with open_regular(path) as file:
            start = file.read(512)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return explain_no_image(start) if start else "empty (0 bytes)"


def _stem(name: str) -> str:
    """Without the extension, if it is an image's or an annotation's: `a.b` is a stem of its own."""
    bare = os.path.basename(name)
    root, ending = os.path.splitext(bare)
    return root if ending.lower() in IMAGES or ending.lower() in ANNOTATIONS else bare


def _alike(name: str) -> str:
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).lower()


def _is_link(root: str, name: str) -> bool:
    return os.path.islink(os.path.join(root, name))
