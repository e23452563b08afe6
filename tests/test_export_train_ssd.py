"""`--target train-ssd`: a folder that pytorch-ssd's train_ssd.py goes on with, and what becomes of networks that it lacks."""

from pathlib import Path

import pytest
import torch
from oracle import rgb
from random_networks import random_network

from detection import Detector
from detection.cli.main import main
from detection.ssd.network import feature_maps
from detection.weights.card import Card
from detection.weights.checkpoint import save_checkpoint
from detection.weights.importers.qfgaohao import state_of

PHOTOS = Path(__file__).resolve().parents[1] / "photos"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """mb2-ssd-lite of three classes, whose card asks for another merge than files of pytorch-ssd are read with."""
    path = tmp_path_factory.mktemp("source") / "mine.safetensors"
    ssd = random_network("ssdlite_mobilenet_v2", layout="qfgaohao")
    names = ("red", "green", "light blue")
    save_checkpoint(path, ssd, Card(ssd.spec.to_dict(), names, (1, 2, 3), feature_maps(ssd), merge="vote"))
    return path, ssd


def test_the_folder_holds_the_state_dict_under_their_names_and_labels_behind_background(source, tmp_path):
    path, ssd = source
    out = tmp_path / "out"
    command = ["export", str(path), "--target", "train-ssd", "--output", str(out), "--images", str(PHOTOS)]
    assert main([*command, "--threads", "1"]) == 0
    assert {file.name for file in out.iterdir()} == {
        "mb2-ssd-lite.pth",
        "labels.txt",
        "README.md",
        "image.png",
        "expected.png",
    }
    assert (out / "labels.txt").read_text().splitlines() == ["BACKGROUND", "red", "green", "light blue"]
    assert "--net=mb2-ssd-lite" in (out / "README.md").read_text()
    written, wanted = torch.load(out / "mb2-ssd-lite.pth", weights_only=True), state_of(ssd)
    assert written.keys() == wanted.keys() and all(torch.equal(written[name], wanted[name]) for name in wanted)
    limits = {"score": 0.5, "max_detections": 10, "threads": 1, "runtime": "torch", "merge": "nms"}
    image = rgb(PHOTOS / "hopper.jpg")
    ours, theirs = Detector(path, "cpu", **limits)(image), Detector(out / "mb2-ssd-lite.pth", "cpu", **limits)(image)
    assert len(ours) and ours.names == theirs.names
    assert (ours.boxes == theirs.boxes).all() and (ours.scores == theirs.scores).all()


def test_vgg16_ssd_goes_the_same_way(tmp_path):
    ssd = random_network("ssd300_vgg16", layout="qfgaohao")
    save_checkpoint(
        tmp_path / "mine.safetensors", ssd, Card(ssd.spec.to_dict(), ("a", "b", "c"), (1, 2, 3), feature_maps(ssd))
    )
    command = ["export", str(tmp_path / "mine.safetensors"), "--target", "train-ssd", "--output", str(tmp_path / "out")]
    assert main([*command, "--threads", "1"]) == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"vgg16-ssd.pth", "labels.txt", "README.md"}
    assert "--net=vgg16-ssd --resume=vgg16-ssd.pth" in (tmp_path / "out" / "README.md").read_text()
    written, wanted = torch.load(tmp_path / "out" / "vgg16-ssd.pth", weights_only=True), state_of(ssd)
    assert written["source_layer_add_ons.0.running_var"].shape == (512,)
    assert written["classification_headers.0.weight"].shape == (4 * 4, 512, 3, 3)
    assert written.keys() == wanted.keys() and all(torch.equal(written[name], wanted[name]) for name in wanted)


def test_another_network_is_one_line_that_says_what_differs_and_what_to_train(tmp_path, capsys):
    command = ["export", "ssdlite_mobilenet_v2.mobilessd", "--target", "train-ssd", "--output", str(tmp_path / "out")]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "mb2-ssd-lite, differs in" in said and "anchors" in said
    assert "--model ssdlite_mobilenet_v2 --set options.layout=qfgaohao" in said
    assert not list(tmp_path.iterdir())
