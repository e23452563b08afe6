"""What people give a detector -> its images, one after the other: names, things in memory, and any number of both."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from detection.errors import BadImageError, warn
from detection.images.inputs import WAYS, ImageInput, is_image, is_tensor
from detection.images.sources import Source, find_sources
from detection.images.video import Video


def one_of(given: Any, color: str = "rgb") -> ImageInput | None:
    """The one image that is given; None where it means several: a list, a folder, a pattern, a video, a batch.

    Raises BadImageError, one line, for a name that does not exist or means nothing.
    """
    if is_image(given):
        return _held(given, color)
    if isinstance(given, (str, os.PathLike)):
        sources = find_sources([given])
        if len(sources) == 1 and sources[0].named and not sources[0].video:
            return _image(sources[0])
    return None


def each_of(given: Any, color: str = "rgb") -> Iterator[ImageInput]:
    """Every image of what is given, in order, as it is asked for: of a name what `find_sources` finds (of videos every
    frame), of a batch [N, ...] its images, of an iterable whatever each of its items means.

    Raises BadImageError, one line, where something means no image. A video that came out of a folder or a list and
    cannot be read is a warning, and so is whatever is missing of one that can.
    """
    if isinstance(given, (str, os.PathLike)):
        for source in find_sources([given]):
            if source.video:
                yield from _frames(source)
            else:
                yield _image(source)
    elif is_image(given):
        yield _held(given, color)
    elif (isinstance(given, np.ndarray) and given.dtype != object) or is_tensor(given):
        for image in given:
            yield _held(image, color)
    elif isinstance(given, Iterable) and not isinstance(given, Mapping):
        for item in given:
            if isinstance(item, (list, tuple)) or (isinstance(item, Iterator) and not hasattr(item, "read")):
                raise BadImageError(f"{WAYS}, not a {type(item).__name__} in a list: give one list of all images")
            yield from each_of(item, color)
    else:
        hint = "; a camera is watched with `mobilessd live`" if isinstance(given, int) else ""
        raise BadImageError(f"{WAYS}, or a folder, pattern, video or list of them, not {type(given).__name__}{hint}")


def leave_out(error: BadImageError) -> None:
    """Says what is left out of a folder, pattern or list, and goes on."""
    warn(f"left out: {error}")


def _held(value: Any, color: str) -> ImageInput:
    if hasattr(value, "read") and not isinstance(value, np.ndarray):  # an opened file is read only once
        name, content = getattr(value, "name", ""), value.read()
        if not isinstance(content, bytes):
            raise BadImageError(f"an opened file gives {type(content).__name__}, not bytes: open it with mode 'rb'")
        return ImageInput(content, color, name if isinstance(name, str) else "")
    name = getattr(value, "filename", "")  # Pillow's
    return ImageInput(value, color, name if isinstance(name, str) else "")


def _image(source: Source) -> ImageInput:
    return ImageInput(source.name, name=source.shown, named=source.named)


def _frames(source: Source) -> Iterator[ImageInput]:
    try:
        with Video(source.name) as video:
            for frame in video:
                yield ImageInput(frame.image, "rgb", source.shown, frame.index, frame.time, source.named)
        if video.problem:
            warn(f"{source.shown}: {video.problem}")
    except BadImageError as error:
        if source.named:
            raise
        leave_out(error)
