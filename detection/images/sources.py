"""What a person names on the command line -> images and videos, and the frames of a video. OpenCV and numpy only.

Cameras and streams are not here: they do not end, and are the business of `detection.live`.
"""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from detection.errors import BadImageError
from detection.images.header import gif_is_animated

IMAGES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
VIDEOS = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv", ".flv", ".3gp"}
VIDEOS |= {".ogv", ".mjpeg", ".mjpg"}
USUAL_FPS = 25.0  # of a video that does not say


@dataclass(frozen=True)
class Source:
    """An image or video to look at.

    path: the file. video: whether it has frames. named: the person wrote this very file (and wants to hear of it when
    it is broken); else it came out of a folder, a pattern or a list. relative: where it belongs below an output folder,
    so that files of the same name from different subfolders stay apart.
    """

    path: Path
    video: bool
    named: bool
    relative: Path


@dataclass(frozen=True)
class Frame:
    """One frame of a video. index: 0, 1, ...; time: seconds since its start; image: uint8 RGB [H, W, 3]."""

    index: int
    time: float
    image: np.ndarray


def find_sources(names: Iterable[str | os.PathLike], recursive: bool = False) -> list[Source]:
    """The images and videos that `names` mean, in the order given, each once.

    A name is a file; a folder (what is in it, sorted; with `recursive` also below it; hidden files are left out); a
    pattern (`shots/*.jpg`, `**` for any depth); or a text file (.txt) with one of these a line, relative to where it
    lies. An animated GIF is a video. Other endings than those known are looked at if the file itself was named.

    Raises BadImageError, one line, for a name that does not exist or means nothing.
    """
    found: list[Source] = []
    for name in names:
        found += _expand(os.fspath(name), recursive)
    once: dict[str, Source] = {}
    for source in found:
        once.setdefault(os.path.realpath(source.path), source)
    if not once:
        raise BadImageError("no images or videos named: name files, folders or patterns such as 'shots/*.jpg'")
    return list(once.values())


def _expand(name: str, recursive: bool, from_list: bool = False) -> list[Source]:
    if "://" in name:
        raise BadImageError(f"{name}: is a stream, not a file: watch it with `mobilessd live {name}`, or save it first")
    path = Path(name).expanduser()
    try:
        if path.is_dir():
            return _in_folder(path, recursive)
        if path.exists():
            if path.suffix.lower() == ".txt" and not from_list:
                return _in_list(path, recursive)
            return [_source(path, named=not from_list)]
    except (OSError, ValueError) as error:  # no permission, a name too long, a null character
        raise BadImageError(f"{_shown(name)}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if glob.has_magic(name):
        matches = [Path(match) for match in sorted(glob.glob(os.fspath(path), recursive=True))]
        known = [_source(match, named=False) for match in matches if match.is_file() and _known(match)]
        if not known:
            raise BadImageError(f"{_shown(name)}: no image or video matches this pattern")
        return known
    raise BadImageError(f"{_shown(name)}: no such file or folder: check the path")


def _in_folder(folder: Path, recursive: bool) -> list[Source]:
    found, deeper = [], False
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(below for below in folders if not below.startswith("."))
        for file in sorted(files):
            if not file.startswith(".") and _known(path := Path(root, file)):
                if recursive or Path(root) == folder:
                    found.append(_source(path, named=False, relative=path.relative_to(folder)))
                else:
                    deeper = True
        if deeper or (not recursive and found):
            break
    if not found:
        hint = "there are some in its subfolders, add --recursive" if deeper else "name another folder"
        raise BadImageError(f"{_shown(folder)}: no images or videos in this folder: {hint}")
    return found


def _in_list(path: Path, recursive: bool) -> list[Source]:
    """The sources of a text file with one name a line; empty lines and those that start with # are left out."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    found = []
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#"):
            try:
                found += _expand(line if os.path.isabs(line) else os.fspath(path.parent / line), recursive, True)
            except BadImageError as error:
                raise BadImageError(f"{_shown(path)}, line {number}: {error}") from None
    if not found:
        raise BadImageError(f"{_shown(path)}: a list without a single image or video")
    return found


def _source(path: Path, named: bool, relative: Path | None = None) -> Source:
    return Source(path, is_video(path), named, relative or Path(path.name))


def _known(path: Path) -> bool:
    return path.suffix.lower() in IMAGES or path.suffix.lower() in VIDEOS


def is_video(path: Path) -> bool:
    """True for the endings of videos, and for GIFs of more than one frame."""
    suffix = path.suffix.lower()
    if suffix == ".gif":
        try:
            return gif_is_animated(path.read_bytes())
        except OSError:
            return False
    return suffix in VIDEOS


class Video:
    """The frames of a video file, in order; also an animated GIF.

    fps: frames a second (25 where the file does not say). count: how many frames it says it has, 0 if unknown; only an
    estimate in many formats. Use it in a `with` block, or let the iteration come to its end. Rotation notes of phones
    are applied by OpenCV.

    Raises BadImageError, one line, if the file cannot be opened as a video; iterating raises it if not one frame
    comes out.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)
        if not os.path.isfile(self.path):
            raise BadImageError(f"{_shown(self.path)}: no such file: check the path")
        if not os.path.getsize(self.path):
            raise BadImageError(f"{_shown(self.path)}: is empty (0 bytes): fetch it again")
        self._begin(cv2.VideoCapture(self.path))

    def _begin(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        if not capture.isOpened():
            self._refuse()
        fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = float(fps) if math.isfinite(fps) and 0 < fps <= 1000 else USUAL_FPS
        self.count = int(count) if math.isfinite(count) and 0 < count < 1e9 else 0

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        index, time = 0, -1.0
        while True:
            ok, bgr = self._capture.read()
            if not ok:
                break
            said = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            # Some files say nothing, or start anew; time must never run backwards.
            time = said if math.isfinite(said) and said > time else max(index / self.fps, time)
            yield Frame(index, time, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
            index += 1
        self._capture.release()
        if not index:
            self._refuse()

    def _refuse(self) -> None:
        raise BadImageError(
            f"{_shown(self.path)}: no frame can be read: broken, cut short, or of a codec that this OpenCV lacks; "
            "convert it to mp4"
        )


def _shown(name: str | os.PathLike) -> str:
    text = os.fsdecode(name)
    return text if text.isprintable() else ascii(text)
