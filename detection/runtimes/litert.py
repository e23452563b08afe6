"""The LiteRT runtime: a published .tflite detector as it is, up to its own post-processing, or one that we exported.

Of a published one the file's own quantised network runs, with its own anchors: what converted networks are compared with.
"""

from __future__ import annotations

import os
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from detection.errors import BadWeightsError, MobileSSDError
from detection.runtimes.base import Runtime
from detection.weights.card_check import spec_of
from detection.weights.formats import TFLITE, recognise
from detection.weights.records import find_record
from detection.weights.resolve import Weights, original_file
from detection.weights.tflite_check import check_tflite

LEAST = 1e-7  # scores closer to 0 or 1 have no finite logit


def open_litert(
    weights: Weights, device: str = "cpu", precision: str = "auto", threads: int | None = None
) -> Exported | Published:
    """The runtime for a file of ours or of somebody else's."""
    return (Exported if weights.exported else Published)(weights, device, precision, threads)


class Exported(Runtime):
    """See `detection.runtimes.base.Runtime`: a file of `mobilessd export`, one image after the other."""

    name, device = "litert", "cpu"

    def __init__(
        self, weights: Weights, device: str = "cpu", precision: str = "auto", threads: int | None = None
    ) -> None:
        self.precision = "int8" if weights.card.precision == "int8" else "float32"
        if precision not in ("auto", self.precision):
            raise MobileSSDError(f"{weights.path}: runs in {self.precision}, not in {precision}; leave --precision out")
        self.threads = threads or os.cpu_count() or 1
        self._lock = threading.Lock()
        self._net = open_interpreter(weights.path, weights.card.input_size, self.threads, keep=False)
        self._input = self._net.get_input_details()[0]["index"]
        outputs = sorted(self._net.get_output_details(), key=lambda one: one["name"])  # ...output_0..., ...output_1...
        if len(outputs) != 2 or outputs[0]["shape"][-1] != 4:
            raise BadWeightsError(f"{weights.path}: has no outputs encodings and logits; export it again")
        self._outputs = [one["index"] for one in outputs]

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found: tuple[list, list] = [], []
        with self._lock:
            for image in images:
                self._net.set_tensor(self._input, image[None])
                self._net.invoke()
                for values, index in zip(found, self._outputs):
                    values.append(self._net.get_tensor(index))
        return np.concatenate(found[0]), np.concatenate(found[1])


class Published(Runtime):
    """See `detection.runtimes.base.Runtime`. One image after the other, with all threads; several callers wait in line."""

    name, device = "litert", "cpu"

    def __init__(
        self, weights: Weights, device: str = "cpu", precision: str = "auto", threads: int | None = None
    ) -> None:
        path = published_file(weights)
        self.threads = threads or os.cpu_count() or 1
        self._lock = threading.Lock()
        self._net = open_interpreter(path, weights.card.input_size, self.threads)
        self._input = self._net.get_input_details()[0]
        # The inputs of the post-processing, whatever their names are: encodings, scores, anchors.
        post = [op["inputs"] for op in self._net._get_ops_details() if "Detection" in op["op_name"]]
        if not post:
            raise BadWeightsError(f"{path}: holds no TFLite_Detection_PostProcess, so it is no detector")
        scales = {t["index"]: t["quantization"] for t in self._net.get_tensor_details()}
        self._encodings, self._scores = ((index, *scales[index]) for index in post[0][:2])
        table = _real(self._net.get_tensor(post[0][2]), *scales[post[0][2]])
        self.anchors = np.ascontiguousarray(table.reshape(-1, 4)[:, [1, 0, 3, 2]])  # y, x, h, w in the file
        self.precision = "float32" if self._input["dtype"] == np.float32 else "int8"
        if precision not in ("auto", self.precision):
            raise MobileSSDError(f"{path}: runs in {self.precision}, not in {precision}; leave --precision out")
        spec = spec_of(weights.card, str(path))
        self._mean, self._std = np.asarray(spec.input.mean, np.float32), np.asarray(spec.input.std, np.float32)
        self._logits_of: np.ndarray | None = None  # a byte has 256 values: their logits are looked up
        if self._scores[1] and self._net.get_tensor(self._scores[0]).dtype == np.uint8:
            self._logits_of = _logit(_real(np.arange(256), *self._scores[1:]))

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with self._lock:
            encodings, logits = zip(*(self._one(image) for image in images))
        return np.stack(encodings), np.stack(logits)

    def _one(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._net.set_tensor(self._input["index"], self._feed(image)[None])
        self._net.invoke()
        index, scale, zero = self._encodings
        encodings = _real(self._net.get_tensor(index)[0], scale, zero).reshape(-1, 4)[:, [1, 0, 3, 2]]
        index, scale, zero = self._scores
        scores = self._net.get_tensor(index)[0]
        if self._logits_of is not None:
            return encodings, self._logits_of[scores]
        return encodings, _logit(_real(scores, scale, zero))

    def _feed(self, image: np.ndarray) -> np.ndarray:
        """The file's own input: bytes as they are, or counted from -128, or real numbers."""
        if self._input["dtype"] == np.uint8:
            return image
        if self._input["dtype"] == np.int8:
            return (image.astype(np.int16) - 128).astype(np.int8)
        return (image - self._mean) / self._std


def published_file(weights: Weights) -> Path:
    """The .tflite file that weights came from: as named, or the published one of a zoo name. MobileSSDError if none."""
    record = find_record(weights.source)
    path = None if record is not None and record.kind != TFLITE.name else original_file(weights.source)
    if path is None or recognise(path) != TFLITE:
        raise MobileSSDError(f"{weights.source}: runtime litert runs .tflite files alone; use another --runtime")
    return path


def open_interpreter(path: Path, input_size: tuple[int, int], threads: int, keep: bool = True) -> Any:
    """A LiteRT interpreter that keeps all tensors, unless told not to; BadWeightsError for a file that it cannot run, or should
    not be given (`weights.tflite_check`). input_size: (height, width)."""
    check_tflite(path, input_size)
    from ai_edge_litert.interpreter import Interpreter

    try:
        with warnings.catch_warnings():  # that keeping all tensors is meant for debugging
            warnings.simplefilter("ignore")
            net = Interpreter(os.fspath(path), num_threads=threads, experimental_preserve_all_tensors=keep)
        net.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise BadWeightsError(f"{path}: LiteRT cannot run it ({' '.join(str(error).split())[:160]})") from None
    return net


def _real(values: np.ndarray, scale: float, zero: int) -> np.ndarray:
    if not scale:
        return values.astype(np.float32)
    return ((values.astype(np.float32) - zero) * np.float32(scale)).astype(np.float32)


def _logit(scores: np.ndarray) -> np.ndarray:
    scores = scores.clip(LEAST, 1 - LEAST)
    return np.log(scores / (1 - scores)).astype(np.float32)
