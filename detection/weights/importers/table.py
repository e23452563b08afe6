"""The importers of published files: one table, and one guard around them all.

A file is recognised without torch; the module that reads it, and torch with it, is imported when it is read.
Reading runs no code of the file.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detection.errors import BadWeightsError, MissingPackageError, install_line, installed, need
from detection.weights.card import Card
from detection.weights.card_files import is_pickle
from detection.weights.formats import FORMATS, SAFETENSORS, TFLITE, Format, recognise
from detection.weights.guard import guarded
from detection.weights.importers.labels import NAMES as LABEL_FILES
from detection.weights.importers.labels import misfits

if TYPE_CHECKING:
    from backbones import Classifier
    from detection.ssd.network import SSD
    from detection.ssd.spec import InputSpec
    from detection.weights.importers.backbone_weights import BackboneWeights


@dataclass(frozen=True)
class Importer:
    """What reads one format of others.

    detector, classifier, backbone: `module:function` in this package. path -> (network, card); path -> an ImageNet
    classifier or its backbone, None where the file holds none. package: what has to be installed beside torch.
    beside: patterns of further files that are read, NAME being the file's own without its ending.
    """

    format: Format
    detector: str
    classifier: str | None = None
    backbone: str | None = None
    package: str | None = None
    beside: tuple[str, ...] = ()

    def files(self, path: Path) -> list[Path]:
        """All files on whose content the outcome depends: the file, what belongs to it (shards, variables, a graph), and
        label files beside it."""
        if self.format.inside and path.is_dir():
            path = path / self.format.inside
        parts = [part for part in self.format.files(path) if part.exists()]
        for pattern in self.beside:
            parts += sorted(path.parent.glob(pattern.replace("NAME", path.stem)))
        return [*parts, *(path.parent / name for name in LABEL_FILES if (path.parent / name).is_file())]


def _is_tfjs(head: bytes) -> bool:
    return head.lstrip().startswith(b"{") and (b'"modelTopology"' in head or b'"weightsManifest"' in head)


def _is_graph_def(head: bytes) -> bool:
    """A protobuf message of nodes (field 1), each of which begins with its name."""
    at = 1
    while at < min(len(head), 11) and head[at] & 128:
        at += 1
    return head[:1] == b"\x0a" and head[at + 1 : at + 2] == b"\x0a"


def _is_saved_model(head: bytes) -> bool:
    """A protobuf message of a schema version (1) and graphs (field 2)."""
    return head.startswith(b"\x08\x01\x12")


def _is_nothing(head: bytes) -> bool:
    return False  # the mark of a checkpoint's index is its end: only its name says what it is


def _is_hdf5(head: bytes) -> bool:
    return head.startswith(b"\x89HDF\r\n\x1a\n")


def _is_caffe(head: bytes) -> bool:
    """A protobuf message whose first field is the net's name, its second a layer (field 100)."""
    return len(head) > 2 and head[0] == 0x0A and head[1] < 0x80 and head[2 + head[1] :][:2] == b"\xa2\x06"


TFJS = Format("tfjs", "TensorFlow.js", (".json",), _is_tfjs, inside="model.json")
SAVED_MODEL = Format(
    "saved-model", "TensorFlow SavedModel", ("saved_model.pb",), _is_saved_model, inside="saved_model.pb"
)
CHECKPOINT = Format("checkpoint", "TensorFlow checkpoint", (".index",), _is_nothing)
FROZEN_GRAPH = Format(
    "frozen-graph", "TensorFlow frozen graph", (".pb",), _is_graph_def, inside="frozen_inference_graph.pb"
)
KERAS = Format("keras", "Keras", (".h5", ".hdf5"), _is_hdf5)
CAFFE = Format("caffe", "Caffe", (".caffemodel",), _is_caffe)
PYTORCH = Format("pytorch", "PyTorch", (".pth", ".pt", ".ckpt"), is_pickle)

IMPORTERS = (
    Importer(TFLITE, "tflite:import_tflite", "classifiers:import_classifier", "classifiers:import_backbone", "tflite"),
    Importer(TFJS, "tfjs:import_tfjs", beside=("group*",)),
    Importer(
        SAVED_MODEL, "tensorflow_variables:import_saved_model", package="google.protobuf", beside=("variables/*",)
    ),
    Importer(
        CHECKPOINT,
        "tensorflow_variables:import_checkpoint",
        package="google.protobuf",
        beside=("NAME.meta", "NAME.data-*", "pipeline.config", "../pipeline.config"),
    ),
    Importer(FROZEN_GRAPH, "frozen_graph:import_frozen_graph", package="google.protobuf"),
    Importer(CAFFE, "caffe:import_caffe", package="google.protobuf"),
    Importer(KERAS, "keras:import_keras", backbone="keras:import_backbone", package="h5py"),
    Importer(PYTORCH, "layouts:import_state_dict", backbone="layouts:import_backbone"),
    Importer(SAFETENSORS, "layouts:import_state_dict", backbone="layouts:import_backbone"),
)
READABLE = tuple(dict.fromkeys((*FORMATS, *(importer.format for importer in IMPORTERS))))


def importer_of(path: Path) -> Importer:
    """The importer of a file without a card. Raises BadWeightsError, one line, where there is none."""
    format = recognise(path, READABLE)
    found = next((importer for importer in IMPORTERS if importer.format == format), None)
    if found is not None:
        return found
    if format is not None and format.runs:
        raise BadWeightsError(f"{path}: carries no mobilessd card; export it with mobilessd export")
    if format is not None:
        raise BadWeightsError(f"{path}: {format.title} files are written by mobilessd export and run elsewhere")
    known = ", ".join(f.inside or f.ending for f in READABLE if f.read_card or f not in FORMATS)
    raise BadWeightsError(f"{path}: not weights of a known kind ({known})")


def import_detector(path: str | os.PathLike) -> tuple[SSD, Card]:
    """A published detector of any kind in the table -> (network, card). Raises MobileSSDError, one line."""
    ssd, card = _read(Path(path), "detector")
    card.source = Path(path).name
    card.merge = "nms"  # by which its published figures were measured
    with guarded(Path(path)):
        card.notes = (*card.notes, *misfits(Path(path), card.class_names))
    return ssd, card


def import_classifier(path: str | os.PathLike) -> tuple[Classifier, tuple[str, ...], InputSpec] | None:
    """A published ImageNet classifier -> (network, class names, input); None for a file that is none. Raises as above."""
    return _read(Path(path), "classifier")


def import_backbone(path: str | os.PathLike) -> BackboneWeights | None:
    """The backbone of a published ImageNet classifier; None for a file that holds none. Raises as above."""
    return _read(Path(path), "backbone")


def need_torch(what: object) -> None:
    """Raises MissingPackageError, one line that names `what` needs it, where torch is not installed."""
    if not installed("torch"):
        raise MissingPackageError(
            f"{what}: converting it needs torch once: {install_line('torch')}; the cache then serves without"
        )


def _read(path: Path, kind: str) -> Any:
    """What the importer of this file makes of it; None where it has no function for this kind."""
    importer = importer_of(path)
    function: str | None = getattr(importer, kind)
    if function is None:
        return None
    need_torch(path)
    if importer.package:
        need(f"{path}: {importer.format.title}", importer.package)
    module, _, name = function.partition(":")
    read: Callable[[Path], Any] = getattr(importlib.import_module(f"{__package__}.{module}"), name)
    with guarded(path):
        return read(path)
