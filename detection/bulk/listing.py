"""What a person names -> the sorted list of all images, by name alone: a million are listed without opening one.

Unlike `detection.images.sources.find_sources`, which looks at every file, this only goes by endings: what turns out to be
missing or no image is found when it is read, and stands in the shard.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from detection.errors import BadImageError
from detection.images.addresses import file_system, is_address, local, unreachable
from detection.images.sources import IMAGES, VIDEOS


@dataclass
class Images:
    """names: of all images, sorted, each once; paths as they were given, or addresses. named: of these, those that
    the person wrote as single files. videos: how many were left out: bulk detection looks at images alone."""

    names: list[str]
    named: set[str] = field(default_factory=set)
    videos: int = 0


def list_images(sources: Iterable[str | os.PathLike], recursive: bool = False) -> Images:
    """The images that `sources` mean.

    A source is an image; a folder (with `recursive` also below it; hidden files are left out); a pattern (`**` for any
    depth); a text file (.txt) with one of these a line, relative to where it lies; each of them a path or an address
    that fsspec knows (s3://bucket/folder). Of an animated GIF the first frame is looked at.

    Raises MobileSSDError, one line, for a source that does not exist or means no image.
    """
    found, named, videos = set[str](), set[str](), 0
    for source in [os.fspath(one) for one in sources]:
        here = [_tidy(name) for name in _expand(source, recursive)]
        images = {name for name in here if _suffix(name) not in VIDEOS}
        if here == [_tidy(source)]:
            if not images:
                raise BadImageError(f"{source}: is a video: leave --shards out to detect in every frame of it")
            named |= images
        if not images:
            raise BadImageError(f"{source}: holds videos alone: leave --shards out to detect in their frames")
        found |= images
        videos += len(set(here)) - len(images)
    return Images(sorted(found), named, videos)


def _expand(name: str, recursive: bool) -> list[str]:
    """Everything that one source means, videos included."""
    if is_address(name):
        if name.lower().endswith(".txt"):
            return _in_list(name, recursive)
        return _at_address(name, recursive)
    path = os.path.expanduser(local(name))
    try:
        if os.path.isdir(path):
            return _in_folder(path, recursive)
        if os.path.exists(path):
            return _in_list(path, recursive) if path.lower().endswith(".txt") else [path]
    except ValueError as error:  # a null character in the name
        raise BadImageError(f"{ascii(name)}: cannot be read: {error}") from None
    if glob.has_magic(path):
        if matches := [match for match in glob.iglob(path, recursive=True) if _known(match) and os.path.isfile(match)]:
            return matches
        raise BadImageError(f"{name}: no image matches this pattern")
    raise BadImageError(f"{name}: no such file or folder: check the path")


def _in_folder(folder: str, recursive: bool) -> list[str]:
    found, deeper = [], False
    for root, folders, files in os.walk(folder):
        folders[:] = [below for below in folders if not below.startswith(".")]
        known = [os.path.join(root, file) for file in files if not file.startswith(".") and _known(file)]
        if recursive or root == folder:
            found += known
        elif known:
            deeper = True
        if deeper or (not recursive and found):
            break
    return _some(found, folder, deeper)


def _at_address(address: str, recursive: bool) -> list[str]:
    """An image by its ending, a pattern, or else a folder; over http everything is one image."""
    if address.startswith(("http://", "https://")) or (_suffix(address) in IMAGES | VIDEOS and not _magic(address)):
        return [address]
    files, path = file_system(address)
    if _magic(address):
        if not (found := [one for one in _ask(address, files.glob, path) if _known(one)]):
            raise BadImageError(f"{address}: no image matches this pattern")
        return [files.unstrip_protocol(one) for one in found]
    if recursive:
        inside = _ask(address, files.find, path)
    else:
        inside = [one["name"] for one in _ask(address, files.ls, path, detail=True) if one["type"] == "file"]
    start = len(path.rstrip("/")) + 1
    shown = [one for one in inside if _known(one) and not any(p.startswith(".") for p in one[start:].split("/"))]
    # A store has no folders, only names with slashes in them: whether some lie deeper costs a second look.
    deeper = not shown and not recursive and any(map(_known, _ask(address, files.find, path)))
    return _some([files.unstrip_protocol(one) for one in shown], address, deeper)


def _ask(address: str, question: Callable, *arguments: Any, **options: Any) -> Any:
    """What a file system answers; MobileSSDError, one line, where it does not."""
    try:
        return question(*arguments, **options)
    except FileNotFoundError:
        raise BadImageError(f"{address}: no such folder: check the address") from None
    except Exception as error:  # every file system has errors of its own
        raise unreachable(address, error) from None


def _some(found: list[str], folder: str, deeper: bool) -> list[str]:
    if not found:
        hint = "there are some in its subfolders, add --recursive" if deeper else "name another folder"
        raise BadImageError(f"{folder}: no images in this folder: {hint}")
    return found


def _in_list(path: str, recursive: bool) -> list[str]:
    """The lines of a text file; empty ones and those that start with # are left out."""
    found: list[str] = []
    for number, line in enumerate(_lines(path), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            full = _beside(path, line)
            if _suffix(full) in IMAGES | VIDEOS and not _magic(full):
                found.append(full)  # a million lines: whether they exist is seen when they are read
                continue
            try:
                found += [full] if full.lower().endswith(".txt") else _expand(full, recursive)
            except BadImageError as error:
                raise BadImageError(f"{path}, line {number}: {error}") from None
    if not found:
        raise BadImageError(f"{path}: a list without a single image")
    return found


def _lines(path: str) -> Iterator[str]:
    if not is_address(path):
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            yield from file
        return
    from detection.images.addresses import fetch

    yield from fetch(path).decode("utf-8", errors="replace").splitlines()


def _beside(path: str, line: str) -> str:
    """A line of a list, relative to where the list lies."""
    if is_address(line) or os.path.isabs(local(line)):
        return line
    if is_address(path):
        return f"{path.rpartition('/')[0]}/{line}"
    return os.path.join(os.path.dirname(path), line)


def _tidy(name: str) -> str:
    return name if is_address(name) else os.path.normpath(os.path.expanduser(local(name)))


def _magic(name: str) -> bool:
    return glob.has_magic(name) and (is_address(name) or not os.path.exists(name))


def _known(name: str) -> bool:
    return _suffix(name) in IMAGES or _suffix(name) in VIDEOS


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()
