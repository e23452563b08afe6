"""The published SSD MobileNet V1 .tflite as a PyTorch network: against LiteRT's own tensors, and what bad files say."""

import numpy as np
import pytest
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


def test_alpha_classes_and_normalisation_are_read_from_the_file(file):
    card = open_weights(file).card
    spec = SSDSpec.from_dict(card.spec)
    assert spec.backbone_options["alpha"] == 0.75  # whatever the file's name says
    assert spec.input.size == (300, 300) and spec.input.mean == (128,) * 3 and spec.input.std == (128,) * 3
    assert spec.num_classes == 90 and card.class_names[0] == "person" and card.class_names[16] == "cat"
    assert card.category_ids[79] == 80 and card.folded_norms


def test_anchors_equal_the_files_own_table_within_its_quantisation_step(file):
    graph, card = read_tflite(file), open_weights(file).card
    anchors = anchors_for(SSDSpec.from_dict(card.spec).anchors, card.feature_maps, (300, 300))
    assert anchors.shape == graph.anchors.shape == (1917, 4)
    assert np.abs(anchors - graph.anchors).max() <= graph.details["anchor_step"] / 2 + 1e-6
    assert np.isfinite(to_xyxy(anchors)).all()


@pytest.mark.parametrize("size", [0, 5, 100, 5_000, 2_000_000, 4_000_000])
def test_a_file_cut_short_is_one_clear_line(file, tmp_path, size):
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(file.read_bytes()[:size])
    with pytest.raises(BadWeightsError, match=r"cut\.tflite: .*(cut short|not a TensorFlow Lite file)") as error:
        import_detector(cut)
    assert "\n" not in str(error.value)


def test_a_classifier_is_told_from_a_detector(shared):
    with pytest.raises(BadWeightsError, match="no detector"):
        read_tflite(shared / "models" / "imagenet" / "mobilenet_v1_0.25_128_quant.tflite")
