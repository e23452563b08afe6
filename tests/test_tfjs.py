"""SSDLite MobileNet V2 as TensorFlow.js writes it (float32): against the outputs known for it, and bad files.

Two models: the published one, against TensorFlow.js's own outputs; and one of random weights that the tests write."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from frozen_files import write_tfjs
from frozen_networks import decode, noise, parameters, run, ssdlite_v2

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


@dataclass(frozen=True)
class Model:
    """A model's folder, what it says of images uint8 [N, h, w, 3] (scores [N, A, 90], boxes y, x, y, x), and its sizes."""

    folder: Path
    images: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    alpha: float
    parameters: int

    @property
    def size(self):
        return self.images.shape[1:3]


@pytest.fixture(scope="module", params=["made", "published"])
def model(request, tmp_path_factory):
    if request.param == "made":
        net = ssdlite_v2()
        folder = write_tfjs(net, tmp_path_factory.mktemp("tfjs") / "model")
        encodings, scores = run(net, noise(net))
        return Model(folder, noise(net), scores[:, :, 1:], decode(net, encodings), 0.35, parameters(net))
    shared = request.getfixturevalue("shared")
    with np.load(shared / "reference" / "ssdlite_v2_tfjs_raw.npz", allow_pickle=False) as oracle:
        files = [shared / "data" / "coco_val500" / "images" / str(name) for name in oracle["file_names"]]
        small = np.stack([stretch(read_image(file), (300, 300)) for file in files])
        folder = shared / "models" / "ssdlite_mobilenet_v2_coco_tfjs"
        return Model(folder, small, oracle["scores"], oracle["boxes"], 1, 4_500_543)


@pytest.fixture(scope="module")
def folder(model):
    return model.folder


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_every_anchor_says_what_tensorflow_js_says(model, runtime):
    pytest.importorskip(runtime, reason=f"needs {runtime}")
    weights = open_weights(model.folder)
    spec = SSDSpec.from_dict(weights.card.spec)
    encodings, logits = open_runtime(weights, runtime, "cpu", threads=2)(model.images)
    scores = 1 / (1 + np.exp(-logits[:, :, 1:].astype(np.float64)))
    assert np.abs(scores - model.scores).max() < 1e-3  # the published model's are float16
    boxes = BoxCoder().decode(encodings, anchors_for(spec.anchors, weights.card.feature_maps, model.size)[None])
    assert np.abs(boxes[..., [1, 0, 3, 2]] - model.boxes).max() < 1e-4


def test_the_number_of_parameters_and_everything_else_is_read_from_the_file(model):
    ssd, card = import_detector(model.folder)
    assert sum(p.numel() for p in ssd.parameters()) == model.parameters
    assert ssd.spec.backbone == "mobilenet_v2" and ssd.spec.backbone_options["alpha"] == model.alpha
    assert ssd.spec.input.mean == (127.5,) * 3 and ssd.spec.input.size == model.size
    assert ssd.spec.heads.kind == "separable" and {e.kind for e in ssd.spec.extras} == {"separable"}
    assert len(card.class_names) == 90 and card.class_names[0] == "person"


def test_its_anchors_are_tensorflows_to_a_millionth(model):
    graph, (_, card) = read_tfjs(model.folder), import_detector(model.folder)
    anchors = anchors_for(SSDSpec.from_dict(card.spec).anchors, card.feature_maps, model.size)
    assert np.abs(anchors - graph.anchors).max() < 1e-6


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "model")


def test_a_missing_shard_is_named(copy):
    (copy / "group1-shard3of5").unlink()
    with pytest.raises(BadWeightsError, match="group1-shard3of5 is missing; put it beside model.json"):
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
