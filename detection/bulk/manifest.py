"""What a folder of shards was made with, in `_manifest.json` beside them, so that a run only goes on where it fits."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from detection.bulk.folder import Folder
from detection.config import build, known_keys
from detection.errors import BadDataError, MobileSSDError
from detection.files import expanded, sha256_of
from detection.images.addresses import is_address
from detection.weights.records import find_record
from detection.weights.resolve import Weights, content_hash

NAME = "_manifest.json"  # readers of Parquet folders pass over names that begin so
FORMAT = 1
# Where a run differs from the one that began the folder: what to call it, and how to go on.
WAYS_OUT = {
    "weights": "name the same --weights",
    "settings": "give the same options",
    "shards": "give the same options",
    "images": "name the same images (a list file keeps them the same while a folder grows)",
}


@dataclass(frozen=True)
class Manifest:
    """weights: name and sha256. settings: score, iou, max_detections, classes, merge, views, runtime, device, precision,
    batch: all that changes a result. shards: format, size, count. images: count, sha256 (see `hash_of_names`). class_names and
    category_ids say what the numbers in the shards mean. finished: (bytes, CRC-32) of each shard's file that is whole."""

    weights: dict[str, str]
    settings: dict[str, Any]
    shards: dict[str, Any]
    images: dict[str, Any]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    format: Annotated[int, Meta(ge=1, le=FORMAT)] = FORMAT
    finished: dict[str, tuple[int, str]] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


def agree(folder: Folder, manifest: Manifest, present: Collection[str]) -> bool:
    """Writes the manifest where the folder (which holds the files `present`) has none; else compares. Returns whether
    the run goes on from an earlier one.

    Raises MobileSSDError, one line with the way out, where the folder was begun with other weights, settings or
    images, or holds shards that nothing is known about.
    """
    if NAME not in present:
        if any(name.startswith("part-") for name in present):
            raise MobileSSDError(f"{folder}: holds shards but no {NAME}: name another folder")
        folder.write(NAME, manifest.to_json().encode())
        return False
    before = read(folder)
    for part, way in WAYS_OUT.items():
        was, now = getattr(before, part), json.loads(json.dumps(getattr(manifest, part)))
        changes = [key for key in now if was.get(key) != now[key] and (part, key) != ("weights", "name")]
        if changes:
            words = ", ".join(_change(part, key, was.get(key), now[key]) for key in changes)
            raise MobileSSDError(f"{folder}: was begun with {words}: {way}, or another folder")
    return True


def read(folder: Folder) -> Manifest:
    """Raises BadDataError, one line, for a manifest that is broken or of a newer version."""
    content, newer = folder.read(NAME), False
    try:
        data = json.loads(content)
        newer = data["format"] > FORMAT
        if "pictures" in data:  # as older versions wrote it
            data["images"] = data.pop("pictures")
        data["settings"].setdefault("merge", "nms")  # older versions knew no other
        return build(Manifest, known_keys(Manifest, data))
    except (ValueError, TypeError, LookupError, AttributeError, MobileSSDError):
        reason = "was written by a newer mobilessd: update, or" if newer else "is broken:"
        raise BadDataError(f"{folder}/{NAME}: {reason} name another folder") from None


def hash_of_names(names: Sequence[str]) -> str:
    """The SHA-256 of a list of images, and of the folder that relative paths in it start from."""
    digest = hashlib.sha256()
    if not all(is_address(name) or os.path.isabs(name) for name in names):
        digest.update(os.fsencode(os.getcwd()))
    for name in names:
        digest.update(b"\0" + os.fsencode(name))
    return digest.hexdigest()


def hash_of_weights(weights: Weights) -> str:
    """Of what the person named: the published file of a model's name, else the file itself (of an OpenVINO file also the
    numbers beside it). What a published file is converted to may differ a little from one version of us to the next."""
    named = expanded(weights.source)
    if not named.exists() and (record := find_record(weights.source)):
        return record.sha256
    return hash_of_files(weights) if weights.path == named else content_hash(named)


def hash_of_files(weights: Weights) -> str:
    """The SHA-256 of what runs; of an OpenVINO file, also of the numbers beside it."""
    hashes = [sha256_of(path) for path in weights.format.files(weights.path) if path.exists()]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(":".join(hashes).encode()).hexdigest()


def shown_name(weights: Weights) -> str:
    """What the manifest calls the weights: the file's name or the model's, without the way to it."""
    return Path(weights.source).name


def _change(part: str, key: str, was: Any, now: Any) -> str:
    if (part, key) == ("images", "count"):
        return f"{was:,} images and not {now:,}"
    if key == "sha256":
        return f"other {part}"
    return f"{part.rstrip('s') if part == 'shards' else ''} {key} {_plain(was)} and not {_plain(now)}".strip()


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
