"""chuanqi305's Caffe MobileNet-SSD (.caffemodel) as a network of ours: against Caffe's definitions and OpenCV's answers, and
what bad files say."""

import numpy as np
import pytest
import torch
from caffe_files import mobilenet_ssd, priors, run, write_caffemodel

from detection.boxes.geometry import BoxCoder, to_xyxy
from detection.boxes.postprocess import PostSettings, merged
from detection.cli.main import main
from detection.detector import Detector
from detection.errors import BadWeightsError
from detection.ssd.network import Deployable, anchors_of
from detection.ssd.spec import SSDSpec
from detection.weights.importers.table import import_detector
from detection.weights.names import spec_for

pytestmark = pytest.mark.usefixtures("own_home", "one_thread")
pytest.importorskip("google.protobuf", reason="needs protobuf")


def small(**options):
    return mobilenet_ssd(**{"alpha": 0.25, "size": 128} | options)


@pytest.mark.parametrize("norms", ["merged", "whole"])
def test_a_file_computes_what_caffe_computes(tmp_path, norms):
    layers = small(norms=norms)
    ssd, card = import_detector(write_caffemodel(layers, tmp_path / "MobileNetSSD_deploy.caffemodel"))
    images = np.random.default_rng(2).integers(0, 256, (2, 128, 128, 3), np.uint8)
    boxes, scores = run(layers, images)
    with torch.no_grad():
        ours, logits = Deployable(ssd)(torch.from_numpy(images))
    assert np.abs(ours.numpy() - boxes).max() < 1e-4 * max(1, np.abs(boxes).max())
    assert np.abs(logits.numpy() - scores).max() < 1e-4 * max(1, np.abs(scores).max())
    assert np.abs(to_xyxy(anchors_of(ssd)) - priors(layers, images)).max() < 1e-6
    assert card.folded_norms == (norms == "merged")
    assert card.class_names[:2] == ("aeroplane", "bicycle") and len(card.class_names) == 20
    assert (ssd.spec.scores, ssd.spec.activation, ssd.spec.input.color) == ("softmax", "relu", "bgr")


def test_the_whole_network_is_the_one_of_our_caffe_layout(tmp_path):
    ssd, _ = import_detector(write_caffemodel(mobilenet_ssd(), tmp_path / "a.caffemodel"))
    ours = spec_for("ssd_mobilenet_v1", layout="caffe", num_classes=20)
    spec = ssd.spec
    assert (spec.backbone, spec.taps, spec.extras, spec.heads) == (ours.backbone, ours.taps, ours.extras, ours.heads)
    assert spec.input == ours.input and spec.variances == ours.variances and spec.padding == ours.padding
    assert np.abs(anchors_of(ssd) - anchors_of(type(ssd)(ours))).max() < 1e-7 and len(anchors_of(ssd)) == 1917


# What cv2.dnn.readNetFromCaffe of OpenCV 4.14 finds with small() and its .prototxt in `noise` (later ones read no Caffe):
# class, score, box clipped to the image; threshold 0.26, NMS at 0.45.
OPENCV = [
    (17, 0.30717, 45.49459, 10.86211, 128.0, 128.0),
    (5, 0.28687, 56.8374, 0.0, 128.0, 128.0),
    (3, 0.28322, 24.66799, 15.55592, 128.0, 128.0),
    (11, 0.27347, 0.0, 35.94938, 128.0, 128.0),
    (0, 0.27287, 14.79996, 23.62909, 128.0, 128.0),
    (5, 0.26138, 0.0, 0.0, 73.35565, 128.0),
]


def test_boxes_are_opencv_s(tmp_path):
    file = write_caffemodel(small(), tmp_path / "a.caffemodel")
    noise = np.random.default_rng(2).integers(0, 256, (128, 128, 3), np.uint8)
    found = Detector(file, runtime="torch", score=0.26, iou=0.45)(noise)
    assert found.class_ids.tolist() == [row[0] for row in OPENCV]
    assert np.abs(found.scores - [row[1] for row in OPENCV]).max() < 1e-4
    assert np.abs(found.boxes - [row[2:] for row in OPENCV]).max() < 0.01


def test_boxes_are_cut_to_the_image_before_they_suppress_each_other_and_opencv_s_after(tmp_path):
    """The one rule of the project for all networks. From 0.25 on OpenCV has one box more: cut, it and that of its class
    overlap by more than 0.45; whole, by less. With whole boxes we find what OpenCV finds."""
    noise = np.random.default_rng(2).integers(0, 256, (1, 128, 128, 3), np.uint8)
    more = (0, 0.25756, 0.0, 21.09853, 102.55207, 128.0)
    ssd, _ = import_detector(write_caffemodel(small(), tmp_path / "a.caffemodel"))
    with torch.no_grad():
        encodings, logits = Deployable(ssd)(torch.from_numpy(noise))
    scores = torch.softmax(logits[0], 1)[:, 1:]
    anchor_ids, class_ids = (scores > 0.25).nonzero().numpy().T
    order = np.argsort(-scores.numpy()[anchor_ids, class_ids], kind="stable")
    anchor_ids, class_ids = anchor_ids[order], class_ids[order]
    whole = BoxCoder().decode(encodings[0].numpy()[anchor_ids], anchors_of(ssd)[anchor_ids])
    for boxes, expected in ((whole.clip(0, 1), OPENCV), (whole, [*OPENCV, more])):
        found = merged(boxes, scores.numpy()[anchor_ids, class_ids], class_ids, PostSettings(iou=0.45))
        assert found[2].tolist() == [row[0] for row in expected]
        assert np.abs(found[0].clip(0, 1) * 128 - [row[2:] for row in expected]).max() < 0.01


def changed(layers, name, **changes):
    for one in layers:
        if one["name"] == name:
            one |= changes
    return layers


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: [one for one in small() if one["type"] not in ("DetectionOutput", "PriorBox")], "no SSD detector"),
        (lambda: changed(small(), "conv3/relu", type="PReLU"), r"has conv3/relu \(PReLU\), which no Caffe detector"),
        (lambda: changed(small(), "conv4", blobs=[]), "conv4 holds no weights"),
        (lambda: [one for one in small() if one["name"] != "conv16_2_mbox_priorbox"], "5 PriorBox layers for 6"),
        (lambda: [one for one in small() if one["name"] != "mbox_priorbox"], "nothing makes mbox_priorbox"),
        (lambda: [one for one in small() if not one["name"].startswith("conv5")], "backbone is no MobileNet"),
    ],
)
def test_a_model_of_another_network_is_one_line(tmp_path, make, words):
    with pytest.raises(BadWeightsError, match=words) as error:
        import_detector(write_caffemodel(make(), tmp_path / "other.caffemodel"))
    assert "other.caffemodel" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [0.5, 0.99, 30, b"", b"\x0a\x03abc\xa2\x06\xff\xff\xff\xff\x0f", b"words"])
def test_a_file_cut_short_or_of_something_else_is_exit_code_2(tmp_path, content, capsys):
    import cv2

    path = write_caffemodel(small(), tmp_path / "cut.caffemodel")
    if not isinstance(content, bytes):
        whole = path.read_bytes()
        content = whole[: int(len(whole) * content) if isinstance(content, float) else content]
    path.write_bytes(content)
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((64, 64, 3), np.uint8))
    assert main(["detect", str(tmp_path / "image.png"), "--weights", str(path)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "cut.caffemodel" in said[-1] and not any("Traceback" in line for line in said)


def test_a_blob_whose_shape_is_not_its_numbers_is_one_line(tmp_path):
    from detection.weights.importers.schema import message

    path = write_caffemodel(small(), tmp_path / "a.caffemodel")
    net = type(message("Net")).FromString(path.read_bytes())
    next(one for one in net.layer if one.name == "conv2").blobs[0].shape.dim[0] = 1 << 40
    path.write_bytes(net.SerializeToString())
    with pytest.raises(BadWeightsError, match="a.caffemodel") as error:
        import_detector(path)
    assert "\n" not in str(error.value)


def test_the_card_says_all_that_the_network_needs(tmp_path):
    ssd, card = import_detector(write_caffemodel(small(classes=3), tmp_path / "a.caffemodel"))
    assert SSDSpec.from_dict(card.spec) == ssd.spec and card.class_names == ("class 1", "class 2", "class 3")
