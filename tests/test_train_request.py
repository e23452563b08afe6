"""Which images a run learns from: further sets, images without labels, a teacher's boxes, images chosen by id."""

import json

import cv2
import numpy as np
import pytest

from detection.data.dataset import IGNORE
from detection.errors import BadDataError
from detection.train.config import TrainConfig
from detection.train.request import Request, open_parts


def coco(folder, names, boxes, categories=((1, "cat"), (2, "dog")), first_id=1):
    """A COCO set of grey images of 60 x 80; boxes: one list of (category, x, y, w, h[, score]) an image."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / "images" / name), np.full((60, 80, 3), 60 + 10 * i + first_id, np.uint8))
        images.append({"id": first_id + i, "file_name": name, "height": 60, "width": 80})
        for category, x, y, w, h, *score in boxes[i]:
            row = {"id": len(annotations) + 1, "image_id": first_id + i, "category_id": category, "bbox": [x, y, w, h]}
            annotations.append(row | {"area": w * h, "iscrowd": 0} | ({"score": score[0]} if score else {}))
    data = {"images": images, "annotations": annotations}
    data["categories"] = [{"id": i, "name": n} for i, n in categories]
    (folder / "instances.json").write_text(json.dumps(data))
    return folder


@pytest.fixture
def main_set(tmp_path):
    box = [(1, 5, 5, 20, 20), (2, 40, 10, 20, 30)]
    return coco(tmp_path / "main", [f"{i}.png" for i in range(4)], [box] * 4)


def parts(tmp_path, main_set, **options):
    return open_parts(Request(str(main_set), TrainConfig(), tmp_path / "run", **options))


def test_images_named_by_id_choose_and_are_never_trained_on(tmp_path, main_set):
    ids = tmp_path / "ids.json"
    ids.write_text('{"what": "held out", "ours": [2, 4, 99]}')
    found = parts(tmp_path, main_set, select_ids=str(ids))
    assert found.select is not None and found.select.image_ids.tolist() == [2, 4]
    assert found.train.image_ids.tolist() == [1, 3]


def test_ids_of_no_image_are_one_clear_line(tmp_path, main_set):
    (tmp_path / "ids.txt").write_text("77\n78\n")
    with pytest.raises(BadDataError, match="names none of the 4 images"):
        parts(tmp_path, main_set, select_ids=str(tmp_path / "ids.txt"))


def test_what_a_further_set_does_not_annotate_is_unknown_there_not_background(tmp_path, main_set):
    cats = coco(tmp_path / "cats", ["c.png"], [[(7, 1, 1, 10, 10)]], [(7, "cat")], first_id=50)
    train = parts(tmp_path, main_set, extra=[str(cats)], select=0).train
    assert len(train) == 5 and train.class_names == ("cat", "dog")
    assert train.image(4).unknown.tolist() == [False, True] and train.image(0).unknown.tolist() == [False, False]


def test_a_folder_of_images_gets_a_teachers_boxes_where_they_are_sure_and_ignores_where_not(tmp_path, main_set):
    soft = coco(
        tmp_path / "plain", ["p.png"], [[(1, 5, 5, 20, 20, 0.8), (2, 40, 5, 20, 20, 0.3), (2, 1, 40, 9, 9, 0.1)]]
    )
    train = parts(
        tmp_path, main_set, extra=[str(soft / "images")], pseudo_labels=[str(soft / "instances.json")], select=0
    ).train
    taught = train.image(4)
    assert taught.scores.tolist() == pytest.approx([0.8, 1.0]) and taught.labels[0] == 0
    assert (taught.flags & IGNORE).astype(bool).tolist() == [False, True]
    assert not taught.unknown.any() and len(train.image(0).boxes) == 2
