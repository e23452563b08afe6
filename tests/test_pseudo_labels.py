"""Pseudo-labels: a teacher fills what nobody annotated, and never overrules a real label."""

import numpy as np
import pytest
from data_sets import coco, make_image

from detection.data.build import build, concatenate
from detection.data.dataset import CROWD, IGNORE
from detection.data.open import open_data
from detection.data.pseudo_labels import add_pseudo_labels, unlabelled
from detection.errors import BadDataError

CLASSES = ["cat", "dog", "bus"]


def _teacher(*boxes, names=CLASSES, paths=("teacher/1.jpg",), sizes=None):
    """boxes: (image, label, score, xyxy)"""
    columns = list(zip(*boxes)) if boxes else [(), (), (), ()]
    return build(names, paths, columns[0], columns[3], columns[1], scores=columns[2], sizes=sizes, origin="teacher")


def test_a_teacher_fills_unlabelled_images_and_marks_what_it_is_unsure_of(tmp_path):
    make_image(tmp_path / "a" / "1.png")
    make_image(tmp_path / "2.png")
    data = unlabelled(tmp_path, CLASSES)
    assert len(data) == 2 and data.unknown.all() and data.num_boxes == 0
    teacher = _teacher(
        (0, 0, 0.9, [0, 0, 9, 9]), (0, 1, 0.3, [20, 0, 30, 9]), (0, 1, 0.1, [40, 0, 50, 9]), names=["cat", "dog"]
    )
    filled = add_pseudo_labels(data, teacher)
    index = [path.endswith("1.png") for path in filled.paths].index(True)
    seen, unseen = filled.image(index), filled.image(1 - index)
    assert seen.labels.tolist() == [0, -1] and seen.flags.tolist() == [0, IGNORE]
    assert seen.scores.tolist() == pytest.approx([0.9, 1.0])
    assert seen.unknown.tolist() == [False, False, True]  # the teacher knows no buses
    assert unseen.unknown.all() and len(unseen.boxes) == 0
    assert filled.image_ids.dtype == data.image_ids.dtype == "int64"


def test_real_labels_win():
    real = [[0, 0, 20, 20], [50, 0, 100, 50]]
    data = build(CLASSES, ["1.jpg"], [0, 0], real, [0, 1], flags=[0, CROWD], unknown_classes=["bus"])
    teacher = _teacher(
        (0, 0, 0.9, [1, 1, 20, 20]),  # the real cat again
        (0, 0, 0.9, [25, 25, 40, 40]),  # a cat where every cat is annotated
        (0, 2, 0.9, [60, 10, 90, 40]),  # inside a crowd
        (0, 2, 0.8, [25, 25, 40, 40]),  # a bus: nobody looked for buses
    )
    filled = add_pseudo_labels(data, teacher)
    assert filled.labels.tolist() == [0, 1, 2] and filled.scores.tolist() == pytest.approx([1, 1, 0.8])
    assert not filled.image(0).unknown.any()
    assert add_pseudo_labels(data, teacher, fill_annotated=True).labels.tolist() == [0, 1, 0, 2]


def test_boxes_follow_the_size_of_our_copy():
    data = build(CLASSES, ["x/1.webp"], [], [], [], sizes=[[50, 100]], unknown_classes=CLASSES)
    teacher = _teacher((0, 0, 1.0, [20, 20, 40, 60]), sizes=[[100, 200]])
    assert add_pseudo_labels(data, teacher).boxes.tolist() == [[10, 10, 20, 30]]


def test_soft_labels_come_from_a_coco_file_and_join_with_real_ones(tmp_path):
    file = coco(tmp_path, [(1, 1, [0, 0, 5, 5], {"score": 0.75})], number=1)
    data = build(["cat", "bus"], ["elsewhere/1.png"], [], [], [], unknown_classes=["cat"])
    filled = add_pseudo_labels(data, open_data(file))
    assert filled.image_ids.dtype == data.image_ids.dtype
    assert filled.scores.tolist() == [0.75] and filled.unknown_classes == ("cat",)  # of images not seen, if any
    assert not filled.image(0).unknown.any()
    both = concatenate(filled, build(["bus"], ["9.png"], [0], [[0, 0, 5, 5]], [0]))
    assert [both.image(i).unknown.tolist() for i in range(2)] == [[False, False], [True, False]]
    assert np.array_equal(both.starts, [0, 1, 2])


def test_what_cannot_be_matched_is_one_clear_line(tmp_path):
    data = build(CLASSES, ["1.jpg"], [], [], [], unknown_classes=CLASSES, origin="ours")
    with pytest.raises(BadDataError, match="teacher: none of its images is in ours"):
        add_pseudo_labels(data, _teacher(paths=("other.jpg",)))
    with pytest.raises(BadDataError, match="two of its images have the same file name"):
        add_pseudo_labels(data, _teacher(paths=("a/1.jpg", "b/1.jpg")))
    with pytest.raises(BadDataError, match="no images in it"):
        unlabelled(tmp_path, CLASSES)


def test_what_is_unknown_stays_right_behind_many_teachers_and_many_data_sets():
    """Each teacher has seen one image and knows one class; each data set annotates another class."""
    data = build(CLASSES, [f"{i}.jpg" for i in range(10)], [], [], [], unknown_classes=CLASSES)
    for i in range(10):
        data = add_pseudo_labels(
            data, _teacher((0, 0, 0.9, [0, 0, 9, 9]), names=CLASSES[i % 3 :][:1], paths=[f"{i}.jpg"])
        )
    for i in range(10):
        assert data.image(i).unknown.tolist() == [number != i % 3 for number in range(3)]
    assert len(data.unknown) == 11, "a teacher adds rows for the images that it has seen, and does not double them"

    parts = [build(CLASSES, [f"{i}.jpg"], [], [], [], unknown_classes=[CLASSES[i % 3]]) for i in range(300)]
    joined = concatenate(*parts)
    assert all(joined.image(i).unknown.tolist() == [n == i % 3 for n in range(3)] for i in range(300))
