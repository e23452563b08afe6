"""What a person names as a source: its kind, and the name under which it may be shown. Standard library only."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from detection.errors import MobileSSDError

_NAMED = re.compile(r"([A-Za-z0-9_.-]{1,40})=(.+)", re.DOTALL)


@dataclass(frozen=True)
class SourceName:
    """address: what is opened: a camera's number, a URL, a file, a folder, a pattern. name: short, unique, what people
    see in pages, logs and events; it never holds the password of a URL. key: the name for addresses and file names,
    unique as well: letters, digits, dots and dashes."""

    address: str
    name: str
    key: str

    @property
    def live(self) -> bool:
        """Whether it is a camera or a stream, read by a process of its own."""
        return camera_number(self.address) is not None or "://" in self.address


def camera_number(source: str) -> int | None:
    """2 for "2" and "/dev/video2" (unless there is a file of that name), else None."""
    number = source.removeprefix("/dev/video")
    is_number = number.isascii() and number.isdecimal() and not os.path.isfile(source)
    return int(number) if is_number else None


def without_secrets(address: str) -> str:
    """A URL without user, password, query and fragment, where keys of cameras stand; anything else as it is."""
    if "://" not in address:
        return address
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return address.partition("://")[0] + "://..."
    return f"{parts.scheme}://{host}{port}{parts.path}"


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


def _unique(wish: str, taken: set[str], pattern: str) -> str:
    name, number = wish, 1
    while name in taken:
        number += 1
        name = pattern.format(wish, number)
    return name


def _key(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") or "source"


def _short(address: str) -> str:
    if (number := camera_number(address)) is not None:
        return f"camera {number}"
    if "://" in address:
        return without_secrets(address).partition("://")[2].rstrip("/") or "stream"
    return os.path.basename(os.path.normpath(address)) or address
