"""A network as an ONNX graph: traced by torch, then put in order, so that every reader finds plain convolutions.

Needs torch and the onnx package, for making files only: what is made here runs without both.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from detection.errors import need
from detection.files import atomic_write
from detection.weights.card import Card
from detection.weights.card_files import CARD

VERSION = 1  # raised whenever the same network would become another graph
OPSET = 17


def convert(ssd: Any) -> Any:
    """A network as an `onnx.ModelProto`: `pictures` uint8 RGB [N, h, w, 3] -> `encodings` [N, A, 4] and `logits`
    [N, A, K], N free. Batch norms are folded into the convolutions."""
    _onnx()
    import torch

    from detection.runtimes.torch import fuse
    from detection.ssd.network import Deployable

    network = Deployable(fuse(copy.deepcopy(ssd).eval())).eval()
    example = torch.zeros(2, *ssd.spec.input.size, 3, dtype=torch.uint8)
    return traced(network, example, "pictures", ("encodings", "logits"))


def traced(
    network: Any, example: Any, input: str, outputs: tuple[str, ...], opset: int = OPSET, free: bool = True
) -> Any:
    """A module of torch as an `onnx.ModelProto`, traced with the tensor `example`, and put in order by `tidy`.

    input, outputs: their names. opset: of ONNX's operators. free: the first side, the batch, is free; else it is 1, as
    that of `example`."""
    onnx = _onnx()
    import torch

    file = io.BytesIO()
    # torch calls this exporter deprecated. Its successor (dynamo=True) makes the same 88 convolutions of SSDLite MobileNetV2,
    # but takes 15 to 17 s for it, and 3 to 4 s of torch.export before, in the place of 0.4 s (two x86 cores, torch 2.14,
    # onnxscript 0.7): the first image of every checkpoint would wait for that. Nor do its nodes carry the names of the
    # modules, by which `export.calibration` knows heads from extras.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based ONNX export", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning)  # inside that exporter
        warnings.filterwarnings("ignore", "`?torch.jit", FutureWarning)
        warnings.filterwarnings("ignore", "Constant folding - Only steps=1", UserWarning)  # `tidy` folds the rest
        torch.onnx.export(
            network,
            (example,),
            file,
            input_names=[input],
            output_names=list(outputs),
            dynamic_axes={name: {0: "N"} for name in (input, *outputs)} if free else None,
            opset_version=opset,
            dynamo=False,
        )
    with torch.no_grad():
        shapes = [tuple(output.shape) for output in network(example)]
    model = onnx.load_from_string(file.getvalue())
    tidy(model.graph, opset)
    for output, (_, *sides) in zip(model.graph.output, shapes):
        for dimension, side in zip(output.type.tensor_type.shape.dim[1:], sides):
            dimension.dim_value = side
    if not free:
        one_image(model)
    onnx.checker.check_model(model)
    return model


def one_image(model: Any) -> None:
    """Makes a free batch one of 1, in place."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def keep_outputs(model: Any, names: tuple[str, ...]) -> None:
    """Takes all other outputs, and what leads to them alone, out of a model, in place; these stay in this order."""
    by_name = {output.name: output for output in model.graph.output}
    _replace(model.graph.output, [by_name[name] for name in names])
    _sweep(model.graph)


def save(model: Any, target: Path, card: Card) -> None:
    """Writes the file, whole or not at all, with the card in its metadata_props."""
    import onnx

    onnx.helper.set_model_props(model, {CARD: card.to_json()})
    model.producer_name, model.producer_version = "mobilessd", ""
    with atomic_write(target) as temporary:
        temporary.write_bytes(model.SerializeToString())


def halve(model: Any) -> None:
    """Stores large weights as float16, in place; what computes stays float32, so the file is half as large and no
    reader is slower, but for the moment of loading."""
    from onnx import numpy_helper

    names = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= 64:
            names.append(tensor.name)
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}_half"))
    _widen(model.graph, names)


def point_into(model: Any, checkpoint: Path) -> None:
    """Takes out of the model, in place, every number that lies in a safetensors file too, and names the file and the
    place there instead (ONNX's external data): what is left is the graph, which belongs beside the file.

    The file's float16 kernels are widened in the graph, which every reader does once, at loading.
    """
    from onnx import TensorProto, helper, numpy_helper

    places, names = _places(checkpoint), []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        forms = [values, values.astype(np.float16)] if values.dtype == np.float32 else []
        same = next((form for form in forms if (form.shape, form.tobytes()) in places), None)
        if same is None:
            continue
        place = {"location": checkpoint.name, "offset": places[same.shape, same.tobytes()], "length": same.nbytes}
        tensor.ClearField("raw_data")
        tensor.data_type = helper.np_dtype_to_tensor_dtype(same.dtype)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        if same.dtype == np.float16:
            names.append(tensor.name)
            tensor.name = f"{tensor.name}_half"
    _widen(model.graph, names)


def _widen(graph: Any, names: list[str]) -> None:
    """Puts a cast before everything else for each name, whose float16 numbers are now called NAME_half."""
    from onnx import TensorProto, helper

    for name in reversed(names):
        cast = helper.make_node("Cast", [f"{name}_half"], [name], f"{name}_widen", to=TensorProto.FLOAT)
        graph.node.insert(0, cast)


def _places(checkpoint: Path) -> dict[tuple[tuple[int, ...], bytes], int]:
    """(shape, bytes) of each tensor of a safetensors file -> its offset there: an integer of 8 bytes, a header of JSON as
    long as it says, then the tensors."""
    data = checkpoint.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    spans = [(tuple(about["shape"]), *(start + at for at in about["data_offsets"])) for about in header.values()]
    return {(shape, data[begin:end]): begin for shape, begin, end in spans}


def tidy(graph: Any, opset: int = OPSET) -> None:
    """Puts a traced graph in order, in place: constants become initialisers, what follows from constants alone is
    computed, zero padding moves into its convolution, and a reshape needs no arithmetic to keep the batch's size."""
    _fold(graph, opset)
    _plain_reshapes(graph)
    _padding_into_convolutions(graph)
    _sweep(graph)


def _fold(graph: Any, opset: int) -> None:
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    known = {tensor.name: tensor for tensor in graph.initializer}
    rest = []
    for node in graph.node:
        if node.op_type == "Constant":
            value = numpy_helper.to_array(node.attribute[0].t)
        elif all(name in known for name in node.input if name):
            names = [name for name in node.input if name]
            part = helper.make_graph(
                [node], "part", [], [helper.make_empty_tensor_value_info(node.output[0])], [known[n] for n in names]
            )
            part_model = helper.make_model(part, opset_imports=[helper.make_opsetid("", opset)])
            value = np.asarray(ReferenceEvaluator(part_model).run(None, {})[0])
        else:
            rest.append(node)
            continue
        known[node.output[0]] = numpy_helper.from_array(value, node.output[0])
    _replace(graph.node, rest)
    _replace(graph.initializer, list(known.values()))


def _plain_reshapes(graph: Any) -> None:
    """Reshape to [Gather(Shape(x), 0), -1, k] -> Reshape to [0, -1, k], where 0 means "as it was"."""
    from onnx import numpy_helper

    makers, known = _makers(graph), _constants(graph)
    for node in graph.node:
        shape = makers.get(node.input[1]) if node.op_type == "Reshape" else None
        if shape is None or shape.op_type != "Concat" or not all(name in known for name in shape.input[1:]):
            continue
        sides = [0, *(int(known[name].reshape(-1)[0]) for name in shape.input[1:])]
        name = f"{node.name}_shape"
        graph.initializer.append(numpy_helper.from_array(np.array(sides, np.int64), name))
        node.input[1] = name


def _padding_into_convolutions(graph: Any) -> None:
    makers, known = _makers(graph), _constants(graph)
    for node in graph.node:
        pad = makers.get(node.input[0]) if node.op_type == "Conv" else None
        if pad is None or pad.op_type != "Pad" or pad.input[1] not in known:
            continue
        mode = next((a.s for a in pad.attribute if a.name == "mode"), b"constant")
        value = known[pad.input[2]] if len(pad.input) > 2 and pad.input[2] else np.zeros(1)
        own = next((a for a in node.attribute if a.name == "pads"), None)
        before = known[pad.input[1]]  # both ends of all four axes
        if mode != b"constant" or np.any(value) or before[[0, 1, 4, 5]].any() or (own is not None and any(own.ints)):
            continue
        if own is not None:
            node.attribute.remove(own)
        node.attribute.add(name="pads", ints=[int(before[k]) for k in (2, 3, 6, 7)], type=7)
        node.input[0] = pad.input[0]


def _sweep(graph: Any) -> None:
    """Takes out what leads to no output."""
    used = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if used & set(node.output):
            kept.append(node)
            used |= set(node.input)
    _replace(graph.node, kept[::-1])
    _replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in used])
    del graph.value_info[:]


def _makers(graph: Any) -> dict[str, Any]:
    return {name: node for node in graph.node for name in node.output}


def _constants(graph: Any) -> dict[str, np.ndarray]:
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _replace(field: Any, items: list) -> None:
    items = [copy.deepcopy(item) for item in items]
    del field[:]
    field.extend(items)


def _onnx() -> Any:
    need("writing ONNX", "onnx")
    import onnx

    return onnx
