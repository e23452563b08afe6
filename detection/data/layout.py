"""A data set as found on the disk, before it is read: its files and its splits, and what names of splits mean."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from detection.errors import BadDataError

ROLE = re.compile(r"trainval|train|valid|val|test", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """A data set as found: its format, the folder or file, and the splits by name with the file of each (COCO)."""

    format: str
    path: Path
    splits: tuple[str, ...] = ()
    files: dict[str, Path] = field(default_factory=dict)

    def resolve(self, split: str) -> str:
        """The name of the split that `split` means: `val` is also `valid` and `val2017`. Raises BadDataError."""
        if split in self.splits:
            return split
        matches = [name for name in self.splits if role_of(name) == role_of(split) and split == role_of(split)]
        if len(matches) == 1:
            return matches[0]
        trouble = f"more than one split {split!r}" if matches else f"no split {split!r}"
        raise BadDataError(f"{self.path}: {trouble}; it has {', '.join(self.splits) or 'none'}")

    def default(self, *roles: str) -> str | None:
        """The first split that has one of these roles, if exactly one has it."""
        for role in roles:
            matches = [name for name in self.splits if role_of(name) == role]
            if role in matches or len(matches) == 1:
                return role if role in matches else matches[0]
        return None


def role_of(split: str) -> str:
    """train, val, test, trainval, or the name itself: `val2017` and `valid` are val."""
    found = ROLE.search(split)
    return {"valid": "val"}.get(role := found.group().lower(), role) if found else split
