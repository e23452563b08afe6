"""Export: every architecture says the same in every form and batch; what differs is not written; no torch needed."""

import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys

import children
import cv2
import numpy as np
import pytest
from oracle import rgb, some_images
from random_networks import random_network

from detection import Detector
from detection.boxes.geometry import BoxCoder
from detection.boxes.postprocess import PostSettings, in_pixels, select
from detection.cli.main import main
from detection.errors import MobileSSDError
from detection.export import compare as comparing
from detection.export.graphs import write_onnx, write_openvino
from detection.export.single_file import inlined
from detection.export.write import Wish, export
from detection.runtimes.open import open_runtime
from detection.runtimes.openvino import check_model, core, read_model
from detection.ssd.families import list_architectures
from detection.ssd.network import feature_maps
from detection.weights.card import Card
from detection.weights.checkpoint import save_checkpoint
from detection.weights.onnx_check import check_onnx
from detection.weights.resolve import open_weights

pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytest.importorskip("openvino", reason="needs openvino")

# Small enough for seconds; heights and widths that no stride divides.
SMALL = {
    "ssd_mobilenet_v2_fpnlite": {"alpha": 0.35, "input_size": (128, 160), "channels": 32},
    "ssd300_vgg16": {"input_size": 273},
    "ssd512_vgg16": {"input_size": 321},
}
USUAL = {"alpha": 0.25, "input_size": (97, 131)}


def small_network(name, seed=0):
    """Small enough for seconds."""
    return random_network(name, seed, **SMALL.get(name, USUAL))


def checkpoint(folder, name, ssd=None):
    ssd = ssd or small_network(name)
    path = folder / f"{name}.safetensors"
    card = Card(ssd.spec.to_dict(), ("a", "b", "c"), (1, 2, 3), feature_maps(ssd), name=name, score_threshold=0.4)
    save_checkpoint(path, ssd, card)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("small"), "ssdlite_mobilenet_v2")


@pytest.fixture(scope="module")
def exported(small):
    """The same weights as .onnx and .xml, with NMS inside the former."""
    source = open_weights(small)
    files = small.with_suffix(".onnx"), small.with_suffix(".xml")
    export(source, Wish(files[0], "onnx", nms=PostSettings(0.4)), threads=1)
    export(source, Wish(files[1], "openvino"), threads=1)
    return files


@pytest.mark.parametrize("name", list_architectures())
def test_every_architecture_says_the_same_in_every_form(tmp_path, name):
    source = open_weights(checkpoint(tmp_path, name))
    numbers = (1, 2) if "vgg" in name else (1, 2, 8)
    chance = np.random.default_rng(0)
    batches = [chance.integers(0, 255, (n, *source.card.input_size, 3), np.uint8) for n in numbers]
    theirs = open_runtime(source, "torch", "cpu", threads=2)
    wanted = [theirs(batch) for batch in batches]
    for runtime in ("onnxruntime", "openvino"):  # each converts for itself, as export does
        ours = open_runtime(source, runtime, threads=2)
        for batch, outputs in zip(batches, wanted):
            for a, b in zip(ours(batch), outputs):
                assert comparing.difference(a, b) <= 1e-4


OTHERS = [("ssd_mobilenet_v1", "caffe"), ("ssdlite_mobilenet_v2", "torchvision")]  # BGR; softmax


@pytest.mark.parametrize(("name", "layout"), [*((name, None) for name in list_architectures()), *OTHERS])
def test_no_export_of_ours_is_refused_by_what_looks_at_files_of_strangers(tmp_path, name, layout):
    ssd = random_network(name, **SMALL.get(name, USUAL) | {"alpha": 0.25} | ({"layout": layout} if layout else {}))
    card = Card(ssd.spec.to_dict(), ("a", "b", "c"), (1, 2, 3), feature_maps(ssd), name=name)
    write_onnx(ssd, tmp_path / "a.onnx", card, half=True, nms=PostSettings(0.4))
    check_onnx(tmp_path / "a.onnx", card.input_size)
    write_openvino(ssd, tmp_path / "a.xml", card)
    check_model(read_model(core(), tmp_path / "a.xml"), tmp_path / "a.xml")


@pytest.mark.parametrize("name", ["ssdlite_mobilenet_v1", "ssdlite_mobilenet_v3_large"])
def test_an_untrained_network_whose_scores_are_all_alike_is_written(tmp_path, name):
    target = tmp_path / "untrained.xml"
    export(open_weights(checkpoint(tmp_path, name, random_network(name))), Wish(target, "openvino"), threads=1)
    assert target.exists()


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_images_of_odd_sizes_give_the_same_detections(small, exported, form):
    ours = Detector(exported[form == "openvino"], threads=1, score=0.05)
    theirs = Detector(small, "cpu", "torch", threads=1, score=0.05)
    for image in comparing.sample_images(None):
        wanted, found = theirs(image), ours(image)
        assert comparing.match(wanted, found)[:2] == (len(wanted), 0) and len(wanted) > 5


def test_nms_in_the_graph_is_our_post_processing(exported):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported[0])
    assert [o.name for o in session.get_outputs()] == ["boxes", "scores", "classes", "count", "encodings", "logits"]
    detector = Detector(exported[0], runtime="onnxruntime")  # its threshold is the card's: 0.4
    samples = comparing.sample_images(None, 3)
    boxes, scores, classes, count = session.run(None, {"pictures": detector.prepare(samples)})[:4]
    for k, image in enumerate(samples):
        found, n = detector(image), int(count[k])
        size = np.array([image.shape[1], image.shape[0]] * 2)
        assert n == len(found) and scores[k, n:].max(initial=0) == 0 and (classes[k, n:] == -1).all()
        assert np.allclose(scores[k, :n], found.scores, atol=1e-6) and (classes[k, :n] == found.class_ids).all()
        assert np.allclose(boxes[k, :n] * size, found.boxes, atol=1e-3)


def test_exported_files_run_from_the_path_alone_without_torch_or_onnx(exported, tmp_path):
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), comparing.sample_images(None, 1)[0])
    code = (
        "import sys\n"
        "from detection import Detector\n"
        "for path, runtime in zip(sys.argv[1:4], ('onnxruntime', 'openvino', 'auto')):\n"
        "    assert len(Detector(path, runtime=runtime)(sys.argv[4])) > 0\n"
        "assert 'torch' not in sys.modules and 'onnx' not in sys.modules, 'imported'\n"
        "assert 'openvino_telemetry' not in sys.modules, 'telemetry'\n"
    )
    command = [sys.executable, "-c", code, *map(str, (exported[0], exported[0], exported[1])), str(image)]
    done = children.run(command)
    assert done.returncode == 0, done.stderr


def test_the_card_travels(small, exported):
    for file in exported:
        card = open_weights(file).card
        assert (card.name, card.class_names) == (open_weights(small).card.name, ("a", "b", "c"))


def test_float16_weights_are_half_the_size_and_nearly_the_same(small, tmp_path, exported):
    for form, suffix in (("onnx", ".onnx"), ("openvino", ".xml")):
        target = tmp_path / f"half{suffix}"
        export(open_weights(small), Wish(target, form, "float16"), threads=1)
        big, little = small.with_suffix(".bin"), target.with_suffix(".bin")
        if form == "onnx":
            big, little = exported[0], target
        assert little.stat().st_size < 0.6 * big.stat().st_size
        assert open_weights(target).card.precision == "float16"


@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
def test_a_file_that_differs_is_not_written_and_an_older_one_stays(small, tmp_path, monkeypatch, name):
    monkeypatch.setitem(comparing.TOLERANCES, "float32", -1.0)
    target = tmp_path / name
    target.write_text("older")
    with pytest.raises(MobileSSDError, match=f"{name}: not written: the exported network is not its source") as error:
        export(open_weights(small), Wish(target, "onnx" if name.endswith("onnx") else "openvino"), threads=1)
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == [name] and target.read_text() == "older"


def test_the_command_compares_ap_where_there_is_ground_truth(small, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    drawn = comparing.sample_images(None, 4)
    for k, image in enumerate(drawn):
        cv2.imwrite(str(folder / f"{k}.png"), image)
    images = [
        {"id": k, "file_name": f"{k}.png", "height": p.shape[0], "width": p.shape[1]} for k, p in enumerate(drawn)
    ]
    found = Detector(small, "cpu", "torch", threads=1)
    rows = [r for k, p in enumerate(drawn) for r in found(p[..., ::-1]).to_coco(k)[:3]]
    objects = [r | {"id": n + 1, "area": r["bbox"][2] * r["bbox"][3], "iscrowd": 0} for n, r in enumerate(rows)]
    categories = [{"id": k + 1, "name": name} for k, name in enumerate("abc")]
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"images": images, "annotations": objects, "categories": categories}))
    command = [
        "export",
        str(small),
        "--output",
        str(tmp_path / "m.onnx"),
        "--data",
        str(truth),
        "--images",
        str(folder),
    ]
    assert main([*command, "--threads", "1"]) == 0
    said = capsys.readouterr().out
    assert "m.onnx: onnx, float32 weights" in said and "on 4 images" in said and "AP 1.0000, source 1.0000" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["W"], "nothing to write"),
        (["W", "--output", "m.pb"], "which format?"),
        (["W", "--output", "m.onnx", "--format", "openvino"], "is called m.xml"),
        (["X", "--output", "m.onnx"], "an exported file already"),
        (["W", "--output", "m.onnx", "--images", "EMPTY"], "holds no images|no image|nothing"),
    ],
)
def test_wishes_that_cannot_be_are_one_line(small, exported, tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    known = {"W": str(small), "X": str(exported[1])}
    assert main(["export", *(known.get(a, a) for a in arguments)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and pytest.importorskip("re").search(words, said)
    assert sorted(os.listdir(tmp_path)) == ["EMPTY"]


@pytest.mark.parametrize("which", ["bin missing", "bin cut", "xml cut", "no card"])
def test_a_damaged_openvino_file_is_one_line(exported, tmp_path, which):
    xml, binary = tmp_path / "m.xml", tmp_path / "m.bin"
    xml.write_bytes(exported[1].read_bytes())
    data = exported[1].with_suffix(".bin").read_bytes()
    if which != "bin missing":
        binary.write_bytes(data[: len(data) // 2] if which == "bin cut" else data)
    if which == "xml cut":
        xml.write_bytes(xml.read_bytes()[:2000])
    if which == "no card":
        xml.write_text(xml.read_text().replace("<card", "<other"))
    with pytest.raises(MobileSSDError) as error:
        Detector(xml)
    assert "m.xml" in str(error.value) and "\n" not in str(error.value)


def wanted_of_tiles(weights, form, image):
    return Detector(weights, runtime=("onnxruntime", "openvino")[form], threads=1, tiles="2x2")(image).names


@pytest.mark.parametrize("form", [0, 1])
def test_a_bundle_detects_by_itself_what_the_detector_detects(exported, tmp_path, form):
    assert main(["export", str(exported[form]), "--bundle", str(tmp_path / "bundle")]) == 0
    image = comparing.sample_images(None, 2)[1]
    if form:  # a large one, which both average first
        image = cv2.resize(image, (2401, 1701), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "image.png"), image[..., ::-1])
    code = "import detect, cv2, sys, json; found = detect.Detector(threads=1)(cv2.imread(sys.argv[1]));"
    code += "print(json.dumps([(n, s, [float(v) for v in box]) for n, s, box in found]));"
    code += "assert 'torch' not in sys.modules and 'detection' not in sys.modules"
    command = [sys.executable, "-c", code, str(tmp_path / "image.png")]
    done = children.run(command, cwd=tmp_path / "bundle")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    wanted = Detector(exported[form], runtime=("onnxruntime", "openvino")[form], threads=1)(image)
    assert [name for name, _, _ in found] == wanted.names and len(found) > 0
    assert [s for _, s, _ in found] == wanted.scores.tolist() and [b for _, _, b in found] == wanted.boxes.tolist()
    tiled = "import detect, cv2, sys; found = detect.Detector(threads=1, views='2x2')(cv2.imread(sys.argv[1]));"
    tiled += "print(*[n for n, _, _ in found], sep=',')"
    done = children.run([*command[:2], tiled, command[3]], cwd=tmp_path / "bundle")
    assert done.stdout.strip().split(",") == wanted_of_tiles(exported[form], form, image), done.stderr
    script = [sys.executable, "detect.py", str(tmp_path / "image.png"), "--views", "300,512"]
    done = children.run(script, cwd=tmp_path / "bundle")
    assert done.returncode == 2 and "one input size" in done.stderr and done.stderr.count("\n") == 1
    script = [sys.executable, "detect.py", str(tmp_path / "image.png"), "--output", str(tmp_path / "drawn.jpg")]
    assert subprocess.run(script, capture_output=True, cwd=tmp_path / "bundle").returncode == 0
    assert (tmp_path / "drawn.jpg").stat().st_size > 1000


@pytest.mark.parametrize("merge", ["nms", "vote", "soft"])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_the_post_processing_of_a_bundle_is_the_package_s_to_the_last_bit(tmp_path, activation, merge):
    script = tmp_path / "script.py"
    script.write_text(
        "from __future__ import annotations\n"
        "from detection.boxes.geometry import BoxCoder\n"
        "from detection.boxes.postprocess import PostSettings, in_pixels, select\n"
    )
    text = inlined(script.read_text())
    assert "detection" not in {node.split(".")[0] for node in re.findall(r"^\s*(?:from|import) (\S+)", text, re.M)}
    script.write_text(text)
    loaded = importlib.util.spec_from_file_location("bundled", script)
    bundled = sys.modules["bundled"] = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(bundled)
    chance = np.random.default_rng(3)
    for max_log, spread in itertools.product((None, 4.1), (0.5, 3, 9)):
        anchors = chance.uniform(0.05, 0.9, (2000, 4)).astype(np.float32)
        encodings = chance.normal(0, 1, (2000, 4)).astype(np.float32)
        logits = chance.normal(-2, spread, (2000, 7)).astype(np.float32)
        rules = {
            "score": 0.05,
            "activation": activation,
            "class_scores": (0.1, 0.2, 0.05, 0.3, 0.1, 0.6),
            "merge": merge,
        }
        numbers = (0.1, 0.1, 0.2, 0.2), max_log
        ours = select(encodings, logits, anchors, PostSettings(**rules), BoxCoder(*numbers))
        theirs = bundled.select(encodings, logits, anchors, bundled.PostSettings(**rules), bundled.BoxCoder(*numbers))
        assert len(ours[0]) > 10 and all(np.array_equal(a, b) for a, b in zip(ours, theirs))
        assert np.array_equal(in_pixels(ours[0], (480, 640)), bundled.in_pixels(theirs[0], (480, 640)))


def test_a_bundle_never_takes_the_place_of_other_files(exported, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["export", str(exported[0]), "--bundle", str(tmp_path)]) == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_published_detector_keeps_its_detections(trained, tmp_path):
    source = open_weights(trained.weights)
    target = tmp_path / "v1.onnx"
    report = export(source, Wish(target, "onnx"), compare_on=trained.photos, threads=2)
    assert max(report.encodings, report.logits) < 1e-4 and report.unmatched == 0 and report.detections > 5
    photo = some_images(trained.photos, 1)[0]
    assert Detector(target, runtime="onnxruntime")(rgb(photo)).names == Detector(source.source)(rgb(photo)).names
