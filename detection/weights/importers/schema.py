"""Protobuf messages of others, described field by field, and read with the `protobuf` package: neither TensorFlow nor Caffe
has to be installed. Fields that nobody here asks for are passed over by protobuf itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

from detection.errors import BadWeightsError
from detection.weights.card_files import protobuf_fields
from detection.weights.guard import read_whole

LARGEST = 1 << 30  # bytes of a file
LARGEST_TEXT = 1 << 20  # of a file in the text format
MOST_FIELDS = 500_000  # in it, at all depths
SCALARS = {
    name: getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{name.upper()}")
    for name in ("bool", "bytes", "double", "float", "int32", "int64", "string", "uint32", "uint64", "fixed32")
}

# message -> field -> (number, type); "*type": repeated. A map is a repeated message of key and value.
# TensorFlow: graph.proto, node_def.proto, attr_value.proto, tensor.proto, tensor_shape.proto, function.proto, op_def.proto,
# saved_model.proto, meta_graph.proto, trackable_object_graph.proto, tensor_bundle.proto.
TENSORFLOW: dict[str, dict[str, tuple[int, str]]] = {
    "Dim": {"size": (1, "int64")},
    "TensorShape": {"dim": (2, "*Dim"), "unknown_rank": (3, "bool")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "TensorShape"),
        "tensor_content": (4, "bytes"),
        "half_val": (13, "*int32"),
        "float_val": (5, "*float"),
        "double_val": (6, "*double"),
        "int_val": (7, "*int32"),
        "int64_val": (10, "*int64"),
        "bool_val": (11, "*bool"),
    },
    "ListValue": {"i": (3, "*int64")},
    "AttrValue": {
        "list": (1, "ListValue"),
        "s": (2, "bytes"),
        "i": (3, "int64"),
        "f": (4, "float"),
        "b": (5, "bool"),
        "type": (6, "int32"),
        "tensor": (8, "Tensor"),
        "func": (10, "NamedFunction"),
    },
    "NamedFunction": {"name": (1, "string")},
    "Attr": {"key": (1, "string"), "value": (2, "AttrValue")},
    "Node": {"name": (1, "string"), "op": (2, "string"), "input": (3, "*string"), "attr": (5, "*Attr")},
    "Argument": {"name": (1, "string")},
    "Signature": {"name": (1, "string"), "input_arg": (2, "*Argument"), "output_arg": (3, "*Argument")},
    "Return": {"key": (1, "string"), "value": (2, "string")},
    "Function": {"signature": (1, "Signature"), "node_def": (3, "*Node"), "ret": (4, "*Return")},
    "Library": {"function": (1, "*Function")},
    "GraphDef": {"node": (1, "*Node"), "library": (2, "Library")},
    "TensorInfo": {"name": (1, "string")},
    "Output": {"key": (1, "string"), "value": (2, "TensorInfo")},
    "Call": {"outputs": (2, "*Output")},
    "NamedCall": {"key": (1, "string"), "value": (2, "Call")},
    "MetaGraph": {"graph_def": (2, "GraphDef"), "signature_def": (5, "*NamedCall")},
    "SavedModel": {"meta_graphs": (2, "*MetaGraph")},
    "BundleHeader": {"num_shards": (1, "int32")},
    "BundleEntry": {
        "dtype": (1, "int32"),
        "shape": (2, "TensorShape"),
        "shard_id": (3, "int32"),
        "offset": (4, "int64"),
        "size": (5, "int64"),
        "crc32c": (6, "fixed32"),
        "sliced": (7, "*TensorShape"),
    },
    "SavedTensor": {"full_name": (2, "string"), "checkpoint_key": (3, "string")},
    "SavedObject": {"attributes": (2, "*SavedTensor")},
    "SavedObjects": {"nodes": (1, "*SavedObject")},
}
# Caffe: caffe.proto of BVLC, with the layers of weiliu89's SSD branch.
CAFFE: dict[str, dict[str, tuple[int, str]]] = {
    "BlobShape": {"dim": (1, "*int64")},
    "Blob": {
        "shape": (7, "BlobShape"),
        "data": (5, "*float"),
        "double_data": (8, "*double"),
        "num": (1, "int32"),
        "channels": (2, "int32"),
        "height": (3, "int32"),
        "width": (4, "int32"),
    },
    "ResizeParameter": {"height": (3, "uint32"), "width": (4, "uint32")},
    "TransformationParameter": {
        "scale": (1, "float"),
        "mean_value": (5, "*float"),
        "resize_param": (9, "ResizeParameter"),
    },
    "ConvolutionParameter": {
        "pad": (3, "*uint32"),
        "group": (5, "uint32"),
        "stride": (6, "*uint32"),
        "pad_h": (9, "uint32"),
        "stride_h": (13, "uint32"),
        "dilation": (18, "*uint32"),
    },
    "BatchNormParameter": {"eps": (3, "float")},
    "InputParameter": {"shape": (1, "*BlobShape")},
    "PriorBoxParameter": {
        "min_size": (1, "*float"),
        "max_size": (2, "*float"),
        "aspect_ratio": (3, "*float"),
        "flip": (4, "bool"),
        "clip": (5, "bool"),
        "variance": (6, "*float"),
        "step": (10, "float"),
        "step_h": (11, "float"),
        "step_w": (12, "float"),
        "offset": (13, "float"),
    },
    "Layer": {
        "name": (1, "string"),
        "type": (2, "string"),
        "bottom": (3, "*string"),
        "top": (4, "*string"),
        "blobs": (7, "*Blob"),
        "transform_param": (100, "TransformationParameter"),
        "convolution_param": (106, "ConvolutionParameter"),
        "batch_norm_param": (139, "BatchNormParameter"),
        "input_param": (143, "InputParameter"),
        "prior_box_param": (203, "PriorBoxParameter"),
    },
    "Net": {
        "name": (1, "string"),
        "layer": (100, "*Layer"),
        "input_shape": (8, "*BlobShape"),
        "input_dim": (4, "*int32"),
    },
}

# pipeline.config of TensorFlow's Object Detection API: pipeline.proto, model.proto, ssd.proto and what they import.
PIPELINE: dict[str, dict[str, tuple[int, str]]] = {
    "Pipeline": {"model": (1, "DetectionModel")},
    "DetectionModel": {"ssd": (2, "Ssd")},
    "Ssd": {
        "num_classes": (1, "int32"),
        "image_resizer": (2, "ImageResizer"),
        "feature_extractor": (3, "FeatureExtractor"),
        "box_coder": (4, "BoxCoder"),
        "box_predictor": (7, "BoxPredictor"),
        "anchor_generator": (8, "AnchorGenerator"),
        "post_processing": (9, "PostProcessing"),
    },
    "ImageResizer": {"fixed_shape_resizer": (2, "FixedShapeResizer")},
    "FixedShapeResizer": {
        "height": (1, "int32"),
        "width": (2, "int32"),
        "convert_to_grayscale": (4, "bool"),
    },
    "FeatureExtractor": {
        "type": (1, "string"),
        "conv_hyperparams": (4, "Hyperparams"),
        "use_explicit_padding": (7, "bool"),
        "override_base_feature_extractor_hyperparams": (9, "bool"),
    },
    "Hyperparams": {
        "activation": (4, "@Activation"),
        "batch_norm": (5, "BatchNorm"),
        "sync_batch_norm": (9, "BatchNorm"),
    },
    "BatchNorm": {"epsilon": (4, "float")},
    "BoxCoder": {"faster_rcnn_box_coder": (1, "FasterRcnnBoxCoder")},
    "FasterRcnnBoxCoder": {
        "y_scale": (1, "float"),
        "x_scale": (2, "float"),
        "height_scale": (3, "float"),
        "width_scale": (4, "float"),
    },
    "BoxPredictor": {
        "convolutional_box_predictor": (1, "Predictor"),
        "weight_shared_convolutional_box_predictor": (4, "Predictor"),
    },
    "Predictor": {"conv_hyperparams": (1, "Hyperparams")},
    "AnchorGenerator": {
        "ssd_anchor_generator": (2, "SsdAnchorGenerator"),
        "multiscale_anchor_generator": (3, "MultiscaleAnchorGenerator"),
    },
    "SsdAnchorGenerator": {
        "min_scale": (2, "float"),
        "max_scale": (3, "float"),
        "aspect_ratios": (4, "*float"),
        "reduce_boxes_in_lowest_layer": (5, "bool"),
        "base_anchor_height": (6, "float"),
        "base_anchor_width": (7, "float"),
        "height_stride": (8, "*int32"),
        "scales": (12, "*float"),
        "interpolated_scale_aspect_ratio": (13, "float"),
    },
    "MultiscaleAnchorGenerator": {
        "min_level": (1, "int32"),
        "anchor_scale": (3, "float"),
        "aspect_ratios": (4, "*float"),
        "scales_per_octave": (5, "int32"),
        "normalize_coordinates": (6, "bool"),
    },
    "PostProcessing": {"score_converter": (2, "@ScoreConverter"), "logit_scale": (3, "float")},
}
# Type "@name": an enumeration, whose values have the numbers 0, 1, ...
ENUMS = {
    "pipeline": {
        "Activation": ("NONE", "RELU", "RELU_6", "SWISH"),
        "ScoreConverter": ("IDENTITY", "SIGMOID", "SOFTMAX"),
    }
}


def read_message(path: Path, name: str, what: str) -> Any:
    """A whole file as the message `name`. Raises BadWeightsError, one line, where it is none."""
    data = read_whole(path, LARGEST, f"a {what}")
    try:
        _count(data, name)
    except (ValueError, IndexError):
        raise BadWeightsError(f"{path}: no {what}, or cut short or damaged; fetch it again") from None
    return parse(data, name, path, what)


def _count(data: bytes, name: str) -> None:
    """Raises ValueError where a message holds more parts than any network has, before they become objects: two bytes of a
    file may stand for one, which takes a hundred in memory."""
    stack, number = [(name, 0, len(data))], 0
    while stack:
        message, start, end = stack.pop()
        inside = _parts(message)
        for field, first, last in protobuf_fields(data, start, end):
            number += 1
            if number > MOST_FIELDS:
                raise ValueError(f"more than {MOST_FIELDS:,} fields")
            if field in inside:
                stack.append((inside[field], first, last))


@cache
def _parts(name: str) -> dict[int, str]:
    """The fields of a message that hold messages of which each may become many objects; plain numbers never do."""
    kinds = TENSORFLOW | CAFFE

    def many(kind: str) -> bool:
        found = [inner for _, inner in kinds[kind].values()]
        objects = any(i[0] == "*" and i[1:] in {*kinds, "string", "bytes"} for i in found)
        return objects or any(many(i.removeprefix("*")) for i in found if i.removeprefix("*") in kinds)

    plain = {number: kind.removeprefix("*") for number, kind in kinds[name].values()}
    return {number: kind for number, kind in plain.items() if kind in kinds and many(kind)}


def parse(data: bytes, name: str, path: Path, what: str) -> Any:
    """Bytes of `path` as the message `name`. Raises BadWeightsError, one line, where they are none."""
    try:
        return _classes()[name].FromString(data)
    except DecodeError:
        raise BadWeightsError(f"{path}: no {what}, or cut short or damaged; fetch it again") from None


def message(name: str) -> Any:
    """A new, empty message."""
    return _classes()[name]()


def read_text(path: Path, name: str, what: str) -> Any:
    """A file in protobuf's text format as the message `name`, fields of others passed over. Raises BadWeightsError."""
    try:
        text = read_whole(path, LARGEST_TEXT, f"a {what}").decode("utf-8")
        return text_format.Parse(text, message(name), allow_unknown_field=True)
    except (text_format.ParseError, ValueError) as error:
        raise BadWeightsError(f"{path}: no {what} ({str(error)[:100]})") from None


@cache
def _classes() -> Mapping[str, Any]:
    pool, found = descriptor_pool.DescriptorPool(), {}
    for package, messages in (("tensorflow", TENSORFLOW), ("caffe", CAFFE), ("pipeline", PIPELINE)):
        file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
        for name, values in ENUMS.get(package, {}).items():
            enum = file.enum_type.add(name=name)
            for number, value in enumerate(values):
                enum.value.add(name=value, number=number)
        for name, fields in messages.items():
            message = file.message_type.add(name=name)
            for field, (number, kind) in fields.items():
                made = message.field.add(name=field, number=number)
                made.label = made.LABEL_REPEATED if kind.startswith("*") else made.LABEL_OPTIONAL
                kind = kind.removeprefix("*")
                if kind in SCALARS:
                    made.type = SCALARS[kind]
                elif kind.startswith("@"):
                    made.type, made.type_name = made.TYPE_ENUM, f".{package}.{kind[1:]}"
                else:
                    made.type, made.type_name = made.TYPE_MESSAGE, f".{package}.{kind}"
        pool.Add(file)
        for name in messages:
            found[name] = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
    return found
