"""The images of a bulk run: what `find_sources` finds, sorted, videos left out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from detection.errors import BadImageError, shown
from detection.images.sources import VIDEOS, Source, find_sources, unique


@dataclass
class Images:
    """names: of all images, sorted, each once; paths as they were given, or addresses. named: of these, those that
    the person wrote as single files. videos: how many were left out: bulk detection looks at images alone."""

    names: list[str]
    named: set[str] = field(default_factory=set)
    videos: int = 0


def list_images(sources: Iterable[str | os.PathLike], recursive: bool = False) -> Images:
    """The images that `sources` mean, see `find_sources`; lists are not looked through, and of an animated GIF the first
    frame is an image. The order is that of the names, so that a run goes on whatever the order of the sources was.

    Raises MobileSSDError, one line, for a source that does not exist or means no image.
    """
    found: list[Source] = []
    for source in sources:
        here = find_sources([source], recursive, check_lists=False)
        if all(one.ending in VIDEOS for one in here):
            what = "is a video" if here[0].named else "holds only videos"
            raise BadImageError(f"{shown(source)}: {what}: leave --shards out to detect in every frame")
        found += here
    found = unique(found)
    images = [one for one in found if one.ending not in VIDEOS]
    names = sorted(one.name for one in images)
    return Images(names, {one.name for one in images if one.named}, len(found) - len(images))
