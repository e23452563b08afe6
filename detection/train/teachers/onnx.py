"""Detectors of other families as teachers: ONNX files, recognised by their outputs, run by OpenVINO.

Each is a `labeling.Labeler`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from detection.boxes.suppression import suppress
from detection.errors import BadWeightsError, need
from detection.images.preprocess import stretch
from detection.runtimes.openvino_library import core
from detection.runtimes.openvino_model import check_model, explained, read_model
from detection.train.teachers.labeling import SCORE_THRESHOLD, Labeler
from detection.weights.onnx_check import check_onnx

Teacher = Callable[[np.ndarray], np.ndarray]  # see `Labeler.see`

PICODET_STRIDES = (8, 16, 32, 64)
PICODET_MEAN = np.array((103.53, 116.28, 123.675), np.float32)  # of BGR
PICODET_STD = np.array((57.375, 57.12, 58.395), np.float32)
PICODET_IOU, PICODET_MOST = 0.6, 100


def onnx_labeler(path: str | Path, streams: int = 2) -> Labeler:
    """The teacher in an ONNX file of the DEIM, D-FINE, RT-DETR family or of PP-PicoDet; streams: threads that will call
    it. Raises BadWeightsError, one line, for another file."""
    need("a teacher", "openvino")
    path = Path(path)
    if not path.is_file():
        raise BadWeightsError(f"{path}: no such file")
    check_onnx(path, None)
    with explained(path):
        return _labeler(read_model(core(), path), path, streams)


def _labeler(model: Any, path: Path, streams: int) -> Labeler:
    inputs = [part.get_any_name() for part in model.inputs]
    outputs = {name for part in model.outputs for name in part.get_names()}
    size = model.inputs[0].get_partial_shape()[-1]
    if len(inputs) == 2 and {"labels", "boxes", "scores"} <= outputs:
        model.reshape({inputs[0]: [1, 3, size.get_length(), size.get_length()], inputs[1]: [1, 2]})
        check_model(model, path)
        return _labeler_of(deim, runner(model, streams), size.get_length())
    if len(inputs) == 1 and len(model.outputs) == 2 * len(PICODET_STRIDES):
        check_model(model, path)
        return _labeler_of(picodet, runner(model, streams), size.get_length())
    raise BadWeightsError(
        f"{path}: neither a detector of the DEIM family nor PP-PicoDet (inputs {inputs}, {len(model.outputs)} outputs); "
        f"with weights of our own, `mobilessd detect --weights W --labels coco DIR` labels images"
    )


def _labeler_of(family: Callable[..., Teacher], run: Callable[..., Any], size: int) -> Labeler:
    return Labeler(family(run, size), (size, size))


def runner(model: Any, streams: int) -> Callable[..., Any]:
    """The model as a function of its inputs, with one request for each thread; gives the results by position."""
    options = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams, "INFERENCE_PRECISION_HINT": "f32"}
    compiled, own = core().compile_model(model, "CPU", options), threading.local()

    def run(*inputs: np.ndarray) -> Any:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        return own.request.infer(inputs)

    return run


def deim(run: Callable[..., Any], size: int) -> Teacher:
    """Inputs `images` [1, 3, S, S] (RGB, 0..1, stretched) and `orig_target_sizes`; outputs `labels` 0..79, `boxes` xyxy,
    `scores`, without NMS."""
    unit = np.ones((1, 2), np.int64)

    def teacher(image: np.ndarray) -> np.ndarray:
        small = stretch(image, (size, size)).transpose(2, 0, 1)[None].astype(np.float32) / 255
        found = run(small, unit)
        labels, boxes, scores = (found[name][0] for name in ("labels", "boxes", "scores"))
        return np.column_stack([labels, scores, boxes])[scores > SCORE_THRESHOLD]

    return teacher


def picodet(run: Callable[..., Any], size: int) -> Teacher:
    """PP-PicoDet without its post-processing: for each stride scores [1, cells, 80] and, behind all of these, distances
    to the four sides [1, cells, 4 * bins] as distributions over 0, 1, ... strides (generalised focal loss, Li et al.
    2020). Input BGR, normalised, stretched."""
    centres = np.concatenate([_centres(size, stride) for stride in PICODET_STRIDES])

    def teacher(image: np.ndarray) -> np.ndarray:
        small = (stretch(image, (size, size))[..., ::-1] - PICODET_MEAN) / PICODET_STD
        found = run(np.ascontiguousarray(small.transpose(2, 0, 1)[None]))
        levels = len(PICODET_STRIDES)
        scores = np.concatenate([found[i][0] for i in range(levels)])
        bins = np.concatenate([found[i][0] for i in range(levels, 2 * levels)])
        cells, labels = np.nonzero(scores > SCORE_THRESHOLD)
        order = np.argsort(-scores[cells, labels], kind="stable")[:1000]
        cells, labels = cells[order], labels[order]
        sides = _expected(bins[cells].reshape(len(cells), 4, -1)) * centres[cells, 2:]
        middle = centres[cells, :2]
        boxes = (np.concatenate([middle - sides[:, :2], middle + sides[:, 2:]], 1) / size).clip(0, 1)
        kept = suppress(boxes.astype(np.float32), labels, PICODET_IOU, PICODET_MOST)
        return np.column_stack([labels, scores[cells, labels], boxes])[kept]

    return teacher


def _centres(size: int, stride: int) -> np.ndarray:
    """x, y, stride of every cell of a map, row by row, in pixels of the input."""
    cells = -(-size // stride)
    y, x = np.divmod(np.arange(cells * cells), cells)
    return np.column_stack([(x + 0.5) * stride, (y + 0.5) * stride, np.full(cells * cells, stride)])


def _expected(logits: np.ndarray) -> np.ndarray:
    """The mean of distributions over 0, 1, 2, ... given as logits in the last axis."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return (weights * np.arange(logits.shape[-1])).sum(-1) / weights.sum(-1)
