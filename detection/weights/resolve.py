"""From a name or any path to weights that can run: published files are converted once and kept in the cache.

Imports no torch where the conversion has been made before.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from detection.errors import BadWeightsError, MissingPackageError
from detection.files import home, sha256_of
from detection.weights.card import Card
from detection.weights.checkpoint import read_card
from detection.weights.formats import Format, card_of, recognise

CONVERTER = 1  # raised whenever an importer would convert the same file to something else


@dataclass(frozen=True)
class Weights:
    """Weights at hand. path: a .safetensors of ours, or a file that we exported (.onnx, .xml, .tflite) and that runs as it
    is; a .tflite of somebody else's is converted.
    source: what the person named."""

    path: Path
    card: Card
    source: str

    @property
    def sha256(self) -> str:
        """Of the content of `path`."""
        return sha256_of(self.path)

    @property
    def graph(self) -> Path | None:
        """The ONNX graph beside a checkpoint that ships with mobilessd, so that it runs without torch: its numbers are
        those of the checkpoint, in which it looks them up."""
        graph = self.path.with_suffix(".onnx")
        return graph if self.path.parent == Path(__file__).parent and graph.exists() else None

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
    def ready(self) -> Path | None:
        """The file that a runtime can read as it is, where nothing has to be converted first."""
        return self.path if self.exported else self.graph


def open_weights(name_or_path: str | os.PathLike | None) -> Weights:
    """Finds weights by zoo name or path, of any kind known; None means the ones that ship. Raises MobileSSDError, one
    line, where there are none."""
    from detection.weights.names import DEFAULT, resolve

    name_or_path = name_or_path or DEFAULT
    path = resolve(str(name_or_path))
    card = card_of(path)
    if card is None:
        path = converted(path)
        card = read_card(path)
    return Weights(path, card, str(name_or_path))


def converted(path: Path) -> Path:
    """The safetensors form of a published file, made once: `MOBILESSD_HOME/converted/<name>-<hash>.safetensors`."""
    convert = importer_of(path)
    target = home() / "converted" / f"{path.stem}-{content_hash(path)[:16]}.safetensors"
    if not target.exists():
        need_torch(path)
        from detection.weights.checkpoint import save_checkpoint

        ssd, card = convert(path)
        card.source = card.source or path.name
        card.name = card.name or (path.parent.name if path.name == "model.json" else path.stem)
        save_checkpoint(target, ssd, card)
    return target


def need_torch(what: object) -> None:
    """Raises MissingPackageError, one line that names `what` needs it, where torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise MissingPackageError(
            f"{what}: converting it needs torch once (pip install torch torchvision); the cache then serves without"
        )


def importer_of(path: Path) -> Callable:
    """The function that reads this kind of file: path -> (SSD, Card)."""
    if path.suffix == ".tflite":
        from detection.weights.importers.table import import_tflite

        return import_tflite
    if path.name.endswith(".json") or (path.is_dir() and (path / "model.json").exists()):
        from detection.weights.importers.table import import_tfjs

        return import_tfjs
    if path.suffix in (".pth", ".pt", ".safetensors"):  # a safetensors file without our card
        from detection.weights.importers.table import import_state_dict

        return import_state_dict
    if (format := recognise(path)) and format.runs:
        raise BadWeightsError(f"{path}: carries no mobilessd card; export it with mobilessd export")
    raise BadWeightsError(
        f"{path}: not weights of a known kind (.safetensors, .tflite, TensorFlow.js model.json, .pth, .onnx, .xml)"
    )


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of a TF.js folder's model.json and shards; changes when the importers do."""
    files = [path]
    if path.is_dir() or path.name == "model.json":
        folder = path if path.is_dir() else path.parent
        files = [folder / "model.json", *sorted(folder.glob("group*"))]
    elif path.suffix in (
        ".tflite",
        ".pth",
        ".pt",
        ".safetensors",
    ):  # the labels beside it are part of what is converted
        files += sorted(path.parent.glob("*label*.txt"))
    parts = f"{CONVERTER}:" + ":".join(sha256_of(file) for file in files)
    import hashlib

    return hashlib.sha256(parts.encode()).hexdigest()
