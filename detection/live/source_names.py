"""What a person names as a source: its kind, and the name under which it may be shown."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from detection.errors import MobileSSDError
from detection.images.cameras import camera_name, camera_of
from detection.masking import without_secrets

LONGEST_KEY = 64  # characters of a key that is made of somebody's class or zone
_NAMED = re.compile(r"([A-Za-z0-9_.-]{1,40})=(.+)", re.DOTALL)


@dataclass(frozen=True)
class SourceName:
    """address: what is opened: a camera's number or device, a URL, a GStreamer pipeline, a file, a folder, a pattern.
    name: short, unique, what people see in pages, logs and events; it never holds the password of a URL. key: the name
    for addresses and file names, unique as well: letters, digits, dots and dashes."""

    address: str
    name: str
    key: str

    @property
    def live(self) -> bool:
        """Whether it is a camera or a stream, read by a process of its own."""
        return camera_of(self.address) is not None or "://" in self.address or is_pipeline(self.address)


def is_pipeline(source: str) -> bool:
    """Whether it is a GStreamer pipeline: elements with ! between them."""
    return " ! " in source and not os.path.exists(source)


def name_sources(words: Sequence[str]) -> list[SourceName]:
    """What the words of a command line name: `SOURCE`, or `NAME=SOURCE` to choose the name that people see.

    Without a name: `camera 0`, a stream's host and path, a file's own name; the second of two alike becomes `... (2)`.
    Raises MobileSSDError for an empty word or a name given twice.
    """
    found: list[SourceName] = []
    for word in words:
        match = None if os.path.exists(word) else _NAMED.fullmatch(word)
        address, given = (match[2], match[1]) if match else (word, "")
        if not address:
            raise MobileSSDError("a source is a camera's number, a URL, a file or a folder, not an empty word")
        taken = {one.name for one in found}
        if given in taken:
            raise MobileSSDError(f"two sources have the name {given!r}: give each its own")
        name = _unique(given or _short(address), taken, "{} ({})")
        found.append(SourceName(address, name, _unique(_key(name), {one.key for one in found}, "{}-{}")))
    return found


def keys_of(names: Sequence[str]) -> list[str]:
    """For each name one for addresses and file names, as SourceName.key is; the second of two alike becomes `...-2`."""
    keys: list[str] = []
    for name in names:
        keys.append(_unique(_key(name)[:LONGEST_KEY], set(keys), "{}-{}"))
    return keys


def _unique(wish: str, taken: set[str], pattern: str) -> str:
    name, number = wish, 1
    while name in taken:
        number += 1
        name = pattern.format(wish, number)
    return name


def _key(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") or "source"


def _short(address: str) -> str:
    if (camera := camera_of(address)) is not None:
        return camera_name(camera)
    if is_pipeline(address):
        return "pipeline"
    if "://" in address:
        return without_secrets(address).partition("://")[2].partition("?")[0].partition("#")[0].rstrip("/") or "stream"
    return os.path.basename(os.path.normpath(address)) or address
