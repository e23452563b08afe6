"""The ONNX Runtime runtime: an .onnx file as it is, or a checkpoint converted once and kept by its content's hash."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from detection.errors import BadWeightsError
from detection.files import drop_damaged, home
from detection.runtimes.base import Runtime
from detection.runtimes.onnx_graph import VERSION, convert, save
from detection.weights.checkpoint import load_checkpoint
from detection.weights.formats import ONNX
from detection.weights.resolve import Weights

OUTPUTS = ["encodings", "logits"]


class ONNXRuntime(Runtime):
    """See `detection.runtimes.base.Runtime`. A session may be run from several threads at once."""

    name, device = "onnxruntime", "cpu"

    def __init__(
        self, weights: Weights, device: str = "cpu", precision: str = "auto", threads: int | None = None
    ) -> None:
        self.threads = threads or os.cpu_count() or 1
        self.precision = "int8" if weights.card.precision == "int8" else "float32"
        self._path = weights.ready or converted(weights)
        try:
            self._session = open_session(self._path, self.threads)
        except BadWeightsError:
            if weights.ready is not None:
                raise
            drop_damaged(self._path)
            self._session = open_session(converted(weights), self.threads)
        known = [output.name for output in self._session.get_outputs()]
        if not set(OUTPUTS) <= set(known):
            raise BadWeightsError(f"{weights.path}: has no outputs encodings and logits; export it again")
        self._input = self._session.get_inputs()[0].name
        self._options: Any = None
        if known != OUTPUTS:  # a file with NMS inside: its last part need not run
            import onnxruntime

            self._options = onnxruntime.RunOptions()
            self._options.only_execute_path_to_fetches = True

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with explained(self._path):
            encodings, logits = self._session.run(OUTPUTS, {self._input: np.ascontiguousarray(images)}, self._options)
        return encodings, logits


def open_session(path: Path, threads: int) -> Any:
    """An onnxruntime.InferenceSession on the CPU; BadWeightsError, one line, for a file that it cannot read."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    with explained(path):
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What onnxruntime says of a file that it cannot read or run becomes one line."""
    try:
        yield
    except Exception as error:  # onnxruntime's own errors share no base but this
        reason = " ".join(str(error).split())[:160]
        raise BadWeightsError(f"{path}: onnxruntime cannot run it ({reason}); export it again") from None


def cache_path(weights: Weights) -> Path:
    """Where the ONNX form of a checkpoint lies: `MOBILESSD_HOME/onnx/<hash of the weights>-<version>.onnx`."""
    return home() / "onnx" / f"{weights.path.stem[:40]}-{weights.sha256[:16]}-{VERSION}{ONNX.ending}"


def converted(weights: Weights) -> Path:
    """The ONNX form of a checkpoint, made once and kept at `cache_path`. Needs torch and onnx."""
    target = cache_path(weights)
    if not target.exists():
        ssd, _ = load_checkpoint(weights.path)
        save(convert(ssd), target, weights.card)
    return target
