"""TensorFlow graphs whose variables lie in a checkpoint beside them -> a network of ours: SavedModels (`saved_model.pb` and its
`variables/`) and the checkpoints of the first TensorFlow (`NAME.index`, its `.meta` and `.data`), as the zoos publish them.

Where a checkpoint has exponential moving averages, they are taken, as TensorFlow's exporter does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detection.errors import BadWeightsError
from detection.ssd.network import SSD
from detection.weights.card import Card
from detection.weights.importers.assemble import assemble
from detection.weights.importers.folding import Operation
from detection.weights.importers.frozen_graph import operations
from detection.weights.importers.graph import DetectorGraph
from detection.weights.importers.labels import labels_of
from detection.weights.importers.schema import parse, read_message
from detection.weights.importers.tensor_bundle import TensorBundle
from detection.weights.importers.tensorflow import read_detector

VARIABLES = ("Variable", "VariableV2", "VarHandleOp")
AVERAGE = "/ExponentialMovingAverage"
OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"


def import_saved_model(path: Path) -> tuple[SSD, Card]:
    """A SavedModel's folder, or its saved_model.pb -> (network, card)."""
    path = path / "saved_model.pb" if path.is_dir() else path
    model = read_message(path, "SavedModel", "TensorFlow SavedModel")
    if not model.meta_graphs:
        raise BadWeightsError(f"{path}: a SavedModel without a graph")
    meta, index = model.meta_graphs[0], path.parent / "variables" / "variables.index"
    if not index.is_file() and not any(node.op in VARIABLES for node in meta.graph_def.node):
        # The first zoo's hold a frozen graph, and no variables.
        return _assembled(read_detector(operations(meta.graph_def.node, str(path)), str(path)), path)
    bundle = TensorBundle(_beside(index, path))
    if meta.object_graph_def.concrete_functions:
        return _assembled(_of_functions(meta, bundle, path), path)
    return _assembled(_of_graph(meta.graph_def, bundle, path), path)


def import_checkpoint(path: Path) -> tuple[SSD, Card]:
    """`NAME.index` of TensorFlow 1, its graph `NAME.meta` beside it -> (network, card)."""
    bundle = TensorBundle(path)
    if OBJECTS in bundle:
        raise BadWeightsError(
            f"{path}: a checkpoint of TensorFlow 2, which holds no graph; name the SavedModel that exporter_main_v2.py "
            "makes of it"
        )
    meta = read_message(_beside(path.with_suffix(".meta"), path), "MetaGraph", "TensorFlow graph")
    return _assembled(_of_graph(meta.graph_def, bundle, path), path)


def _assembled(graph: DetectorGraph, path: Path) -> tuple[SSD, Card]:
    graph.details["labels"] = labels_of(path)
    return assemble(graph)


def _beside(wanted: Path, path: Path) -> Path:
    if not wanted.is_file():
        raise BadWeightsError(f"{path}: {wanted.name} is missing; it belongs to it")
    return wanted


def _of_graph(graph: Any, bundle: TensorBundle, path: Path) -> DetectorGraph:
    return read_detector(_with_values(operations(graph.node, str(path)), bundle), str(path))


def _with_values(graph: Iterator[Operation], bundle: TensorBundle) -> Iterator[Operation]:
    for operation in graph:
        if operation.op in VARIABLES:
            name = operation.attributes.get("shared_name") or operation.name
            name = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
            key = name + AVERAGE if name + AVERAGE in bundle else name
            if key in bundle:
                operation = Operation("Const", operation.name, (), {"value": bundle.array(key)})
        yield operation


def _of_functions(meta: Any, bundle: TensorBundle, path: Path) -> DetectorGraph:
    """TensorFlow 2 keeps the graph in functions, whose last arguments are the variables."""
    functions = {function.signature.name: function for function in meta.graph_def.library.function}
    keys = _keys(meta.object_graph_def, bundle, path)
    for named in meta.object_graph_def.concrete_functions:
        function = functions.get(named.key)
        if function is None or sum(node.op == "Conv2D" for node in function.node_def) < 10:
            continue
        bound = list(named.value.bound_inputs)
        arguments = [argument.name for argument in function.signature.input_arg]
        found = {}
        for name, node in zip(arguments[len(arguments) - len(bound) :], bound):
            if node in keys:
                found[name] = Operation("Const", name, (), {"value": bundle.array(keys[node])})
        for name in arguments:
            found.setdefault(name, Operation("Placeholder", name))
        for operation in operations(function.node_def, str(path)):
            inputs = tuple(_in_function(tensor) for tensor in operation.inputs)
            found[operation.name] = Operation(operation.op, operation.name, inputs, operation.attributes)
        for other in functions.values():  # the resize stands in a loop's own function
            for operation in operations(other.node_def, str(path)) if "while_body" in other.signature.name else ():
                inputs = tuple(_in_function(tensor) for tensor in operation.inputs)
                name = f"{other.signature.name}/{operation.name}"
                inputs = tuple(f"{other.signature.name}/{tensor}" for tensor in inputs)
                found[name] = Operation(operation.op, name, inputs, operation.attributes)
        return read_detector(found.values(), str(path))
    raise BadWeightsError(f"{path}: a SavedModel without a detector: none of its functions has ten convolutions")


def _in_function(tensor: str) -> str:
    """`node:output:k`, as a function writes it, as `node:k`."""
    name, *rest = tensor.split(":")
    return f"{name}:{rest[-1]}" if rest else name


def _keys(objects: Any, bundle: TensorBundle, path: Path) -> dict[int, str]:
    """Object of the SavedModel -> key in the checkpoint: both are trees of the same names from their roots."""
    saved = parse(bundle.text(OBJECTS), "TrackableGraph", path, "TensorFlow checkpoint").nodes
    found: dict[int, str] = {}
    seen, queue = {(0, 0)}, [(0, 0)]
    for ours, theirs in queue:
        for attribute in saved[theirs].attributes:
            if attribute.name == "VARIABLE_VALUE":
                found[ours] = attribute.checkpoint_key
        children = {child.local_name: child.node_id for child in saved[theirs].children}
        for child in objects.nodes[ours].children:
            pair = (child.node_id, children.get(child.local_name, -1))
            if pair[1] >= 0 and pair not in seen:
                seen.add(pair)
                queue.append(pair)
    return found
