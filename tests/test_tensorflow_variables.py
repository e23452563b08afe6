"""TensorFlow graphs with their variables beside them: checkpoints of TensorFlow 1, SavedModels; and what bad ones say."""

import numpy as np
import pytest
import torch
from frozen_files import graph_def, tensorflow_graph, write_bundle, write_checkpoint
from frozen_networks import noise, run, ssd_v1

from detection.errors import BadWeightsError
from detection.ssd.network import Deployable
from detection.weights.importers.schema import message
from detection.weights.importers.table import import_detector, importer_of
from detection.weights.importers.tensor_bundle import TensorBundle

pytestmark = pytest.mark.usefixtures("one_thread")
pytest.importorskip("google.protobuf", reason="needs protobuf")


def assert_same(path, net):
    ssd, card = import_detector(path)
    encodings, scores = run(net, noise(net))
    with torch.no_grad():
        ours, logits = Deployable(ssd)(torch.from_numpy(noise(net)))
    assert np.abs(ours.numpy()[..., [1, 0, 3, 2]] - encodings).max() < 1e-3
    assert np.abs(logits.sigmoid().numpy() - scores).max() < 1e-4
    assert not card.folded_norms


@pytest.mark.parametrize("averages", [False, True])
def test_a_checkpoint_gives_its_averages_where_it_has_them(tmp_path, averages):
    net = ssd_v1()
    assert_same(write_checkpoint(net, tmp_path, averages), net)


def test_a_saved_model_of_the_first_zoo_is_a_frozen_graph(tmp_path):
    net, model = ssd_v1(), message("SavedModel")
    graph_def(*tensorflow_graph(net, "kept"), model.meta_graphs.add().graph_def)
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01" + model.SerializeToString())
    assert_same(tmp_path, net)


def test_arrays_are_read_by_their_keys(tmp_path):
    values = {"a/weights": np.arange(6, dtype=np.float32).reshape(2, 3), "a/weights/more": np.ones(2, np.float32)}
    bundle = TensorBundle(write_bundle(values, tmp_path / "x.index"))
    assert sorted(bundle.keys()) == sorted(values) and bundle.shape("a/weights") == (2, 3)
    assert all((bundle.array(key) == values[key]).all() for key in values)


def without(name):
    def remove(folder):
        (folder / name).unlink()

    return remove


def cut(name, share):
    def shorten(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return shorten


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without("model.ckpt.meta"), "model.ckpt.meta is missing"),
        (without("model.ckpt.data-00000-of-00001"), "data-00000-of-00001 is missing; put it beside"),
        (cut("model.ckpt.data-00000-of-00001", 0.5), "ends before"),
        (cut("model.ckpt.index", 0.9), "no index of a TensorFlow checkpoint, or cut short"),
        (cut("model.ckpt.meta", 0.5), "cut short"),
    ],
)
def test_what_is_missing_or_short_is_named_in_one_line(tmp_path, damage, words):
    path = write_checkpoint(ssd_v1(), tmp_path)
    damage(tmp_path)
    with pytest.raises(BadWeightsError, match=words) as error:
        import_detector(path)
    assert "model.ckpt" in str(error.value) and "\n" not in str(error.value)


def test_all_that_a_checkpoint_is_made_of_counts_in_its_hash(tmp_path):
    path = write_checkpoint(ssd_v1(), tmp_path)
    (tmp_path / "labels.txt").write_text("a")
    names = {file.name for file in importer_of(path).files(path)}
    assert names == {"model.ckpt.index", "model.ckpt.meta", "model.ckpt.data-00000-of-00001", "labels.txt"}
