"""TensorFlow graphs whose variables lie in a checkpoint beside them -> a network of ours: SavedModels (`saved_model.pb` and its
`variables/`) of TensorFlow 1 and 2 and checkpoints (`NAME.index`, its `.meta` and `.data`), and those of the two zoos.

Where a checkpoint has exponential moving averages, they are taken, as TensorFlow's exporter does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from detection.errors import BadWeightsError
from detection.ssd.network import SSD
from detection.weights.card import Card
from detection.weights.importers.assemble import assemble
from detection.weights.importers.folding import Operation
from detection.weights.importers.frozen_graph import operations
from detection.weights.importers.functions import has_functions, written_out
from detection.weights.importers.graph import DetectorGraph
from detection.weights.importers.labels import labels_of
from detection.weights.importers.objects import read_objects
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
    if has_functions(meta):
        bundle = TensorBundle(_beside(index, path))
        graph = _with_values(written_out(meta, str(path)), bundle, keys_of(bundle))
        return _assembled(read_detector(graph, str(path)), path)
    if not index.is_file() and not any(node.op in VARIABLES for node in meta.graph_def.node):
        # The first zoo's hold a frozen graph, and no variables.
        return _assembled(read_detector(operations(meta.graph_def.node, str(path)), str(path)), path)
    bundle = TensorBundle(_beside(index, path))
    return _assembled(_of_graph(meta.graph_def, bundle, path), path)


def import_checkpoint(path: Path) -> tuple[SSD, Card]:
    """`NAME.index` of TensorFlow 1, its graph `NAME.meta` beside it; of TensorFlow 2, its pipeline.config beside it or a
    folder further up -> (network, card)."""
    bundle = TensorBundle(path)
    if OBJECTS in bundle:
        return _assembled(read_objects(bundle, path), path)
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
    return read_detector(_with_values(operations(graph.node, str(path)), bundle, {}), str(path))


def keys_of(bundle: TensorBundle) -> dict[str, str]:
    """Where the variables of TensorFlow 2 stand, by their names: a checkpoint of objects keeps them under other keys."""
    if OBJECTS not in bundle:
        return {}
    objects = parse(bundle.text(OBJECTS), "SavedObjects", bundle.index, "TensorFlow checkpoint")
    keys: dict[str, str] = {}
    for one in (one for node in objects.nodes for one in node.attributes):
        if keys.setdefault(one.full_name, one.checkpoint_key) != one.checkpoint_key:
            raise BadWeightsError(f"{bundle.index}: holds two variables of the name {one.full_name}")
    return keys


def _with_values(graph: Iterable[Operation], bundle: TensorBundle, keys: Mapping[str, str]) -> Iterator[Operation]:
    for operation in graph:
        if operation.op in VARIABLES:
            name = operation.attributes.get("shared_name") or operation.name
            name = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
            key = name + AVERAGE if name + AVERAGE in bundle else keys.get(name, name)
            if key in bundle:
                operation = Operation("Const", operation.name, (), {"value": bundle.array(key)})
        yield operation
