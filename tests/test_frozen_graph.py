"""TensorFlow's frozen graphs (frozen_inference_graph.pb) as networks of ours: the published SSDLite MobileNet V2 as a .pb
against OpenVINO's TensorFlow front end; made ones in every form that batch norms take; and what bad files say."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from frozen_files import tensorflow_graph, write_frozen_graph
from frozen_networks import noise, parameters, run, ssd_v1, ssdlite_v2

from detection.cli.main import main
from detection.errors import BadWeightsError
from detection.images.decode import read_image
from detection.images.preprocess import stretch
from detection.ssd.network import Deployable, anchors_of
from detection.weights.importers import fitting
from detection.weights.importers.assemble import assemble
from detection.weights.importers.folding import Constants, Operation
from detection.weights.importers.frozen_graph import read_frozen_graph
from detection.weights.importers.schema import message
from detection.weights.importers.table import import_detector

pytestmark = pytest.mark.usefixtures("own_home", "one_thread")
pytest.importorskip("google.protobuf", reason="needs protobuf")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_frozen_graph(ssd_v1(), tmp_path_factory.mktemp("pb") / "frozen_inference_graph.pb", "kept")


@pytest.mark.parametrize(("make", "norms"), [(ssd_v1, "depthwise"), (ssd_v1, "unfused"), (ssdlite_v2, "kept")])
def test_batch_norms_in_every_form_compute_what_the_graph_computes(tmp_path, make, norms):
    net = make()
    ssd, card = import_detector(write_frozen_graph(net, tmp_path / "graph.pb", norms))
    encodings, scores = run(net, noise(net))
    with torch.no_grad():
        ours, logits = Deployable(ssd)(torch.from_numpy(noise(net)))
    assert np.abs(ours.numpy()[..., [1, 0, 3, 2]] - encodings).max() < 1e-3
    assert np.abs(logits.sigmoid().numpy() - scores).max() < 1e-4
    assert sum(p.numel() for p in ssd.parameters()) == parameters(net)
    assert card.folded_norms == (norms == "depthwise")
    assert len(card.class_names) == 90 and card.class_names[0] == "person"


def test_whole_norms_keep_their_statistics(file):
    ssd, _ = import_detector(file)
    norms = [m for m in ssd.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 27 and all(norm.running_mean.abs().max() > 0.05 for norm in norms)
    assert all((norm.running_var - 1).abs().max() > 0.05 for norm in norms)


def test_a_folder_of_the_zoo_is_named_as_a_whole(file):
    (file.parent / "labels.txt").write_text("\n".join(["background", *[f"thing {i}" for i in range(90)]]))
    try:
        assert import_detector(file.parent)[1].class_names[2] == "thing 2"
    finally:
        (file.parent / "labels.txt").unlink()


def changed(tmp_path, change, make=ssd_v1, norms="kept"):
    """A made file with its GraphDef changed."""
    path = write_frozen_graph(make(), tmp_path / "changed.pb", norms)
    graph = type(message("GraphDef")).FromString(path.read_bytes())
    change(graph, {node.name: node for node in graph.node})
    path.write_bytes(graph.SerializeToString())
    return path


def no_ssd(graph, nodes):
    nodes["concat_1"].name = "classes"


def training(graph, nodes):
    name = next(name for name in nodes if nodes[name].op == "FusedBatchNorm")
    nodes[name].attr.add(key="is_training").value.b = True


def another_activation(graph, nodes):
    for node in graph.node:
        node.op = {"Relu6": "Elu"}.get(node.op, node.op)


def a_factor_in_between(graph, nodes):
    """Something that no importer should pass over: what the first layer says, twice over."""
    nodes["layer1"].op = "LeakyRelu"


def a_constant_of_gigabytes(graph, nodes):
    tensor = next(a for a in nodes["FeatureExtractor/layer0/weights"].attr if a.key == "value").value.tensor
    tensor.tensor_shape.dim[0].size = 1 << 40


def anchors_from_the_image(graph, nodes):
    nodes["Concatenate/concat"].input[0] = "concat"


def dilated(graph, nodes):
    nodes["FeatureExtractor/layer0/Conv2D"].attr.add(key="dilations").value.list.i.extend([1, 2, 2, 1])


def no_size(graph, nodes):
    nodes["Preprocessor/resized"].op = "Identity"


def no_normalisation(graph, nodes):
    nodes["Preprocessor/mul"].op = nodes["image"].op = "Identity"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (no_ssd, "no SSD of the TF zoo"),
        (training, "a graph for training; export it for inference"),
        (another_activation, "has layer.* .Elu., which no network here has"),
        (a_factor_in_between, "has layer1 .LeakyRelu., which no network here has"),
        (a_constant_of_gigabytes, "a constant of shape .1099511627776, 3, 3, 8., which no detector has"),
        (anchors_from_the_image, "carries no anchors"),
        (dilated, "dilated"),
        (no_size, "what size it resizes images to"),
        (no_normalisation, "normalisation"),
    ],
)
def test_a_graph_that_is_no_ssd_or_follows_other_rules_is_one_line(tmp_path, change, words):
    with pytest.raises(BadWeightsError, match=words) as error:
        import_detector(changed(tmp_path, change))
    assert "changed.pb" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [0.5, 0.97, 7, b"\x0a\x05\x0a\x03abc", b"", b"\x0a\xff\xff\xff\xff\x0f\x0a"])
def test_a_file_cut_short_or_of_something_else_is_one_line_and_exit_code_2(file, tmp_path, content, capsys):
    whole, path = file.read_bytes(), tmp_path / "cut.pb"
    if not isinstance(content, bytes):
        content = whole[: int(len(whole) * content) if isinstance(content, float) else content]
    path.write_bytes(content)
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((64, 64, 3), np.uint8))
    assert main(["detect", str(tmp_path / "image.png"), "--weights", str(path)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "cut.pb" in said[-1] and not any("Traceback" in line for line in said)


def test_a_forged_graph_asks_for_no_memory(file, monkeypatch):
    """Its heads agree on a hundred thousand classes, of which only the first map's are there."""
    graph = read_frozen_graph(file)
    first = graph.class_heads[0].layers[-1]
    first.weight = np.broadcast_to(np.float32(0), (3 * 50_000, *first.weight.shape[1:]))
    first.bias = np.broadcast_to(np.float32(0), (3 * 50_000,))
    graph.columns = 50_000
    monkeypatch.setattr(fitting, "build", lambda spec: pytest.fail("built"))
    with pytest.raises(BadWeightsError, match=r"[\d,]+ weights where the network that it looks like has [\d,]+"):
        assemble(graph)


def test_a_computed_constant_has_a_limit():
    parts = [("shape", np.array([1 << 20, 1 << 20], np.int32)), ("value", np.float32(0))]
    operations = {name: Operation("Const", name, (), {"value": value}) for name, value in parts}
    operations["fill"] = Operation("Fill", "fill", ("shape", "value"))
    with pytest.raises(ValueError, match="constant of shape"):
        Constants(operations, "a.pb").value("fill")


def test_a_loop_is_no_constant_and_ends():
    operations = {
        "a": Operation("Add", "a", ("b", "one")),
        "b": Operation("Identity", "b", ("a",)),
        "one": Operation("Const", "one", (), {"value": np.float32(1)}),
    }
    constants = Constants(operations, "a.pb")
    assert not constants.has("a") and not constants.has("b") and constants.has("one")


def test_made_graphs_have_the_same_names_as_the_zoo_s():
    names = {node["name"] for node in tensorflow_graph(ssd_v1(), "kept")[0]}
    assert {"image_tensor", "concat", "concat_1", "Postprocessor/ExpandDims"} <= names


@pytest.fixture(scope="module")
def published(shared, tmp_path_factory):
    """The published SSDLite MobileNet V2, its TensorFlow.js files written as a frozen graph."""
    import runpy

    out = tmp_path_factory.mktemp("published") / "ssdlite.pb"
    script, folder = shared / "reference" / "tfjs_to_pb.py", shared / "models" / "ssdlite_mobilenet_v2_coco_tfjs"
    arguments, sys.argv = sys.argv, [str(script), str(folder), str(out)]
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.argv = arguments
    return out


def test_the_published_network_says_what_openvino_s_tensorflow_front_end_says(shared, published):
    openvino = pytest.importorskip("openvino", reason="needs openvino")
    from openvino.frontend import FrontEndManager

    frontend = FrontEndManager().load_by_framework("tf")
    graph = frontend.load(str(published))
    first, ends = graph.get_place_by_tensor_name("Preprocessor/sub:0"), ("concat:0", "concat_1:0")
    graph.override_all_outputs([graph.get_place_by_tensor_name(name) for name in ends])
    graph.override_all_inputs([first])
    graph.set_partial_shape(first, openvino.PartialShape([-1, 300, 300, 3]))
    graph.set_element_type(first, openvino.Type.f32)
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    theirs = openvino.Core().compile_model(frontend.convert(graph), "CPU", options)
    files = sorted((Path(shared) / "data" / "coco_val500" / "images").iterdir())[:4]
    images = np.stack([stretch(read_image(file), (300, 300)) for file in files])
    answer = theirs(
        {"Preprocessor/sub:0": images.astype(np.float32) * np.float32(2 / 255) - 1, "image_tensor:0": images}
    )
    encodings, logits = (answer[end] for end in theirs.outputs)
    ssd, card = import_detector(published)
    assert sum(p.numel() for p in ssd.parameters()) == 4_500_543 and len(anchors_of(ssd)) == 1917
    with torch.no_grad():
        ours, our_logits = Deployable(ssd)(torch.from_numpy(images))
    assert np.abs(our_logits.numpy() - logits).max() < 1e-4
    assert np.abs(ours.numpy()[..., [1, 0, 3, 2]] - encodings[:, :, 0]).max() < 1e-4
    assert card.class_names[0] == "person"
