"""Folders for other systems: what each of them, emulated by a few lines of its own rules or run, finds in a photograph."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import children
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
sys.path.append(str(PHOTOS.parent / "benchmarks" / "programs"))
from target_system import SCORE, SYSTEMS  # noqa: E402


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


def read_by(name, folder):
    """A system of the benchmark on a folder, for `found_again`."""
    call = SYSTEMS[name](folder)

    def system(image):
        rows = np.array(call(image)).reshape(-1, 6)
        return rows[:, 2:] / ([image.shape[1], image.shape[0]] * 2), rows[:, 0]

    return system


@pytest.mark.parametrize("name", [name for name, row in TARGETS.items() if not row.calibrates and name != "train-ssd"])
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

    assert found_again(truth, read_by("frigate-openvino", folder)) == 1


def test_frigate_s_onnx_detector_finds_it(tmp_path, truth):
    """As frigate/detectors/plugins/onnx.py, model_type yolonas: flat rows until the first class below 0, pixels."""
    import onnxruntime

    folder = export(BUNDLED, tmp_path / "frigate", "--target", "frigate", "--gpu")
    assert "model_type: yolonas" in (folder / "config.yml").read_text()
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (given,) = session.get_inputs()
    assert given.shape == [1, 300, 300, 3] and session.get_outputs()[0].shape == [100, 7]
    assert found_again(truth, read_by("frigate-onnx", folder)) == 1


def test_exported_files_become_frigate_s_too(small, tmp_path):
    """So int8 ones do: what is in front of the raw outputs is left as it is, and so is what the card says of it."""
    from detection.runtimes import onnxruntime
    from detection.runtimes import openvino_model as openvino
    from detection.runtimes.openvino_library import core

    weights = open_weights(small)
    card = dataclasses.replace(weights.card, precision="int8")
    source = tmp_path / "small.xml"
    openvino.save(openvino.read_model(core(), openvino.converted(weights)), source, card.to_json())
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
    assert found_again(truth, read_by("jetson", folder)) >= 0.95


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
    done = children.run(command, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    answers = iter(json.loads(done.stdout))

    def system(image):
        rows = next(answers)
        return [np.array(box) / 300 for _, box in rows], [kind for kind, _ in rows]

    assert found_again(truth, system) == 1


def test_tensorrt_s_graph_is_symmetric_and_says_nearly_the_same(small, tmp_path, capsys):
    import onnx
    from onnx import numpy_helper

    images = tmp_path / "images"
    images.mkdir()
    for k in range(12):  # parts of the photographs, enough to measure ranges on
        whole = cv2.imread(str(sorted(PHOTOS.glob("*.jpg"))[k % 3]))
        cv2.imwrite(str(images / f"{k}.png"), whole[10 * k : 200 + 10 * k, 20 * k : 250 + 20 * k])
    command = ["export", str(small), "--target", "tensorrt-onnx", "--output", str(tmp_path / "out"), "--threads", "1"]
    assert main(command) == 2 and "give --images DIR" in capsys.readouterr().err
    assert main([*command, "--images", str(images)]) == 0
    model = onnx.load(tmp_path / "out" / "model.onnx")
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    rounded = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(rounded) > 100
    assert all(values[node.input[2]].dtype == np.int8 and not values[node.input[2]].any() for node in rounded)
    assert [value.type.tensor_type.elem_type for value in model.graph.input] == [onnx.TensorProto.FLOAT]
    detector = Detector(tmp_path / "out" / "model.onnx", threads=1)
    assert detector.runtime.precision == "int8" and len(detector(rgb(PHOTOS / "hopper.jpg"))) > 0
    assert "trtexec" in (tmp_path / "out" / "build.sh").read_text()


def test_hailo_s_end_nodes_give_its_order_and_the_anchors_stand_beside_them(small, tmp_path):
    """As hailort's SSD post-processing reads them: ty, tx, th, tw of each anchor of a cell, cell by cell."""
    import onnx
    import onnxruntime

    folder = export(small, tmp_path / "hailo", "--target", "hailo")
    about, config = (json.loads((folder / name).read_text()) for name in ("hailo.json", "nms_config.json"))
    assert (config["classes"], config["image_dims"], config["centers_scale_factor"]) == (4, [97, 131], 10)
    model, nodes = onnx.load(folder / "model.onnx"), {}
    for node in model.graph.node:
        nodes[node.name] = node.output[0]
    for pair in about["end_nodes"]:
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(nodes[name]) for name in pair)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    fed = np.random.default_rng(0).uniform(-1, 1, (1, 3, 97, 131)).astype(np.float32)
    encodings, logits, *maps = session.run(None, {"images": fed})
    boxes = np.concatenate([one[0].transpose(1, 2, 0).reshape(-1, 4) for one in maps[::2]])
    assert np.array_equal(boxes[:, [1, 0, 3, 2]], encodings[0])
    scores = np.concatenate([one[0].transpose(1, 2, 0).reshape(-1, 4) for one in maps[1::2]])
    assert np.array_equal(scores, logits[0])
    sizes = [np.stack([one["w"], one["h"]], 1) for one in config["bbox_decoders"]]
    cells = [one.shape[2] * one.shape[3] for one in maps[::2]]
    assert np.allclose(
        np.concatenate([np.tile(s, (n, 1)) for s, n in zip(sizes, cells)]), np.load(folder / "anchors.npy")[:, 2:]
    )
    assert 'nms_postprocess("nms_config.json", ssd' in (folder / "model.alls").read_text()


TOOLKITS = {
    "rknn/__init__.py": "",
    "rknn/api.py": """
import json
class RKNN:
    said = {}
    def config(self, **options): self.said["config"] = options
    def load_onnx(self, model): return int(not open(model, "rb").read(1))
    def build(self, **options): self.said["build"] = options
    def export_rknn(self, path):
        with open(path, "w") as file: json.dump(self.said, file)
        return 0
""",
    "hailo_sdk_client.py": """
import json
class ClientRunner:
    def __init__(self, hw_arch): self.said = {"chip": hw_arch}
    def translate_onnx_model(self, model, name, start_node_names, end_node_names): self.ends = end_node_names
    def get_hn(self):
        return {"layers": {f"mobilessd/conv{k}": {"original_names": [name]} for k, name in enumerate(self.ends)}}
    def load_model_script(self, name): self.said["script"] = open(name).read()
    def optimize(self, images): self.said["images"] = [list(images.shape), str(images.dtype), int(images[0].sum())]
    def compile(self): return json.dumps(self.said).encode()
""",
}


@pytest.fixture
def toolkit(tmp_path):
    """Runs a script of a folder from elsewhere, beside toolkits that note what they are asked for, and without the package."""
    for name, text in TOOLKITS.items():
        (tmp_path / "kits" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "kits" / name).write_text(text)
    images = tmp_path / "images" / "deeper"
    images.mkdir(parents=True)
    (images / "broken.jpg").write_bytes(b"no image")
    for k in range(12):
        cv2.imwrite(str(images / f"{k:02}.webp"), np.full((60, 40, 3), (10, 20, 30 + k), np.uint8))

    def run(script, *words):
        environment = os.environ | {"PYTHONPATH": str(tmp_path / "kits")}
        command = [sys.executable, str(script), *words]
        return children.run(command, cwd=tmp_path, env=environment)

    return run


def test_rockchip_s_script_builds_float16_or_int8_from_a_folder_of_images(small, tmp_path, toolkit):
    folder = export(small, tmp_path / "rknn", "--target", "rknn")
    done = toolkit(folder / "convert.py", "rk3566")
    assert done.returncode == 0, done.stderr
    said = json.loads((folder / "model.rknn").read_text())
    assert said["config"] == {"mean_values": [[127.5] * 3], "std_values": [[127.5] * 3], "target_platform": "rk3566"}
    assert said["build"] == {"do_quantization": False, "dataset": None} and not (folder / "dataset.txt").exists()

    assert toolkit(folder / "convert.py", "rk3588", "images").returncode == 0
    said = json.loads((folder / "model.rknn").read_text())
    assert said["build"] == {"do_quantization": True, "dataset": str(folder / "dataset.txt")}
    names = (folder / "dataset.txt").read_text().splitlines()
    assert len(names) == 12
    first = cv2.imread(str(folder / names[0]))
    assert first.shape == (97, 131, 3) and first[0, 0].tolist() == [10, 20, 30]

    (tmp_path / "few").mkdir()
    done = toolkit(folder / "convert.py", "rk3588", "few")
    assert (
        done.returncode == 1
        and done.stderr == "few: 0 images are too few; give 10 or more like those to come, best 300\n"
    )


def test_hailo_s_script_compiles_with_a_folder_of_images_or_an_array(small, tmp_path, toolkit):
    folder = export(small, tmp_path / "hailo", "--target", "hailo")
    done = toolkit(folder / "compile.py", "images", "hailo8l")
    assert done.returncode == 0, done.stderr
    said = json.loads((folder / "model.hef").read_text())
    assert said["chip"] == "hailo8l" and said["script"] == (folder / "model.alls").read_text()
    assert said["images"] == [[12, 97, 131, 3], "uint8", 97 * 131 * 60]
    decoders = json.loads((folder / "nms_config.json").read_text())["bbox_decoders"]
    assert [(one["reg_layer"], one["cls_layer"]) for one in decoders] == [
        (f"conv{2 * k}", f"conv{2 * k + 1}") for k in range(6)
    ]
    np.save(tmp_path / "some.npy", np.zeros((64, 97, 131, 3), np.uint8))
    assert toolkit(folder / "compile.py", "some.npy").returncode == 0
    assert json.loads((folder / "model.hef").read_text())["images"] == [[64, 97, 131, 3], "uint8", 0]


def test_core_ml_s_model_takes_images_and_knows_its_classes(small, tmp_path):
    """Its specification; what it computes can be seen on Apple's systems alone."""
    coremltools = pytest.importorskip("coremltools", reason="needs coremltools: pip install 'mobilessd[coreml]'")
    folder = export(small, tmp_path / "coreml", "--target", "coreml")
    spec = coremltools.utils.load_spec(str(folder / "model.mlmodel"))
    coremltools.models.MLModel(spec, skip_model_load=True)
    (given,) = spec.description.input
    image = given.type.imageType
    assert (given.name, image.height, image.width) == ("images", 97, 131)
    assert image.ColorSpace.Name(image.colorSpace) == "RGB"
    (scaler,) = (step.scaler for step in spec.neuralNetwork.preprocessing)
    assert scaler.channelScale == pytest.approx(1 / 127.5)
    assert (scaler.redBias, scaler.greenBias, scaler.blueBias) == (-1, -1, -1)
    assert [output.name for output in spec.description.output] == ["encodings", "logits"]
    about = spec.description.metadata.userDefined
    assert about["classes"] == "a\nb\nc d\n" and json.loads(about["mobilessd_card"])["class_names"] == ["a", "b", "c d"]
    made = {name for layer in spec.neuralNetwork.layers for name in layer.output}
    assert {"encodings", "logits"} <= made and not {
        layer.WhichOneof("layer") for layer in spec.neuralNetwork.layers
    } & {"custom"}


def test_ncnn_finds_it(tmp_path, truth):
    """pnnx's files, run by the folder's own script."""
    pytest.importorskip("ncnn", reason="needs ncnn: pip install ncnn pnnx")
    pnnx = Path(sys.executable).with_name("pnnx")
    if not pnnx.exists():
        pytest.skip("needs pnnx: pip install ncnn pnnx")
    folder = export(BUNDLED, tmp_path / "ncnn", "--target", "ncnn")
    subprocess.run([pnnx, "model.onnx", "inputshape=[1,3,300,300]"], cwd=folder, capture_output=True, check=True)
    assert found_again(truth, read_by("ncnn", folder)) == 1


@pytest.mark.parametrize(
    ("system", "module"),
    [("frigate-cpu", "ai_edge_litert"), ("mediapipe", "mediapipe"), ("task-library", "tflite_support")],
)
def test_readers_of_tflite_find_it(tmp_path, truth, system, module):
    """The bundled weights, converted here; tests/test_targets_tflite.py has what needs no converter."""
    pytest.importorskip(module, reason=f"needs {module}: pip install {module.replace('_', '-')}")
    pytest.importorskip("litert_torch", reason="needs litert-torch, in an environment of its own")
    folder = export(BUNDLED, tmp_path / "tflite", "--target", "tflite-ssd")
    assert found_again(truth, read_by(system, folder)) >= 0.93


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
