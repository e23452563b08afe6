"""Hailo: the core graph with the end nodes at which its Dataflow Compiler cuts it, and the model script and configuration of
the chip's own SSD post-processing (hailo-ai/hailo_model_zoo, cfg/alls/generic/ssd_mobilenet_v2.alls and
cfg/postprocess_config/mobilenet_v2_ssd_nms_postprocess_config.json).

That post-processing reads ty, tx, th, tw: the box convolutions give them in this order here, and the graph's own output, behind
the end nodes, has ours again.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from detection.errors import MobileSSDError
from detection.export.onnx_nms import GraphBuilder
from detection.export.targets.base import IOU, Job, Written
from detection.export.targets.core import describe
from detection.export.targets.graphs import Core, float_graph
from detection.runtimes.onnx_graph import save

ORDER = [1, 0, 3, 2]  # ty, tx, th, tw of tx, ty, tw, th, and back
SCORE = 0.3
ALLS = """normalization1 = normalization([127.5, 127.5, 127.5], [127.5, 127.5, 127.5])
nms_postprocess("nms_config.json", ssd, engine=nn_core)
"""
SCRIPT = '''"""model.onnx -> model.hef, with Hailo's Dataflow Compiler: python compile.py CALIBRATION.npy [hailo8]

CALIBRATION.npy: uint8 RGB [N, height, width, 3], 64 images or more, as the network sees them.
"""

import json
import sys

import numpy as np
from hailo_sdk_client import ClientRunner

about = json.load(open("hailo.json"))
runner = ClientRunner(hw_arch=sys.argv[2] if len(sys.argv) > 2 else "hailo8")
ends = [name for pair in about["end_nodes"] for name in pair]
runner.translate_onnx_model("model.onnx", "mobilessd", start_node_names=["images"], end_node_names=ends)
# The compiler names layers anew; the configuration of NMS needs its names.
layers = {}
for key, layer in runner.get_hn()["layers"].items():
    layers |= dict.fromkeys(layer["original_names"], key.split("/")[-1])
config = json.load(open("nms_config.json"))
for decoder, (box, score) in zip(config["bbox_decoders"], about["end_nodes"]):
    decoder["reg_layer"], decoder["cls_layer"] = layers[box], layers[score]
json.dump(config, open("nms_config.json", "w"), indent=1)
runner.load_model_script("model.alls")
runner.optimize(np.load(sys.argv[1]))
with open("model.hef", "wb") as file:
    file.write(runner.compile())
'''


def write(job: Job) -> Written:
    """model.onnx, anchors.npy, input.json, hailo.json (end nodes), model.alls, nms_config.json, compile.py."""
    variances = job.spec.coder.variances
    if variances[0] != variances[1] or variances[2] != variances[3] or job.spec.scores != "sigmoid":
        raise MobileSSDError(
            f"{job.source.source}: Hailo's SSD post-processing takes sigmoid scores and equal variances of x and y; "
            "export --target core-onnx and decode by yourself"
        )
    model = float_graph(Core(job.network), job.network, "images", ("encodings", "logits"), job.opset)
    ends = list(zip(end_nodes(model, "encodings"), end_nodes(model, "logits"), strict=True))
    swap_boxes(model, [box for box, _ in ends])
    save(model, job.folder / "model.onnx", job.card("core"))
    describe(job)
    config = {
        "nms_scores_th": SCORE,
        "nms_iou_th": IOU,
        "max_proposals_per_class": 20,
        "image_dims": list(job.spec.input.size),
        "centers_scale_factor": round(1 / variances[0], 6),
        "bbox_dimensions_scale_factor": round(1 / variances[2], 6),
        "classes": job.spec.num_classes + 1,
        "background_removal": True,
        "background_removal_index": 0,
        "bbox_decoders": decoders(job, model, [box for box, _ in ends]),
    }
    for name, value in (("nms_config.json", config), ("hailo.json", {"end_nodes": ends})):
        (job.folder / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    (job.folder / "model.alls").write_text(ALLS, encoding="utf-8")
    (job.folder / "compile.py").write_text(SCRIPT, encoding="utf-8")
    height, width = job.spec.input.size
    return Written(
        "model.onnx",
        (
            "`python compile.py CALIBRATION.npy hailo8` makes model.hef where Hailo's Dataflow Compiler is: uint8 RGB",
            f"[{height}, {width}, 3] in, boxes out, NMS on the chip above {SCORE}. hailo.json names the end nodes,",
            "nms_config.json the anchors, model.alls is the model script. The box convolutions give ty, tx, th, tw. Not run",
            "here: compare with expected.png.",
        ),
    )


def end_nodes(model: Any, output: str) -> list[str]:
    """The convolutions that an output is put together of, in its order: of each feature map the last one."""
    makers = {name: node for node in model.graph.node for name in node.output}

    def before(name: str) -> list[str]:
        node = makers.get(name)
        if node is None:
            return []
        return [node.name] if node.op_type == "Conv" else [end for given in node.input for end in before(given)]

    return before(output)


def swap_boxes(model: Any, convolutions: list[str]) -> None:
    """Has these give ty, tx, th, tw, and the output `encodings` still tx, ty, tw, th, in place."""
    from onnx import numpy_helper

    by_name = {tensor.name: tensor for tensor in model.graph.initializer}
    tensors = {name for node in model.graph.node if node.name in convolutions for name in node.input[1:]}
    for tensor in (by_name[name] for name in sorted(tensors)):  # once each: heads may share them
        values = numpy_helper.to_array(tensor)
        turned = values.reshape(-1, 4, *values.shape[1:])[:, ORDER].reshape(values.shape)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(turned), tensor.name))
    (maker,) = (node for node in model.graph.node if "encodings" in node.output)
    maker.output[list(maker.output).index("encodings")] = "encodings/turned"
    add = GraphBuilder(model.graph, "order")
    add("Gather", "encodings/turned", add.constant(ORDER), names=["encodings"], axis=2)


def decoders(job: Job, model: Any, boxes: list[str]) -> list[dict[str, Any]]:
    """Of each feature map the heights and widths of a cell's anchors, in fractions."""
    tensors = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    found, at = [], 0
    for k, (name, (height, width)) in enumerate(zip(boxes, job.source.card.feature_maps, strict=True)):
        count = tensors[nodes[name].input[1]][0] // 4
        sizes = job.anchors[at : at + count, 2:].astype(float)
        found.append({"name": f"bbox_decoder{k}", "h": sizes[:, 1].tolist(), "w": sizes[:, 0].tolist()})
        found[-1] |= {"reg_layer": "", "cls_layer": ""}  # compile.py puts the compiler's names there
        at += count * height * width
    assert at == len(job.anchors), (at, len(job.anchors))
    return found
