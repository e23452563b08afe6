"""Frigate (blakeblackshear/frigate, frigate/detectors/plugins/openvino.py and onnx.py): decoding and NMS in the graph.

Its detector `openvino`, model_type ssd, wants one static output [1, 1, 20, 7]; its detector `onnx`, model_type yolonas, flat
rows of seven. Both take uint8 RGB [1, h, w, 3].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from detection.boxes.postprocess import PostSettings
from detection.errors import MobileSSDError
from detection.export.onnx_nms import GraphBuilder, add_nms
from detection.export.targets.base import IOU, Job, Written
from detection.runtimes import onnx_graph
from detection.runtimes.openvino_library import core, library
from detection.runtimes.openvino_model import OUTPUTS, convert, only_raw_outputs, read_model, save
from detection.weights.formats import ONNX, OPENVINO

SCORE = 0.01
ROWS = {"openvino": 20, "onnx": 100}  # as many as Frigate reads of the first
PATH = "/config/mobilessd"


def write(job: Job) -> Written:
    """model.xml with model.bin, or model.onnx for a GPU; config.yml."""
    detector = "onnx" if job.options.gpu else "openvino"
    name = _write_onnx(job) if job.options.gpu else _write_openvino(job)
    height, width = job.spec.input.size
    device = "" if job.options.gpu else "\n    device: CPU  # GPU: Intel's"
    kind = "yolonas" if job.options.gpu else "ssd"
    config = f"""detectors:
  mobilessd:
    type: {detector}{device}
model:
  path: {PATH}/{name}
  labelmap_path: {PATH}/labels.txt
  width: {width}
  height: {height}
  input_tensor: nhwc
  input_pixel_format: rgb
  input_dtype: int
  model_type: {kind}
"""
    job.put("config.yml", config)
    rows = (
        "image, class, score, x1, y1, x2, y2 in fractions"
        if kind == "ssd"
        else "image, x1, y1, x2, y2 in pixels, score, class"
    )
    shape = "[1, 1, 20, 7]" if kind == "ssd" else "[100, 7]"
    return Written(
        name,
        (
            f"Input: uint8 RGB [1, {height}, {width}, 3]. Output {shape}: {rows}, the best first.",
            f"Copy this folder to {PATH} in Frigate's container, and put config.yml's lines into Frigate's own.",
            "input_pixel_format has to be rgb: with bgr a third of the boxes are lost.",
        ),
        max_detections=ROWS[detector],
    )


def _write_onnx(job: Job) -> str:
    if job.ssd is None and job.source.format != ONNX:
        raise MobileSSDError(f"{job.source.path}: with --gpu Frigate takes ONNX; name an .onnx file or weights")
    model = onnx_graph.convert(job.ssd) if job.ssd is not None else _loaded(job.source.path)
    onnx_graph.one_image(model)
    _add_rows(model, job, ROWS["onnx"], "yolonas")
    onnx_graph.save(model, job.folder / "model.onnx", job.card("yolonas"))
    return "model.onnx"


def _write_openvino(job: Job) -> str:
    path = job.source.path
    body = convert(job.ssd) if job.ssd is not None else only_raw_outputs(read_model(core(), path), path)
    body.reshape([1, *job.spec.input.size, 3])
    tail = _tail(job, body)
    for parameter, output in zip(tail.get_parameters(), body.outputs, strict=True):
        source = output.get_node().input_value(0)
        for taker in parameter.output(0).get_target_inputs():
            taker.replace_source_output(source)
    model = library().Model(tail.get_results(), body.get_parameters(), "mobilessd")
    model.validate_nodes_and_infer_types()
    save(model, job.folder / f"model{OPENVINO.ending}", job.card("openvino-ssd").to_json())
    return f"model{OPENVINO.ending}"


def _tail(job: Job, body: Any) -> Any:
    """Post-processing alone as an OpenVINO model of encodings and logits, by way of ONNX."""
    from onnx import TensorProto, helper

    shapes = [list(output.shape) for output in body.outputs]
    names = OUTPUTS
    given = [helper.make_tensor_value_info(f"raw_{n}", TensorProto.FLOAT, s) for n, s in zip(names, shapes)]
    raw = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(names, shapes)]
    nodes = [helper.make_node("Identity", [f"raw_{n}"], [n]) for n in names]
    graph = helper.make_graph(nodes, "tail", given, raw)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", onnx_graph.OPSET)], ir_version=8)
    _add_rows(model, job, ROWS["openvino"], "ssd")
    temporary = job.folder / f"tail{ONNX.ending}"
    onnx_graph.save(model, temporary, job.source.card)
    try:
        return library().convert_model(temporary)
    finally:
        temporary.unlink()


def _add_rows(model: Any, job: Job, most: int, form: str) -> None:
    """Appends post-processing to a graph with the outputs encodings and logits, in place: its one output is `detections`,
    [1, 1, k, 7] (form "ssd") or [k, 7] ("yolonas")."""
    from onnx import TensorProto, checker, helper

    height, width = job.spec.input.size
    settings = PostSettings(SCORE, IOU, most, activation=job.spec.scores)
    add_nms(model, job.anchors, job.spec.coder, settings)
    count = min(most, len(job.anchors) * job.spec.num_classes)
    add = GraphBuilder(model.graph, "rows")
    boxes, scores = "boxes", add("Unsqueeze", "scores", add.constant([2]))
    classes = add("Unsqueeze", add("Cast", "classes", to=TensorProto.FLOAT), add.constant([2]))
    image = add.constant(np.zeros((1, count, 1)), np.float32)
    if form == "ssd":
        classes = add("Max", classes, add.constant(0.0, np.float32))
        rows, shape = add("Concat", image, classes, scores, boxes, axis=2), [1, 1, count, 7]
    else:
        boxes = add("Mul", boxes, add.constant([width, height, width, height], np.float32))
        rows, shape = add("Concat", image, boxes, scores, classes, axis=2), [count, 7]
    add("Reshape", rows, add.constant(shape), names=["detections"])
    model.graph.output.append(helper.make_tensor_value_info("detections", TensorProto.FLOAT, shape))
    onnx_graph.keep_outputs(model, ("detections",))
    checker.check_model(model)


def _loaded(path: Path) -> Any:
    import onnx

    return onnx.load(path)
