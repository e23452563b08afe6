"""Names with a recipe: what the records say, and the way from a name to a detector."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from detection.errors import BadWeightsError, MissingPackageError, MobileSSDError
from detection.weights import names, records, resolve
from detection.weights.checkpoint import read_card
from detection.weights.download.fetch import folder_of
from detection.weights.records import RECORDS, find_record, list_weights

LITE = "ssdlite_mobilenet_v2.coco"
DETECTORS = [record for record in RECORDS if record.task == "detector"]
BODIES = [record for record in RECORDS if record.task == "classifier"]


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MOBILESSD_HOME", str(tmp_path))
    monkeypatch.setenv("MOBILESSD_OFFLINE", "1")
    return tmp_path


@pytest.fixture(scope="module")
def cached(shared, tmp_path_factory):
    """A cache in which SSDLite V2 lies as TensorFlow.js publishes it, converted by its first use."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOBILESSD_HOME", str(home))
        patch.setenv("MOBILESSD_OFFLINE", "1")
        record = find_record(LITE)
        shutil.copytree(shared / "models" / "ssdlite_mobilenet_v2_coco_tfjs", folder_of(record.file))
        resolve.resolve(LITE)
    return home


# Records


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_a_record_says_all_that_is_needed(record):
    architecture, recipe = record.name.split(".")
    assert architecture.startswith(record.architecture) and recipe in ("mobilessd", "coco", "imagenet")
    assert all(re.match(r"https?://\S+|npm:\S+@\d+\.\d+\.\d+#\S+", url) for url in record.urls)
    assert re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{8}", record.sha256)
    assert record.kind in ("tfjs", "tflite", "state_dict", "frozen_graph", "shipped")
    assert bool(record.urls) != bool(record.shipped)
    assert record.licence and record.attribution and "/" not in record.filename
    for metric in record.metrics:
        assert metric["split"] and metric["protocol"] and metric["images"] > 0
        assert 0 < metric.get("AP", metric.get("top1")) < 1
    json.dumps(record.metrics)


def test_names_are_unique_and_found():
    assert len(set(list_weights())) == len(RECORDS)
    assert all(find_record(record.name) is record for record in RECORDS)
    assert records.DEFAULT in list_weights()


@pytest.mark.parametrize("record", DETECTORS, ids=lambda record: record.name)
def test_a_detectors_record_names_a_network_that_can_be_built(record):
    import torch

    from detection.ssd.network import build

    spec = names.spec_for(record.name)
    with torch.device("meta"):
        assert spec.num_classes == record.options["num_classes"] in (80, 90) and build(spec)


@pytest.mark.parametrize("record", BODIES, ids=lambda record: record.name)
def test_a_bodys_record_names_a_body_that_can_be_built(record):
    import torch

    from backbones import build_backbone

    with torch.device("meta"):
        assert build_backbone(record.architecture, alpha=record.options.get("alpha", 1.0))


def test_the_published_files_at_hand_are_those_of_the_records(shared):
    from detection.weights.download.fetch import verify

    models = shared / "models"
    verify(find_record(LITE).file, models / "ssdlite_mobilenet_v2_coco_tfjs" / "model.json")
    verify(find_record("ssd_mobilenet_v1_075.coco").file, models / "coco_ssd_mobilenet_v1" / "detect.tflite")
    for record in BODIES:
        if record.kind == "tflite":
            verify(record.file, models / "imagenet" / record.filename)


# From a name to weights


def test_what_ships_and_is_missing_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(records, "__file__", str(tmp_path / "records.py"))
    with pytest.raises(
        BadWeightsError, match=f"{records.DEFAULT}.* is missing; it comes with mobilessd: install it again"
    ):
        resolve.resolve(records.DEFAULT)


def test_a_path_means_itself(tmp_path):
    file = tmp_path / LITE
    file.touch()
    assert resolve.resolve(file) == file and resolve.resolve(str(tmp_path)) == tmp_path


@pytest.mark.parametrize(
    "name, hint",
    [
        ("ssdlite_mobilenet_v2.coc", LITE),
        ("ssd_mobilenet_v1_75.coco", "ssd_mobilenet_v1_075.coco"),
        ("weights/ssdlite_mobilenet_v2.tflite", LITE),
        ("ssdlite_mobilenet_v2", f"an architecture without weights; with weights: {records.DEFAULT}, {LITE}"),
        ("ssdlite_mobilenet_v1", "an architecture without weights; no weights are published"),
        ("best.safetensors", "nearest: "),
        ("", "nearest: "),
    ],
)
def test_an_unknown_name_is_one_line_with_the_nearest_names(name, hint):
    with pytest.raises(BadWeightsError) as error:
        resolve.resolve(name)
    assert "no such file" in str(error.value) and hint in str(error.value) and "\n" not in str(error.value)


def test_offline_and_not_in_the_cache_is_one_line(own_home):
    with pytest.raises(MobileSSDError) as error:
        resolve.resolve(LITE)
    text = str(error.value)
    assert f"put model.json and the shards that it names into {own_home}" in text and "\n" not in text


def test_without_torch_nothing_is_fetched_in_vain(own_home, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else real(name, *a))
    with pytest.raises(MissingPackageError, match=r'pip install "mobilessd\[torch\]"'):
        resolve.resolve(LITE)


def test_the_converted_checkpoint_carries_what_the_record_knows(cached, monkeypatch):
    monkeypatch.setenv("MOBILESSD_HOME", str(cached))
    card = read_card(resolve.resolve(LITE))
    record = find_record(LITE)
    assert card.name == LITE and card.licence == "Apache-2.0" and card.source == record.urls[0]
    assert card.attribution and [dict(m) for m in record.metrics] == card.metrics
    assert len(card.class_names) == 90 and card.class_names[0] == "person" and card.folded_norms


def test_the_record_and_the_file_are_the_same_network(cached, monkeypatch):
    from backbones import count
    from detection.ssd.network import build

    monkeypatch.setenv("MOBILESSD_HOME", str(cached))
    ssd, card = names.load(LITE)
    assert count(ssd, 300).params == 4_500_543  # the V2 paper's network with 91 columns
    of_record, of_file = build(names.spec_for(LITE)).state_dict(), ssd.state_dict()
    assert {name: t.shape for name, t in of_record.items()} == {name: t.shape for name, t in of_file.items()}


def test_a_second_use_hashes_no_original_converts_nothing_and_opens_no_socket(cached, monkeypatch):
    monkeypatch.setenv("MOBILESSD_HOME", str(cached))
    from detection.weights.download import fetch as download

    def forbidden(*args, **kwargs):
        raise AssertionError("done again")

    monkeypatch.setattr(download, "verify", forbidden)
    monkeypatch.setattr(resolve, "import_detector", forbidden)
    monkeypatch.setattr(socket.socket, "__init__", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    assert resolve.resolve(LITE).suffix == ".safetensors"


def test_a_name_resolves_without_torch_and_without_network_modules(cached):
    code = (
        f"import sys, detection.weights.resolve as z; z.resolve({LITE!r}); print({{'torch', 'ssl'}} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MOBILESSD_HOME": str(cached)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"


def test_a_detector_by_name_sees_a_person(cached, shared, monkeypatch):
    from detection import Detector

    monkeypatch.setenv("MOBILESSD_HOME", str(cached))
    found = Detector(LITE, device="cpu", runtime="torch", threads=2)(shared / "models" / "photos" / "grace_hopper.bmp")
    assert found.names[0] == "person" and found.scores[0] > 0.8 and isinstance(found.boxes, np.ndarray)


@pytest.mark.skipif(
    not os.environ.get("MOBILESSD_NETWORK_TESTS"), reason="fetches 18 MB: set MOBILESSD_NETWORK_TESTS=1 to run it"
)
def test_from_an_empty_cache_the_name_is_enough(tmp_path, monkeypatch):
    monkeypatch.setenv("MOBILESSD_HOME", str(tmp_path))
    assert read_card(resolve.resolve(LITE)).name == LITE
