"""Folders for other systems: what each of them, emulated by a few lines of its own rules or run, finds in a photograph."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from oracle import rgb
from random_networks import random_network

from detection import Detector
from detection.boxes.geometry import iou_matrix
from detection.cli.main import main
from detection.export.targets.table import COMMON, TARGETS
from detection.ssd.network import feature_maps
from detection.weights.card import Card
from detection.weights.checkpoint import save_checkpoint
from detection.weights.resolve import open_weights

pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytest.importorskip("openvino", reason="needs openvino")

PHOTOS = Path(__file__).resolve().parents[1] / "photos"
BUNDLED = "ssdlite_mobilenet_v2.mobilessd"
SCORE = 0.4


def export(weights, folder, *options):
    command = ["export", str(weights), "--output", str(folder), "--images", str(PHOTOS), "--threads", "1", *options]
    assert main(command) == 0
    return folder


def weights_of(folder, name, **options):
    ssd = random_network(name, **options)
    path = folder / f"{name}.safetensors"
    card = Card(ssd.spec.to_dict(), ("a", "b", "c d"), (1, 2, 3), feature_maps(ssd), name=name, score_threshold=0.4)
    save_checkpoint(path, ssd, card)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    return weights_of(folder, "ssdlite_mobilenet_v2", alpha=0.25, input_size=(97, 131))


@pytest.fixture(scope="module")
def truth():
    """Of each photograph at the network's size: RGB, and what our float32 finds above 0.4."""
    detector = Detector(BUNDLED, runtime="openvino", precision="float32", score=SCORE, threads=1)
    images = [detector.prepare([rgb(path)])[0] for path in sorted(PHOTOS.glob("*.jpg"))]
    found = [(image, detector(image)) for image in images]
    assert sum(len(one) for _, one in found) >= 4
    return found


def found_again(truth, system):
    """The share of what `truth` holds that the system (RGB -> boxes in fractions, classes from 0) finds: same class, IoU 0.5."""
    total = hits = 0
    for image, wanted in truth:
        boxes, classes = (np.asarray(part) for part in system(image))
        scale = np.array([image.shape[1], image.shape[0]] * 2)
        for box, kind in zip(wanted.boxes, wanted.class_ids):
            same = boxes[classes == kind] * scale if len(boxes) else np.zeros((0, 4))
            total, hits = total + 1, hits + bool(len(same) and iou_matrix(box[None], same).max() >= 0.5)
    return hits / total


@pytest.mark.parametrize("name", list(TARGETS))
def test_a_folder_holds_what_its_row_says_and_is_read_back(small, tmp_path, name):
    for module in TARGETS[name].needs:
        pytest.importorskip(module, reason=f"needs {module}")
    folder = export(small, tmp_path / "out", "--target", name)
    made = {file.name for file in folder.iterdir()}
    assert set(COMMON) <= made <= {*COMMON, *TARGETS[name].files}
    labels = (folder / "labels.txt").read_text().splitlines()
    assert labels == (["BACKGROUND"] if name == "jetson" else []) + ["a", "b", "c d"]
    model = next(folder / file for file in ("model.xml", "model.onnx", "model.tflite") if file in made)
    image = rgb(PHOTOS / "hopper.jpg")
    limits = {"score": 0.5, "max_detections": 10, "threads": 1}
    ours, theirs = Detector(model, **limits)(image), Detector(small, "cpu", "torch", **limits)(image)
    assert len(ours) == len(theirs) and ours.names == theirs.names
    assert np.allclose(ours.scores, theirs.scores, atol=1e-4) and np.allclose(ours.boxes, theirs.boxes, atol=0.5)
    assert len((folder / "README.md").read_text().splitlines()) <= 14
    export(small, folder, "--target", name)  # an older one is replaced


def test_frigate_s_openvino_detector_finds_it(tmp_path, truth):
    """As frigate/detectors/plugins/openvino.py, model_type ssd: one output, read until the first weak row."""
    import openvino

    folder = export(BUNDLED, tmp_path / "frigate", "--target", "frigate")
    config = (folder / "config.yml").read_text()
    assert "model_type: ssd" in config and "input_pixel_format: rgb" in config and "width: 300" in config
    core = openvino.Core()
    model = core.read_model(folder / "model.xml")
    assert len(model.outputs) == 1 and model.outputs[0].get_shape() == [1, 1, 20, 7]
    assert model.inputs[0].get_shape() == [1, 300, 300, 3] and model.inputs[0].get_element_type() == openvino.Type.u8
    request = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()

    def system(image):
        request.infer([image[None]])
        kept = []
        for row in request.get_output_tensor(0).data[0, 0]:
            if row[2] < SCORE - 1e-4:
                break
            kept.append(row.copy())
        rows = np.array(kept).reshape(-1, 7)
        return rows[:, 3:], rows[:, 1]

    assert found_again(truth, system) == 1


def test_frigate_s_onnx_detector_finds_it(tmp_path, truth):
    """As frigate/detectors/plugins/onnx.py, model_type yolonas: flat rows until the first class below 0, pixels."""
    import onnxruntime

    folder = export(BUNDLED, tmp_path / "frigate", "--target", "frigate", "--gpu")
    assert "model_type: yolonas" in (folder / "config.yml").read_text()
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (given,) = session.get_inputs()
    assert given.shape == [1, 300, 300, 3] and session.get_outputs()[0].shape == [100, 7]

    def system(image):
        rows = session.run(None, {given.name: image[None]})[0]
        end = int(np.argmax(rows[:, 6] < 0)) if (rows[:, 6] < 0).any() else len(rows)
        return rows[:20][:end, 1:5] / 300, rows[:20][:end, 6]

    assert found_again(truth, system) == 1


def test_exported_files_become_frigate_s_too(small, tmp_path):
    """So int8 ones do: what is in front of the raw outputs is left as it is, and so is what the card says of it."""
    from detection.runtimes import onnxruntime, openvino

    weights = open_weights(small)
    card = dataclasses.replace(weights.card, precision="int8")
    source = tmp_path / "small.xml"
    openvino.save(openvino.read_model(openvino.core(), openvino.converted(weights)), source, card.to_json())
    folder = export(source, tmp_path / "frigate", "--target", "frigate")
    assert open_weights(folder / "model.xml").card.precision == "int8"
    export(onnxruntime.converted(weights), folder, "--target", "frigate", "--gpu")
    assert not (folder / "model.xml").exists() and open_weights(folder / "model.onnx").card.interface == "yolonas"


def test_detectnet_finds_it(tmp_path, truth):
    """As c/detectNet.cpp: postProcessSSD_ONNX (the best class of each anchor from column 1 on) and clusterDetections (a box
    that overlaps a kept one by more than 0.75 of the larger area is merged into it)."""
    import onnxruntime

    folder = export(BUNDLED, tmp_path / "jetson", "--target", "jetson")
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("input_0", [1, 3, 300, 300])]
    assert [o.name for o in session.get_outputs()] == ["scores", "boxes"]
    assert "--output-cvg=scores --output-bbox=boxes" in (folder / "detect.sh").read_text()

    def system(image):
        fed = ((image.astype(np.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]
        scores, boxes = (output[0] for output in session.run(["scores", "boxes"], {"input_0": fed}))
        kept = []
        for anchor in np.flatnonzero(scores[:, 1:].max(1) >= SCORE - 1e-4):
            kind, box = int(scores[anchor, 1:].argmax()), boxes[anchor].copy()
            score = scores[anchor, 1 + kind]
            for other in kept:
                area = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other[0])]
                sides = np.minimum(box[2:], other[0][2:]) - np.maximum(box[:2], other[0][:2])
                if (sides > 0).all() and sides.prod() / max(area) > 0.75:
                    if kind == other[1]:
                        other[0] = np.r_[np.minimum(box[:2], other[0][:2]), np.maximum(box[2:], other[0][2:])]
                        other[2] = max(score, other[2])
                    elif score > other[2]:
                        other[:] = [box, kind, score]
                    break
            else:
                kept.append([box, kind, score])
        return [one[0] for one in kept], [one[1] for one in kept]

    assert found_again(truth, system) >= 0.95


@pytest.mark.parametrize("opset", [11, 17])
def test_the_core_graph_has_plain_floats_and_the_opset_asked_for(small, tmp_path, opset):
    import onnx

    folder = export(small, tmp_path / "core", "--target", "core-onnx", "--opset", str(opset))
    model = onnx.load(folder / "model.onnx")
    assert [one.version for one in model.opset_import if not one.domain] == [opset]
    assert not {"Cast", "Shape", "NonZero", "Mod", "Loop", "If"} & {node.op_type for node in model.graph.node}
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert all(side.dim_value > 0 for side in value.type.tensor_type.shape.dim)
    about = json.loads((folder / "input.json").read_text())
    assert about["input"]["shape"] == [1, 3, 97, 131] and about["scores"] == "sigmoid"


def test_a_network_of_another_normalisation_and_softmax_takes_the_same_input(tmp_path):
    source = weights_of(tmp_path, "ssdlite_mobilenet_v2", alpha=0.25, input_size=96, layout="qfgaohao")
    assert open_weights(source).card.spec["input"]["mean"] == [127.0] * 3
    assert open_weights(source).card.spec["scores"] == "softmax"
    for name in ("core-onnx", "jetson"):  # each compares itself with its source
        export(source, tmp_path / name, "--target", name)


def test_opencv_s_script_detects_by_itself(tmp_path, truth):
    folder = export(BUNDLED, tmp_path / "opencv", "--target", "opencv")
    code = "import detect, cv2, sys, json; d = detect.Detector(); "
    code += "print(json.dumps([[(d.names.index(n), b) for n, s, b in d(cv2.imread(f))] for f in sys.argv[1:]]));"
    code += "assert not {'torch', 'detection', 'onnxruntime'} & set(sys.modules)"
    files = []
    for k, (image, _) in enumerate(truth):
        files.append(str(tmp_path / f"{k}.png"))
        cv2.imwrite(files[-1], image[..., ::-1])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", code, *files]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    answers = iter(json.loads(done.stdout))

    def system(image):
        rows = next(answers)
        return [np.array(box) / 300 for _, box in rows], [kind for kind, _ in rows]

    assert found_again(truth, system) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--target", "frigate"], "give --output DIR"),
        (["--gpu", "--output", "out"], "--gpu: belongs to a --target"),
        (["--target", "jetson", "--gpu", "--output", "out"], "--gpu: means nothing for --target jetson"),
        (["--target", "frigate", "--opset", "11", "--output", "out"], "--opset: means nothing"),
        (["--target", "jetson", "--nms", "--output", "out"], "leave --nms out"),
        (["--target", "jetson", "--precision", "float16", "--output", "out"], "leave --precision out"),
        (["--target", "jetson", "--output", "mine"], "mine: holds other files (notes.txt)"),
        (["--target", "jetson", "--output", "mine/notes.txt"], "is a file; name a folder"),
    ],
)
def test_wishes_that_cannot_be_are_one_line(small, tmp_path, capsys, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert main(["export", str(small), *options]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and words in said
    assert [p.name for p in tmp_path.iterdir()] == ["mine"] and (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_a_folder_s_model_is_no_source_for_others(small, tmp_path, capsys):
    model = export(small, tmp_path / "core", "--target", "core-onnx") / "model.onnx"
    capsys.readouterr()
    for command in (
        ["export", str(model), "--target", "frigate", "--gpu", "--output", str(tmp_path / "o")],
        ["export", str(model), "--bundle", str(tmp_path / "o")],
        ["quantize", str(model), "--images", str(PHOTOS), "--output", str(tmp_path / "o.onnx")],
    ):
        assert main(command) == 2
        assert "made for another system" in capsys.readouterr().err
