"""The file formats that carry a mobilessd card, one row each: how a file is recognised, what belongs to it, whether a
runtime runs it as it is. The only place that spells their endings out.

What only somebody else writes has its row in `detection.weights.importers.table`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from detection.files import open_regular
from detection.weights.card import Card
from detection.weights.card_files import onnx_card, openvino_card, safetensors_card, tflite_card
from detection.weights.guard import guarded

HEAD = 4096  # bytes by which a format is recognised


@dataclass(frozen=True)
class Format:
    """A kind of file.

    name: as in `--format`. title: for messages. endings: the usual one first. recognise: whether the first bytes of a
    file are of this kind. read_card: the card's JSON in a file, None where there is none; raises BadWeightsError for a
    damaged file. runs: a runtime runs it as it is. beside: the ending of a second file that belongs to it. inside: the
    file by which a folder of this kind is known.
    """

    name: str
    title: str
    endings: tuple[str, ...]
    recognise: Callable[[bytes], bool]
    read_card: Callable[[Path], str | None] | None = None
    runs: bool = False
    beside: str | None = None
    inside: str | None = None

    @property
    def ending(self) -> str:
        return self.endings[0]

    def files(self, path: Path) -> list[Path]:
        """The file and, behind it, the one that belongs to it."""
        return [path] if self.beside is None else [path, path.with_suffix(self.beside)]


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") < 100_000_000


def _is_onnx(head: bytes) -> bool:
    """A protobuf message that begins with a small ir_version and goes on with a field of ModelProto."""
    return len(head) > 2 and head[0] == 0x08 and head[1] < 0x20 and head[2] in b"\x12\x1a\x22\x2a\x32\x3a\x42\x72"


def _is_openvino(head: bytes) -> bool:
    return head.lstrip().startswith(b"<?xml") and b"<net " in head


def _is_tflite(head: bytes) -> bool:
    return head[4:8] == b"TFL3"


def _is_executorch(head: bytes) -> bool:
    return head[4:6] == b"ET" and head[6:8].isdigit()


SAFETENSORS = Format("safetensors", "safetensors", (".safetensors",), _is_safetensors, safetensors_card)
ONNX = Format("onnx", "ONNX", (".onnx",), _is_onnx, onnx_card, runs=True)
OPENVINO = Format("openvino", "OpenVINO", (".xml",), _is_openvino, openvino_card, runs=True, beside=".bin")
TFLITE = Format("tflite", "TensorFlow Lite", (".tflite",), _is_tflite, tflite_card, runs=True)
EXECUTORCH = Format("executorch", "ExecuTorch", (".pte",), _is_executorch, beside=".json")

FORMATS = (SAFETENSORS, ONNX, OPENVINO, TFLITE, EXECUTORCH)
BY_NAME = {format.name: format for format in FORMATS}


def recognise(path: Path, formats: tuple[Format, ...] = FORMATS) -> Format | None:
    """The format of a file or folder, or None. Its content decides; its ending only between formats that begin alike, and
    for what looks like none of them (empty, cut short). Raises BadWeightsError where it cannot be read."""
    if path.is_dir():
        return next((f for f in formats if f.inside and (path / f.inside).is_file()), None)
    with guarded(path), open_regular(path) as file:  # a pipe under this name would be waited for
        head = file.read(HEAD)
    named = by_ending(path, formats)
    fitting = [format for format in formats if format.recognise(head)]
    return named if named in fitting or not fitting else fitting[0]


def by_ending(path: str | Path, formats: tuple[Format, ...] = FORMATS) -> Format | None:
    """The format that a name's ending stands for, or None; there need not be such a file."""
    return next((format for format in formats if str(path).lower().endswith(format.endings)), None)


def card_of(path: Path, formats: tuple[Format, ...] = FORMATS) -> Card | None:
    """The card that a file carries, or None. Raises BadWeightsError, one line, for a damaged file."""
    format = recognise(path, formats)
    with guarded(path):
        text = format.read_card(path) if format and format.read_card else None
    return Card.from_json(text, str(path)) if text else None
