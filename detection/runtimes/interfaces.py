"""Files that were exported for another system, read back: fed as that system feeds them, and what comes out made into what
every runtime gives, so that `Detector` and `mobilessd eval` take them as they are."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detection.boxes.geometry import BoxCoder
from detection.errors import BadWeightsError, quoted
from detection.runtimes.base import Runtime
from detection.weights.card_check import spec_of
from detection.weights.resolve import Weights

CENTRE = 127.5  # what float inputs are counted from, and divided by
LARGER = 640  # pixels of the longer side of most cameras' frames
LEAST = 1e-7  # scores closer to 0 or 1 have no finite logit
WHOLE = (0.5, 0.5, 1.0, 1.0)  # the anchor of boxes that are decoded already: the image itself

Call = Callable[[np.ndarray], list[np.ndarray]]
Found = tuple[np.ndarray, np.ndarray]  # boxes `xyxy` float [n, 4] in fractions, scores [n, 1 + C] with background


@dataclass(frozen=True)
class Interface:
    """How a file is fed and read. floats: float32 RGB [1, 3, h, w], (x - 127.5) / 127.5, in the place of uint8 RGB
    [1, h, w, 3]. outputs: their names in an ONNX file. decode: outputs, (height, width), 1 + classes -> boxes and scores; None
    where they are encodings and logits. larger: it takes images of `larger` than the network's size, and makes them smaller."""

    floats: bool
    outputs: tuple[str, ...] = ("encodings", "logits")
    decode: Callable[[list[np.ndarray], tuple[int, int], int], Found] | None = None
    larger: bool = False


def _scores_and_boxes(outputs: list[np.ndarray], size: tuple[int, int], columns: int) -> Found:
    """jetson-inference: scores [1, A, 1 + C], boxes [1, A, 4] in fractions."""
    return outputs[1][0], outputs[0][0]


def _seven(outputs: list[np.ndarray], size: tuple[int, int], columns: int) -> Found:
    """OpenVINO's DetectionOutput [1, 1, k, 7]: image, class from 0, score, x1, y1, x2, y2 in fractions."""
    rows = outputs[0].reshape(-1, 7)
    return rows[:, 3:], _one_hot(rows[:, 1], rows[:, 2], columns)


def _yolonas(outputs: list[np.ndarray], size: tuple[int, int], columns: int) -> Found:
    """Flat rows [k, 7] as of YOLO-NAS: image, x1, y1, x2, y2 in pixels of the input, score, class (-1: an empty row)."""
    rows = outputs[0]
    pixels = np.array([size[1], size[0]] * 2, np.float32)
    return rows[:, 1:5] / pixels, _one_hot(rows[:, 6], rows[:, 5], columns)


def _postprocess_op(outputs: list[np.ndarray], size: tuple[int, int], columns: int) -> Found:
    """TFLite_Detection_PostProcess: boxes [1, k, 4] y1, x1, y2, x2 in fractions, classes from 0, scores [1, k], count [1]."""
    boxes, classes, scores = (output[0] for output in outputs[:3])
    real = np.arange(len(scores)) < outputs[3][0]
    return boxes[:, [1, 0, 3, 2]], _one_hot(classes, np.where(real, scores, 0), columns)


def larger(size: tuple[int, int]) -> tuple[int, int]:
    """The input (height, width) of a file that makes its images smaller by itself, of the network's: twice its sides or more,
    so that no pixel is read for two of the result."""
    height, width = (max(LARGER, 2 * side) for side in size)
    return height, width


def enlarged(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[h, w, 3] -> [height, width, 3] of `size`, of which a bilinear resize with half-pixel centres makes `image` again, to
    the bit; the sides are at least twice as long."""
    rows, columns = (
        np.floor((np.arange(new) + 0.5) * old / new).astype(int) for old, new in zip(image.shape[:2], size, strict=True)
    )
    return image[rows][:, columns]


_OF_OPERATOR = ("boxes", "classes", "scores", "count")
OURS = Interface(floats=False)
INTERFACES = {
    "core": Interface(floats=True),
    "jetson": Interface(floats=True, outputs=("scores", "boxes"), decode=_scores_and_boxes),
    "openvino-ssd": Interface(floats=False, outputs=("detections",), decode=_seven),
    "yolonas": Interface(floats=False, outputs=("detections",), decode=_yolonas),
    "tflite-ssd": Interface(floats=False, outputs=_OF_OPERATOR, decode=_postprocess_op),
    "mediapipe": Interface(floats=False, outputs=_OF_OPERATOR, decode=_postprocess_op, larger=True),
}


def interface_of(weights: Weights) -> Interface:
    """Of an opened file, as its card says. Raises BadWeightsError, one line, for one that is not known."""
    name = weights.card.interface
    if name and name not in INTERFACES:
        raise BadWeightsError(
            f"{weights.path}: made for another system, in a form that is not known here ({quoted(name)})"
        )
    return INTERFACES[name] if name else OURS


class SystemFile(Runtime):
    """See `detection.runtimes.base.Runtime`: one image after the other, several callers wait in line."""

    device = "cpu"

    def __init__(self, weights: Weights, runtime: str, threads: int | None = None) -> None:
        self.name, self.precision = runtime, "int8" if weights.card.precision == "int8" else "float32"
        self.threads = threads or os.cpu_count() or 1
        if runtime not in _OPENERS:
            raise BadWeightsError(f"{weights.path}: made for another system, in a form that {runtime} does not read")
        self._interface, self._path = interface_of(weights), weights.path
        spec = spec_of(weights.card, str(weights.path))
        self._size, self._columns = spec.input.size, spec.num_classes + 1
        self._softmax, self._coder = spec.scores == "softmax", spec.coder
        self._fed = larger(self._size) if self._interface.larger else self._size
        self._call, self._lock = _OPENERS[runtime](weights.path, self._fed, self.threads), threading.Lock()
        if self._interface.decode is not None:
            empty = np.zeros((1, *self._size, 3), np.uint8)
            self.anchors = np.tile(np.array(WHOLE, np.float32), (len(self(empty)[0][0]), 1))

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with self._lock:
            encodings, logits = zip(*(self._one(image) for image in images))
        return np.stack(encodings), np.stack(logits)

    def _one(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._interface.larger:
            image = enlarged(image, self._fed)
        fed = np.ascontiguousarray(fed_as_floats(image) if self._interface.floats else image[None])
        outputs = self._call(fed)
        if self._interface.decode is None:
            return outputs[0][0], outputs[1][0]
        try:
            boxes, scores = self._interface.decode(outputs, self._size, self._columns)
        except (IndexError, ValueError) as error:
            raise BadWeightsError(f"{self._path}: its outputs are not what its card says ({error})") from None
        return raw_of(boxes, scores, self._coder, self._softmax)


def fed_as_floats(image: np.ndarray) -> np.ndarray:
    """uint8 RGB [h, w, 3] -> float32 [1, 3, h, w], from -1 to 1."""
    return ((image.astype(np.float32) - CENTRE) / CENTRE).transpose(2, 0, 1)[None]


def raw_of(boxes: np.ndarray, scores: np.ndarray, coder: BoxCoder, softmax: bool) -> tuple[np.ndarray, np.ndarray]:
    """Boxes `xyxy` [n, 4] in fractions and scores [n, 1 + C] -> the encodings (of the anchor `WHOLE`) and logits of which
    post-processing makes these boxes and scores again."""
    anchors = np.tile(np.array(WHOLE, np.float32), (len(boxes), 1))
    encodings = coder.encode(boxes.astype(np.float32), anchors).astype(np.float32)
    scores = scores.astype(np.float32)
    with np.errstate(divide="ignore"):
        logits = np.log(scores)
        if not softmax:
            logits -= np.log(np.maximum(1 - scores, LEAST))
    return encodings, logits.astype(np.float32)


def _one_hot(classes: np.ndarray, scores: np.ndarray, columns: int) -> np.ndarray:
    """Classes from 0 [n] and their scores [n] -> [n, columns], the rest of each row's score in its background."""
    table = np.zeros((len(scores), columns), np.float32)
    real = (classes >= 0) & (classes < columns - 1)
    table[real, classes[real].astype(np.int64) + 1] = scores[real]
    table[:, 0] = 1 - table[:, 1:].sum(1)
    return table


def _onnxruntime(path: Path, size: tuple[int, int], threads: int) -> Call:
    from detection.runtimes.onnxruntime import open_session

    session = open_session(path, threads)
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})


def _openvino(path: Path, size: tuple[int, int], threads: int) -> Call:
    from detection.runtimes.openvino_library import core
    from detection.runtimes.openvino_model import read_model

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": "1"}
    request = core().compile_model(read_model(core(), path), "CPU", settings).create_infer_request()

    def call(image: np.ndarray) -> list[np.ndarray]:
        request.infer([image])
        return [request.get_output_tensor(k).data.copy() for k in range(len(request.model_outputs))]

    return call


def _litert(path: Path, size: tuple[int, int], threads: int) -> Call:
    from detection.runtimes.litert import open_interpreter

    net = open_interpreter(path, size, threads, keep=False)
    (given,), outputs = net.get_input_details(), net.get_output_details()

    def call(image: np.ndarray) -> list[np.ndarray]:
        net.set_tensor(given["index"], image)
        net.invoke()
        return [net.get_tensor(output["index"]) for output in outputs]

    return call


_OPENERS = {"onnxruntime": _onnxruntime, "openvino": _openvino, "litert": _litert}
