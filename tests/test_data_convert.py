"""`mobilessd data convert`: every split with its images, in another format; what the format cannot hold is said."""

import json
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from data_sets import SIZE, coco, make_image, voc

from detection.cli.main import main
from detection.data.dataset import CROWD, DIFFICULT, IGNORE
from detection.data.open import open_data, open_parts, recognise
from detection.data.repair import repair

HEIGHT, WIDTH = SIZE
TRAIN = [
    (1, 2, [10.25, 5.5, 20.3, 30.7]),
    (1, 1, [0, 0, 8.6, 9.9]),
    (2, 2, [30.1, 20.2, 5.4, 5.6], {"iscrowd": 1}),
    (2, 1, [1, 2, 33, 44], {"difficult": 1, "iscrowd": 1}),
]
VAL = [(1, 1, [7.7, 8.8, 60.1, 40.4])]


@pytest.fixture
def two_splits(tmp_path):
    """COCO with train and val of three images each; the last of each has no object."""
    folder = tmp_path / "set"
    for split, boxes in (("train", TRAIN), ("val", VAL)):
        file = coco(folder, boxes, number=3, name=f"{split}.json")
        file.write_text(file.read_text().replace('.png"', f'{split}.png"'))
        for image in (folder / "images").iterdir():
            image.rename(image.with_name(f"{image.stem}{split}.png"))
        (folder / "annotations").mkdir(exist_ok=True)
        file.rename(folder / "annotations" / f"instances_{split}.json")
        (folder / "images").rename(folder / split)
    (folder / "images").mkdir()
    for split in ("train", "val"):
        (folder / split).rename(folder / "images" / split)
    return folder


def convert(source, to, output, *options):
    assert main(["data", "convert", str(source), "--to", to, "--output", str(output), *options]) == 0
    return output


def same(one, other, tolerance, flags=None):
    """Whether two data sets have the same splits, images, boxes (within so many pixels), classes and flags."""
    one, other = open_parts(one), open_parts(other)
    assert one.keys() == other.keys()
    for split, a in one.items():
        b = other[split].with_classes(a.class_names)
        assert sorted(name.rsplit(".")[0] for name in a.file_names()) == sorted(
            n.rsplit(".")[0] for n in b.file_names()
        )
        place = {name: i for i, name in enumerate(b.file_names())}
        for i, name in enumerate(a.file_names()):
            mine, theirs = a.image(i), b.image(place[name])
            kept = np.isin(mine.flags, flags if flags is not None else (0, CROWD, DIFFICULT, IGNORE))
            assert mine.labels[kept].tolist() == theirs.labels.tolist()
            assert np.abs(mine.boxes[kept] - theirs.boxes).max(initial=0) <= tolerance
            assert mine.size == theirs.size
            if flags is None:
                assert mine.flags.tolist() == theirs.flags.tolist()


def test_coco_to_yolo_to_coco_to_voc_to_coco_keeps_boxes_classes_and_splits(two_splits, tmp_path):
    first = convert(two_splits, "yolo", tmp_path / "1")
    second = convert(first, "coco", tmp_path / "2")
    third = convert(second, "voc", tmp_path / "3")
    last = convert(third, "coco", tmp_path / "4")
    assert [recognise(path).format for path in (first, second, third, last)] == ["yolo", "coco", "voc", "coco"]
    same(two_splits, second, 0.001, flags=(0, DIFFICULT))  # YOLO knows no crowds
    same(two_splits, last, 0.5, flags=(0, DIFFICULT))


def test_coco_to_voc_to_coco_keeps_crowds_and_difficult_objects(two_splits, tmp_path):
    same(two_splits, convert(convert(two_splits, "voc", tmp_path / "1"), "coco", tmp_path / "2"), 0.5)


def test_coco_to_coco_keeps_everything_to_the_last_digit(two_splits, tmp_path):
    again = convert(two_splits, "coco", tmp_path / "again")
    for split in ("train", "val"):
        before, after = open_data(two_splits, split), open_data(again, split)
        assert before.image_ids.tolist() == after.image_ids.tolist() and before.category_ids == after.category_ids
        assert (before.exact == after.exact).all() and (before.areas == after.areas).all()
        assert before.flags.tolist() == after.flags.tolist()


def test_yolo_is_what_ultralytics_reads(two_splits, tmp_path, capsys):
    folder = convert(two_splits, "yolo", tmp_path / "yolo")
    config = yaml.safe_load((folder / "data.yaml").read_text())
    assert config == {"train": "images/train", "names": {0: "cat", 1: "dog"}, "val": "images/val"}
    assert sorted(path.name for path in (folder / "labels/train").iterdir()) == [
        f"{number}train.txt" for number in (1, 2, 3)
    ]
    line = (folder / "labels/val/1val.txt").read_text().split()
    assert line[0] == "0" and np.allclose(list(map(float, line[1:])), [37.75 / 80, 29 / 60, 60.1 / 80, 40.4 / 60])
    assert (folder / "labels/train/3train.txt").read_text() == ""
    said = capsys.readouterr().out
    assert (
        "YOLO has no mark for 1 crowd boxes: left out" in said and "1 difficult objects: objects like any other" in said
    )


def test_label_studio_gets_tasks_with_annotations_or_predictions(two_splits, tmp_path):
    file = two_splits / "annotations/instances_val.json"
    content = json.loads(file.read_text())
    content["annotations"].append({**content["annotations"][0], "id": 2, "score": 0.25})
    file.write_text(json.dumps(content))
    folder = convert(two_splits, "labelstudio", tmp_path / "tasks")
    tasks = json.loads((folder / "tasks.json").read_text())
    assert [task["data"]["split"] for task in tasks] == ["train"] * 3 + ["val"] * 3
    for task in tasks:
        address = unquote(task["data"]["image"])
        assert (folder / address.removeprefix("/data/local-files/?d=")).is_file()
    drawn, guessed = tasks[3]["annotations"][0]["result"], tasks[3]["predictions"][0]["result"]
    assert drawn[0]["value"]["rectanglelabels"] == ["cat"] and guessed[0]["score"] == 0.25
    value = drawn[0]["value"]
    assert np.allclose([value["x"] * 0.8, value["y"] * 0.6, value["width"] * 0.8, value["height"] * 0.6], VAL[0][2])
    assert (drawn[0]["original_width"], drawn[0]["original_height"]) == (WIDTH, HEIGHT)
    assert tasks[1]["annotations"][0]["result"][0]["meta"] == {"text": ["crowd"]}
    view = ElementTree.parse(folder / "label_config.xml").getroot()
    assert [label.get("value") for label in view.iter("Label")] == ["cat", "dog"]


@pytest.mark.parametrize("to", ["yolo", "voc", "coco", "labelstudio"])
def test_images_of_one_name_in_several_folders_keep_their_boxes(tmp_path, capsys, to):
    file = coco(tmp_path / "set", [(1, 1, [0, 0, 10, 10]), (2, 2, [5, 5, 20, 20])])
    for number in (1, 2):
        target = make_image(tmp_path / f"set/images/{'ab'[number - 1]}/x.{('png', 'jpg')[number - 1]}", seed=number)
        (tmp_path / f"set/images/{number}.png").unlink()
        content = json.loads(file.read_text())
        content["images"][number - 1]["file_name"] = target.relative_to(tmp_path / "set/images").as_posix()
        file.write_text(json.dumps(content))
    folder = convert(tmp_path / "set", to, tmp_path / "out")
    if to == "labelstudio":
        tasks = json.loads((folder / "tasks.json").read_text())
        assert len({task["data"]["image"] for task in tasks}) == 2
        return
    data, faults = repair(open_data(folder, "all"))
    assert np.allclose(sorted(data.boxes.tolist()), [[0, 0, 10, 10], [5, 5, 25, 25]], atol=1e-4) and not faults
    if to == "voc":
        assert "2 images have another name there, as a_x.png for a/x.png" in capsys.readouterr().out


def test_names_that_would_lead_out_of_the_folder_stay_in_it(tmp_path):
    file = coco(tmp_path / "set", [(1, 1, [0, 0, 10, 10])], number=1)
    content = json.loads(file.read_text())
    content["images"][0]["file_name"] = "../../images/1.png"
    file.write_text(json.dumps(content))
    folder = convert(file, "yolo", tmp_path / "out")
    assert (folder / "images/train/images/1.png").is_file() and not (tmp_path / "images").exists()


def test_a_folder_that_holds_something_is_left_alone(two_splits, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    assert main(["data", "convert", str(two_splits), "--to", "yolo", "--output", str(tmp_path / "full")]) == 2
    assert "full: is there already; name a folder that is not, or is empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]


def test_splits_that_yolo_has_no_word_for_are_refused_and_nothing_is_left(tmp_path, capsys):
    source = voc(tmp_path / "voc", {"a": [("cat", 1, 1, 20, 20, 0)]}, {"fold1": ["a"]})
    assert main(["data", "convert", str(source), "--to", "yolo", "--output", str(tmp_path / "out")]) == 2
    assert "data.yaml knows train, val and test, not fold1; choose one with --split" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["voc"]
    convert(source, "yolo", tmp_path / "out", "--split", "all")


def test_the_first_split_of_voc_does_not_name_images_twice(tmp_path):
    source = voc(
        tmp_path / "voc",
        {stem: [("cat", 1, 1, 20, 20, 0)] for stem in "ab"},
        {"train": ["a"], "val": ["b"], "trainval": ["a", "b"]},
    )
    parts = open_parts(convert(source, "yolo", tmp_path / "out"))
    assert {split: len(data) for split, data in parts.items()} == {"train": 1, "val": 1}


def test_boxes_thinner_than_a_pixel_keep_their_place_in_voc(tmp_path):
    file = coco(tmp_path / "set", [(1, 1, [10.2, 20, 0.2, 10]), (1, 1, [79.9, 20, 0.1, 10])], number=1)
    data = open_data(convert(file, "voc", tmp_path / "out"))
    assert data.boxes.tolist() == [[10, 20, 11, 30], [79, 20, 80, 30]]


def test_coco_to_label_studio_to_coco_keeps_boxes_classes_splits_and_marks(two_splits, tmp_path):
    first = convert(two_splits, "labelstudio", tmp_path / "1")
    assert recognise(first).format == "labelstudio"
    same(two_splits, convert(first, "coco", tmp_path / "2"), 0.001)


def test_scores_go_to_label_studio_and_back(two_splits, tmp_path):
    file = two_splits / "annotations/instances_val.json"
    content = json.loads(file.read_text())
    content["annotations"].append({**content["annotations"][0], "id": 2, "bbox": [1, 2, 30, 20], "score": 0.25})
    file.write_text(json.dumps(content))
    val = open_parts(convert(two_splits, "labelstudio", tmp_path / "tasks"))["val"]
    assert val.scores.tolist() == [1, 0.25] and val.num_boxes == 2


def test_a_split_that_cannot_be_read_is_named_and_the_others_are_written(two_splits, tmp_path, capsys):
    (two_splits / "annotations/instances_val.json").write_text('{"images": [')
    output = tmp_path / "made"
    assert main(["data", "convert", str(two_splits), "--to", "yolo", "--output", str(output)]) == 2
    said = capsys.readouterr()
    assert f"{output} (train): 3 images" in said.out
    (error,) = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert f"{output}: without 1 of 2 splits, which could not be used: val (" in error and "instances_val.json" in error
    assert open_parts(output).keys() == {"train"}


def test_a_split_without_any_image_is_named_and_the_others_are_written(two_splits, tmp_path, capsys):
    for image in (two_splits / "images/train").iterdir():
        image.unlink()
    assert main(["data", "convert", str(two_splits), "--to", "coco", "--output", str(tmp_path / "made")]) == 2
    assert "without 1 of 2 splits, which could not be used: train (" in capsys.readouterr().err
    assert open_parts(tmp_path / "made").keys() == {"val"}


def test_no_split_that_can_be_read_leaves_nothing(two_splits, tmp_path, capsys):
    for file in (two_splits / "annotations").iterdir():
        file.write_text("[")
    assert main(["data", "convert", str(two_splits), "--to", "yolo", "--output", str(tmp_path / "made")]) == 2
    assert not (tmp_path / "made").exists() and "error: " in capsys.readouterr().err
