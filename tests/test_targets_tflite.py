"""TensorFlow Lite with its own post-processing, written behind a raw file: what LiteRT, MediaPipe and the Task Library find.

litert-torch, which makes raw files of networks, is not needed: a raw file here is a graph that takes encodings and logits
out of the image's own bytes.
"""

import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
from random_networks import random_network

from detection import Detector
from detection.boxes.anchors import anchors_for
from detection.cli.main import main
from detection.export.targets.tflite_ssd import FastNMS
from detection.export.tflite_graph import Graph
from detection.postprocessor import PostProcessor
from detection.ssd.network import feature_maps
from detection.weights.card import Card
from detection.weights.card_check import spec_of
from detection.weights.card_files import add_tflite_card
from detection.weights.resolve import open_weights

pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
SIZE = (97, 131)


def raw_file(path, layout="tensorflow", precision="float32"):
    """A file as `mobilessd export` writes it: uint8 RGB [1, h, w, 3] -> encodings [1, A, 4], logits [1, A, 4]."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    ssd = random_network("ssdlite_mobilenet_v2", alpha=0.25, input_size=SIZE, **({"layout": layout} if layout else {}))
    names = ("a cat", "b", "c")
    card = Card(ssd.spec.to_dict(), names, (1, 2, 3), feature_maps(ssd), name="made", precision=precision)
    card = replace(card, score_threshold=0.4)
    spec = spec_of(card, "")
    count = len(anchors_for(spec.anchors, card.feature_maps, spec.input.size, card.anchor_grids))
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], [schema.BufferT()], []
    graph.tensors, graph.operators = [], []
    kinds = schema.TensorType

    def tensor(name, shape, kind=kinds.FLOAT32, value=None):
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, list(shape), kind, 0
        if value is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(
                np.asarray(value, np.int32 if kind == kinds.INT32 else np.float32).tobytes(), np.uint8
            )
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    def add(op, inputs, output):
        code, made = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, op)
        code.version = 1
        model.operatorCodes.append(code)
        made.opcodeIndex, made.inputs, made.outputs = len(model.operatorCodes) - 1, inputs, [output]
        if hasattr(schema, f"{op.title()}OptionsT"):
            made.builtinOptionsType = getattr(schema.BuiltinOptions, f"{op.title()}Options")
            made.builtinOptions = getattr(schema, f"{op.title()}OptionsT")()
        graph.operators.append(made)
        return output

    def part(start, name, scale):
        ends = [
            tensor(f"{name}/{k}", [2], kinds.INT32, v) for k, v in (("begin", [0, start]), ("size", [1, 4 * count]))
        ]
        cut = add("SLICE", [flat, *ends], tensor(f"{name}/cut", [1, 4 * count]))
        shape = tensor(f"{name}/shape", [3], kinds.INT32, [1, count, 4])
        shaped = add("RESHAPE", [cut, shape], tensor(f"{name}/shaped", [1, count, 4]))
        less = tensor(f"{name}/less", [1], value=[-128.0])
        centred = add("ADD", [shaped, less], tensor(f"{name}/centred", [1, count, 4]))
        factor = tensor(f"{name}/factor", [1], value=[scale])
        return add("MUL", [centred, factor], tensor(name, [1, count, 4]))

    given = tensor("images", [1, *SIZE, 3], kinds.UINT8)
    real = add("CAST", [given], tensor("real", [1, *SIZE, 3]))
    whole = tensor("whole", [2], kinds.INT32, [1, SIZE[0] * SIZE[1] * 3])
    flat = add("RESHAPE", [real, whole], tensor("flat", [1, SIZE[0] * SIZE[1] * 3]))
    graph.inputs, graph.outputs = [given], [part(0, "output_0", 0.02), part(9000, "output_1", 0.03)]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [schema.TensorMapT()], [schema.TensorMapT(), schema.TensorMapT()]
    for entry, name, number in zip(
        signature.inputs + signature.outputs, ("args_0", "output_0", "output_1"), graph.inputs + graph.outputs
    ):
        entry.name, entry.tensorIndex = name, number
    model.signatureDefs = [signature]
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    add_tflite_card(path, card.to_json())
    return path


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A raw file, and the folder made of it."""
    place = tmp_path_factory.mktemp("made")
    raw = raw_file(place / "raw.tflite")
    assert main(["export", str(raw), "--target", "tflite-ssd", "--output", str(place / "out"), "--threads", "1"]) == 0
    return raw, place / "out"


def test_four_outputs_in_the_order_that_applications_read(made, noise):
    from ai_edge_litert.interpreter import Interpreter

    net = Interpreter(str(made[1] / "model.tflite"), num_threads=1)
    net.allocate_tensors()
    (given,) = net.get_input_details()
    assert (given["dtype"], list(given["shape"])) == (np.uint8, [1, *SIZE, 3])
    assert [list(one["shape"]) for one in net.get_output_details()] == [[1, 100, 4], [1, 100], [1, 100], [1]]
    assert all(one["dtype"] == np.float32 for one in net.get_output_details())
    net.set_tensor(given["index"], noise[None])
    net.invoke()
    boxes, classes, scores, count = (net.get_tensor(one["index"])[0] for one in net.get_output_details())
    wanted = by_the_rules(made[0], noise)
    assert 20 < len(wanted) == count
    assert np.array_equal(classes[: len(wanted)], wanted.class_ids)
    assert np.allclose(scores[: len(wanted)], wanted.scores, atol=1e-5) and (np.diff(scores) <= 0).all()
    scale = np.array([SIZE[0], SIZE[1]] * 2)  # y1, x1, y2, x2
    assert np.allclose(np.clip(boxes, 0, 1) * scale, wanted.boxes[:, [1, 0, 3, 2]], atol=1e-3)


def by_the_rules(raw, image):
    """What our raw outputs give by the operator's rules."""
    detector = Detector(raw, threads=1, merge="nms")
    encodings, logits = detector.runtime(image[None])
    return FastNMS.of_file(detector.postprocessor)(encodings[0], logits[0], image.shape[:2])


def test_the_operator_s_rules_are_not_ours(made, noise):
    """Of each anchor one class, and one suppression for all classes."""
    theirs = by_the_rules(made[0], noise)
    card = open_weights(made[0]).card
    ours = PostProcessor.of(card, score=0.01, merge="nms", max_detections=1000)
    raw = Detector(made[0], threads=1).runtime(noise[None])
    assert len(ours(raw[0][0], raw[1][0], SIZE)) > 2 * len(theirs)


def test_a_detector_reads_the_folder_back(made, noise):
    detector = Detector(made[1] / "model.tflite", score=0.5, iou=1.0, merge="nms", threads=1)
    assert str(detector.runtime).startswith("litert on cpu, float32")
    wanted = by_the_rules(made[0], noise).above(0.5)
    found = detector(noise)
    assert found.names == wanted.names and np.allclose(found.boxes, wanted.boxes, atol=0.01)


def test_metadata_labels_and_card_lie_in_the_file(made):
    with zipfile.ZipFile(made[1] / "model.tflite") as archive:
        assert archive.read("labels.txt").decode() == (made[1] / "labels.txt").read_text() == "a cat\nb\nc\n"
        # MediaPipe reads nothing that is folded
        assert all(one.compress_type == zipfile.ZIP_STORED for one in archive.infolist())
        assert "mobilessd_card.json" in archive.namelist()
    whole = (made[1] / "model.tflite").read_bytes()
    assert b"M001" in whole and b"TFLITE_METADATA" in whole and b"detection_result" in whole


def test_softmax_scores_and_int8_files_become_it_too(tmp_path):
    raw = raw_file(tmp_path / "raw.tflite", "qfgaohao", "int8")
    assert main(["export", str(raw), "--target", "tflite-ssd", "--output", str(tmp_path / "out")]) == 0
    card = open_weights(tmp_path / "out" / "model.tflite").card
    assert card.precision == "int8" and card.spec["scores"] == "softmax"
    assert "edgetpu_compiler" in (tmp_path / "out" / "README.md").read_text()


def test_int8_files_are_made_of_float_ones(made, tmp_path):
    """Calibrated on twelve images; the bytes of an image become int8 without floats between, as Coral's compiler wants it."""
    pytest.importorskip("ai_edge_quantizer", reason="needs ai-edge-quantizer: pip install 'mobilessd[tflite-int8]'")
    chance = np.random.default_rng(1)
    images = tmp_path / "images"
    images.mkdir()
    for k in range(12):
        cv2.imwrite(str(images / f"{k}.png"), chance.integers(0, 256, (*SIZE, 3), np.uint8))
    output = tmp_path / "int8.tflite"
    command = ["quantize", str(made[0]), "--images", str(images), "--output", str(output), "--no-timing"]
    assert main([*command, "--threads", "1"]) == 0
    graph = Graph(output)
    first = graph.model.operatorCodes[graph.graph.operators[0].opcodeIndex].builtinCode
    assert first == graph.schema.BuiltinOperator.QUANTIZE
    detector = Detector(output, threads=1)
    assert detector.runtime.precision == "int8"
    encodings, _ = detector.runtime(chance.integers(0, 256, (1, *SIZE, 3), np.uint8))
    assert encodings.dtype == np.float32 and np.abs(encodings).max() > 1
    assert main(["export", str(output), "--target", "tflite-ssd", "--output", str(tmp_path / "out")]) == 0


def test_a_file_for_mediapipe_makes_larger_images_smaller_as_training_did(made, noise, tmp_path):
    """Its input is 640 x 640, so that MediaPipe's own resize shifts less; read back it says what the other folder says."""
    from ai_edge_litert.interpreter import Interpreter

    for raw in (made[0], raw_file(tmp_path / "raw8.tflite", precision="int8")):
        out = tmp_path / raw.stem
        assert main(["export", str(raw), "--target", "mediapipe", "--output", str(out), "--threads", "1"]) == 0
        assert {file.name for file in out.iterdir()} == {"model.tflite", "labels.txt", "README.md"}
        net = Interpreter(str(out / "model.tflite"), num_threads=1)
        net.allocate_tensors()
        (given,) = net.get_input_details()
        assert (given["dtype"], list(given["shape"])) == (np.uint8, [1, 640, 640, 3])
        large = np.random.default_rng(5).integers(0, 256, (640, 640, 3), np.uint8)
        net.set_tensor(given["index"], large[None])
        net.invoke()
        scores = net.get_tensor(net.get_output_details()[2]["index"])[0]
        wanted = by_the_rules(made[0], cv2.resize(large, SIZE[::-1])).scores
        assert np.allclose(scores[: len(wanted)], wanted, atol=0.02)  # its rounding is another one than OpenCV's
    found, wanted = (
        Detector(folder / "model.tflite", score=0.5, iou=1.0, merge="nms", threads=1)(noise)
        for folder in (tmp_path / made[0].stem, made[1])
    )
    assert len(found) > 5 and found.names == wanted.names
    assert np.array_equal(found.boxes, wanted.boxes) and np.array_equal(found.scores, wanted.scores)


def test_a_damaged_file_is_one_line(tmp_path, capsys):
    raw = raw_file(tmp_path / "raw.tflite")
    card = open_weights(raw).card
    raw.write_bytes(raw.read_bytes()[:400])
    add_tflite_card(raw, card.to_json())
    assert main(["export", str(raw), "--target", "tflite-ssd", "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "raw.tflite" in said
    assert not (tmp_path / "out").exists()


def test_mediapipe_finds_the_same(made, noise):
    """With its own resize, on an image of the network's own size."""
    mediapipe = pytest.importorskip("mediapipe", reason="needs mediapipe: pip install mediapipe")
    from mediapipe.tasks.python import BaseOptions, vision

    base = BaseOptions(model_asset_path=str(made[1] / "model.tflite"))
    options = vision.ObjectDetectorOptions(base_options=base, score_threshold=0.5, max_results=100)
    with vision.ObjectDetector.create_from_options(options) as detector:
        found = detector.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=noise)).detections
    wanted = by_the_rules(made[0], noise).above(0.5)
    assert [one.categories[0].category_name for one in found] == list(wanted.names)
    corners = np.array(
        [(b.origin_x, b.origin_y, b.origin_x + b.width, b.origin_y + b.height) for b in (o.bounding_box for o in found)]
    )
    # of a box that leaves the image it moves the corner and keeps the size
    inside = ((wanted.boxes > 0) & (wanted.boxes < [SIZE[1], SIZE[0]] * 2)).all(1)
    assert inside.sum() > 20 and np.abs(corners - wanted.boxes)[inside].max() <= 2  # whole pixels
