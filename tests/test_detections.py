"""Detections: what leaves the detector, and the forms it takes."""

import json
import sys
from dataclasses import replace

import bulk_help as bulk
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.boxes.detections import Detections, rounded
from detection.data.open import open_data
from detection.errors import MissingPackageError, MobileSSDError
from detection.images.decode import decode_image, read_image
from detection.images.inputs import ImageInput

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


def test_unlike_things_are_compared_without_a_complaint():
    assert FOUND[:] == FOUND and FOUND[:2] != FOUND and FOUND != 3 and FOUND.above(0.95) == FOUND[:0]


def test_a_filter_is_by_score_and_class():
    assert FOUND.filter(0.4).names == ["dog", "cat"] and FOUND.filter(0.4, "dog") == FOUND[0]
    assert FOUND.filter(classes=["Cat", 1]) == FOUND == FOUND.filter()
    with pytest.raises(MobileSSDError, match="no class 'zzz'; the classes are cat, dog"):
        FOUND.filter(classes="zzz")


def test_a_representation_is_short_and_words_of_others_lead_to_ours():
    assert repr(FOUND) == "<3 detections, 200 x 100: dog 0.90, cat 0.50, dog 0.30>"
    assert len(repr(FOUND[[0] * 99])) < 120
    for theirs, ours in {"xyxy": "boxes", "conf": "scores", "save_txt": "to_yolo"}.items():
        with pytest.raises(AttributeError, match=f"no attribute '{theirs}'; that is .{ours} here"):
            getattr(FOUND, theirs)
    assert not hasattr(FOUND, "anything")


def test_json_is_the_plain_form_and_may_be_written(tmp_path):
    text = FOUND.to_json(tmp_path / "found.json")
    assert (tmp_path / "found.json").read_text() == text and json.loads(text) == FOUND.to_dict()


def test_yolo_lines_are_what_the_reader_of_data_sets_reads_back(tmp_path):
    image = np.zeros((100, 200, 3), np.uint8)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), image)
    text = FOUND.to_yolo(tmp_path / "labels" / "a.txt")
    assert text.splitlines()[0] == "1 0.100000 0.400000 0.100000 0.400000"
    assert FOUND.to_yolo(scores=True).splitlines()[1].split()[-1] == "0.500000" and FOUND[:0].to_yolo() == ""
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\ntrain: images\n")
    data = open_data(tmp_path / "data.yaml", "train")
    assert np.allclose(data.boxes, FOUND.boxes, atol=1e-3) and data.labels.tolist() == FOUND.class_ids.tolist()


def test_a_table_has_the_columns_of_parquet_shards():
    pytest.importorskip("pandas", reason="needs pandas")
    table = replace(FOUND, track_ids=np.array([4, -1, 5])).to_pandas()
    assert list(table.columns) == ["file", *bulk.KEYS[:4], "x1", "y1", "x2", "y2", "track_id"]
    assert table["category_id"].tolist() == [18, 17, 18] and table["x2"].tolist() == [30, 5, 9]
    assert list(FOUND[:0].to_pandas().columns) == list(table.columns)[:-1]


@pytest.mark.parametrize("package, form", [("pandas", "to_pandas"), ("supervision", "to_supervision")])
def test_a_missing_package_is_one_line_with_its_command(package, form, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=f"{form} needs {package}: pip install {package}"):
        getattr(FOUND, form)()


def test_supervisions_detections_come_back():
    supervision = pytest.importorskip("supervision", reason="needs supervision")
    tracked = replace(FOUND, track_ids=np.array([4, -1, 5]), category_ids=None)
    assert Detections.from_supervision(tracked.to_supervision(), (100, 200), ("cat", "dog")) == tracked
    assert Detections.from_supervision(tracked.to_supervision(), (100, 200, 3)).names == tracked.names
    bare = supervision.Detections(xyxy=np.array([[0.0, 1, 2, 3]]))
    found = Detections.from_supervision(bare, (9, 9), ["thing"])
    assert found.scores.tolist() == [1] and found.names == ["thing"]
    assert len(Detections.from_supervision(supervision.Detections.empty(), (9, 9))) == 0
    with pytest.raises(MobileSSDError, match="1 names do not reach class id 1"):
        Detections.from_supervision(tracked.to_supervision(), (9, 9), ["cat"])


IMAGE = np.random.default_rng(0).integers(0, 256, (100, 200, 3), np.uint8)


def test_crops_are_what_lies_in_the_boxes_and_never_empty():
    outside = replace(FOUND, boxes=np.array([[10.4, 20, 30, 60], [-9, -9, 5, 5], [250, 120, 300, 130]], np.float32))
    crops = outside.crop(IMAGE)
    assert np.array_equal(crops[0], IMAGE[20:60, 10:30]) and np.array_equal(crops[1], IMAGE[:5, :5])
    assert crops[2].shape == (1, 1, 3)
    assert np.array_equal(FOUND[0].crop(IMAGE, margin=0.5)[0], IMAGE[0:80, 0:40])


def test_without_an_image_at_hand_one_is_asked_for(tmp_path):
    for wish in (FOUND.plot, FOUND.crop, lambda: FOUND.save(tmp_path / "a.jpg")):
        with pytest.raises(MobileSSDError, match="give it, as in found.plot"):
            wish()
    assert FOUND._repr_png_() is None and np.array_equal(FOUND.plot(IMAGE), FOUND.draw(IMAGE))


def test_the_image_that_was_given_is_remembered_for_plots_files_and_notebooks(tmp_path):
    path = tmp_path / "in" / "photo.png"
    path.parent.mkdir()
    cv2.imwrite(str(path), IMAGE[..., ::-1])
    for origin in (ImageInput(IMAGE), ImageInput(str(path), name=str(path))):
        found = replace(FOUND, origin=origin)
        assert np.array_equal(found.image, IMAGE) and np.array_equal(found.plot(), FOUND.draw(IMAGE))
        assert (
            found.save(tmp_path / "out.png") == tmp_path / "out.png"
            and (found[:1].crop()[0] == IMAGE[20:60, 10:30]).all()
        )
        assert np.array_equal(read_image(tmp_path / "out.png"), found.plot())
        assert np.array_equal(decode_image(found._repr_png_()), found.plot())
    assert found.save(tmp_path) == tmp_path / "photo.jpg" and (tmp_path / "photo.jpg").exists()
    for wrong, words in {"out.tiff": "an image is written as .jpg", path: "is the image itself"}.items():
        with pytest.raises(MobileSSDError, match=words):
            found.save(tmp_path / wrong)
    path.unlink()
    assert found._repr_png_() is None
    with pytest.raises(MobileSSDError, match="photo.png: no such file"):
        found.plot()


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8), st.sampled_from([2, 3, 5]))
def test_numbers_are_rounded_as_python_rounds_them(values, decimals):
    assert rounded(np.array(values, np.float32), decimals) == [round(value, decimals) for value in values]


def test_ties_and_what_is_no_number_are_rounded_as_python_rounds_them():
    ties = np.array([0.125, 0.375, 2.5, -0.125, -0.001], np.float32)
    assert list(map(repr, rounded(ties, 2))) == ["0.12", "0.38", "2.5", "-0.12", "-0.0"]
    assert np.isnan(rounded(np.array([np.nan], np.float32), 2)[0])
