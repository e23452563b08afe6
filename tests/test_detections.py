"""Detections: what leaves the detector, and the forms it takes."""

import numpy as np
import pytest

from detection.boxes.detections import Detections

FOUND = Detections(
    boxes=np.array([[10, 20, 30, 60], [0, 0, 5, 5], [1, 1, 9, 9]], np.float32),
    scores=np.array([0.9, 0.5, 0.3], np.float32),
    class_ids=np.array([1, 0, 1]),
    class_names=("cat", "dog"),
    image_size=(100, 200),
    category_ids=(17, 18),
)


def test_selection_by_score_class_mask_and_index():
    assert FOUND.names == ["dog", "cat", "dog"] and len(FOUND) == 3
    assert FOUND.above(0.5).names == ["dog", "cat"]
    assert FOUND.of_classes(["cat"]).scores.tolist() == [0.5]
    assert FOUND[FOUND.scores < 0.4].names == ["dog"] and FOUND[0].names == ["dog"] and len(FOUND[:2]) == 2


def test_coco_results_have_dataset_ids_and_width_and_height():
    assert FOUND.to_coco(42)[0] == {"image_id": 42, "category_id": 18, "bbox": [10, 20, 20, 40], "score": 0.9}


def test_plain_form_and_text():
    assert FOUND.to_dict()["detections"][1] == {"name": "cat", "class_id": 0, "score": 0.5, "box": [0, 0, 5, 5]}
    assert str(FOUND) == "dog 0.90, cat 0.50, dog 0.30"


def test_nothing_found_has_the_right_shapes():
    nothing = FOUND[:0]
    assert (
        nothing.boxes.shape == (0, 4)
        and nothing.to_coco(1) == []
        and str(nothing) == "nothing"
        and len(nothing[:3]) == 0
    )


def test_supervision_gets_the_same_numbers():
    pytest.importorskip("supervision", reason="needs supervision")
    theirs = FOUND.to_supervision()
    assert np.array_equal(theirs.xyxy, FOUND.boxes) and list(theirs.data["class_name"]) == FOUND.names
