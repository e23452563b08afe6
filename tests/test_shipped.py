"""The weights that come with the installation: whole, honest about where they come from, and good for everyday images."""

import json
import os
import sys
from pathlib import Path

import children
import pytest

from detection import Detector
from detection.files import sha256_of
from detection.weights.card import MARK
from detection.weights.checkpoint import read_card
from detection.weights.records import DEFAULT, RECORDS, find_record
from detection.weights.resolve import open_weights

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = [record for record in RECORDS if record.shipped]
SURE = 0.5

# What is in each image and must be found, and what else is there and may be.
SEEN = {
    "coral_cat_720p": ({"cat"}, {"chair", "couch"}),
    "coral_pets": ({"dog"}, set()),
    "coral_kite_and_cold": ({"person"}, {"kite", "boat"}),
    "jetson_humans_4": ({"person"}, {"sports ball"}),
    "jetson_humans_9": ({"person"}, {"bench"}),
    "jetson_peds_0": ({"person"}, {"car", "backpack", "handbag", "tie"}),
    "jetson_room_0": ({"bed"}, {"chair", "couch"}),
    "yolox_dog": ({"dog", "bicycle"}, {"truck", "car"}),
}


def ids(record):
    return record.name


@pytest.fixture(scope="module")
def default():
    return Detector(threads=1, score=SURE)


@pytest.mark.parametrize("record", SHIPPED, ids=ids)
def test_the_file_is_the_one_of_the_record(record):
    assert record.shipped.stat().st_size == record.size <= 10_000_000
    assert sha256_of(record.shipped) == record.sha256


@pytest.mark.parametrize("record", SHIPPED, ids=ids)
def test_the_card_is_complete(record):
    card = read_card(record.shipped)
    assert card.name == record.name and card.licence == "Apache-2.0" and card.attribution == record.attribution
    assert card.source and card.recipe and len(card.training_images) > 1000
    assert card.metrics == [dict(metric) for metric in record.metrics] and len(card.class_names) == 80


@pytest.mark.parametrize("record", SHIPPED, ids=ids)
def test_no_image_that_scores_it_was_trained_on(record, shared):
    kept = set(json.loads((shared / "data" / "tf_minival.json").read_text())["coco_pool"])
    chosen = []
    for name in ("coco_pool", "coco_val500"):
        images = json.loads((shared / "data" / name / "instances.json").read_text())["images"]
        folder = shared / "data" / name / "images"
        chosen += [folder / image["file_name"] for image in images if name == "coco_val500" or image["id"] in kept]
    assert len(chosen) == 952
    trained = set(read_card(record.shipped).training_images)
    assert not [path.name for path in chosen if sha256_of(path)[:MARK] in trained]


def test_the_default_ships():
    assert find_record(DEFAULT).shipped and open_weights(DEFAULT).graph


def test_it_finds_the_person_of_the_portrait(default):
    cbook = pytest.importorskip("matplotlib.cbook", reason="needs matplotlib's portrait")
    found = default(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    assert found.names[0] == "person" and set(found.names) <= {"person", "tie"}


@pytest.mark.parametrize("name, there", [("chelsea.png", {"cat"}), ("astronaut.png", {"person"})])
def test_it_finds_the_cat_and_the_astronaut(default, name, there):
    skimage = pytest.importorskip("skimage", reason="needs scikit-image's photographs")
    found = set(default(Path(skimage.__file__).parent / "data" / name).names)
    assert there <= found <= there | {"bed", "chair", "couch"}


@pytest.mark.parametrize("name", SEEN)
def test_everyday_photographs(default, shared, name):
    there, maybe = SEEN[name]
    found = set(default(shared / "data" / "photos" / f"{name}.jpg").names)
    assert there <= found <= there | maybe


def test_without_torch_weights_network_or_cache_it_detects(tmp_path):
    cbook = pytest.importorskip("matplotlib.cbook", reason="needs matplotlib's portrait")
    code = (
        "import sys, socket; sys.modules['torch'] = sys.modules['onnx'] = None\n"
        "socket.getaddrinfo = None\n"
        "from detection.cli.main import main\n"
        "sys.exit(main(['detect', sys.argv[1], '--output', sys.argv[2]]))"
    )
    image = str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    environment = os.environ | {"MOBILESSD_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", code, image, str(tmp_path / "out")]
    done = children.run(command, cwd=ROOT, env=environment, timeout=120)
    assert done.returncode == 0 and "person" in done.stdout, done.stderr


def test_the_demo_finds_her_and_plays_the_clip(tmp_path):
    command = [sys.executable, ROOT / "tools" / "demo.py", "--output", tmp_path]
    done = children.run(command, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "hopper.jpg: person" in done.stdout and " fps" in done.stdout and "recorded" in done.stdout
    assert (tmp_path / "hopper.jpg").exists() and (tmp_path / "live.mp4").exists()
