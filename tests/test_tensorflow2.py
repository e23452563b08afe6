"""SavedModels and checkpoints of TensorFlow 2's Object Detection API: what they compute, and what bad ones say."""

import numpy as np
import pytest
import torch
from frozen_networks import fpnlite_v2, noise, run, ssd_v1, ssdlite_v2
from tensorflow2_files import call, objects_of_fpnlite, objects_of_ssd, pipeline, write_objects, write_saved_model

from detection.cli.main import main
from detection.errors import BadWeightsError
from detection.ssd.network import Deployable, anchors_of
from detection.weights.importers.table import import_detector, importer_of

pytestmark = pytest.mark.usefixtures("own_home", "one_thread")
pytest.importorskip("google.protobuf", reason="needs protobuf")

SSD_ANCHORS = (
    "ssd_anchor_generator { num_layers: 6 min_scale: 0.2 max_scale: 0.95 aspect_ratios: [1.0, 2.0, 0.5, 3.0, 0.3333] }"
)
FPN_ANCHORS = "multiscale_anchor_generator { min_level: 3 max_level: 7 anchor_scale: 4.0 scales_per_octave: 2 }"
V1 = "ssd_mobilenet_v1_keras"


def fpn_checkpoint(net, folder, **options):
    config = pipeline(
        net.size,
        "ssd_mobilenet_v2_fpn_keras",
        FPN_ANCHORS,
        predictor="weight_shared_convolutional_box_predictor",
        **options,
    )
    return write_objects(objects_of_fpnlite(net), folder, config)


def ssd_checkpoint(folder, **options):
    net = ssd_v1()
    options = {"extractor": V1, "anchors": SSD_ANCHORS} | options
    return write_objects(objects_of_ssd(net), folder, pipeline(net.size, **options))


@pytest.mark.parametrize(
    ("make", "write"),
    [
        (ssdlite_v2, write_saved_model),
        (ssd_v1, lambda net, folder: write_objects(objects_of_ssd(net), folder, pipeline(net.size, V1, SSD_ANCHORS))),
        (lambda: fpnlite_v2(keras=True), write_saved_model),
        (lambda: fpnlite_v2(keras=True), fpn_checkpoint),
    ],
    ids=["SavedModel", "checkpoint", "SavedModel of an FPN-lite", "checkpoint of an FPN-lite"],
)
def test_a_file_computes_what_tensorflow_computes(tmp_path, make, write):
    net = make()
    ssd, card = import_detector(write(net, tmp_path / "model") if write is write_saved_model else write(net, tmp_path))
    encodings, scores = run(net, noise(net))
    with torch.no_grad():
        ours, logits = Deployable(ssd)(torch.from_numpy(noise(net)))
    assert np.abs(ours.numpy()[..., [1, 0, 3, 2]] - encodings).max() < 1e-3
    assert np.abs(logits.sigmoid().numpy() - scores).max() < 1e-4
    assert np.abs(anchors_of(ssd)[:, [1, 0, 3, 2]] - net.anchors).max() < 1e-6
    assert not card.folded_norms and card.class_names[0] == "person"


def test_a_narrow_network_of_keras_leaves_residuals_out_where_slim_s_has_them(tmp_path):
    """At 0.35 its comparison of channels sees 8, where min_depth makes 16: two blocks of ten add nothing."""
    blocks = {}
    for keras in (False, True):
        ssd, _ = import_detector(write_saved_model(fpnlite_v2(keras=keras), tmp_path / str(keras)))
        blocks[keras] = [i for i, block in enumerate(ssd.backbone.blocks) if block.residual]
    assert set(blocks[False]) - set(blocks[True]) == {0, 2}


def drop_a_sum(meta):
    """One block passes on its own output alone."""
    detector = next(f for f in meta.graph_def.library.function if f.signature.name == "detector")
    at = next(node for node in detector.node_def if node.op == "Add" and node.name.startswith("layer"))
    at.op, kept = "Identity", at.input[1]
    del at.input[:]
    at.input.append(kept)


def without_signature(meta):
    del meta.signature_def[:]


def without_function(meta):
    meta.graph_def.library.function[1].signature.name = "another"


def calling_itself(meta):
    call(
        meta.graph_def.library.function[0].node_def,
        "again",
        "wrapper",
        meta.graph_def.library.function[0].node_def[0].input,
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop_a_sum, "adds 9 pairs of tensors, where the mobilenet_v2 that it looks like adds 10"),
        (without_signature, "without the signature serving_default, so it is no exported detector"),
        (without_function, "calls a function that is missing"),
        (calling_itself, "its functions call each other more often than a detector's do"),
    ],
)
def test_a_saved_model_of_something_else_is_one_line(tmp_path, change, words):
    with pytest.raises(BadWeightsError, match=words) as error:
        import_detector(write_saved_model(ssdlite_v2(alpha=0.75), tmp_path / "model", change))
    assert "saved_model.pb" in str(error.value) and "\n" not in str(error.value)


def test_a_saved_model_whose_variables_are_missing_is_exit_code_2(tmp_path, capsys):
    folder = write_saved_model(ssd_v1(), tmp_path / "model")
    (folder / "variables" / "variables.data-00000-of-00001").unlink()
    assert main(["info", str(folder)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "variables.data-00000-of-00001 is missing" in said[-1] and len(said) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": 3}, r"predicts 90 classes, and .*pipeline.config says 3"),
        (
            {"extractor": "ssd_resnet50_v1_fpn_keras"},
            "feature extractor is 'ssd_resnet50_v1_fpn_keras'; known: ssd_mobile",
        ),
        ({"anchors": "grid_anchor_generator { }"}, "its anchors are of no kind known here"),
        ({"activation": "RELU"}, "its layers follow different conv_hyperparams"),
        ({"more": "use_depthwise"}, "no pipeline.config"),
    ],
)
def test_a_pipeline_config_that_does_not_fit_is_one_line(tmp_path, options, words):
    with pytest.raises(BadWeightsError, match=words) as error:
        import_detector(ssd_checkpoint(tmp_path, **options))
    assert "pipeline.config" in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) <= 500


def test_a_checkpoint_says_that_it_needs_its_pipeline_config(tmp_path):
    index = ssd_checkpoint(tmp_path)
    assert "pipeline.config" in {file.name for file in importer_of(index).files(index)}  # it counts in the hash
    (tmp_path / "pipeline.config").unlink()
    with pytest.raises(BadWeightsError, match="put its pipeline.config beside it, or name the SavedModel"):
        import_detector(index)


def test_a_checkpoint_of_another_model_is_one_line(tmp_path):
    layers = {f"_feature_extractor/other/{i}": {"kernel": np.zeros((1, 1, 3, 3), np.float32)} for i in range(2)}
    with pytest.raises(BadWeightsError, match="of no SSD MobileNet of its Object Detection API"):
        import_detector(write_objects(layers, tmp_path, None))
    without = {
        k: v for k, v in objects_of_ssd(ssd_v1()).items() if "box_encodings/3" not in k and "feature_map" not in k
    }
    (tmp_path / "b").mkdir()
    with pytest.raises(BadWeightsError, match="holds no layers in model/_feature_extractor/feature_map_generator"):
        import_detector(write_objects(without, tmp_path / "b", pipeline(96, V1, SSD_ANCHORS)))


def test_what_the_config_says_of_anchors_and_scores_is_taken(tmp_path):
    anchors = "ssd_anchor_generator { min_scale: 0.15 aspect_ratios: [1.0, 2.0, 0.5, 3.0, 0.25] }"
    path = ssd_checkpoint(tmp_path, anchors=anchors)
    config = tmp_path / "pipeline.config"
    config.write_text(config.read_text().replace("SIGMOID", "SOFTMAX").replace("y_scale: 10.0", "y_scale: 8.0"))
    spec = import_detector(path)[0].spec
    assert spec.anchors.options == {"min_scale": 0.15, "aspect_ratios": [1.0, 2.0, 0.5, 3.0, 0.25]}
    assert spec.scores == "softmax" and spec.variances == (0.1, 0.125, 0.2, 0.2)
