"""TensorFlow's SSD MobileNet V2 FPNLite 320 (.tflite, weights in 8 bits) as a network of ours, against LiteRT."""

from pathlib import Path

import numpy as np
import pytest
import torch
from frozen_files import write_tflite
from frozen_networks import fpnlite_v2
from oracle import litert_reference, rgb, sigmoid, some_images

from detection.errors import BadWeightsError
from detection.images.preprocess import stretch
from detection.ssd.network import Deployable, anchors_of
from detection.weights.importers.assemble import assemble
from detection.weights.importers.table import import_detector
from detection.weights.importers.tflite import read_tflite


@pytest.fixture(scope="module")
def fpnlite(shared):
    return shared / "models" / "teachers" / "ssd_mobilenet_v2_fpnlite_320x320_coco17_dr.tflite"


def with_float_weights(source: Path, target: Path) -> Path:
    """The same file with its 8-bit weights written out as float32: LiteRT then rounds nothing on the way."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needs ai-edge-litert, the oracle")
    import flatbuffers

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(source.read_bytes(), 0))
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        if tensor.type == schema.TensorType.INT8 and data is not None:
            shape = [1] * len(tensor.shape)
            shape[tensor.quantization.quantizedDimension] = -1
            scale = np.asarray(tensor.quantization.scale, np.float32).reshape(shape)
            weights = np.frombuffer(bytes(data), np.int8).reshape(tensor.shape) * scale
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(weights.astype(np.float32).tobytes(), np.uint8)
            model.buffers.append(buffer)
            tensor.buffer, tensor.type, tensor.quantization = len(model.buffers) - 1, schema.TensorType.FLOAT32, None
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    target.write_bytes(builder.Output())
    return target


@pytest.fixture(scope="module")
def raw(shared, fpnlite, tmp_path_factory):
    """Ours and LiteRT's on 20 images, and LiteRT's on 4 with the weights in float32. Each (encodings, scores)."""
    reference = litert_reference(shared).TFLiteSSD
    in_float = with_float_weights(fpnlite, tmp_path_factory.mktemp("fpn") / "float.tflite")
    as_it_is, in_float = reference(str(fpnlite)), reference(str(in_float))
    ssd, _ = import_detector(fpnlite)
    images = [stretch(rgb(p), (320, 320)) for p in some_images(shared / "data" / "coco_val500" / "images", 20)]
    with torch.no_grad():
        found = [Deployable(ssd)(torch.from_numpy(image)[None]) for image in images]
    ours = (
        np.stack([e[0].numpy()[:, [1, 0, 3, 2]] for e, _ in found]),
        np.stack([sigmoid(s[0].numpy()) for _, s in found]),
    )
    runs = [as_it_is.raw(image)[:2] for image in images], [in_float.raw(image)[:2] for image in images[:4]]
    return ours, *[tuple(np.stack(part) for part in zip(*run)) for run in runs]


@pytest.fixture(scope="module", params=["made", "published"])
def either(request, tmp_path_factory):
    """A file with 8-bit weights, and what it holds: alpha, channels, depth, side of the input, parameters, anchors."""
    if request.param == "published":
        return request.getfixturevalue("fpnlite"), (1.0, 128, 4, 320, 2_626_746, 12804)
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert, which has the schema of .tflite files")
    path = write_tflite(fpnlite_v2(), tmp_path_factory.mktemp("fpn") / "fpnlite.tflite", "int8")
    return path, (0.35, 32, 2, 128, 475_450, 2046)


def test_fpnlite_is_read_from_the_file(either):
    file, (alpha, channels, depth, side, parameters, _) = either
    ssd, card = import_detector(file)
    spec, pyramid = ssd.spec, ssd.spec.pyramid
    assert spec.backbone == "mobilenet_v2" and spec.backbone_options["alpha"] == alpha
    assert (pyramid.channels, pyramid.coarse, pyramid.depth, pyramid.separable) == (channels, 2, depth, True)
    assert spec.input.size == (side, side) and spec.num_classes == 90 and card.class_names[0] == "person"
    assert sum(p.numel() for p in ssd.parameters()) == parameters  # one predictor, not five copies of it


def test_fpnlite_anchors_are_the_file_s(either):
    file, (*_, number) = either
    ours = anchors_of(import_detector(file)[0])
    assert ours.shape == (number, 4)
    assert np.abs(ours - read_tflite(file).anchors).max() < 1e-6


def test_fpnlite_says_what_litert_says_with_the_same_weights(raw):
    (encodings, scores), _, (their_encodings, their_scores) = raw
    assert np.abs(scores[:4] - their_scores).max() < 1e-5
    assert np.abs(encodings[:4] - their_encodings).max() < 1e-3


def test_fpnlite_stays_within_litert_s_own_rounding(raw):
    """On the file as it is, LiteRT rounds every activation to 8 bits on the way, each pixel on a scale of its own."""
    (encodings, scores), (their_encodings, their_scores), _ = raw
    difference, said = np.abs(scores - their_scores), their_scores[:, :, 1:] > 0.1
    assert difference.max() < 0.03 and (difference > 0.02).mean() < 1e-6
    assert difference[:, :, 1:][said].mean() < 0.01
    sure = their_scores[:, :, 1:].max(-1) > 0.3
    assert np.abs(encodings - their_encodings)[sure].mean() < 0.02
    assert (scores[:, :, 1:].argmax(-1) == their_scores[:, :, 1:].argmax(-1))[sure].mean() > 0.97


def test_a_predictor_that_is_not_shared_is_refused(either):
    graph = read_tflite(either[0])
    graph.trunk[-1].weight[0, 0] += 1  # the last map's copy of the tower
    with pytest.raises(BadWeightsError, match="differs from map to map, so its predictor is not shared"):
        assemble(graph)
