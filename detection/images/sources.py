"""What a person names -> the images and videos that it means, by name alone: a million are listed without opening one.

What turns out to be missing or no image is found when it is read. Cameras and streams are not here: they do not end,
and are the business of `detection.live`.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from detection.errors import BadImageError, shown
from detection.images.addresses import HTTP, NO_IMAGE, bare, file_system, is_address, local, unreachable
from detection.images.cameras import camera_name, camera_of
from detection.images.header import gif_is_animated, video_kind
from detection.images.lists import lines_of
from detection.masking import without_secrets

IMAGES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
VIDEOS = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv", ".flv", ".3gp"}
VIDEOS |= {".ogv", ".mjpeg", ".mjpg", ".ts", ".m2t", ".mpe", ".m2v", ".vob", ".asf", ".h264", ".264", ".avc", ".hevc"}
VIDEOS |= {".h265", ".265", ".mxf", ".f4v", ".3g2", ".qt", ".dv", ".ivf", ".divx", ".ogm", ".amv", ".nut", ".mk3d"}
STREAMS = ("rtsp://", "rtsps://", "rtmp://", "rtmps://", "srt://", "udp://", "tcp://", "rtp://", "mms://")


@dataclass(frozen=True, slots=True)
class Source:
    """An image or video to look at.

    name: a path, or an address (s3://...). named: the person wrote this very file (and wants to hear of it when it is
    broken); else it came out of a folder, a pattern or a list. folder: how `name` begins where it was found in a folder.
    camera: `name` is a camera of this machine, of which one image is taken.
    """

    name: str
    named: bool = False
    folder: str | None = None
    camera: bool = False

    @property
    def path(self) -> Path:
        """Of a file on this machine."""
        return Path(self.name)

    @property
    def relative(self) -> Path:
        """Where it belongs below an output folder, so that files of one name from different subfolders stay apart."""
        if self.camera:
            return Path(self.shown.replace(" ", "-") + ".jpg")
        if is_address(self.name) and self.folder is None:
            return Path(os.path.basename(bare(self.shown)) or "image")
        return Path(os.path.basename(self.name) if self.folder is None else self.name[len(self.folder) :])

    @property
    def shown(self) -> str:
        """Its name as it may stand in results and messages: without the passwords of an address."""
        if self.camera:
            return camera_name(camera_of(self.name) or 0)
        return without_secrets(self.name) if is_address(self.name) else self.name

    @property
    def ending(self) -> str:
        """`.jpg`, in lower case."""
        return os.path.splitext(bare(self.name))[1].lower()

    @property
    def video(self) -> bool:
        """Whether it has several frames, by its ending; into a GIF on this machine it looks, and into a file that was named
        itself and whose ending tells nothing."""
        if self.ending == ".gif" and not is_address(self.name):
            try:
                return gif_is_animated(self.path.read_bytes())
            except OSError:
                return False
        if self.named and not self.camera and not _known(self.name) and os.path.isfile(self.name):
            with contextlib.suppress(OSError), open(self.name, "rb") as file:
                return video_kind(file.read(400)) is not None
        return self.ending in VIDEOS


def find_sources(
    names: Iterable[str | os.PathLike], recursive: bool = False, check_lists: bool = True, cameras: bool = False
) -> list[Source]:
    """The images and videos that `names` mean, in the order given, each once.

    A name is a file; a folder (what is in it, sorted; with `recursive` also below it, links to folders included, each
    folder once; hidden files are left out); a pattern (`shots/*.jpg`, `**` for any depth); or a text file (.txt) with one
    of these a line, relative to where it lies; each of them a path, or an address: https://, or one that fsspec knows
    (s3://bucket/folder). Endings tell images and videos, in upper and lower case; other files are taken if they were named
    themselves. A symbolic link is a name of its own.

    check_lists: a line of a list that does not exist is an error at once; else it is seen when it is read, and a million
    lines cost nothing. cameras: `0` and `/dev/video0` are cameras, of each of which one image is wanted.

    Raises BadImageError, one line, for a name that does not exist or means nothing; MobileSSDError where a store does
    not answer.
    """
    _real_folder.cache_clear()
    found: list[Source] = []
    for name in [os.fspath(name) for name in names]:
        if cameras and camera_of(name) is not None:
            found.append(Source(name, named=True, camera=True))
        else:
            found += _expand(name, recursive, check_lists)
    if not found:
        raise BadImageError("no images or videos named: name files, folders or patterns such as 'shots/*.jpg'")
    return unique(found)


def unique(sources: Iterable[Source]) -> list[Source]:
    """Each image once, where it came first; as named if it was named anywhere. Links to folders are followed for that, a
    file that is a link is another image."""
    once: dict[str, Source] = {}
    for source in sources:
        folder, slash, file = source.name.rpartition(os.sep)
        key = source.name if is_address(source.name) else f"{_real_folder(folder or slash)}{os.sep}{file}"
        known = once.setdefault(key, source)
        if source.named and not known.named:
            once[key] = replace(known, named=True)
    return list(once.values())


def _expand(name: str, recursive: bool, check_lists: bool) -> list[Source]:
    if is_address(name):
        if name.startswith(STREAMS):
            hint = f"watch it with `mobilessd live {shown(name)}`, or save it first"
            raise BadImageError(f"{shown(name)}: is a stream, and no file system reads this: {hint}")
        if name.lower().endswith(".txt"):
            return _in_list(name, recursive, check_lists)
        if name.startswith(HTTP) and not _known(name) and _never_ends(name):
            hint = f"watch it with `mobilessd live {shown(name)}`, or save it first"
            raise BadImageError(f"{shown(name)}: is a stream: {hint}")
        return _at_address(name, recursive)
    path = os.path.expanduser(local(name))
    try:
        if not path.lower().endswith(".txt") or os.path.isdir(path) or not os.path.exists(path):
            return _at_path(path, recursive)
        return _in_list(path, recursive, check_lists)
    except (OSError, ValueError) as error:  # no permission, a name too long, a null character
        raise BadImageError(f"{shown(name)}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _at_path(path: str, recursive: bool) -> list[Source]:
    """What a file, folder or pattern on this machine means."""
    if os.path.isdir(path):
        folder, names, deeper = _below(_tidy(path), recursive)
        return _some([Source(name, folder=folder) for name in names], path, deeper)
    if os.path.exists(path):
        return [Source(_tidy(path), named=True)]
    if not glob.has_magic(path):
        raise BadImageError(f"{shown(path)}: no such file or folder: check the path")
    if not (matches := [Source(_tidy(match)) for match in sorted(glob.iglob(path, recursive=True)) if _known(match)]):
        raise BadImageError(f"{shown(path)}: no image or video matches this pattern")
    return matches


def _below(folder: str, recursive: bool) -> tuple[str, list[str], bool]:
    """How names in a folder begin; the images and videos in it, those of each folder before its subfolders; and whether
    there are some further below, where none were found. Links to folders are followed, to each folder once: one that leads
    back ends there. OSError if this folder itself may not be read."""
    os.scandir(folder).close()  # os.walk would find nothing there, and not say why
    found: list[str] = []
    start = "" if folder == os.curdir else os.path.join(folder, "")
    # Links come last, so that what lies here in truth keeps its own name.
    tops, seen = [folder], set[tuple[int, int]]()
    while tops:
        for root, folders, files in os.walk(tops.pop(0)):
            shown_folders = sorted(below for below in folders if not below.startswith("."))
            folders[:] = [below for below in shown_folders if not os.path.islink(os.path.join(root, below))]
            if _again(root, seen):
                folders.clear()
                continue
            tops += [os.path.join(root, below) for below in shown_folders if below not in folders]
            inside = os.path.join(root, "")[len(os.path.join(folder, "")) :]
            known = [start + inside + file for file in sorted(files) if _known(file) and not file.startswith(".")]
            if root != folder and not recursive and known:
                return start, [], True
            found += known
            if found and not recursive:
                return start, found, False
    return start, found, False


def _again(folder: str, seen: set[tuple[int, int]]) -> bool:
    """Whether this very folder was looked into already, by another way."""
    status = os.stat(folder)
    here = status.st_dev, status.st_ino
    again = here in seen and status.st_ino != 0  # some file systems have no numbers
    seen.add(here)
    return again


def _at_address(address: str, recursive: bool) -> list[Source]:
    """An image by its ending, a pattern, or else a folder; over http everything is one image or video."""
    if address.startswith(HTTP) or (_known(address) and not _pattern(address)):
        return [Source(address, named=True)]
    files, path = file_system(address)
    if _pattern(address):
        if not (matches := [one for one in _ask(address, files.glob, path) if _known(one)]):
            raise BadImageError(f"{shown(address)}: no image or video matches this pattern")
        return [Source(files.unstrip_protocol(one)) for one in sorted(matches)]
    if recursive:
        inside = _ask(address, files.find, path)
    else:
        inside = [one["name"] for one in _ask(address, files.ls, path, detail=True) if one["type"] == "file"]
    start = len(path.rstrip("/")) + 1
    known = [one for one in sorted(inside) if _known(one) and not _hidden(one[start:])]
    # A store has no folders, only names with slashes in them: whether some lie deeper costs a second look.
    deeper = not known and not recursive and any(map(_known, _ask(address, files.find, path)))
    folder = files.unstrip_protocol(path.rstrip("/")) + "/"
    return _some([Source(files.unstrip_protocol(one), folder=folder) for one in known], address, deeper)


def _never_ends(address: str) -> bool:
    """Whether a server says that a camera is behind this address, not an image."""
    from detection.images.web import open_web  # loads OpenSSL

    try:
        with open_web(address) as answer:
            return answer.headers.get_content_type().startswith(NO_IMAGE)
    except OSError:  # fetching the image will tell
        return False


def _ask(address: str, question: Callable, *arguments: Any, **options: Any) -> Any:
    """What a file system answers; MobileSSDError, one line, where it does not."""
    try:
        return question(*arguments, **options)
    except FileNotFoundError:
        raise BadImageError(f"{shown(address)}: no such folder: check the address") from None
    except Exception as error:  # every file system has errors of its own
        raise unreachable(address, error) from None


def _some(found: list[Source], folder: str, deeper: bool) -> list[Source]:
    if not found:
        hint = "there are some in its subfolders, add --recursive" if deeper else "name another folder"
        raise BadImageError(f"{shown(folder)}: no images or videos in this folder: {hint}")
    return found


def _in_list(path: str, recursive: bool, check: bool) -> list[Source]:
    """What the lines of a text file mean; empty ones and those that start with # are left out."""
    found: list[Source] = []
    folder = path.rpartition("/")[0] + "/" if is_address(path) else os.path.join(os.path.dirname(path), "")
    for number, line in enumerate(lines_of(path), 1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        try:
            name = local(name) if is_address(name) or os.path.isabs(local(name)) else folder + name
            if name.lower().endswith(".txt") or (_known(name) and not _pattern(name) and not check):
                found.append(Source(_tidy(name)))  # a list in a list is no image, which is seen when it is read
            else:
                expand = _at_address if is_address(name) else _at_path
                found += [replace(one, named=False) for one in expand(name, recursive)]
        except BadImageError as error:
            raise BadImageError(f"{shown(path)}, line {number}: {error}") from None
    if not found:
        raise BadImageError(f"{shown(path)}: a list without a single image or video")
    return found


def _tidy(name: str) -> str:
    """`./a//b.jpg` as `a/b.jpg`; `a/../b.jpg` as `b.jpg`, where `a` is no link to another place."""
    if is_address(name):
        return name
    tidy = os.path.normpath(name)
    if os.pardir in name and _real_folder(os.path.dirname(tidy)) != _real_folder(os.path.dirname(name)):
        return name
    return tidy


@cache  # emptied by each `find_sources`: a folder of a million images is looked at once
def _real_folder(path: str) -> str:
    return os.path.realpath(path or os.curdir)


def _pattern(name: str) -> bool:
    return glob.has_magic(name) and (is_address(name) or not os.path.exists(name))


def _known(name: str) -> bool:
    ending = os.path.splitext(bare(name))[1].lower()
    return ending in IMAGES or ending in VIDEOS


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
