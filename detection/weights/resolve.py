"""What the user wrote -> an opened file: a name or path becomes a local file, fetched and converted where that has not
been done before, and its card. Imports no torch where nothing has to be converted.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from detection.errors import BadWeightsError, nearest, warn
from detection.files import drop_damaged, expanded, home, sha256_of
from detection.weights.card import Card
from detection.weights.checkpoint import read_card, save_checkpoint
from detection.weights.formats import OPENVINO, Format, card_of, recognise
from detection.weights.importers.table import READABLE, import_detector, importer_of, need_torch
from detection.weights.records import DEFAULT, Record, find_record, list_weights

LABELS = 1  # raised whenever label files beside weights would be read in another way
CONVERTER = 2  # raised whenever an importer would convert the same file to something else


@dataclass(frozen=True)
class Weights:
    """Weights at hand. path: a .safetensors of ours, or a file that we exported and that runs as it is. source: what the
    user named."""

    path: Path
    card: Card
    source: str

    @property
    def sha256(self) -> str:
        """Of the content of `path`."""
        return sha256_of(self.path)

    @property
    def format(self) -> Format:
        """Of `path`: safetensors, or one that a runtime runs as it is."""
        format = recognise(self.path)
        assert format is not None
        return format

    @property
    def exported(self) -> bool:
        """Whether it runs as it is, and cannot become a network again."""
        return self.format.runs

    @property
    def graph(self) -> Path | None:
        """The ONNX graph beside a checkpoint that ships with mobilessd, so that it runs without torch: its numbers are
        those of the checkpoint, in which it looks them up."""
        graph = self.path.with_suffix(".onnx")
        return graph if self.path.parent == Path(__file__).parent and graph.exists() else None

    @property
    def int8(self) -> Path | None:
        """The int8 form, an OpenVINO file, beside a checkpoint that ships with mobilessd; None where there is none."""
        form = self.path.with_suffix(f".int8{OPENVINO.ending}")
        return form if not self.exported and self.path.parent == Path(__file__).parent and form.exists() else None

    def in_precision(self, precision: str) -> Weights:
        """For "int8" the weights of the file `int8`, where there is one; else these. Its card is this one, which is at hand,
        but for the precision: to read another would cost every start some milliseconds."""
        form = self.int8 if precision == "int8" else None
        return self if form is None else Weights(form, replace(self.card, precision="int8"), self.source)

    @property
    def ready(self) -> Path | None:
        """The file that a runtime can read as it is, where nothing has to be converted first."""
        return self.path if self.exported else self.graph


def open_weights(name_or_path: str | os.PathLike | None) -> Weights:
    """Finds weights by name or path, of any kind known; None means the bundled ones. What their card notes is a warning.
    Raises MobileSSDError, one line, where there are none."""
    name_or_path = name_or_path or DEFAULT
    path = resolve(name_or_path)
    card = card_of(path, READABLE)
    if card is None:
        path = converted(path)
        card = read_card(path)
    for note in card.notes:
        warn(f"{name_or_path}: {note}")
    return Weights(path, card, str(name_or_path))


def resolve(name_or_path: str | os.PathLike) -> Path:
    """The file or folder that a path, or a name with a recipe, means.

    A name is fetched once and kept in the cache: a detector as safetensors with its card, a classifier as published.
    Raises MobileSSDError, one line, where there is no such file and no such name (the nearest are offered), where it
    cannot be fetched, or where converting it needs a package that is missing.
    """
    path = expanded(name_or_path)
    if str(name_or_path) and path.exists():
        return path
    record = find_record(str(name_or_path))
    if record is None:
        raise BadWeightsError(_no_such(str(name_or_path)))
    if record.task != "detector":
        return _fetched(record)
    target = converted_path(record)
    if not _is_kept(target, record.shipped is None):
        need_torch(record.name)  # before megabytes are fetched in vain
        _convert(_fetched(record), target, record)
    return target


def original_file(name_or_path: str | os.PathLike) -> Path:
    """The file as it was published: a path itself, or what a name's record fetches. Raises as `resolve`."""
    record = find_record(str(name_or_path))
    path = expanded(name_or_path)
    return path if record is None or path.exists() else _fetched(record)


def converted(path: Path) -> Path:
    """The safetensors form of a published file, made once: `MOBILESSD_HOME/converted/<name>-<hash>.safetensors`."""
    importer_of(path)  # says what is wrong with a file that nobody reads
    target = home() / "converted" / f"{path.stem}-{content_hash(path)[:16]}.safetensors"
    if not _is_kept(target):
        _convert(path, target)
    return target


def _is_kept(target: Path, ours: bool = True) -> bool:
    """Whether a checkpoint of the cache is there and whole; one that is not goes. ours: it may be made anew."""
    if not target.exists():
        return False
    try:
        read_card(target)
    except BadWeightsError:
        if not ours:
            raise
        drop_damaged(target)
        return False
    return True


def converted_path(record: Record) -> Path:
    """Where the safetensors form of a published detector lies, whether it is there or not: in the cache, or in the
    installation."""
    if record.shipped is not None:
        return record.shipped
    return home() / "weights" / f"{record.name}-{record.sha256[:8]}-{CONVERTER}.safetensors"


def content_hash(path: Path) -> str:
    """SHA-256 of all that a published file is converted from: its shards, and labels beside it, too; changes when the
    importers do."""
    import hashlib

    files = importer_of(path).files(path)
    return hashlib.sha256(f"{CONVERTER}:{LABELS}:{':'.join(map(sha256_of, files))}".encode()).hexdigest()


def _convert(original: Path, target: Path, record: Record | None = None) -> None:
    """Imports a published file and writes it as a checkpoint; a record knows more of it than the file."""
    ssd, card = import_detector(original)
    card.name = card.name or (
        original.parent.name if original.name == importer_of(original).format.inside else original.stem
    )
    save_checkpoint(target, ssd, card if record is None else described(card, record))


def described(card: Card, record: Record) -> Card:
    """The card with what the record knows: name, source, licence, attribution, metrics."""
    return replace(
        card,
        name=record.name,
        source=record.urls[0],
        licence=record.licence,
        attribution=record.attribution,
        metrics=[dict(metric) for metric in record.metrics],
    )


def _fetched(record: Record) -> Path:
    if record.shipped is not None:
        raise BadWeightsError(f"{record.name}: {record.shipped} is missing; it comes with mobilessd: install it again")
    from detection.weights.download.fetch import fetch  # loads OpenSSL, which a start without a download has no need of

    return fetch(record.file)


def _no_such(name: str) -> str:
    """One line for a name that is neither a file nor a model with weights."""
    from detection.ssd.families import family_of  # only where something went wrong

    with_weights = [known for known in list_weights() if known.startswith(f"{name}.")]
    if family_of(name):
        hint = f"with weights: {', '.join(with_weights)}" if with_weights else "no weights are published for it"
        return f"{name}: no such file, and the model of that name is an architecture without weights; {hint}"
    near = nearest(name, list_weights(), 3, 0.4) or list_weights()[:4]
    return f"{name}: no such file, and no model of that name; nearest: {', '.join(near)}"
