"""What ships: one file of trained weights, and a graph that takes its numbers out of it and needs no torch."""

import sys
from dataclasses import replace
from pathlib import Path

import children
import numpy as np
import pytest
import torch
from random_networks import random_network

from detection import Detector
from detection.errors import BadWeightsError
from detection.ssd.network import feature_maps
from detection.weights import resolve as source
from detection.weights.card import Card
from detection.weights.checkpoint import load_checkpoint, read_card, save_checkpoint

pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("openvino", reason="needs openvino")

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from release_weights import release  # noqa: E402

HASHES = ("ab" * 6, "cd" * 6)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs that began alike: the second one's kernels are the first one's, a little moved."""
    folder = tmp_path_factory.mktemp("runs")
    ssd = random_network("ssdlite_mobilenet_v2", alpha=0.25, input_size=(97, 131))
    maps = feature_maps(ssd)
    card = Card(ssd.spec.to_dict(), ("a", "b", "c"), (1, 2, 3), maps, training_images=HASHES, score_threshold=0.4)
    paths = [folder / "first.safetensors", folder / "second.safetensors"]
    save_checkpoint(paths[0], ssd, card)
    with torch.no_grad():
        for parameter in ssd.parameters():
            parameter.mul_(1.02)
    save_checkpoint(paths[1], ssd, card)
    return paths


@pytest.fixture(scope="module")
def released(runs, tmp_path_factory):
    output = tmp_path_factory.mktemp("released") / "small.ours.safetensors"
    release(list(map(str, runs)), "small.ours", "small.theirs", "drawn by chance", output)
    return output


def test_shares_and_another_input_size(runs, tmp_path):
    """0.75 of the first and 0.25 of the second, for larger images: the kernels lie where the shares say."""
    output = tmp_path / "mixed.safetensors"
    release([*map(str, runs)], "mixed", None, "", output, shares=(3, 1), input_size=160)
    card, mixed = read_card(output), load_checkpoint(output)[0]
    assert card.input_size == (160, 160) and card.recipe["shares"] == [0.75, 0.25]
    release([str(runs[0])], "first", None, "", tmp_path / "first.safetensors")
    release([str(runs[1])], "second", None, "", tmp_path / "second.safetensors")
    first, second = (load_checkpoint(tmp_path / f"{name}.safetensors")[0].state_dict() for name in ("first", "second"))
    for key, tensor in mixed.state_dict().items():
        wanted = 0.75 * first[key].double() + 0.25 * second[key].double()
        torch.testing.assert_close(tensor.double(), wanted, rtol=2e-3, atol=1e-5, msg=key)


def outputs_of(detector):
    images = np.random.default_rng(0).integers(0, 255, (2, *detector.card.input_size, 3), np.uint8)
    return detector.runtime(images)


def test_the_card_says_where_it_comes_from(released):
    card = read_card(released)
    assert (card.name, card.licence, card.precision, card.folded_norms) == ("small.ours", "Apache-2.0", "float16", True)
    assert card.source == "fine-tuned from small.theirs" and "small.theirs" in card.attribution
    assert card.recipe["averaged"] == ["run 1", "run 2"] and card.recipe["data"] == "drawn by chance"
    assert card.training_images == HASHES and card.score_threshold is None


def test_it_is_the_mean_of_the_runs(runs, released):
    one = outputs_of(Detector(runs[0], "cpu", "torch", threads=1))
    middle = outputs_of(Detector(released, "cpu", "torch", threads=1))
    other = outputs_of(Detector(runs[1], "cpu", "torch", threads=1))
    for a, b, c in zip(one, middle, other):
        assert np.abs(a - c).max() > 5 * np.abs((a + c) / 2 - b).max() > 0


def test_the_graph_is_small_and_says_the_same_without_torch(released, monkeypatch, tmp_path):
    graph = released.with_suffix(".onnx")
    assert graph.stat().st_size < released.stat().st_size / 3
    monkeypatch.setattr(source, "__file__", str(released.parent / "source.py"))  # as if it were installed there
    wanted = outputs_of(Detector(released, "cpu", "torch", threads=1))
    for runtime in ("openvino", "onnxruntime"):
        detector = Detector(released, "cpu", runtime, threads=1)
        for ours, theirs in zip(outputs_of(detector), wanted):
            assert np.abs(ours - theirs).max() < 1e-4
    code = (
        "import sys; sys.modules['torch'] = sys.modules['onnx'] = None\n"
        "from detection.weights import resolve as source\n"
        f"source.__file__ = {str(released.parent / 'source.py')!r}\n"
        "from detection import Detector\n"
        "import numpy as np\n"
        f"Detector({str(released)!r}, threads=1)(np.zeros((50, 60, 3), np.uint8))\n"
    )
    done = children.run([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_a_graph_beside_somebodys_own_checkpoint_is_not_taken_for_it(released):
    assert source.open_weights(released).graph is None


def test_files_of_two_networks_cannot_be_averaged(runs, tmp_path):
    ssd, card = load_checkpoint(runs[0])
    other = random_network("ssdlite_mobilenet_v2", alpha=0.35, input_size=(97, 131))
    path = tmp_path / "other.safetensors"
    save_checkpoint(path, other, replace(card, spec=other.spec.to_dict()))
    with pytest.raises(BadWeightsError, match="another network"):
        release([str(runs[0]), str(path)], "x", None, "", tmp_path / "x.safetensors")
