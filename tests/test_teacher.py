"""Soft labels: views that agree are believed, boxes cut by a zoom are not, and a stopped run goes on."""

import json

import cv2
import numpy as np
import pytest

from detection.cli.pseudo_label import VIEWS
from detection.data.open import open_data
from detection.errors import BadWeightsError, MobileSSDError
from detection.train.teachers.labeling import Labeler, check_views, look, merge, write_pseudo_labels
from detection.views import View, parse

# An image of 100 x 100 whose only object is the bright square in the middle of its left upper quarter.
IMAGE = np.zeros((100, 100, 3), np.uint8)
IMAGE[20:30, 15:35] = 255
WHOLE = [0.0, 0.0, 1.0, 1.0]
BOX = [0.15, 0.2, 0.35, 0.3]


def bright(image: np.ndarray) -> np.ndarray:
    """A teacher that finds the bright square, class 2, score 0.8."""
    ys, xs = np.nonzero(image[..., 0] > 128)
    if not len(xs):
        return np.zeros((0, 6))
    height, width = image.shape[:2]
    return np.array([[2, 0.8, xs.min() / width, ys.min() / height, (xs.max() + 1) / width, (ys.max() + 1) / height]])


SEES = Labeler(bright, (100, 100))


@pytest.mark.parametrize("views", ["1", "mirror", "2x2", VIEWS, "tiles", "3x2@0.2+mirror"])
def test_whatever_the_view_the_box_comes_back_in_the_images_own_place(views):
    found = look([SEES], IMAGE, parse(views))
    assert found.shape == (1, 6) and found[0, 0] == 2
    assert found[0, 1] == pytest.approx(0.8, abs=1e-6) and found[0, 2:] == pytest.approx(BOX, abs=0.011)


def test_what_only_one_of_two_views_believes_is_believed_half():
    calls = []

    def moody(image):
        calls.append(1)
        return bright(image) if len(calls) == 1 else np.zeros((0, 6))

    assert look([Labeler(moody, (100, 100))], IMAGE, parse("mirror"))[0, 1] == pytest.approx(0.4)


@pytest.mark.parametrize("row", [[3, 0.0, 0.2, 0.2, 0.4, 0.4], [3, 0.9, 0.2, 0.2, 0.2, 0.4]])
def test_what_nobody_believes_or_has_no_area_is_nothing(row):
    assert len(merge([np.array([row])] * 2, np.array([WHOLE] * 2))) == 0


def test_a_view_that_cannot_hold_a_box_is_not_asked_whether_it_believes_it():
    found = look([SEES], IMAGE, parse(VIEWS))
    assert found[0, 1] == pytest.approx(0.8), "the square lies in one of the four tiles"


def test_a_teacher_takes_no_scales_and_says_so():
    check_views([SEES], parse("mirror+2x2"))
    with pytest.raises(MobileSSDError, match="300,100: a teacher has one input size, here 100x100"):
        check_views([SEES], parse("300,100"))


def test_a_box_that_the_border_of_a_tile_cuts_is_left_out_of_that_view():
    wide = np.zeros((100, 100, 3), np.uint8)
    wide[40:50, 50:80] = 255  # crosses the right border of the left windows
    tile = View((0, 0, 60, 60), (100, 100), inner=(False, False, True, True))
    assert not tile.trusted(bright(tile.part(wide))[:, 2:], (100, 100))[1].any()
    found = look([SEES], wide, parse("2x2@0.333"))
    assert len(found) == 1 and found[0, 2:] == pytest.approx([0.5, 0.4, 0.8, 0.5], abs=0.011)


def test_two_objects_of_one_class_stay_two():
    two = np.array([[0, 0.9, 0.1, 0.1, 0.3, 0.3], [0, 0.8, 0.6, 0.6, 0.9, 0.9]])
    assert len(look([Labeler(lambda _: two, (100, 100))], IMAGE, parse("1"))) == 2


def test_the_file_is_coco_with_scores_and_a_second_run_adds_only_what_is_new(tmp_path):
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), IMAGE)
    out = tmp_path / "soft.json"
    views = parse("1")
    assert write_pseudo_labels([SEES], [tmp_path / "a.png"], out, views) == 1
    assert write_pseudo_labels([SEES], [tmp_path / "a.png", tmp_path / "b.png"], out, views) == 1
    data = json.loads(out.read_text())
    assert [i["id"] for i in data["images"]] == [1, 2] and [a["id"] for a in data["annotations"]] == [1, 2]
    read = open_data(out, images=tmp_path)
    assert len(read) == 2 and read.scores.tolist() == pytest.approx([0.8, 0.8])
    assert read.boxes[0] == pytest.approx([15, 20, 35, 30], abs=0.02)


def test_two_teachers_are_believed_by_halves(tmp_path):
    blind = np.zeros((0, 6))
    found = look([SEES, Labeler(lambda _: blind, (100, 100))], IMAGE, parse("mirror"))
    assert len(found) == 1 and found[0, 1] == pytest.approx(0.4)


@pytest.mark.parametrize("file", ["deimv2_hgnetv2_femto_coco.onnx", "picodet_s_416_coco.onnx"])
def test_real_teachers_find_the_cat(shared, file):
    pytest.importorskip("openvino", reason="needs openvino")
    from detection.images.decode import read_image
    from detection.train.teachers.onnx import onnx_labeler

    teacher = onnx_labeler(shared / "models" / "teachers" / file, streams=1)
    cat = read_image(shared / "data" / "photos" / "coral_cat_720p.jpg")
    found = look([teacher], cat, parse("mirror"))
    assert found[0, 0] == 15 and found[0, 1] > 0.8
    assert (found[1:, 1] < 0.5).all(), "nothing else is in it"


def test_another_file_is_no_teacher(shared, tmp_path):
    pytest.importorskip("openvino", reason="needs openvino")
    from detection.train.teachers.onnx import onnx_labeler

    broken = tmp_path / "teacher.onnx"
    broken.write_bytes(b"no network")
    for path, reason in ((broken, "not a whole ONNX file"), (tmp_path / "none.onnx", "no such file")):
        with pytest.raises(BadWeightsError, match=reason):
            onnx_labeler(path)
