"""A detector over a data set: classes matched by name and id, bad images reported, leaks and floors warned of."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from data_sets import yolo
from oracle import rgb, some_images
from stages import OneView
from test_evaluate import made_up

from detection.boxes.detections import Detections
from detection.cli import eval as command
from detection.cli.main import main
from detection.errors import BadDataError
from detection.evaluate.categories import match_categories
from detection.evaluate.coco import evaluate
from detection.evaluate.detect import detect_all
from detection.evaluate.results import perfect_results
from detection.evaluate.truth import ground_truth, open_evaluation, read_truth
from detection.files import sha256_of
from detection.images.preprocess import stretch
from detection.weights.card import Card
from detection.weights.checkpoint import read_card

NAMES, IDS = ("person", "unused 2", "dog"), (1, 2, 18)


class Fake(OneView):
    """A detector that knows the truth: each image has a size of its own, by which it is recognised."""

    def __init__(self, truth, score=0.01):
        self.truth, self.batches = truth, []
        self.card = SimpleNamespace(class_names=NAMES, category_ids=IDS, training_images=(), name="fake")
        self.settings = SimpleNamespace(score=score, iou=0.6, max_detections=100, merge="nms")

    def prepare(self, images):
        return np.stack([stretch(image, (8, 8)) for image in images])

    def runtime(self, batch):
        assert batch.dtype == np.uint8 and batch.shape[1:] == (8, 8, 3)
        self.batches.append(len(batch))
        return np.zeros((len(batch), 4, 4), np.float32), np.zeros((len(batch), 4, 4), np.float32)

    def finish(self, encodings, logits, image_size):
        index = self.truth.sizes.tolist().index(list(image_size))
        mine = self.truth.image == index
        boxes = self.truth.boxes[mine].astype(np.float32)
        boxes[:, 2:] += boxes[:, :2]
        classes = np.array([NAMES.index(self.truth.category_names[c]) for c in self.truth.category[mine]], np.int64)
        return Detections(boxes, np.full(len(boxes), 0.9, np.float32), classes, NAMES, image_size, IDS)


@pytest.fixture
def data(tmp_path):
    """Five images with a person and a dog each, in COCO's layout."""
    images, annotations = [], []
    for n in range(5):
        name, (height, width) = f"{n}.png", (30 + n, 40)
        path = tmp_path / "val2017" / name
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((height, width, 3), 40 * n, np.uint8))
        images.append({"id": 100 + n, "file_name": name, "height": height, "width": width})
        for category, box in ((1, [2, 3, 20, 20]), (18, [20, 5, 16, 18])):
            annotations.append({"image_id": 100 + n, "category_id": category, "bbox": box})
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations/instances_val2017.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return tmp_path


@pytest.fixture
def fake(data, monkeypatch):
    detector = Fake(read_truth(data))
    monkeypatch.setattr(command, "open_detector", lambda args, score: detector)
    return detector


def truth_of(*categories):
    truth = SimpleNamespace(path="t.json", category_ids=[c[0] for c in categories])
    truth.category_names = tuple(c[1] for c in categories)
    return truth


def test_classes_are_matched_by_name_and_id():
    found = match_categories(
        ("person", "dining table", "sofa"), (1, 67, 63), truth_of((63, "couch"), (67, "Dining_Table"), (1, "Person"))
    )
    assert found.to_truth.tolist() == [2, 1, 0] and not found.notes()  # fmt: skip


def test_the_name_decides_where_ids_were_renumbered():
    found = match_categories(("person", "dog"), (1, 18), truth_of((0, "dog"), (1, "cat"), (2, "person")))
    assert found.to_truth.tolist() == [2, 0]
    assert found.missed == ("cat",) and "the model lacks 1 classes, counted as missed (AP 0): cat" in found.notes()[0]


def test_one_id_with_two_meanings_is_not_matched_but_named():
    found = match_categories(("person", "bicycle"), (1, 2), truth_of((1, "person"), (2, "car")))
    assert found.to_truth.tolist() == [0, -1] and found.dropped == ("bicycle",)
    assert found.conflicts == ("id 2 is 'bicycle' in the model and 'car' in the data",)


def test_the_id_decides_between_two_categories_of_one_name():
    twice = truth_of((1, "mouse"), (74, "mouse"))
    assert match_categories(("mouse",), (74,), twice).to_truth.tolist() == [1]
    with pytest.raises(BadDataError):
        match_categories(("mouse",), (5,), twice)


def test_columns_without_a_class_are_not_mentioned():
    found = match_categories(("person", "unused 12", "???", ""), (1, 12, 13, 14), truth_of((1, "person")))
    assert found.to_truth.tolist() == [0, -1, -1, -1] and not found.notes()


def test_nothing_in_common_is_an_error():
    with pytest.raises(BadDataError, match="no class in common: the model knows RBC; the annotations have person"):
        match_categories(("RBC",), (1,), truth_of((1, "person")))


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_every_image_is_detected_once_whatever_the_batch(data, batch):
    truth = read_truth(data)
    detector = Fake(truth)
    categories = match_categories(NAMES, IDS, truth)
    results, report = detect_all(detector, truth, categories, batch, progress=False)
    assert sum(detector.batches) == 5 and max(detector.batches) <= batch
    assert sorted(results.image.tolist()) == sorted(perfect_results(truth).image.tolist())
    assert evaluate(truth, results).AP == pytest.approx(1)
    assert not report.unreadable and report.seconds > report.network_seconds


def test_bad_images_count_as_without_detections_and_the_rest_goes_on(data, fake, capsys, tmp_path):
    (data / "val2017/1.png").unlink()
    whole = (data / "val2017/3.png").read_bytes()
    (data / "val2017/3.png").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "o.json"
    assert main(["eval", "--annotations", str(data), "--json", str(out)]) == 0
    complaints = capsys.readouterr().err
    assert "1.png" in complaints and "3.png" in complaints and "2 of 5 images count as without" in complaints
    numbers = json.loads(out.read_text())
    assert numbers["images"] == 5 and 0.5 < numbers["AP"] < 0.7 and numbers["protocol"]["unreadable_images"] == 2


def test_all_images_missing_is_an_error(data, fake, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    assert main(["eval", "--annotations", str(data), "--images", str(tmp_path / "empty")]) == 2
    assert "none of the 5 images can be read; the first: " in capsys.readouterr().err


def test_classes_that_the_data_do_not_annotate_are_dropped(data):
    truth = read_truth(data).select(categories=[1])
    categories = match_categories(NAMES, IDS, truth)
    assert categories.dropped == ("person",)
    results, _ = detect_all(Fake(read_truth(data)), truth, categories, progress=False)
    assert len(results) == 5 and evaluate(truth, results).AP == pytest.approx(1)


def test_classes_that_the_model_lacks_are_missed(data, fake, capsys):
    path = data / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 3, "name": "car"})
    content["annotations"].append({"image_id": 100, "category_id": 3, "bbox": [1, 1, 9, 9]})
    path.write_text(json.dumps(content))
    assert main(["eval", "--annotations", str(data), "--quiet"]) == 0
    printed = capsys.readouterr()
    assert "the model lacks 1 classes, counted as missed (AP 0): car" in printed.err
    assert "AP  0.667" in printed.out


def test_the_protocol_stands_beside_the_number(data, fake, capsys):
    assert main(["eval", "--annotations", str(data)]) == 0
    printed = capsys.readouterr().out
    for words in ("split val2017", "5 images", "score threshold 0.01", "NMS IoU 0.6", "100 boxes an image", "fake"):
        assert words in printed


def test_a_high_score_threshold_is_warned_of(data, fake, capsys):
    fake.settings.score = 0.3
    assert main(["eval", "--annotations", str(data)]) == 0
    assert "warning: the score threshold 0.3 is above 0.05" in capsys.readouterr().err


def test_images_that_were_trained_on_are_warned_of(data, fake, capsys):
    fake.card.training_images = (sha256_of(data / "val2017/2.png"), "0" * 64)
    assert main(["eval", "--annotations", str(data)]) == 0
    assert "the model was trained on 1 of the 5 scored images" in capsys.readouterr().err


def test_sizes_that_contradict_the_annotations_are_warned_of(data, fake, capsys):
    path = data / "annotations/instances_val2017.json"
    path.write_text(path.read_text().replace('"width": 40', '"width": 80', 1))
    assert main(["eval", "--annotations", str(data)]) == 0
    assert "1 images have another size and shape than the annotation says: left out, as" in capsys.readouterr().err


def test_saved_results_score_the_same(data, fake, tmp_path):
    first, second, results = (str(tmp_path / name) for name in ("1.json", "2.json", "r.json"))
    assert main(["eval", "--annotations", str(data), "--save-results", results, "--json", first]) == 0
    assert main(["eval", "--annotations", str(data), "--results", results, "--json", second]) == 0
    first, second = (json.loads(Path(path).read_text()) for path in (first, second))
    assert first["per_class"] == second["per_class"] and first["AP"] == second["AP"]


def test_the_threshold_is_stored_in_the_weights(data, fake, tmp_path):
    from safetensors.numpy import save_file

    weights = tmp_path / "w.safetensors"
    card = Card(spec={}, class_names=NAMES, category_ids=IDS)
    save_file({"a": np.ones(3)}, weights, {"format": "mobilessd", "card": card.to_json()})
    assert main(["eval", "--annotations", str(data), "--weights", str(weights), "--store-threshold"]) == 0
    card = read_card(weights)
    assert card.score_threshold == pytest.approx(0.9, abs=0.02)
    assert card.class_thresholds == {"person": card.score_threshold, "dog": card.score_threshold}


def test_neither_torch_nor_matplotlib_is_imported(data, tmp_path):
    """The start of the command counts in its wall time."""
    results = tmp_path / "r.json"
    results.write_text("[]")
    script = (
        "import sys; from detection.cli.main import main;"
        f"code = main(['eval', '--annotations', {str(data)!r}, '--results', {str(results)!r}, '--errors']);"
        "heavy = {'torch', 'matplotlib', 'pandas', 'albumentations', 'openvino'} & set(sys.modules);"
        "sys.exit(code or len(heavy))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0


def test_eval_measures_what_the_detector_detects(trained, tmp_path):
    """The same boxes from the command, in batches, and from Python, image by image."""
    pytest.importorskip("torch")
    from detection.detector import Detector

    weights, folder = str(trained.weights), tmp_path / "data"
    ids, out = tmp_path / "ids.txt", tmp_path / "r.json"
    shutil.copytree(trained.photos, folder / "images")
    images = []
    for number, file in enumerate(some_images(folder / "images", 4), 1):
        height, width = rgb(file).shape[:2]
        images.append({"id": number, "file_name": file.name, "width": width, "height": height})
    kinds = [{"id": 1, "name": "person"}, {"id": 17, "name": "cat"}, {"id": 47, "name": "cup"}]
    truth = {"images": images, "categories": kinds, "annotations": []}
    (folder / "instances.json").write_text(json.dumps(truth))
    truth = read_truth(folder).select(range(3))
    ids.write_text("\n".join(map(str, truth.image_ids)))
    options = ["--runtime", "torch", "--batch", "2", "--image-ids", str(ids), "--save-results", str(out), "--quiet"]
    assert main(["eval", "--weights", weights, "--annotations", str(folder), *options]) == 0
    detector = Detector(weights, runtime="torch", score=0.01)
    by_command = json.loads(out.read_text())
    by_python = [
        one
        for image_id, name in zip(truth.image_ids, truth.file_names)
        for one in detector(folder / "images" / name).to_coco(image_id)
        if one["category_id"] in truth.category_ids
    ]
    assert len(by_command) == pytest.approx(len(by_python), abs=2) and len(by_python) > 20
    for one, other in zip(by_command[:20], by_python[:20]):
        assert (one["image_id"], one["category_id"]) == (other["image_id"], other["category_id"])
        assert one["score"] == pytest.approx(other["score"], abs=1e-3)
        assert one["bbox"] == pytest.approx(other["bbox"], abs=0.1)


def test_a_part_of_truth_and_of_results_agree_on_the_new_indices():
    truth, _ = made_up(0, images=2, classes=2, objects=2, crowds=0)
    truth = replace(truth, image=np.array([0, 1]), category=np.array([1, 0]))
    part, found = truth.select([1], [0]), perfect_results(truth).select(truth, [1], [0])
    assert part.image.tolist() == found.image.tolist() == [0]
    assert part.category.tolist() == found.category.tolist() == [0]


def test_ids_that_were_made_up_are_not_compared(tmp_path, capsys, monkeypatch):
    """A YOLO data set counts its classes from 0; that 1 is "dog" here and "person" in the model says nothing."""
    file = yolo(tmp_path, {"val": {"a": ["1 .5 .5 .2 .2"]}}, names=("cat", "dog"))
    truth = ground_truth(open_evaluation(file))
    monkeypatch.setattr(command, "open_detector", lambda args, score: Fake(truth))
    assert main(["eval", "--data", str(file), "--quiet"]) == 0
    printed = capsys.readouterr()
    assert (
        "not matched" not in printed.err and "the model lacks 1 classes" in printed.err and "AP  1.000" in printed.out
    )
