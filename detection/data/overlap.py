"""Which images are the same: twice in a data set, or in training and validation."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from detection.data.dataset import DetectionData
from detection.data.ids import Id
from detection.files import sha256_of

GLANCE = 1 << 16  # bytes that are hashed before whole files are


def same_files(paths: Sequence[str]) -> list[list[int]]:
    """Groups (two or more) of positions whose files have the same content. Missing files are in no group.

    Files of different length differ; of the rest, those with a different beginning; only what is left is read whole.
    """
    groups = _grouped(range(len(paths)), [_length(path) for path in paths])
    for key in (_glance, sha256_of):
        left = [i for group in groups for i in group]
        with ThreadPoolExecutor(8) as pool:
            keys = dict(zip(left, pool.map(key, [paths[i] for i in left])))
        groups = [part for group in groups for part in _grouped(group, [keys[i] for i in group])]
    return groups


def shared_images(train: DetectionData, val: DetectionData, content: bool = True) -> dict[str, list[str]]:
    """Images of `val` that are in `train`: {how it was found: files of val}; each is named once.

    By path (links followed), by COCO id, name and size together (copies that were saved anew; ids and names alone are
    counted from 1 in many data sets), by the files' content.
    """
    found: dict[str, list[str]] = {}
    seen: set[int] = set()

    def note(how: str, positions: Iterable[int]) -> None:
        fresh = [i for i in positions if i not in seen]
        seen.update(fresh)
        if fresh:
            found[how] = [val.path(i) for i in fresh]

    known = {os.path.realpath(path) for path in train.paths}
    note("same file", (i for i, path in enumerate(val.paths) if os.path.realpath(path) in known))
    if train.source == val.source == "coco":
        ids = set(_ids_names_sizes(train))
        note("same id, name and size", (i for i, key in enumerate(_ids_names_sizes(val)) if key in ids))
    if content:
        first = len(train)
        groups = same_files([*train.paths, *val.paths])
        mixed = [group for group in groups if group[0] < first <= group[-1]]
        note("same content", (i - first for group in mixed for i in group if i >= first))
    return found


def image_hashes(data: DetectionData) -> tuple[str, ...]:
    """SHA-256 of each image's file, sorted, for a card; images that cannot be read are left out."""
    with ThreadPoolExecutor(8) as pool:
        return tuple(sorted(filter(None, pool.map(_hash_or_nothing, data.paths))))


def _ids_names_sizes(data: DetectionData) -> Iterable[tuple[Id, str, int, int]]:
    for path, number, (height, width) in zip(data.paths, data.image_ids.tolist(), data.sizes.tolist()):
        yield number, os.path.splitext(os.path.basename(path))[0], height, width


def _grouped(positions: Iterable[int], keys: Sequence[Hashable]) -> list[list[int]]:
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for position, key in zip(positions, keys):
        if key is not None:
            groups[key].append(position)
    return [group for group in groups.values() if len(group) > 1]


def _length(path: str) -> int | None:
    try:
        return os.stat(path).st_size or None
    except OSError:
        return None


def _glance(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read(GLANCE)).digest()
    except OSError:
        return None


def _hash_or_nothing(path: str) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return ""
