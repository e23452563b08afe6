"""The same data as VOC, COCO and YOLO, each with class ids of its own order: a detector trained on any scores the same on all."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from data_sets import make_image, voc_xml
from stages import OneView

from detection.boxes.detections import Detections
from detection.cli import eval as command
from detection.cli.main import main
from detection.data.open import open_data
from detection.images.decode import read_image
from detection.images.preprocess import stretch
from detection.outputs import Record
from detection.outputs.coco_json import CocoJson

NAMES = ("Platelets", "RBC", "WBC")
FORMS = {  # the order in which each format counts the classes, and their ids
    "voc": (("Platelets", "RBC", "WBC"), (1, 2, 3)),
    "coco": (("WBC", "Platelets", "RBC"), (2, 7, 40)),
    "yolo": (("RBC", "WBC", "Platelets"), (0, 1, 2)),
}
SIDE = 16


class Cells(OneView):
    """A detector that has learned where the cells are, not quite, in the classes of one format."""

    def __init__(self, form, data):
        self.names, self.ids = FORMS[form]
        self.card = SimpleNamespace(class_names=self.names, category_ids=self.ids, training_images=(), name=form)
        self.settings = SimpleNamespace(score=0.01, iou=0.6, max_detections=100, merge="nms")
        self.seen = {}
        ranks = np.random.default_rng(0).permutation(99_999)[:20_000].reshape(100, 200)  # no two scores are equal
        ranking = iter((ranks / 1e5).astype(np.float32))
        for i, path in enumerate(data.paths):
            found, random = data.image(i), np.random.default_rng(i)
            wrong = random.random(len(found.labels)) < 0.2
            kinds = np.where(wrong, random.integers(0, 3, len(found.labels)), found.labels)
            boxes = found.boxes + random.normal(0, 0.06, found.boxes.shape) * np.tile(
                found.boxes[:, 2:] - found.boxes[:, :2], 2
            )
            image = stretch(read_image(path), (SIDE, SIDE))
            boxes, scores = boxes.round(2).astype(np.float32), next(ranking)[: len(boxes)]  # as JSON holds them
            self.seen[image.tobytes()] = boxes, scores, kinds

    def prepare(self, images):
        return np.stack([stretch(image, (SIDE, SIDE)) for image in images])

    def runtime(self, batch):
        numbers = [list(self.seen).index(image.tobytes()) for image in batch]
        return np.array(numbers, np.float32)[:, None, None], np.zeros((len(batch), 1, 1), np.float32)

    def finish(self, encodings, logits, image_size):
        boxes, scores, kinds = list(self.seen.values())[int(encodings[0, 0])]
        mine = np.array([self.names.index(NAMES[kind]) for kind in kinds], np.int64)
        return Detections(boxes, scores, mine, self.names, image_size, self.ids)

    def detect(self, path):
        batch = self.prepare([read_image(path)])
        return self.finish(self.runtime(batch)[0][0], None, read_image(path).shape[:2])


def write_forms(data, folder):
    """The data (class names `NAMES`) in three formats, in folders of their names; the images are copied."""
    xml, lines, rows = folder / "voc", folder / "yolo", folder / "coco"
    for form in (xml / "JPEGImages", lines / "images/val", rows / "images", xml / "Annotations", lines / "labels/val"):
        form.mkdir(parents=True)
    images, annotations = [], []
    for i, path in enumerate(data.paths):
        found, name = data.image(i), f"{len(data) - i:03}.jpg"  # whose order is another one than that of the ids
        height, width = found.size
        for form in (xml / "JPEGImages", lines / "images/val", rows / "images"):
            shutil.copy(path, form / name)
        named = [(NAMES[label], *box.tolist(), 0) for label, box in zip(found.labels, found.boxes)]
        voc_xml(xml / "Annotations" / f"{name[:-4]}.xml", named, size=found.size)
        images.append({"id": 1000 - 3 * i, "file_name": name, "height": height, "width": width})
        text = ""
        for kind, x1, y1, x2, y2, _ in named:
            ids = dict(zip(*FORMS["coco"]))
            annotations.append(
                {"image_id": images[-1]["id"], "category_id": ids[kind], "bbox": [x1, y1, x2 - x1, y2 - y1]}
            )
            centre = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
            number = FORMS["yolo"][0].index(kind)
            text += f"{number} {centre[0]!r} {centre[1]!r} {(x2 - x1) / width!r} {(y2 - y1) / height!r}\n"
        (lines / "labels/val" / f"{name[:-4]}.txt").write_text(text)
    categories = [{"id": identity, "name": name} for name, identity in zip(*FORMS["coco"])]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    (rows / "instances.json").write_text(json.dumps(whole))
    (lines / "data.yaml").write_text(f"val: images/val\nnames: [{', '.join(FORMS['yolo'][0])}]\n")
    return {"voc": xml, "coco": rows, "yolo": lines}


def drawn(folder):
    for seed in range(8):
        random = np.random.default_rng(seed)
        corners = random.integers(0, 60, (12, 2)), random.integers(8, 60, (12, 2))
        boxes = [(NAMES[k % 3], *near, *(near + side), 0) for k, (near, side) in enumerate(zip(*corners))]
        make_image(folder / f"JPEGImages/{seed}.jpg", (120, 130), seed)
        voc_xml(folder / f"Annotations/{seed}.xml", boxes, (120, 130))
    return open_data(folder)


@pytest.mark.parametrize("which", ["drawn", "blood cells"])
def test_nine_combinations_of_training_and_ground_truth_have_one_ap(tmp_path, which, request, monkeypatch, capsys):
    """By `eval --weights`, and by `detect --json` and `eval --results`; to a millionth."""
    if which == "drawn":
        data = drawn(tmp_path / "set")
    else:
        folder = request.getfixturevalue("shared") / "data/bccd/BCCD"
        data = open_data(folder, "test").subset(range(20))
    assert data.class_names == NAMES
    forms = write_forms(data, tmp_path / "forms")
    numbers = []
    for trained in FORMS:
        detector = Cells(trained, data)
        monkeypatch.setattr(command, "open_detector", lambda args, score, detector=detector: detector)
        results = CocoJson(tmp_path / f"{trained}.json")
        for number, name in enumerate(sorted(path.name for path in (forms["voc"] / "JPEGImages").iterdir()), 1):
            path = forms["voc"] / "JPEGImages" / name
            results.add(Record(str(path), detector.detect(path), image_id=number))
        results.close()
        for truth in FORMS:
            for how in ([], ["--results", str(results.path)]):
                out = tmp_path / "numbers.json"
                assert main(["eval", "--data", str(forms[truth]), *how, "--json", str(out), "--quiet"]) == 0
                told = json.loads(out.read_text())
                numbers.append([told["AP"], told["AP50"], *(told["per_class"][name]["AP"] for name in NAMES)])
    assert "not matched" not in capsys.readouterr().err
    assert 0.1 < numbers[0][0] < 0.9 and len({round(ap, 3) for ap in numbers[0][2:]}) == 3  # a mix-up would be seen
    assert np.ptp(np.array(numbers), axis=0).max() < 1e-6
