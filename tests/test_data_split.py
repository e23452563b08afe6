"""`mobilessd data split` divides a data set into splits that are alike; `mobilessd data merge` joins several."""

import json
from pathlib import Path

import numpy as np
import pytest
from data_sets import coco, make_image, voc

from detection.cli.main import main
from detection.data.open import open_data, open_parts
from detection.data.splitting import groups_of, split

BOX = [5, 5, 20, 20]


@pytest.fixture
def cats_and_dogs(tmp_path):
    """20 images with a cat, 5 of them also with a dog, and 4 without objects."""
    return coco(tmp_path / "set", [(i, 1, BOX) for i in range(1, 21)] + [(i, 2, BOX) for i in range(1, 6)], number=24)


def test_every_split_gets_its_share_of_every_class(cats_and_dogs, tmp_path, capsys):
    assert main(["data", "split", str(cats_and_dogs), "--to", "yolo", "--output", str(tmp_path / "out")]) == 0
    parts = open_parts(tmp_path / "out")
    assert {name: part.class_counts().tolist() for name, part in parts.items()} == {"train": [16, 4], "val": [4, 1]}
    assert {name: len(part) for name, part in parts.items()} == {"train": 19, "val": 5}
    assert "(train): 19 images, 20 boxes" in capsys.readouterr().out


def test_a_seed_is_a_division_and_every_image_is_in_one(cats_and_dogs):
    data = open_data(cats_and_dogs)
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    one, same, other = (split(data, shares, groups_of(data), seed) for seed in (1, 1, 2))
    ids = [part.image_ids.tolist() for part in one.values()]
    assert sorted(sum(ids, [])) == data.image_ids.tolist()
    assert ids == [part.image_ids.tolist() for part in same.values()]
    assert ids != [part.image_ids.tolist() for part in other.values()]
    assert [part.class_counts()[0] for part in one.values()] == [10, 5, 5]


def test_images_of_one_group_and_copies_stay_together(cats_and_dogs, tmp_path):
    content = json.loads(cats_and_dogs.read_text())
    for image in content["images"]:
        name = f"video_{image['id'] % 5}_{image['id']}.png"
        (tmp_path / "set/images" / image["file_name"]).rename(tmp_path / "set/images" / name)
        image["file_name"] = name
    cats_and_dogs.write_text(json.dumps(content))
    make_image(tmp_path / "set/images/video_2_2.png", seed=1)  # what is in video 1 as well
    data = open_data(cats_and_dogs)
    parts = split(data, {"train": 0.6, "val": 0.4}, groups_of(data, r"video_\d"))
    where = {name.split("_")[1]: set() for name in data.file_names()}
    for split_name, part in parts.items():
        for name in part.file_names():
            where[name.split("_")[1]].add(split_name)
    assert all(len(splits) == 1 for splits in where.values()) and where["1"] == where["2"]


@pytest.mark.parametrize("options, words", [
    (["--shares", "train=0.8,val"], "'val' is no name=share, as in train=0.8,val=0.2"),
    (["--shares", "train=-1"], "'train=-1' is no name=share"),
    (["--group", "(", ], "--group '(': no regular expression"),
    (["--group", "video"], "--group 'video': matches in no name, as 1.png"),
    (["--group", "png"], "1 groups of images cannot make 2 splits"),
    (["--output", "x.json"], "x.json: several splits need a folder"),
])  # fmt: skip
def test_what_cannot_be_divided_is_one_line(cats_and_dogs, tmp_path, capsys, options, words):
    assert main(["data", "split", str(cats_and_dogs), "--to", "coco", "--output", str(tmp_path / "out"), *options]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_data_sets_are_merged_by_the_roles_of_their_splits(cats_and_dogs, tmp_path, capsys):
    cells = voc(tmp_path / "voc", {s: [("Dog", 5, 5, 25, 25, 0), ("cow", 1, 1, 9, 9, 1)] for s in "ab"},
                {"train": ["a"], "val": ["b"]})  # fmt: skip
    make_image(tmp_path / "voc/JPEGImages/b.jpg", seed=99)
    arguments = ["data", "merge", str(cats_and_dogs), str(cells), "--to", "coco", "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    parts = open_parts(tmp_path / "out")
    assert {name: len(part) for name, part in parts.items()} == {"train": 25, "val": 1}
    assert parts["train"].class_names == parts["val"].class_names == ("cat", "dog", "cow")
    assert parts["train"].class_counts().tolist() == [20, 6, 0]
    assert np.allclose(parts["val"].boxes, [[5, 5, 25, 25], [1, 1, 9, 9]])
    said = capsys.readouterr().out
    assert "does not have cow: such objects in its images count as background" in said
    assert "does not have cat" in said


def test_an_image_that_comes_into_two_splits_is_said(tmp_path, capsys):
    sets = [voc(tmp_path / s, {"a": [("cat", 5, 5, 25, 25, 0)]}, {s: ["a"]}) for s in ("train", "val")]
    assert main(["data", "merge", *map(str, sets), "--to", "yolo", "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "1 images are copies of others" in said and "1 images are in several splits" in said


@pytest.fixture
def three_splits(tmp_path):
    """A COCO folder of train, val and test, an image and a box each."""
    folder = tmp_path / "three"
    (folder / "annotations").mkdir(parents=True)
    for number, name in enumerate(("train", "val", "test")):
        file = coco(folder / name, [(1, 1, BOX)], number=1)
        make_image(folder / name / "images/1.png", seed=50 + number)
        content = json.loads(file.read_text())
        content["images"][0]["file_name"] = str(folder / name / "images/1.png")
        (folder / f"annotations/instances_{name}.json").write_text(json.dumps(content))
        file.unlink()
    return folder


def test_splits_in_files_of_their_own_are_divided_together(three_splits, tmp_path):
    assert main(["data", "split", str(three_splits), "--to", "coco", "--output", str(tmp_path / "out")]) == 0
    assert sum(len(part) for part in open_parts(tmp_path / "out").values()) == 3


def test_a_broken_split_is_not_left_out_of_a_division_in_silence(three_splits, tmp_path, capsys):
    (three_splits / "annotations/instances_val.json").write_text('{"images": [')
    command = ["data", "split", str(three_splits), "--to", "coco", "--output", str(tmp_path / "out")]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and not (tmp_path / "out").exists()
    assert "the split val cannot be read: mend it, or take --split test or --split train alone (" in said
    assert "instances_val.json" in said
    assert main(["data", "split", str(three_splits), "--split", "val", *command[3:]]) == 2
    assert "instances_val.json" in capsys.readouterr().err


def test_a_broken_split_is_named_and_the_others_are_merged(three_splits, cats_and_dogs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # with long paths the line would be cut
    (three_splits / "annotations/instances_val.json").write_text('{"images": [')
    (three_splits / "test/images/1.png").unlink()
    output, three = Path("out"), three_splits.relative_to(tmp_path)
    arguments = ["data", "merge", str(cats_and_dogs), str(three), "--to", "yolo", "--output", str(output)]
    assert main(arguments) == 2
    said = capsys.readouterr()
    (error,) = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert f"{output}: without 2 of 4 splits, which could not be used: {three} val, {three} test (" in error
    assert f"{output} (train): 25 images" in said.out and {n: len(p) for n, p in open_parts(output).items()} == {
        "train": 25
    }


def test_a_data_set_of_which_nothing_can_be_read_is_not_merged(three_splits, cats_and_dogs, tmp_path, capsys):
    for file in (three_splits / "annotations").iterdir():
        file.write_text("[")
    arguments = [
        "data",
        "merge",
        str(cats_and_dogs),
        str(three_splits),
        "--to",
        "yolo",
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "three" in said and not (tmp_path / "out").exists()
