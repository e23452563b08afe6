"""Weights files of every kind, mutated (`fuzz`): their bytes, cards, headers, manifests, graphs and zips."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from caffe_files import mobilenet_ssd, write_caffemodel
from frozen_files import write_checkpoint, write_frozen_graph, write_tfjs, write_tflite
from frozen_networks import ssd_v1, ssdlite_v2
from fuzz import Target
from fuzz_mutators import NUMBERS, mutated, mutated_tree

from backbones import build_classifier
from detection.runtimes import onnx_graph
from detection.runtimes import openvino_model as openvino
from detection.runtimes.open import open_runtime
from detection.ssd.network import build, feature_maps
from detection.weights.card import Card
from detection.weights.card_files import CARD
from detection.weights.checkpoint import save_checkpoint
from detection.weights.classifier import ClassifierCard, load_classifier, save_classifier
from detection.weights.importers import layouts
from detection.weights.importers.schema import message
from detection.weights.names import load, spec_for
from detection.weights.resolve import open_weights

torch.set_num_threads(1)


def to_network(path: Path) -> None:
    """As a training or an export opens weights."""
    load(path)


def to_runtime(runtime: str) -> Callable[[Path], None]:
    """As a detection opens a file that runs as it is, and runs it once."""

    def read(path: Path) -> None:
        weights = open_weights(path)
        opened = open_runtime(weights, runtime, threads=1)
        opened(np.zeros((1, *weights.card.input_size, 3), np.uint8))

    return read


def to_detector(path: Path) -> None:
    """A state dict that was read, whatever its size."""
    try:
        tensors = torch.load(path, weights_only=True)
    except Exception:
        return
    if found := layouts._detector_in({name: one for name, one in tensors.items() if isinstance(one, torch.Tensor)}):
        found[0].detector(found[1], str(path), None)


def any_bytes(random: Random, path: Path) -> None:
    """Those of one of the files in the folder."""
    chosen = random.choice(sorted(file for file in _folder(path).rglob("*") if file.is_file()))
    chosen.write_bytes(mutated(chosen.read_bytes(), random))


def json_of(name: str) -> Callable[[Random, Path], None]:
    """The tree in a JSON file of the folder; one time in four its bytes, or that of another file."""

    def damage(random: Random, path: Path) -> None:
        if random.random() < 0.25:
            return any_bytes(random, path)
        file = _folder(path) / name
        file.write_text(_dump(mutated_tree(json.loads(file.read_text(encoding="utf-8")), random)), encoding="utf-8")

    return damage


def header(random: Random, path: Path) -> None:
    """A safetensors file's header, which is JSON, or the card in it, which is JSON too."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    tree = json.loads(data[8 : 8 + length])
    key = next(iter(tree["__metadata__"].keys() & {"card", "classifier"}))
    if random.random() < 0.7:
        tree["__metadata__"][key] = _dump(mutated_tree(json.loads(tree["__metadata__"][key]), random))
        tree["__metadata__"] = {name: str(value) for name, value in tree["__metadata__"].items()}
    else:
        tree = mutated_tree(tree, random)
    text = _dump(tree).encode("utf-8", "replace")
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def card_inside(random: Random, path: Path) -> None:
    """The card in an .onnx file, which is text of any length to it; half of the time its bytes."""
    if random.random() < 0.5:
        return any_bytes(random, path)
    import onnx

    model = onnx.load_model(path, load_external_data=False)
    for entry in model.metadata_props:
        if entry.key == CARD:
            entry.value = _dump(mutated_tree(json.loads(entry.value), random)).encode("utf-8", "replace").decode()
    path.write_bytes(model.SerializeToString())


def graph_inside(random: Random, path: Path) -> None:
    """One to three places in the nodes, numbers and outputs of an .onnx file."""
    import onnx

    model = onnx.load_model(path, load_external_data=False)
    for _ in range(random.choice((1, 2, 3))):
        node, tensor = random.choice(model.graph.node), random.choice(model.graph.initializer)
        match random.randrange(9):
            case 0:
                node.op_type = random.choice(
                    ("Tile", "Expand", "Loop", "If", "ConstantOfShape", "Relu", "Add", "\x1b", "")
                )
            case 1 if node.input:
                other = random.choice(model.graph.node)
                node.input[random.randrange(len(node.input))] = random.choice(
                    (*other.output, *node.output, "nothing", "")
                )
            case 2 if tensor.dims:
                tensor.dims[random.randrange(len(tensor.dims))] = random.choice((0, -1, 1, 7, 10**6, 1 << 40))
            case 3 if node.attribute:
                attribute = random.choice(node.attribute)
                attribute.i = random.choice((0, -1, 3, 1 << 31, 1 << 62))
                if attribute.ints:
                    attribute.ints[random.randrange(len(attribute.ints))] = random.choice((0, -1, 5, 1 << 20, 1 << 62))
            case 4:
                tensor.data_type = random.choice((0, 1, 2, 7, 10, 11, 16, 99))
            case 5:
                tensor.data_location = 1
                place = random.choice(("../../outside", "/dev/zero", "*/_ORT_MEM_ADDR_/*", "model.onnx"))
                tensor.external_data.add(key="location", value=place)
            case 6:
                model.opset_import[0].version = random.choice((0, 1, 6, 100, 10**9, 1 << 62))
            case 7:
                model.graph.node.add().CopyFrom(node)
            case 8:
                random.choice(model.graph.output).name = random.choice(("encodings", "logits", "x", ""))
    path.write_bytes(model.SerializeToString())


def description_inside(random: Random, path: Path) -> None:
    """One to three numbers, kinds, elements or shapes of an OpenVINO description."""
    text = path.read_text(encoding="utf-8")
    end = text.index("<rt_info>") if "<rt_info>" in text else len(text)
    for _ in range(random.choice((1, 2, 3))):
        words = r"<[^>]+>" if random.random() < 0.1 else r'(?<==")[^"<>]*(?=")|(?<=<dim>)-?\d+'
        spans = [one.span() for one in re.finditer(words, text[:end])]
        start, stop = random.choice(spans)
        new = random.choice(
            (*map(str, NUMBERS), "-1", "", "x", "?", "f32", "Range", "Loop", "opset99", "\x1b", text[start:stop] * 2)
        )
        text = text[:start] + new + text[stop:]
        end += len(new) - (stop - start)
    path.write_text(text, encoding="utf-8")


def state(random: Random, path: Path) -> None:
    """The bytes of a state dict; or its tensors, of other shapes and kinds."""
    if random.random() < 0.5:
        return any_bytes(random, path)
    tensors = torch.load(path, weights_only=True)
    for _ in range(random.choice((1, 2, 5))):
        name = random.choice(list(tensors))
        one = torch.zeros(
            (), dtype=random.choice((torch.float32, torch.float16, torch.int64, torch.bool, torch.complex64))
        )
        sides = [random.choice((0, 1, 3, 64, 70_000)) for _ in range(random.choice((0, 1, 2, 3)))]
        tensors[name] = random.choice((one.expand(sides), one, "text", None, {}, [one], one.to("meta")))
        if random.random() < 0.3:
            tensors[random.choice(("", "x", "module." * 500 + name, "\x1b[31m" + name, name + ".weight"))] = (
                tensors.pop(name)
            )
    torch.save(tensors, path)


def protobuf(name: str) -> Callable[[Random, Path], None]:
    """The fields of a message of TensorFlow's or Caffe's; half of the time bytes."""

    def damage(random: Random, path: Path) -> None:
        if random.random() < 0.5:
            return any_bytes(random, path)
        read = message(name)
        read.ParseFromString(path.read_bytes())
        for _ in range(random.choice((1, 2, 4))):
            _damage_message(read, random)
        path.write_bytes(read.SerializeToString())

    return damage


def _damage_message(one: Any, random: Random) -> None:
    """Walks to a field at random, and changes it."""
    fields = one.ListFields()
    if not fields:
        return
    field, value = random.choice(fields)
    repeated = not isinstance(value, (int, float, str, bytes)) and hasattr(value, "__len__")
    if repeated and random.random() < 0.1:
        del value[random.randrange(len(value)) :]
    elif field.message_type:
        _damage_message(random.choice(value) if repeated else value, random)
    else:
        with contextlib.suppress(ValueError):  # a number that the field does not hold
            if repeated:
                value[random.randrange(len(value))] = _other(random.choice(value), random)
            else:
                setattr(one, field.name, _other(value, random))


def _other(value: Any, random: Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return random.choice((0, -1, 1, 3, 255, 70_000, (1 << 31) - 1)) if random.random() < 0.9 else abs(value) ^ 1
    if isinstance(value, float):
        return random.choice((0.0, -1.0, 1e30, float("inf"), float("nan")))
    if isinstance(value, str):
        return random.choice(("", "x", "concat", "\x1b[2J", "Conv2D", "Fill", "Tile", value * 2, value + ":1"))
    return mutated(value, random)


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _dump(tree: Any) -> str:
    try:
        return json.dumps(tree)
    except RecursionError:
        return "[" * 100_000


def _small() -> tuple[Any, Card]:
    torch.manual_seed(0)
    ssd = build(spec_for("ssdlite_mobilenet_v2", alpha=0.25, num_classes=3, input_size=96)).eval()
    names = ("cat", "dog", "bird")
    return ssd, Card(ssd.spec.to_dict(), names, (1, 2, 5), feature_maps(ssd), score_threshold=0.4, notes=("small",))


def _checkpoint(folder: Path) -> Path:
    save_checkpoint(folder / "small.safetensors", *_small())
    return folder / "small.safetensors"


def _classifier(folder: Path) -> Path:
    network = build_classifier("mobilenet_v2", 3, alpha=0.25)
    card = ClassifierCard("mobilenet_v2", ("a", "b", "c"), {"alpha": 0.25})
    save_classifier(folder / "classifier.safetensors", network.state_dict(), card)
    return folder / "classifier.safetensors"


def _onnx(folder: Path) -> Path:
    ssd, card = _small()
    onnx_graph.save(onnx_graph.convert(ssd), folder / "model.onnx", card)
    return folder / "model.onnx"


def _openvino(folder: Path) -> Path:
    ssd, card = _small()
    openvino.save(openvino.convert(ssd), folder / "model.xml", card.to_json())
    return folder / "model.xml"


def _tflite(folder: Path) -> Path:
    (folder / "labelmap.txt").write_text("0 cat\n1 dog\n2 bird\n", encoding="utf-8")
    return write_tflite(ssdlite_v2(), folder / "detect.tflite")


def _tfjs(folder: Path) -> Path:
    return write_tfjs(ssdlite_v2(), folder)


def _frozen_graph(folder: Path) -> Path:
    return write_frozen_graph(ssdlite_v2(), folder / "frozen_inference_graph.pb")


def _saved_model(folder: Path) -> Path:
    graph = message("GraphDef")
    graph.ParseFromString(_frozen_graph(folder).read_bytes())
    (folder / "frozen_inference_graph.pb").unlink()
    model = message("SavedModel")
    model.meta_graphs.add().graph_def.CopyFrom(graph)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01" + model.SerializeToString())
    return folder / "saved_model.pb"


def _variables(folder: Path) -> Path:
    return write_checkpoint(ssd_v1(), folder, averages=True)


def _caffe(folder: Path) -> Path:
    return write_caffemodel(mobilenet_ssd(alpha=0.25, size=128), folder / "a.caffemodel")


def _pytorch(folder: Path) -> Path:
    """A state dict as pytorch-ssd's, of the right shapes, but one number a tensor on the disk."""
    from test_importers import mb1

    tensors = {name: t.new_zeros(()).expand(t.shape) for name, t in mb1(True, 4).items()}
    torch.save(tensors, folder / "mb1.pth")
    (folder / "labels.txt").write_text("BACKGROUND\ncat\ndog\nbird\n", encoding="utf-8")
    return folder / "mb1.pth"


def _legacy(folder: Path) -> Path:
    torch.save(torch.load(_pytorch(folder)), folder / "mb1.pth", _use_new_zipfile_serialization=False)
    return folder / "mb1.pth"


TARGETS = (
    Target("card", _checkpoint, header, to_network),
    Target("safetensors", _checkpoint, any_bytes, to_network),
    Target("classifier", _classifier, header, lambda path: load_classifier(path)),
    Target("tfjs", _tfjs, json_of("model.json"), to_network),
    Target("tflite", _tflite, any_bytes, to_network),
    Target("frozen-graph", _frozen_graph, protobuf("GraphDef"), to_network),
    Target("saved-model", _saved_model, protobuf("SavedModel"), to_network),
    Target("checkpoint", _variables, any_bytes, to_network),
    Target("caffe", _caffe, protobuf("Net"), to_network),
    Target("pytorch", _pytorch, state, to_network),
    Target("pytorch-legacy", _legacy, any_bytes, to_network),
    Target("layouts", _pytorch, state, to_detector),
    Target("onnx-card", _onnx, card_inside, to_runtime("onnxruntime")),
    Target("onnx-graph", _onnx, graph_inside, to_runtime("onnxruntime")),
    Target("onnx-openvino", _onnx, graph_inside, to_runtime("openvino")),
    Target("openvino", _openvino, any_bytes, to_runtime("openvino")),
    Target("openvino-xml", _openvino, description_inside, to_runtime("openvino")),
    Target("litert", _tflite, any_bytes, to_runtime("litert")),
)
