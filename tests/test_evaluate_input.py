"""Whatever can be wrong with annotations, results and id lists is one clear line and exit code 2."""

import json
import re

import pytest

from detection.cli.main import main
from detection.errors import BadDataError
from detection.evaluate.results import read_results
from detection.evaluate.truth import find_images, read_truth

IMAGE = {"id": 7, "file_name": "a.jpg", "width": 60, "height": 40}
CATEGORY = {"id": 3, "name": "cat"}
OBJECT = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 30, 20], "area": 500, "iscrowd": 0}
FOUND = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 30, 20], "score": 0.5}


def coco(**changes):
    return {"images": [IMAGE], "categories": [CATEGORY], "annotations": [OBJECT], **changes}


def without(row, *keys):
    return {key: value for key, value in row.items() if key not in keys}


def write(folder, content, name="file.json"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


BAD_TRUTH = {
    "empty": ("", "not JSON: the file is empty"),
    "cut short": ('{"images": [{"id": 1}, {"i', "not JSON: .* line 1, column"),
    "an image": (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x93", "not JSON: not a text file"),
    "no object": ("3", "needs an object with images, annotations, categories"),
    "a list": ([FOUND], "a list .results.*needs an object with images"),
    "nothing in it": ({}, "missing images, annotations, categories"),
    "one key missing": (without(coco(), "categories"), "missing categories$"),
    "no list": (coco(images={}), "an image without id .*: {}"),
    "no images": (coco(images=[]), "lists no images"),
    "no categories": (coco(categories=[]), "its categories list is empty"),
    "a row that is no object": (coco(annotations=[5]), r"annotations\[0\] is no object"),
    "captions": (
        coco(annotations=[{"id": 1, "image_id": 7, "caption": "a cat"}]),
        r"no box to evaluate.*annotations\[0\] without category_id, bbox",
    ),
    "unknown image": (coco(annotations=[{**OBJECT, "image_id": 8}]), "an image that is not listed.* image_id 8"),
    "unknown category": (coco(annotations=[{**OBJECT, "category_id": 1}]), "does not declare.*category_id 1"),
    "id of no kind": (coco(annotations=[{**OBJECT, "image_id": [7]}]), r"has image_id \[7\]"),
    "two with one id": (coco(images=[IMAGE, IMAGE]), "two images have the id 7"),
    "two classes of one id": (coco(categories=[CATEGORY, {"id": 3, "name": "dog"}]), "id 3 stands twice, as 'cat' and"),
    "id that is none": (coco(images=[{"id": None}]), "an image without id .*: {'id': None}"),
    "text for a box": (coco(annotations=[{**OBJECT, "bbox": "1 2 3"}]), r"annotations\[0\] has .* bbox 1 2 3"),
    "empty box": (coco(annotations=[{**OBJECT, "bbox": []}]), r"annotations\[0\] has .* bbox \[\]"),
    "infinite": ('{"images":[{"id":7}],"categories":[{"id":3,"name":"c"}],"annotations":[{"image_id":7,'
                 '"category_id":3,"bbox":[1,2,Infinity,4]}]}', "1 boxes hold NaN or infinity"),
}  # fmt: skip


@pytest.mark.parametrize("content, message", BAD_TRUTH.values(), ids=BAD_TRUTH)
def test_bad_ground_truth_is_one_clear_line(tmp_path, capsys, content, message):
    path = write(tmp_path, content)
    with pytest.raises(BadDataError, match=message) as caught:
        read_truth(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert main(["eval", "--annotations", str(path), "--results", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


MENDED = {
    "nameless category": (coco(categories=[{"id": 3}]), "classes have no name: called by their ids"),
    "keys of rows": (
        coco(annotations=[OBJECT, without(OBJECT, "bbox", "image_id"), without(OBJECT, "bbox")]),
        r"2 annotation entries cannot be understood: left out.*annotations\[1\] without image_id, bbox",
    ),
    "three numbers": (coco(annotations=[OBJECT, {**OBJECT, "bbox": [1, 2, 3]}]), r"annotations\[1\] has .*\[1, 2, 3\]"),
    "one unknown image": (coco(annotations=[OBJECT, {**OBJECT, "image_id": 8}]), "1 annotations belong to an image"),
    "reversed": (coco(annotations=[{**OBJECT, "bbox": [31, 22, -30, -20]}]), "corners swapped"),
    "area of text": (coco(annotations=[{**OBJECT, "area": "big"}]), r"annotations\[0\] has area 'big'"),
    "area of a list": (coco(annotations=[{**OBJECT, "area": [600]}]), r"annotations\[0\] has area '\[600\]'"),
    "area 0": (coco(annotations=[{**OBJECT, "area": 0}]), "annotations.0. has area '0'"),
    "score of a list": (coco(annotations=[{**OBJECT, "score": [1]}]), r"annotations\[0\] has score '\[1\]'"),
}


@pytest.mark.parametrize("content, message", MENDED.values(), ids=MENDED)
def test_what_training_puts_right_is_put_right_here_and_said(tmp_path, capsys, content, message):
    path = write(tmp_path, content)
    truth = read_truth(path)
    assert truth.boxes[~truth.crowd].tolist() == [[1, 2, 30, 20]] and truth.area[~truth.crowd].tolist() in (
        [500],
        [600],
    )
    assert main(["eval", "--annotations", str(path), "--self-test", "--quiet"]) == 0
    printed = capsys.readouterr()
    assert re.search(message, printed.err) and "AP  1.000" in printed.out


BAD_RESULTS = {
    "cut short": ('[{"image_id": 7, "cat', "not JSON"),
    "ground truth": (coco(), "an object; .*give that with --data"),
    "a number": ("1", "needs a list of detections"),
    "unknown image": ([FOUND, {**FOUND, "image_id": 99}], "1 results with an unknown image_id: 99"),
    "unknown category": ([{**FOUND, "category_id": c} for c in range(10, 19)], "9 results .*: 10, 11, 12, 13, 14, ..."),
    "missing keys": ([without(FOUND, "score", "bbox")], r"results without bbox .*, score "),
    "score of text": ([{**FOUND, "score": "high"}], r"results\[0\] has score 'high'"),
    "no score": ([{**FOUND, "score": None}], r"results\[0\] has score 'None'"),
    "score nan": ('[{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "score": NaN}]', "score 'nan'"),
    "bad box": ([{**FOUND, "bbox": [1, 2, None, 4]}], r"results\[0\] has bbox"),
}


@pytest.mark.parametrize("content, message", BAD_RESULTS.values(), ids=BAD_RESULTS)
def test_bad_results_are_one_clear_line(tmp_path, capsys, content, message):
    truth, path = write(tmp_path, coco(), "truth.json"), write(tmp_path, content)
    with pytest.raises(BadDataError, match=message) as caught:
        read_results(path, read_truth(truth))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert main(["eval", "--annotations", str(truth), "--results", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_missing_files_and_folders(tmp_path, capsys):
    truth = str(write(tmp_path, coco(), "truth.json"))
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        (["--annotations", "nowhere.json", "--results", truth], "nowhere.json: no such file"),
        (["--annotations", truth, "--results", "nowhere.json"], "nowhere.json: no such file"),
        (["--annotations", truth, "--results", str(tmp_path)], "a folder, where a JSON file is needed"),
        (["--data", str(tmp_path / "empty"), "--results", truth], "no data set recognised. Looked for COCO: "),
        (["--annotations", truth, "--self-test", "--image-ids", "nowhere.txt"], "nowhere.txt: no such file"),
        (["--annotations", truth, "--self-test", "--results", truth], "--self-test feeds the ground truth back"),
        (["--annotations", truth, "--results", truth, "--weights", "w"], "either --weights or --results"),
        (["--annotations", truth, "--weights", "a.tflite", "--store-threshold"], "--weights FILE.safetensors"),
        (["--annotations", truth, "--weights", "a.safetensors", "--store-threshold"], "a.safetensors: no such file"),
        (["--annotations", truth, "--self-test", "--classes", "dog"], "no class 'dog'; the classes are cat"),
        (["--annotations", truth, "--self-test", "--engine", "slow"], "invalid choice"),
        (["--results", truth], "required: --data PATH"),
    ):
        assert main(["eval", *arguments]) == 2
        complaint = capsys.readouterr().err
        assert message in complaint and complaint.startswith("error: ") and complaint.count("\n") == 1


def test_what_is_not_needed_may_be_missing(tmp_path):
    """No annotation ids, areas, crowd flags, file names or sizes; ids may be texts."""
    lean = {
        "images": [{"id": "b"}, {"id": "a"}],
        "categories": [CATEGORY],
        "annotations": [{"image_id": "b", "category_id": 3, "bbox": [1, 2, 30, 20]}],
    }
    truth = read_truth(write(tmp_path, lean))
    assert truth.image_ids == ("a", "b") and truth.image.tolist() == [1]
    assert truth.area.tolist() == [600] and not truth.crowd.any() and truth.file_names == ("", "")


def test_no_results_are_results(tmp_path, capsys):
    truth, results = write(tmp_path, coco(), "truth.json"), write(tmp_path, [])
    assert main(["eval", "--annotations", str(truth), "--results", str(results), "--errors"]) == 0
    assert "AP  0.000" in capsys.readouterr().out


@pytest.mark.parametrize(
    "annotations, images",
    [
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_val2017.json", "images/val2017"),
        ("annotations/instances_val2014.json", "val2014"),
        ("instances.json", "images"),
        ("valid/_annotations.coco.json", "valid"),
    ],
)
def test_annotations_and_images_are_found_in_a_coco_folder(tmp_path, annotations, images):
    write(tmp_path, coco(), annotations)
    write(tmp_path, b"", f"{images}/a.jpg")
    truth = read_truth(tmp_path)
    assert truth.path == str(tmp_path / annotations)
    assert find_images(truth) == tmp_path / images


def test_images_that_are_not_there_are_asked_for(tmp_path):
    truth = read_truth(write(tmp_path, coco()))
    with pytest.raises(BadDataError, match="say where they are with --images"):
        find_images(truth)
    with pytest.raises(BadDataError, match="no such folder of images"):
        read_truth(tmp_path / "file.json", tmp_path / "none")


@pytest.mark.parametrize("text", ["[8, 7]", '{"what": "ours", "a": [7], "b": [8]}', "7\n8\n", "7, 8"])
def test_only_some_images(tmp_path, capsys, text):
    many = coco(images=[IMAGE, {**IMAGE, "id": 8}, {**IMAGE, "id": 9}])
    truth, ids, out = write(tmp_path, many, "truth.json"), write(tmp_path, text, "ids.txt"), tmp_path / "o.json"
    arguments = ["eval", "--annotations", str(truth), "--self-test", "--image-ids", str(ids), "--json", str(out)]
    assert main(arguments) == 0
    assert json.loads(out.read_text())["images"] == 2
    write(tmp_path, "[8, 1, 2]", "ids.txt")
    assert main(arguments) == 2  # image 8 has no object, so there is nothing to test
    assert "2 of its 3 ids are not in" in capsys.readouterr().err
    write(tmp_path, "[1, 2]", "ids.txt")
    assert main(arguments) == 2
    assert "none of its 2 ids" in capsys.readouterr().err


def test_only_some_classes(tmp_path):
    two = coco(categories=[CATEGORY, {"id": 5, "name": "Dining_Table"}])
    results = write(tmp_path, [FOUND, {**FOUND, "category_id": 5}], "results.json")
    truth, out = write(tmp_path, two, "truth.json"), tmp_path / "o.json"
    arguments = ["eval", "--annotations", str(truth), "--results", str(results), "--json", str(out)]
    assert main([*arguments, "--classes", "dining table,cat"]) == 0
    assert set(json.loads(out.read_text())["per_class"]) == {"cat", "Dining_Table"}
    assert main([*arguments, "--classes", "diningtable"]) == 0
    data = json.loads(out.read_text())
    assert set(data["per_class"]) == {"Dining_Table"} and data["detections"] == 1 and data["AP"] is None
