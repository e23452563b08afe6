"""Files in TensorFlow's formats, made by the tests with random weights: read, they compute what their operations say."""

import numpy as np
import pytest
import torch
from frozen_files import write_tfjs, write_tflite
from frozen_networks import fpnlite_v2, noise, parameters, run, ssd_v1, ssdlite_v2
from oracle import LiteRT, sigmoid

from detection.ssd.network import Deployable, anchors_of
from detection.weights.importers.table import import_detector

FILES = {
    "ssd_v1.tflite": (ssd_v1, "float32"),
    "ssd_v1_uint8.tflite": (ssd_v1, "uint8"),
    "ssdlite_v2.tflite": (ssdlite_v2, "float32"),
    "fpnlite_v2.tflite": (fpnlite_v2, "float32"),
    "fpnlite_v2_int8.tflite": (fpnlite_v2, "int8"),
    "ssdlite_v2_tfjs": (ssdlite_v2, None),
}


@pytest.fixture(scope="module", params=FILES)
def frozen(request, tmp_path_factory):
    """A network of operations, and the file that it was written to."""
    make, weights = FILES[request.param]
    net, path = make(), tmp_path_factory.mktemp("frozen") / request.param
    if weights is None:
        return net, write_tfjs(net, path)
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert, which has the schema of .tflite files")
    return net, write_tflite(net, path, weights, noise(net))


def test_the_importer_s_network_computes_what_the_operations_say(frozen):
    net, path = frozen
    ssd, card = import_detector(path)
    encodings, scores = run(net, noise(net))
    with torch.no_grad():
        ours, logits = Deployable(ssd)(torch.from_numpy(noise(net)))
    assert scores.std() > 0.05 and encodings.std() > 0.1
    assert np.abs(ours.numpy()[..., [1, 0, 3, 2]] - encodings).max() < 1e-4
    assert np.abs(sigmoid(logits.numpy()) - scores).max() < 1e-4
    assert np.abs(anchors_of(ssd)[:, [1, 0, 3, 2]] - net.anchors).max() < 1e-6
    assert ssd.spec.anchors.layout in ("tensorflow", "multiscale"), "the rule, not a table of sizes"
    if ssd.spec.pyramid is None:
        assert sum(p.numel() for p in ssd.parameters()) == parameters(net)
    assert card.folded_norms and card.class_names[0] == "person" and card.category_ids[79] == 80


@pytest.mark.parametrize("frozen", [name for name in FILES if name.endswith(".tflite")], indirect=True)
def test_litert_runs_the_file_and_says_the_same(frozen):
    """So the files are what TensorFlow's own runtime takes them for. It rounds where the file says so."""
    net, path = frozen
    encodings, scores = run(net, noise(net))
    litert = LiteRT(path)
    theirs = [litert(image) for image in noise(net)]
    boxes, probabilities, anchors = (np.stack(part) for part in zip(*theirs))
    mean, most = {"float32": (1e-5, 1e-4), "uint8": (0.01, 0.1), "int8": (0.05, 1)}[FILES[path.name][1]]
    for ours, said in ((probabilities, scores), (boxes, encodings)):
        assert np.abs(ours - said).mean() < mean and np.abs(ours - said).max() < most
    assert np.abs(anchors[0] - net.anchors).max() < (0.005 if path.stem.endswith("uint8") else 1e-6)
