"""The kinds of file that are written, one row each: a new format is a file with a function that writes it, and a row here.

Nothing heavy is imported for it: commands show the names in their help.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection.errors import MobileSSDError, need
from detection.weights.formats import EXECUTORCH, ONNX, OPENVINO, TFLITE, Format


@dataclass(frozen=True)
class FileFormat:
    """A kind of file to write.

    format: of the file. writer: "module:function" of this package, (ssd, path, card, half, nms): see `graphs`. needs:
    modules that writing and checking take. reader: the runtime that the file is checked with; checker: for a file that
    no runtime reads, "module:class" of this package, path -> Runtime. raw: raw outputs in float32 alone, no NMS and no
    float16. int8: "module:function" of this package that quantises, see `int8`; int8_needs: its modules, the one that
    does the work last; float_form: "module:function" of the runtimes, weights -> the graph that is quantised; empty: an
    exported file alone is.
    """

    format: Format
    writer: str
    needs: tuple[str, ...]
    reader: str | None = None
    checker: str | None = None
    raw: bool = False
    int8: str | None = None
    int8_needs: tuple[str, ...] = ()
    float_form: str = ""

    @property
    def name(self) -> str:
        return self.format.name

    def load(self, place: str, package: str = "detection.export") -> Callable[..., Any]:
        """What `writer`, `checker`, `int8` or `float_form` names."""
        module, _, function = place.partition(":")
        return getattr(importlib.import_module(f"{package}.{module}"), function)

    def check_installed(self, doing: str, modules: Sequence[str]) -> None:
        """Raises MissingPackageError, one line, unless all `modules` are there. doing: "exporting"."""
        need(f"{doing} to {self.name}", *modules, extra="export" if self.float_form else None)


_ROWS = (
    FileFormat(
        ONNX,
        "graphs:write_onnx",
        ("torch", "onnx", "onnxruntime"),
        reader="onnxruntime",
        int8="int8:quantize_onnx",
        int8_needs=("onnx", "onnxruntime"),
        float_form="onnxruntime:converted",
    ),
    FileFormat(
        OPENVINO,
        "graphs:write_openvino",
        ("torch", "openvino"),
        reader="openvino",
        int8="int8:quantize_openvino",
        int8_needs=("openvino", "nncf"),
        float_form="openvino:converted",
    ),
    FileFormat(
        TFLITE,
        "mobile:write_tflite",
        ("torch", "litert_torch", "ai_edge_litert"),
        reader="litert",
        raw=True,
        int8="int8:quantize_tflite",
        int8_needs=("ai_edge_litert", "ai_edge_quantizer"),
    ),
    FileFormat(EXECUTORCH, "mobile:write_executorch", ("torch", "executorch"), checker="mobile:Program", raw=True),
)
FILE_FORMATS = {row.name: row for row in _ROWS}
INT8_FORMATS = tuple(row.name for row in _ROWS if row.int8)


def format_of(output: Path, name: str | None, names: Sequence[str] = tuple(FILE_FORMATS)) -> FileFormat:
    """The row that a format's name, or the ending of the file to write, means. Raises MobileSSDError, one line,
    where neither does, or where they contradict each other."""
    known = [FILE_FORMATS[each] for each in names]
    found = FILE_FORMATS[name] if name else next((t for t in known if t.format.ending == output.suffix), None)
    if found is None:
        endings = ", ".join(t.format.ending for t in known[:-1])
        raise MobileSSDError(
            f"{output}: which format? A name that ends in {endings} or {known[-1].format.ending} says it, or --format"
        )
    check_ending(found, output)
    return found


def check_ending(kind: FileFormat, output: Path) -> None:
    """Raises MobileSSDError, one line, for a file whose name does not end as those of its format do."""
    if output.suffix != kind.format.ending:
        wanted = output.stem + kind.format.ending
        raise MobileSSDError(f"{output}: a file of format {kind.name} is called {wanted}")
