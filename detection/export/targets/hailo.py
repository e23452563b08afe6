"""Hailo: the core graph with the end nodes at which its Dataflow Compiler cuts it, and the model script and configuration of
the chip's own SSD post-processing (hailo-ai/hailo_model_zoo, cfg/alls/generic/ssd_mobilenet_v2.alls and
cfg/postprocess_config/mobilenet_v2_ssd_nms_postprocess_config.json).

That post-processing reads ty, tx, th, tw: the box convolutions give them in this order here, and the graph's own output, behind
the end nodes, has ours again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detection.errors import MobileSSDError
from detection.export.onnx_nms import GraphBuilder
from detection.export.targets.base import IOU, Job, Written
from detection.export.targets.core import core_graph, write_parts
from detection.export.targets.script import write_script

ORDER = [1, 0, 3, 2]  # ty, tx, th, tw of tx, ty, tw, th, and back
SCORE = 0.3
ALLS = """normalization1 = normalization([127.5, 127.5, 127.5], [127.5, 127.5, 127.5])
nms_postprocess("nms_config.json", ssd, engine=nn_core)
"""


def write(job: Job) -> Written:
    """model.onnx, anchors.npy, input.json, hailo.json (end nodes), model.alls, nms_config.json, compile.py."""
    variances = job.spec.coder.variances
    if variances[0] != variances[1] or variances[2] != variances[3] or job.spec.scores != "sigmoid":
        raise MobileSSDError(
            f"{job.source.source}: Hailo's SSD post-processing takes sigmoid scores and equal variances of x and y; "
            "export --target core-onnx and decode by yourself"
        )
    model = core_graph(job)
    ends = list(zip(end_nodes(model, "encodings"), end_nodes(model, "logits"), strict=True))
    swap_boxes(model, [box for box, _ in ends])
    write_parts(job, model)
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
    job.put("nms_config.json", config)
    job.put("hailo.json", {"end_nodes": ends})
    job.put("model.alls", ALLS)
    write_script(job.folder, "compile.py", "hailo")
    height, width = job.spec.input.size
    return Written(
        "model.onnx",
        (
            "`python compile.py IMAGES hailo8` makes model.hef where Hailo's Dataflow Compiler is; IMAGES: a folder of 64 or",
            f"more. uint8 RGB [{height}, {width}, 3] in, boxes out, NMS on the chip above {SCORE}. hailo.json: the end nodes,",
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
