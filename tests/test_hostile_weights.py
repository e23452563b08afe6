"""Weights files made to do harm are one line each, soon and within little memory; what they point at is never opened."""

import json
import os
import pickle
import resource
import shutil
import time
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from frozen_files import write_checkpoint, write_frozen_graph, write_tfjs, write_tflite
from frozen_networks import ssd_v1, ssdlite_v2
from random_networks import random_network

from detection.cli.main import main
from detection.errors import BadWeightsError, MobileSSDError, printable
from detection.ssd.network import feature_maps
from detection.weights.card import Card
from detection.weights.card_files import CARD, tflite_card
from detection.weights.checkpoint import load_checkpoint, save_checkpoint
from detection.weights.importers.schema import message
from detection.weights.importers.table import import_detector
from detection.weights.names import load
from detection.weights.resolve import open_weights


@pytest.fixture(scope="module")
def tfjs(tmp_path_factory):
    return write_tfjs(ssdlite_v2(), tmp_path_factory.mktemp("tfjs") / "model")


@pytest.fixture
def copy(tfjs, tmp_path):
    return shutil.copytree(tfjs, tmp_path / "model")


@pytest.fixture(scope="module")
def network():
    return random_network("ssdlite_mobilenet_v2", alpha=0.25, input_size=96)


def card_of(network, **changes):
    return Card(network.spec.to_dict(), ("cat", "dog", "bird"), (1, 2, 5), feature_maps(network), **changes)


def refused(read, *words):
    """One line with these words, within ten seconds of processor time and little memory."""
    with limited(), pytest.raises(BadWeightsError) as error:
        read()
    said = str(error.value)
    assert printable(said) == said and len(said) <= 500 and all(word in said for word in words), said
    return said


@contextmanager
def limited():
    """What is done inside takes ten seconds of processor time and 200 MB at most."""
    seconds, kilobytes = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - seconds < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - kilobytes < 200_000


# Files that belong to a file ------------------------------------------------------------------------------------------


def rename_shard(folder, name):
    model = json.loads((folder / "model.json").read_text())
    model["weightsManifest"][0]["paths"][0] = name
    (folder / "model.json").write_text(json.dumps(model))


@pytest.mark.parametrize(
    "name", ["../secret", "/dev/zero", "sub/../../secret", "..\\secret", "", "..", ".", "a\0b", None, 3]
)
def test_a_shard_is_a_plain_name_in_the_folder(copy, name):
    (copy.parent / "secret").write_bytes(b"password" * 1000)
    rename_shard(copy, name)
    said = refused(lambda: import_detector(copy), "model.json")
    assert "passw" not in said and "it was not opened" in said


def test_a_link_that_leads_out_of_the_folder_is_not_followed(copy):
    shard = copy / "group1-shard1of5"
    (copy.parent / "secret").write_bytes(shard.read_bytes())
    shard.unlink()
    shard.symlink_to(copy.parent / "secret")
    refused(lambda: import_detector(copy), "group1-shard1of5 leads out of its folder")


def test_links_into_one_folder_of_content_are_those_of_hugging_face(tfjs, tmp_path):
    for file in tfjs.iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert import_detector(tmp_path / "model.json")[1].class_names


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_shard_that_is_no_regular_file_is_not_read(copy, kind):
    shard = copy / "group1-shard1of5"
    shard.unlink()
    if kind == "pipe":
        os.mkfifo(shard)
    elif kind == "folder":
        shard.mkdir()
    else:
        shard.symlink_to("/dev/zero")
    refused(lambda: import_detector(copy), "group1-shard1of5")


def test_one_shard_a_thousand_times_is_read_once_at_most(copy):
    model = json.loads((copy / "model.json").read_text())
    model["weightsManifest"][0]["paths"] *= 1000
    (copy / "model.json").write_text(json.dumps(model))
    refused(lambda: import_detector(copy), "names a weight shard twice")


def test_the_numbers_of_a_tensorflow_checkpoint_lie_in_its_folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    path = write_checkpoint(ssd_v1(), folder)
    shard = next(folder.glob("*.data-*"))
    shard.rename(tmp_path / "elsewhere")
    shard.symlink_to(tmp_path / "elsewhere")
    refused(lambda: import_detector(path), "leads out of its folder")


@pytest.mark.parametrize("name", ["w.tflite", "w.onnx", "w.xml", "w.pth", "w.safetensors", "w.pb", "model.json", "w"])
def test_a_pipe_in_the_place_of_weights_is_told_at_once(tmp_path, name, capsys):
    os.mkfifo(tmp_path / name)
    refused(lambda: load(tmp_path / name), name, "is no regular file")
    assert main(["info", str(tmp_path / name)]) == 2
    assert "is no regular file" in capsys.readouterr().err


# Graphs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["Identity", "Relu6", "Reshape", "Add", "BiasAdd", "ConcatV2", "Mul", "Conv2D"])
def test_a_node_that_is_its_own_input_is_no_endless_walk(copy, op):
    model = json.loads((copy / "model.json").read_text())
    node = [node for node in model["modelTopology"]["node"] if node["op"] == op][-1]
    node["input"][0] = node["name"]
    (copy / "model.json").write_text(json.dumps(model))
    refused(lambda: import_detector(copy), "model.json")


def test_two_nodes_that_are_each_other_s_input_are_no_endless_walk(copy):
    model = json.loads((copy / "model.json").read_text())
    nodes = {node["name"]: node for node in model["modelTopology"]["node"]}
    first = nodes["concat"]["input"][0]
    nodes[first]["op"], nodes[first]["input"] = "Identity", ["other"]
    model["modelTopology"]["node"].append({"op": "Identity", "name": "other", "input": [first], "attr": {}})
    (copy / "model.json").write_text(json.dumps(model))
    refused(lambda: import_detector(copy), "model.json")


def test_a_shape_below_zero_and_one_of_any_size_are_one_line(copy):
    model = json.loads((copy / "model.json").read_text())
    for shape, words in (([-1, 7], "[-1, 7]"), ([10**6, 10**6], "end"), (3, "damaged")):
        model["weightsManifest"][0]["weights"][0]["shape"] = shape
        (copy / "model.json").write_text(json.dumps(model))
        refused(lambda: import_detector(copy), words)


def test_constants_of_any_size_in_a_few_bytes_are_counted_together(tmp_path):
    graph = message("GraphDef")
    for i in range(40):  # each may be so large, all together may not
        tensor = graph.node.add(name=f"c{i}", op="Const")
        attr = tensor.attr.add(key="value")
        attr.value.tensor.dtype = 1
        attr.value.tensor.tensor_shape.dim.add(size=1 << 22)
        attr.value.tensor.float_val.append(1)
    (tmp_path / "a.pb").write_bytes(graph.SerializeToString())
    with pytest.raises(BadWeightsError, match="more than 67,108,864 numbers"):
        import_detector(tmp_path / "a.pb")


def test_a_message_of_a_million_empty_parts_is_counted_before_it_is_read(tmp_path):
    path = write_frozen_graph(ssd_v1(), tmp_path / "a.pb")
    path.write_bytes(path.read_bytes() + b"\x0a\x00" * 600_000)
    refused(lambda: import_detector(path), "a.pb")


def test_keys_of_a_checkpoint_are_few_and_short(tmp_path):
    from frozen_files import _block, _varint

    def index(entries, times=1):
        table, empty = _block(entries), _block([])
        handle = _varint(0) + _varint(len(table) - 5)
        directory = _block([(b"%07d" % i, handle) for i in range(times)])
        at = len(table)
        ends = _varint(at) + _varint(len(empty) - 5) + _varint(at + len(empty)) + _varint(len(directory) - 5)
        footer = ends.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")
        (tmp_path / "a.index").write_bytes(table + empty + directory + footer)
        return tmp_path / "a.index"

    long = [(b"k" * 5000 + b"%d" % i, b"") for i in range(3)]
    refused(lambda: import_detector(index(long)), "its keys are too many, too long")
    refused(lambda: import_detector(index([(b"a%d" % i, b"") for i in range(1000)], times=2000)), "twice")


def test_tensors_of_a_tflite_file_that_share_their_bytes_are_counted(tmp_path):
    import tflite

    data = bytearray(write_tflite(ssd_v1(), tmp_path / "a.tflite").read_bytes())
    graph = tflite.Model.GetRootAs(data, 0).Subgraphs(0)
    field = graph._tab.Offset(4)
    vector = graph._tab.Vector(field)
    sizes = [np.prod(graph.Tensors(i).ShapeAsNumpy()) for i in range(graph.TensorsLength())]
    largest = int(np.argmax([size if graph.Tensors(i).Buffer() else 0 for i, size in enumerate(sizes)]))
    for i in range(graph.TensorsLength()):  # all are the largest
        at = vector + 4 * i
        data[at : at + 4] = (int(graph.Tensors(largest)._tab.Pos) - at).to_bytes(4, "little", signed=True)
    (tmp_path / "a.tflite").write_bytes(data)
    refused(lambda: import_detector(tmp_path / "a.tflite"), "share")


# Zips and pickles -----------------------------------------------------------------------------------------------------


def with_zip(path, name, size):
    """A member of zeros, a thousandth as large as what it unfolds to."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(info, "w", force_zip64=True) as file:
            for _ in range(size >> 20):
                file.write(bytes(1 << 20))
    return path


def test_a_card_that_unfolds_to_gigabytes_is_not_unfolded(tmp_path):
    path = with_zip(write_tflite(ssd_v1(), tmp_path / "a.tflite"), f"{CARD}.json", 32 << 20)
    refused(lambda: open_weights(path), "its card unfolds to 33,554,432 bytes")


def test_a_card_that_lies_about_its_size_is_cut_there(tmp_path):
    path = with_zip(write_tflite(ssd_v1(), tmp_path / "a.tflite"), f"{CARD}.json", 12 << 20)
    data = path.read_bytes()
    at = data.rindex(b"PK\x01\x02")
    path.write_bytes(data[: at + 24] + (100).to_bytes(4, "little") + data[at + 28 :])
    with limited():
        tflite_card(path)  # no error: such a zip has no readable card


def test_labels_that_unfold_to_gigabytes_are_passed_over(tmp_path):
    path = with_zip(write_tflite(ssd_v1(), tmp_path / "a.tflite"), "labelmap.txt", 32 << 20)
    with limited():
        assert import_detector(path)[1].class_names


@pytest.mark.parametrize("name", ["a.tflite", "a.pth"])
@pytest.mark.parametrize("members, words", [(10_001, "10,001 members"), (60_000, "a zip whose directory has")])
def test_a_zip_of_very_many_members_is_not_opened(tmp_path, name, members, words):
    empty = write_tflite(ssdlite_v2(), tmp_path / "whole.tflite").read_bytes() if name == "a.tflite" else b""
    (tmp_path / name).write_bytes(empty)
    with zipfile.ZipFile(tmp_path / name, "a") as archive:
        for number in range(members):
            archive.writestr(f"{number:030}", b"")
    refused(lambda: load(tmp_path / name), words)


def test_a_damaged_card_in_a_zip_is_one_line(tmp_path):
    path = write_tflite(ssd_v1(), tmp_path / "a.tflite")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{CARD}.json", '{"spec": 1}' * 1000)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x03\x04") + 30 + len(CARD) + 5 + 4
    data[at] ^= 0xFF
    path.write_bytes(data)
    refused(lambda: open_weights(path), "a.tflite")


def pth(path, content, compress=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return path


def test_a_pth_that_unfolds_to_gigabytes_is_not_read(tmp_path):
    path = pth(tmp_path / "a.pth", pickle.dumps({"a": 1}, 2), zipfile.ZIP_DEFLATED)
    with_zip(path, "archive/data/0", 32 << 20)
    refused(lambda: load(path), "unfolds from", "which no weights do")


BEGIN, END = b"\x80\x02", b"."


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BEGIN + b"c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R" + END, "holds code or objects"),
        (BEGIN + b"}" * 1_100_000 + END, "describes more objects"),
        (BEGIN + b"]" * (17 << 20) + END, "says 17,825,795 bytes about its tensors"),
        (BEGIN + b"ccollections\nOrderedDict\nq\x00" + b"h\x00)R" * 110_000 + END, "describes more objects"),
        (BEGIN + b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x08\x00\x00\x00punycode\x86R" + END, "holds code or objects"),
    ],
)
def test_a_pickle_that_asks_for_memory_is_not_unpickled(tmp_path, content, words):
    refused(lambda: load(pth(tmp_path / "a.pth", content)), "a.pth", words)
    if "says" not in words:  # the form before zips
        (tmp_path / "b.pth").write_bytes(content)
        refused(lambda: load(tmp_path / "b.pth"), "b.pth", words)


def test_one_number_for_a_tensor_of_any_shape_is_no_weight(tmp_path):
    torch.save({"a.weight": torch.zeros((), dtype=torch.float16).expand(70_000, 70_000)}, tmp_path / "a.pth")
    refused(lambda: load(tmp_path / "a.pth"), "4,900,000,000 numbers in")


# Cards ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [50_000, 1_000_000])
def test_a_card_of_more_classes_than_its_file_has_columns_asks_for_no_memory(tmp_path, network, number):
    card = card_of(network)
    card.class_names, card.category_ids = tuple(map(str, range(number))), ()
    card.spec = card.spec | {"num_classes": number}
    save_checkpoint(tmp_path / "a.safetensors", network, card)
    words = "does not fit its own card|num_classes: 1e\\+06 is not from 1 to 100000"
    with limited(), pytest.raises(BadWeightsError, match=words):
        load_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize("size", [[20_000, 20_000], [0, 300], [10**9, 1], [-1, 5], [10**400, 1], [1e999, 1]])
def test_an_input_of_any_size_is_told_before_a_runtime_makes_room_for_it(network, size):
    card = card_of(network)
    card.spec = card.spec | {"input": {"size": size}}
    with pytest.raises(BadWeightsError, match="input"):
        _ = card.input_size


def test_a_card_and_a_header_have_a_size(tmp_path):
    with pytest.raises(BadWeightsError, match="its card has 16,777,217 characters"):
        Card.from_json("x" * ((1 << 24) + 1), "w")
    path = tmp_path / "a.safetensors"
    path.write_bytes((40_000_000).to_bytes(8, "little") + b"{" + b" " * 39_999_999)
    refused(lambda: load_checkpoint(path), "a header of 40,000,000 bytes")


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1 << 60]}},
        {"a": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 8]}},
        {"a": {"dtype": "X9", "shape": [2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        {"a": [], "__metadata__": {"card": 3}},
    ],
)
def test_a_header_that_lies_is_one_line(tmp_path, header):
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    refused(lambda: load(tmp_path / "a.safetensors"), "a.safetensors")


# Errors ---------------------------------------------------------------------------------------------------------------


def test_an_error_is_one_line_of_at_most_500_printable_characters():
    said = str(MobileSSDError("w.onnx: " + "\x1b[2J\n" * 1000 + "export it again"))
    assert said.isprintable() and len(said) <= 500
    assert said.startswith("w.onnx: \\x1b[2J\\n") and said.endswith("export it again")
    assert str(MobileSSDError("the \ud800 and \u202e of a name")) == "the \\ud800 and \\u202e of a name"
    assert str(MobileSSDError("Größe: 3")) == "Größe: 3"


# ONNX -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    from detection.runtimes import onnx_graph

    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    onnx_graph.save(onnx_graph.convert(network), path, card_of(network))
    return onnx.load(path)


def outside(model, place):
    model.graph.initializer[0].data_location = 1
    model.graph.initializer[0].external_data.add(key="location", value=place)


def add(model, op, inputs, name="new", **attributes):
    import onnx

    model.graph.node.insert(0, onnx.helper.make_node(op, inputs, [name], **attributes))


def constant(model, name, values):
    import onnx

    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(values), name))


def loop(model):
    import onnx

    body = onnx.helper.make_graph([], "body", [], [])
    add(model, "Loop", ["", ""], body=body)


def doubling(model):
    """Thirty steps, each twice as large as the one before."""
    nodes, before = [], "pictures"
    import onnx

    for i in range(30):
        nodes.append(onnx.helper.make_node("Concat", [before, before], [f"double{i}"], axis=1))
        before = f"double{i}"
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def outer(model):
    """Two columns of a hundred thousand numbers that are multiplied to a square."""
    constant(model, "column", np.zeros((100_000, 1), np.float32))
    constant(model, "row", np.zeros((1, 100_000), np.float32))
    add(model, "Mul", ["column", "row"])


def first_convolution(model, **changes):
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    for attribute in node.attribute:
        if attribute.name in changes:
            del attribute.ints[:]
            attribute.ints.extend(changes[attribute.name])


def in_a_circle(model):
    node = next(node for node in model.graph.node if node.op_type == "Add" or node.op_type == "Clip")
    node.input[0] = node.output[0]


def pad(model):
    constant(model, "sides", np.array([0, 16384, 16384, 0, 0, 16384, 16384, 0]))
    add(model, "Pad", ["pictures", "sides"])


def resize(model):
    constant(model, "sizes", np.array([1, 100_000, 100_000, 3]))
    add(model, "Resize", ["pictures", "", "", "sizes"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda model: outside(model, "*/_ORT_MEM_ADDR_/*"), "its numbers lie in another file"),
        (lambda model: outside(model, "/etc/passwd"), "its numbers lie in another file"),
        (lambda model: model.opset_import.add(domain="", version=10**9), "operators of version 1000000000"),
        (lambda model: setattr(model.opset_import[0], "version", 10**9), "operators of version 1000000000"),
        (loop, "Loop holds a graph of its own"),
        (lambda model: add(model, "RandomNormal", []), "'RandomNormal' is none that detectors"),
        (lambda model: add(model, "Relu", ["pictures"], domain="com.stranger"), "an operator of 'com.stranger'"),
        (doubling, "Concat asks for more than 268,435,456 numbers at a time"),
        (outer, "Mul asks for more than 268,435,456 numbers at a time"),
        (pad, "Pad asks for more than 268,435,456 numbers at a time"),
        (resize, "Resize asks for more than 268,435,456 numbers at a time"),
        (in_a_circle, "nothing before"),
        (lambda model: first_convolution(model, strides=[0, 0]), "steps or borders that no layer has"),
        (lambda model: first_convolution(model, pads=[10**6] * 4), "steps or borders that no layer has"),
        (lambda model: first_convolution(model, dilations=[1024, 1024]), "smaller than itself"),
        (lambda model: model.graph.initializer[0].dims.append(10**6), "holds"),
        (lambda model: model.graph.initializer[0].dims.append(-1), "of the shape"),
        (lambda model: model.functions.add(name="f"), "it holds functions"),
        (lambda model: model.graph.sparse_initializer.add(), "sparse"),
        (lambda model: model.graph.node.append(model.graph.node[5]), "is made twice"),
        (lambda model: setattr(model.graph.output[0], "name", "x"), "it has no outputs encodings and logits"),
        (lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", 1), "its input is no uint8 image"),
    ],
)
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_graph_that_is_not_as_we_export_is_given_to_no_runtime(
    exported, tmp_path, monkeypatch, change, words, runtime
):
    pytest.importorskip(runtime)
    from detection.detector import Detector
    from detection.runtimes import onnxruntime, openvino

    for module in (onnxruntime, openvino):
        monkeypatch.setattr(module, "open_session" if module is onnxruntime else "read_model", None)
    model = type(exported)()
    model.CopyFrom(exported)
    change(model)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    refused(lambda: Detector(tmp_path / "model.onnx", runtime=runtime, threads=1), "model.onnx: was not opened:", words)


@pytest.mark.parametrize("name", [b"encodings", b"pictures"])
def test_a_flipped_byte_in_a_name_is_one_line(exported, tmp_path, name):
    from detection.detector import Detector

    data = exported.SerializeToString()
    for at in (data.index(name), data.rindex(name)):
        (tmp_path / "model.onnx").write_bytes(data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :])
        refused(lambda: Detector(tmp_path / "model.onnx", threads=1), "model.onnx")


def test_a_teacher_s_graph_holds_its_own_numbers_and_no_loops(exported, tmp_path):
    from detection.train.teachers.onnx import onnx_labeler

    for change, words in (
        (lambda model: outside(model, "../../numbers"), "its numbers lie in another file"),
        (loop, "Loop holds a graph of its own"),
        (lambda model: setattr(model.opset_import[0], "version", 10**9), "operators of version"),
    ):
        model = type(exported)()
        model.CopyFrom(exported)
        change(model)
        (tmp_path / "teacher.onnx").write_bytes(model.SerializeToString())
        refused(lambda: onnx_labeler(tmp_path / "teacher.onnx"), "teacher.onnx: was not opened", words)
