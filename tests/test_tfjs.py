"""The published SSDLite MobileNet V2 (TensorFlow.js, float32): against TensorFlow.js's own outputs, and bad files."""

import json
import shutil

import numpy as np
import pytest

from detection.boxes.anchors import anchors_for
from detection.boxes.geometry import BoxCoder
from detection.errors import BadWeightsError
from detection.images.decode import read_image
from detection.images.preprocess import stretch
from detection.runtimes.open import open_runtime
from detection.ssd.spec import SSDSpec
from detection.weights.importers.table import import_detector
from detection.weights.importers.tfjs import read_tfjs
from detection.weights.resolve import open_weights


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "models" / "ssdlite_mobilenet_v2_coco_tfjs"


@pytest.fixture(scope="module")
def oracle(shared):
    return np.load(shared / "reference" / "ssdlite_v2_tfjs_raw.npz", allow_pickle=False)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_every_anchor_says_what_tensorflow_js_says(shared, folder, oracle, runtime):
    pytest.importorskip(runtime, reason=f"needs {runtime}")
    weights = open_weights(folder)
    spec = SSDSpec.from_dict(weights.card.spec)
    images = shared / "data" / "coco_val500" / "images"
    small = np.stack([stretch(read_image(images / str(name)), (300, 300)) for name in oracle["file_names"]])
    encodings, logits = open_runtime(weights, runtime, "cpu", threads=2)(small)
    scores = 1 / (1 + np.exp(-logits[:, :, 1:].astype(np.float64)))
    assert np.abs(scores - oracle["scores"]).max() < 1e-3  # the oracle's are float16
    boxes = BoxCoder().decode(encodings, anchors_for(spec.anchors, weights.card.feature_maps, (300, 300))[None])
    assert np.abs(boxes[..., [1, 0, 3, 2]] - oracle["boxes"]).max() < 1e-4


def test_4500543_parameters_and_everything_read_from_the_file(folder):
    ssd, card = import_detector(folder)
    assert sum(p.numel() for p in ssd.parameters()) == 4_500_543
    assert ssd.spec.backbone == "mobilenet_v2" and ssd.spec.backbone_options["alpha"] == 1
    assert ssd.spec.input.mean == (127.5,) * 3 and ssd.spec.input.size == (300, 300)
    assert ssd.spec.heads.kind == "separable" and {e.kind for e in ssd.spec.extras} == {"separable"}
    assert len(card.class_names) == 90 and card.class_names[0] == "person"


def test_its_anchors_are_tensorflows_to_a_millionth(folder):
    graph, (_, card) = read_tfjs(folder), import_detector(folder)
    anchors = anchors_for(SSDSpec.from_dict(card.spec).anchors, card.feature_maps, (300, 300))
    assert np.abs(anchors - graph.anchors).max() < 1e-6


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "model")


def test_a_missing_shard_is_named(copy):
    (copy / "group1-shard3of5").unlink()
    with pytest.raises(BadWeightsError, match="weight shard group1-shard3of5 is missing"):
        read_tfjs(copy)


def test_a_short_shard_is_told(copy):
    shard = copy / "group1-shard5of5"
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(BadWeightsError, match="end 1000 bytes short"):
        read_tfjs(copy / "model.json")


def test_a_graph_that_is_no_ssd_and_json_that_is_no_graph(copy):
    model = json.loads((copy / "model.json").read_text())
    nodes = model["modelTopology"]["node"]
    model["modelTopology"]["node"] = [n for n in nodes if not n["name"].startswith(("concat", "Postprocessor"))]
    (copy / "model.json").write_text(json.dumps(model))
    with pytest.raises(BadWeightsError, match="no SSD"):
        read_tfjs(copy)
    (copy / "model.json").write_text('{"layers": []}')
    with pytest.raises(BadWeightsError, match="not a TensorFlow.js graph model"):
        read_tfjs(copy)
    (copy / "model.json").write_text("half a fi")
    with pytest.raises(BadWeightsError, match="not a TensorFlow.js graph model"):
        read_tfjs(copy)
