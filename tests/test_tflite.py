"""The published SSD MobileNet V1 .tflite as a PyTorch network: against LiteRT's own tensors, and what bad files say.

What needs no trained network is asked of a file of random weights too, which the tests write (test_frozen_files.py holds
what such files compute)."""

import numpy as np
import pytest
from frozen_files import write_tflite
from frozen_networks import noise, ssd_v1
from oracle import litert_reference, rgb, sigmoid, some_images

from detection.boxes.anchors import anchors_for
from detection.boxes.geometry import to_xyxy
from detection.errors import BadWeightsError
from detection.runtimes.open import open_runtime
from detection.ssd.spec import SSDSpec
from detection.weights.importers.table import import_detector
from detection.weights.importers.tflite import read_tflite
from detection.weights.resolve import open_weights


@pytest.fixture(scope="module")
def file(shared):
    return shared / "models" / "coco_ssd_mobilenet_v1" / "detect.tflite"


@pytest.fixture(scope="module")
def raw(shared, file):
    """LiteRT's encodings (tx, ty, tw, th), scores [A, 91] and ours, for 50 images already stretched to 300."""
    import cv2

    from detection.boxes.geometry import BoxCoder

    model = litert_reference(shared).TFLiteSSD(str(file))
    small = [cv2.resize(rgb(p), (300, 300)) for p in some_images(shared / "data" / "coco_val500" / "images", 50)]
    theirs = [model.raw(image) for image in small]
    weights = open_weights(file)
    card, spec = weights.card, SSDSpec.from_dict(weights.card.spec)
    anchors = anchors_for(spec.anchors, card.feature_maps, spec.input.size)
    encodings, logits = open_runtime(weights, "torch", "cpu", threads=2)(np.stack(small))
    coder = BoxCoder()
    our_boxes = coder.decode(encodings, anchors[None])
    their_anchors = theirs[0][2][:, [1, 0, 3, 2]]
    their_boxes = np.stack([coder.decode(e[:, [1, 0, 3, 2]], their_anchors) for e, _, _ in theirs])
    return np.stack([s for _, s, _ in theirs]), their_boxes, sigmoid(logits), our_boxes, np.stack(small), weights


def test_scores_at_all_anchors_are_litert_s(raw):
    theirs, _, ours, _, _, _ = raw
    said = theirs[:, :, 1:] > 0.1
    assert np.abs(ours[:, :, 1:] - theirs[:, :, 1:])[said].mean() <= 0.01


def test_the_top_class_is_the_same_where_litert_is_sure(raw):
    theirs, _, ours, _, _, _ = raw
    sure = theirs[:, :, 1:].max(-1) > 0.3
    assert (theirs[:, :, 1:].argmax(-1) == ours[:, :, 1:].argmax(-1))[sure].mean() >= 0.97


def test_boxes_there_are_within_2_pixels_of_300(raw):
    theirs, their_boxes, _, our_boxes, _, _ = raw
    sure = theirs[:, :, 1:].max(-1) > 0.3
    assert np.abs(our_boxes - their_boxes)[sure].mean() * 300 <= 2


def test_openvino_says_what_torch_says(raw):
    pytest.importorskip("openvino", reason="needs openvino")
    _, _, ours, _, small, weights = raw
    runtime = open_runtime(weights, "openvino", threads=2)
    batch, one = runtime(small[:4]), runtime(small[:1])
    assert np.abs(sigmoid(batch[1]) - ours[:4]).max() < 1e-4
    assert np.allclose(batch[0][0], one[0][0], atol=1e-4)


@pytest.fixture(scope="module", params=["made", "published"])
def either(request, tmp_path_factory):
    """A file in uint8, its width and the side of its input."""
    if request.param == "published":
        return request.getfixturevalue("file"), 0.75, 300
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert, which has the schema of .tflite files")
    net = ssd_v1()
    path = tmp_path_factory.mktemp("tflite") / "ssd_mobilenet_v1_1.0_300.tflite"
    return write_tflite(net, path, "uint8", noise(net)), 0.25, net.size


def test_alpha_classes_and_normalisation_are_read_from_the_file(either):
    file, alpha, side = either
    card = open_weights(file).card
    spec = SSDSpec.from_dict(card.spec)
    assert spec.backbone_options["alpha"] == alpha  # whatever the file's name says
    assert spec.input.size == (side, side) and spec.input.mean == (128,) * 3 and spec.input.std == (128,) * 3
    assert spec.num_classes == 90 and card.class_names[0] == "person" and card.class_names[16] == "cat"
    assert card.category_ids[79] == 80 and card.folded_norms


def test_anchors_equal_the_files_own_table_within_its_quantisation_step(either):
    file, _, side = either
    graph, card = read_tflite(file), open_weights(file).card
    anchors = anchors_for(SSDSpec.from_dict(card.spec).anchors, card.feature_maps, (side, side))
    assert anchors.shape == graph.anchors.shape == ({300: 1917, 96: 204}[side], 4)
    assert np.abs(anchors - graph.anchors).max() <= graph.details["anchor_step"] / 2 + 1e-6
    assert np.isfinite(to_xyxy(anchors)).all()


@pytest.mark.parametrize("size", [0, 5, 100, 5_000, 0.5, 0.95])
def test_a_file_cut_short_is_one_clear_line(either, tmp_path, size):
    cut, whole = tmp_path / "cut.tflite", either[0].read_bytes()
    cut.write_bytes(whole[: size if isinstance(size, int) else int(size * len(whole))])
    with pytest.raises(BadWeightsError, match=r"cut\.tflite: .*(cut short|not a TensorFlow Lite file)") as error:
        import_detector(cut)
    assert "\n" not in str(error.value)


def test_a_classifier_is_told_from_a_detector(shared):
    with pytest.raises(BadWeightsError, match="no detector"):
        read_tflite(shared / "models" / "imagenet" / "mobilenet_v1_0.25_128_quant.tflite")
