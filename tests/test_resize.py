"""The same weights at another input size: what a network knows of sizes, it knows in pixels."""

import json

import cv2
import numpy as np
import pytest
import torch
from random_networks import random_network

from detection import Detector
from detection.cli.main import main
from detection.errors import MobileSSDError
from detection.postprocessor import PostProcessor
from detection.runtimes.resize import at_size
from detection.ssd.network import anchors_of, feature_maps
from detection.weights.card import Card
from detection.weights.checkpoint import load_checkpoint, read_card, save_checkpoint
from detection.weights.records import DEFAULT
from detection.weights.resolve import open_weights


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    ssd = random_network("ssdlite_mobilenet_v2", alpha=0.25, input_size=(97, 131))
    card = Card(ssd.spec.to_dict(), ("a", "b", "c"), (1, 2, 3), feature_maps(ssd), name="small", score_threshold=0.4)
    card.metrics = [{"AP": 0.5}]
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save_checkpoint(path, ssd, card)
    return path


def refused(capsys, *arguments):
    assert main(["export", *map(str, arguments)]) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    return line


def test_every_weight_stays_and_a_smaller_input_keeps_the_pixels_of_the_anchors(small, tmp_path, capsys):
    output = tmp_path / "smaller.safetensors"
    assert main(["export", str(small), "--input-size", "65x99", "--output", str(output)]) == 0
    assert "smaller.safetensors: small at 99x65, " in capsys.readouterr().out
    (old, _), (new, card) = load_checkpoint(small), load_checkpoint(output)
    assert new.spec.input.size == (65, 99) and card.feature_maps == feature_maps(new)
    assert all(torch.equal(tensor, new.state_dict()[name]) for name, tensor in old.state_dict().items())
    sizes = [
        {tuple(row) for row in np.round(anchors_of(one)[:, 2:] * s, 3)}
        for one, s in ((old, (131, 97)), (new, (99, 65)))
    ]
    assert sizes[0] == sizes[1]
    assert card.metrics == [] and card.score_threshold is None, "nobody measured it at this size"


def test_a_larger_input_keeps_them_too_and_a_card_tells_where_they_lie(small, tmp_path):
    output = tmp_path / "larger.safetensors"
    assert main(["export", str(small), "--input-size", "160", "--output", str(output), "--precision", "float16"]) == 0
    ssd, card = load_checkpoint(output)
    assert ssd.spec.anchors.base == ssd.spec.anchors.centred_at == (97, 131)
    assert np.array_equal(PostProcessor.of(card).anchors, anchors_of(ssd)) and len(card.anchor_grids) == 6
    assert read_card(output).precision == "float16" and output.stat().st_size < 0.7 * small.stat().st_size


def test_other_formats_are_made_of_it(small, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    pytest.importorskip("onnx", reason="needs onnx")
    checkpoint, onnx = tmp_path / "a.safetensors", tmp_path / "b.onnx"
    for output in (checkpoint, onnx):
        assert main(["export", str(small), "--input-size", "65", "--output", str(output), "--threads", "1"]) == 0
    image = np.random.default_rng(0).integers(0, 255, (80, 90, 3), np.uint8)
    ours = Detector(checkpoint, "cpu", "torch", threads=1, score=0.1)(image)
    theirs = Detector(onnx, runtime="onnxruntime", threads=1, score=0.1)(image)
    assert ours.boxes == pytest.approx(theirs.boxes, abs=0.05) and ours.names == theirs.names


def test_bad_wishes_get_one_line_and_lose_nothing(small, tmp_path, capsys):
    before = small.read_bytes()
    assert "is the file that is read" in refused(capsys, small, "--input-size", 64, "--output", small)
    assert small.read_bytes() == before
    assert "give --output" in refused(capsys, small, "--input-size", 64, "--bundle", tmp_path / "bundle")
    other = tmp_path / "other.safetensors"
    assert "no format, NMS" in refused(capsys, small, "--input-size", 64, "--nms", "--output", other)
    assert "which format?" in refused(capsys, small, "--output", other)
    assert not other.exists()


@pytest.mark.parametrize("size", [268, 236, 204, 172])
def test_the_default_finds_the_portrait_at_a_smaller_size(size, tmp_path):
    cbook = pytest.importorskip("matplotlib.cbook", reason="needs matplotlib's portrait")
    output = tmp_path / f"{size}.safetensors"
    assert main(["export", DEFAULT, "--input-size", str(size), "--output", str(output)]) == 0
    image = str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    found = Detector(output, "cpu", "torch", threads=1, score=0.5)(image)
    assert found.names[0] == "person"
    x1, y1, x2, y2 = found.boxes[0]
    assert x2 - x1 > 330 and y2 - y1 > 400, "anchors that shrink with the input make the box smaller than the person"


def test_commands_take_an_input_size_without_an_export(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MOBILESSD_HOME", str(tmp_path / "home"))
    image = tmp_path / "one.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (80, 90, 3), np.uint8))
    run = ["detect", str(image), "--weights", str(small), "--runtime", "torch", "--device", "cpu", "--threads", "1"]
    run += ["--no-draw", "--score", "0.1", "--input-size", "161x120", "--json", str(tmp_path / "boxes.json")]
    assert main(run) == 0
    assert "small.safetensors at 120x161 with torch" in capsys.readouterr().out
    made = list((tmp_path / "home" / "resized").iterdir())
    assert [read_card(path).input_size for path in made] == [(161, 120)]
    before = made[0].stat().st_mtime_ns
    assert main(run) == 0 and made[0].stat().st_mtime_ns == before, "made once"
    found = Detector(made[0], "cpu", "torch", threads=1, score=0.1)(str(image))
    boxes = json.loads((tmp_path / "boxes.json").read_text())
    assert len(boxes) == len(found) > 0
    assert [box["score"] for box in boxes] == pytest.approx(found.scores.tolist(), abs=1e-3)


def test_at_their_own_size_weights_are_what_they_are_and_an_exported_file_has_no_other(small, monkeypatch):
    weights = open_weights(small)
    assert at_size(weights, (97, 131)) is weights
    monkeypatch.setattr(type(weights), "exported", True)
    assert at_size(weights, (97, 131)) is weights
    with pytest.raises(MobileSSDError, match="an exported file has one input size, here 131x97; name the weights"):
        at_size(weights, 300)


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["detect", "x.png", "--input-size", "20"], "an input of 20x20 pixels is too small"),
        (["detect", "x.png", "--input-size", "0"], "an input size is S or HEIGHTxWIDTH"),
        (["eval", "--annotations", "a", "--self-test", "--input-size", "300"], "--input-size is the network's"),
        (["eval", "--annotations", "a", "--store-threshold", "--input-size", "300"], "leave --input-size out"),
    ],
)
def test_sizes_that_cannot_be_get_one_line(small, tmp_path, monkeypatch, capsys, arguments, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").write_bytes(b"")
    weights = [] if "--self-test" in arguments else ["--weights", str(small)]
    try:
        code = main([*arguments, *weights])
    except SystemExit as stopped:  # argparse
        code = stopped.code
    said = capsys.readouterr().err.strip()
    assert code == 2 and line in said and "Traceback" not in said


@pytest.mark.parametrize("size", [(160, 128), (65, 99), (200, 131)])
def test_an_exported_openvino_file_takes_another_size_as_its_checkpoint_does(small, tmp_path, monkeypatch, size):
    """Padding and anchors are those of the size: equal numbers, though strided convolutions pad on other sides there."""
    monkeypatch.setenv("MOBILESSD_HOME", str(tmp_path / "home"))
    exported = tmp_path / "small.xml"
    assert main(["export", str(small), "--output", str(exported)]) == 0
    image = np.random.default_rng(0).integers(0, 255, (1, *size, 3), np.uint8)
    whole, graph = (Detector(path, threads=1, runtime="openvino", input_size=size) for path in (small, exported))
    assert graph.card.input_size == size and graph.source.endswith(f"small.xml at {size[1]}x{size[0]}")
    for ours, theirs in zip(whole.runtime(image), graph.runtime(image)):
        assert np.abs(ours - theirs).max() < 1e-4
    assert np.array_equal(whole.anchors, graph.anchors)


def test_a_graph_with_nms_inside_keeps_its_size(small, tmp_path, monkeypatch):
    monkeypatch.setenv("MOBILESSD_HOME", str(tmp_path / "home"))
    exported = tmp_path / "nms.xml"
    assert main(["export", str(small), "--output", str(exported), "--nms"]) == 0
    with pytest.raises(MobileSSDError, match="nms.xml: .*keeps its one input size"):
        at_size(open_weights(exported), 160)
