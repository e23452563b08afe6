"""Files that run as they are (.tflite, OpenVINO's .xml) and are not as we export: none of them reaches LiteRT or OpenVINO."""

import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest
from frozen_files import TFLiteWriter, write_tflite
from frozen_networks import ssdlite_v2
from random_networks import random_network

from detection.cli.main import main
from detection.errors import BadWeightsError, printable
from detection.ssd.network import feature_maps
from detection.weights.card import Card
from detection.weights.openvino_check import check_openvino
from detection.weights.tflite_check import check_tflite


def refused(read, *words):
    began = time.process_time()
    with pytest.raises(BadWeightsError) as error:
        read()
    said = str(error.value)
    assert printable(said) == said and len(said) <= 500 and all(word in said for word in words), said
    assert time.process_time() - began < 5


# .tflite --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def writer():
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert, which has the schema")
    return TFLiteWriter()


def numbers(writer, name, values):
    return writer.tensor(name, np.shape(values), values, np.int32)


def pad(writer, image):
    sides = numbers(writer, "sides", [[0, 0], [16384, 16384], [16384, 16384], [0, 0]])
    writer.operator("PAD", [image, sides], [writer.tensor("large", (1, 8, 8, 3))])


def resize(writer, image):
    sizes = numbers(writer, "size", [2**31 - 1, 2**31 - 1])
    writer.operator("RESIZE_NEAREST_NEIGHBOR", [image, sizes], [writer.tensor("large", (1, 8, 8, 3))])


def tile(writer, image):
    writer.operator(
        "TILE", [image, numbers(writer, "times", [1, 9999, 9999, 1])], [writer.tensor("large", (1, 8, 8, 3))]
    )


def loop(writer, image):
    writer.operator("WHILE", [image], [writer.tensor("again", (1, 8, 8, 3))])


def circle(writer, image):
    later = writer.tensor("later", (1, 8, 8, 3))
    writer.operator("ADD", [image, later], [later])


def product(writer, image):
    """Two rows and columns whose sum is 10^10 numbers, which the file says are 192."""
    row, column = (
        numbers(writer, name, shape) for name, shape in (("row", [1, 192, 1, 1]), ("column", [1, 1, 192, 1]))
    )
    made = [writer.tensor(name, (1, 8, 8, 3)) for name in ("a", "b", "c", "d", "e", "f")]
    writer.operator("RESHAPE", [image, row], [made[0]])
    writer.operator("RESHAPE", [image, column], [made[1]])
    writer.operator("ADD", made[:2], [made[2]])
    for k, shape in ((3, [1, 36864, 1, 1]), (4, [1, 1, 36864, 1])):
        writer.operator("RESHAPE", [made[2], numbers(writer, f"shape{k}", shape)], [made[k]])
    writer.operator("ADD", made[3:5], [made[5]])


def no_tensor(writer, image):
    writer.operator("ADD", [image, 99], [writer.tensor("sum", (1, 8, 8, 3))])


def short(writer, image):
    writer.tensor("short", (1, 8, 8, 3), np.zeros(7))


def declared(writer, image):
    writer.tensor("large", (1, 2**31 - 1, 2**31 - 1, 3))


def outside(writer, image):
    writer.tensor("far", (4,), np.zeros(4))
    writer.model.buffers[-1].data, writer.model.buffers[-1].offset, writer.model.buffers[-1].size = None, 4096, 16


def scales(writer, image):
    writer.tensor("many", (4,), np.zeros(4), np.int8, scale=np.ones(1000))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (pad, "PAD asks for more than 268,435,456 numbers"),
        (resize, "RESIZE_NEAREST_NEIGHBOR asks for more"),
        (tile, "the operator 'TILE'"),
        (loop, "the operator 'WHILE'"),
        (circle, "nothing before ADD makes what it reads"),
        (product, "ADD asks for more"),
        (no_tensor, "a tensor that it does not have"),
        (short, "holds 28 bytes"),
        (declared, "a tensor of the shape"),
        (outside, "outside its graph"),
        (scales, "1000 scales"),
    ],
)
def test_a_tflite_file_that_asks_for_what_no_detector_does_is_not_given_to_litert(tmp_path, writer, change, words):
    image = writer.tensor("image", (1, 8, 8, 3))
    change(writer, image)
    last = len(writer.graph.tensors) - 1
    writer.write(tmp_path / "a.tflite", [image], [last])
    refused(lambda: check_tflite(tmp_path / "a.tflite", (8, 8)), "a.tflite: was not opened:", words)


def test_a_network_that_sees_bgr_is_let_through(tmp_path, writer):
    """REVERSE_V2, as litert-torch writes it for Caffe's layout."""
    image, turned = writer.tensor("image", (1, 8, 8, 3)), writer.tensor("turned", (1, 8, 8, 3))
    writer.operator("REVERSE_V2", [image, numbers(writer, "axis", [3])], [turned])
    writer.write(tmp_path / "a.tflite", [image], [turned])
    check_tflite(tmp_path / "a.tflite", (8, 8))


def test_an_input_of_another_size_and_a_file_cut_short_are_one_line(tmp_path):
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert, which has the schema")
    network = ssdlite_v2()
    file = write_tflite(network, tmp_path / "detect.tflite")
    check_tflite(file, (network.size, network.size))
    refused(lambda: check_tflite(file, (20_000, 20_000)), "its input is no image of 20000 x 20000 pixels")
    file.write_bytes(file.read_bytes()[:5000])
    refused(lambda: check_tflite(file, (network.size, network.size)), "detect.tflite:")


def test_the_interpreter_is_opened_behind_the_check(tmp_path, monkeypatch):
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    from ai_edge_litert import interpreter

    from detection.runtimes import litert

    monkeypatch.setattr(interpreter, "Interpreter", None)
    network = ssdlite_v2()
    file = write_tflite(network, tmp_path / "detect.tflite")
    refused(lambda: litert.open_interpreter(file, (7, 7), 1), "was not opened")


# OpenVINO -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    pytest.importorskip("openvino", reason="needs openvino")
    from detection.runtimes import openvino_model as openvino

    network = random_network("ssdlite_mobilenet_v2", alpha=0.25, input_size=96)
    path = tmp_path_factory.mktemp("openvino") / "model.xml"
    card = Card(network.spec.to_dict(), ("cat", "dog", "bird"), (1, 2, 5), feature_maps(network))
    openvino.save(openvino.convert(network), path, card.to_json())
    return path


@pytest.fixture
def copy(exported, tmp_path):
    for file in (exported, exported.with_suffix(".bin")):
        shutil.copy(file, tmp_path)
    return tmp_path / "model.xml"


LAYER = '<layer id="9999" name="x" type="{}" version="{}" />'
BOMB = "<!DOCTYPE net [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;'>]>"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('<?xml version="1.0"?>', f'<?xml version="1.0"?>{BOMB}', "it declares entities or a document type"),
        ("<layers>", "<layers>" + LAYER.format("TensorIterator", "opset1"), "the operator 'TensorIterator'"),
        ("<layers>", "<layers>" + LAYER.format("Range", "opset4"), "the operator 'Range'"),
        ("<layers>", "<layers>" + LAYER.format("Add", "extension"), "the operator 'Add'"),
        ("<layers>", "<layers>" + "<a>" * 30 + "</a>" * 30, "more than 16 elements within one another"),
        ('id="1"', 'id="0"', "a layer of the number '0'"),
        (
            'shape="1, 3, 1, 1" offset="32" size="12"',
            'shape="1, 3, 1, 1" offset="99999999" size="12"',
            "numbers of the shape",
        ),
        (
            'shape="1, 3, 1, 1" offset="32" size="12"',
            'shape="1, 3000, 1, 1" offset="32" size="12"',
            "numbers of the shape",
        ),
        (
            'shape="1, 3, 1, 1" offset="32" size="12"',
            'shape="1, 3, 1, 1" offset="-9" size="12"',
            "numbers of the shape",
        ),
        ("<dim>96</dim>", "<dim>999999999</dim>", "more than 268,435,456 numbers"),
        ("<dim>96</dim>", "<dim>many</dim>", "not a whole OpenVINO file"),
        (
            "<edges>",
            '<edges><edge from-layer="77777" from-port="0" to-layer="1" to-port="0" />',
            "an edge leads to no layer",
        ),
        ("<edges>", '<edges><edge from-layer="7" from-port="0" to-layer="1" to-port="0" />', "in a circle"),
        ("</net>", "</ne", "model.xml:"),
    ],
)
def test_a_description_that_is_not_as_we_export_is_not_given_to_openvino(copy, monkeypatch, old, new, words):
    from detection.runtimes import openvino_model as openvino

    text = copy.read_text()
    assert old in text
    copy.write_text(text.replace(old, new, 1))
    nobody = SimpleNamespace(read_model=None)
    refused(lambda: openvino.read_model(nobody, copy), "model.xml", words)


def test_very_many_layers_are_counted(copy):
    layers = "".join(
        f'<layer id="{number}" name="x" type="Add" version="opset1" />' for number in range(10_000, 40_000)
    )
    copy.write_text(copy.read_text().replace("<layers>", f"<layers>{layers}", 1))
    refused(lambda: check_openvino(copy), "more than 20,000 operators")


def test_numbers_that_are_cut_off_are_told(copy):
    copy.with_suffix(".bin").write_bytes(copy.with_suffix(".bin").read_bytes()[:1000])
    refused(lambda: check_openvino(copy), "numbers of the shape", "of 1,000 bytes")


def test_what_a_file_says_of_its_sizes_is_not_believed(copy, capsys):
    """OpenVINO works the sizes out by itself; they are looked at again before anything is compiled."""
    text = copy.read_text()
    assert 'shape="?,96,96,3"' in text
    copy.write_text(text.replace('shape="?,96,96,3"', 'shape="?,9600,9600,3"', 1))
    image = copy.parent / "a.png"
    image.write_bytes(b"")
    assert main(["detect", str(image), "--weights", str(copy), "--threads", "1"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_more_work_than_detectors_do_is_told(exported, monkeypatch):
    from detection.runtimes import openvino_library
    from detection.runtimes import openvino_model as openvino

    model = openvino.read_model(openvino_library.core(), exported)
    model.reshape([1, 96, 96, 3])
    openvino.check_model(model, exported)
    monkeypatch.setattr(openvino, "MOST_WORK", 1_000_000)
    refused(lambda: openvino.check_model(model, exported), "more than 1,000,000 multiply-adds")
