"""Labels, results and YAML of strangers: each fault is a finding or one line, soon and within little memory."""

import json
import os
import time

import pytest
from data_sets import coco, make_image, voc_xml

from detection.cli.main import main
from detection.config import build
from detection.data.check import check
from detection.data.faults import Faults
from detection.data.open import open_data
from detection.data.readers.coco_boxes import box_of
from detection.errors import BadDataError, MobileSSDError
from detection.evaluate.results import read_results
from detection.evaluate.truth import ground_truth, open_evaluation
from detection.train.config import TrainConfig
from detection.yaml_reader import parse_yaml

HUGE = 10**400
ODD = (HUGE, 2**63, -5, float("inf"), float("nan"), [1], {"a": 1}, None, "\ud800", "9" * 5000, "\x1b[2J", [HUGE] * 4)


def changed(tmp_path, part, key, value):
    """A data set of two images and three boxes with one value that is none."""
    file = coco(tmp_path, [(1, 1, [2, 3, 20, 10]), (2, 2, [1, 1, 9, 9]), (2, 1, [5, 5, 9, 9])])
    content = json.loads(file.read_text())
    content[part][0][key] = value
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize("value", ODD, ids=lambda value: ascii(value)[:12])
@pytest.mark.parametrize(
    ("part", "key"),
    [
        *(
            ("annotations", key)
            for key in ("image_id", "category_id", "bbox", "area", "score", "iscrowd", "segmentation")
        ),
        *(("images", key) for key in ("file_name", "height", "width")),
        *(("categories", key) for key in ("name", "supercategory")),
    ],
)
def test_a_value_that_is_none_leaves_the_others_readable(tmp_path, part, key, value):
    file = changed(tmp_path, part, key, value)
    report = check(open_data(file), content=False)
    assert len(report.data) >= 1 and report.data.num_boxes >= 1 and report.text()
    assert len(ground_truth(open_evaluation(file)).image_ids) == 2


@pytest.mark.parametrize("value", ODD, ids=lambda value: ascii(value)[:12])
@pytest.mark.parametrize("part", ["images", "categories"])
def test_an_id_that_is_none_is_a_finding_or_one_line(tmp_path, part, value):
    try:
        assert len(open_data(changed(tmp_path, part, "id", value)).faults) >= 1
    except BadDataError as error:
        assert "without id" in str(error)


def test_half_of_a_surrogate_pair_in_a_file_name_is_an_image_that_is_missing(tmp_path):
    report = check(open_data(changed(tmp_path, "images", "file_name", "\ud800.png")), content=False)
    assert report.summary.faults["missing"] == 1 and "&#55296;.png" in report.text()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"images":' + "[" * 100_000, '{"a":' * 100_000, '{"a": ' + "9" * 5000 + "}"]
)
def test_json_that_lies_too_deep_or_counts_too_far_is_one_line(tmp_path, text):
    (tmp_path / "instances.json").write_text(text)
    with pytest.raises(BadDataError, match=r"instances.json: not (COCO|JSON)"):
        open_data(tmp_path / "instances.json")


def test_run_lengths_take_no_memory_for_the_image_that_they_speak_of():
    assert box_of({"segmentation": {"size": [60_000, 60_000], "counts": [60_001, 3, 119_997, 2]}}) == (1, 1, 3, 3)
    for size, counts in (
        ([10**6, 10**6], [5, 5]),
        ([-4, -6], [1, 2]),
        ([4, 6], [-1, 2, 2**62, 2**62]),
        ([4, 6], [20, 5]),
    ):
        with pytest.raises(ValueError, match=r"^$"):
            box_of({"segmentation": {"size": size, "counts": counts}})


def test_run_lengths_give_the_box_around_what_they_cover():
    import numpy as np

    random = np.random.default_rng(0)
    for _ in range(200):
        counts = random.integers(0, 9, random.integers(1, 9)).tolist()
        inside = np.zeros(7 * 12, bool)
        ends = np.cumsum(counts)
        for start, end in zip(ends[0::2], ends[1::2]):
            inside[start:end] = True
        columns, rows = np.nonzero(inside.reshape(12, 7))
        if len(rows):
            expected = columns.min(), rows.min(), columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()
            assert box_of({"segmentation": {"size": [7, 12], "counts": counts}}) == expected


# ---------------------------------------------------------------- pipes in the place of files


def yolo(folder):
    for name in "ab":
        make_image(folder / "images" / f"{name}.png")
        (folder / "labels").mkdir(exist_ok=True)
        (folder / "labels" / f"{name}.txt").write_text("0 .5 .5 .2 .2\n")
    (folder / "data.yaml").write_text("train: images\nnames: [cat, dog]\n")
    return folder


@pytest.mark.parametrize(
    ("place", "fault"),
    [("labels/a.txt", "unread annotation"), ("images/a.png", "unreadable"), ("images/a.psd", "unread")],
)
def test_a_pipe_in_a_label_set_is_a_finding_at_once(tmp_path, place, fault):
    path = yolo(tmp_path) / place
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    report = check(open_data(tmp_path), content=False)
    assert report.summary.faults[fault] == 1 and len(report.data) >= 1
    assert "is no regular file" in report.text()


@pytest.mark.parametrize(("place", "config"), [("classes.txt", None), ("n.txt", "train: images\nnames: n.txt\n")])
def test_a_pipe_that_would_name_the_classes_is_one_line(tmp_path, place, config):
    yolo(tmp_path)
    (tmp_path / "data.yaml").unlink() if config is None else (tmp_path / "data.yaml").write_text(config)
    os.mkfifo(tmp_path / place)
    with pytest.raises(BadDataError, match="is no regular file"):
        open_data(tmp_path)


def test_pipes_among_xml_and_json_files_are_passed_over(tmp_path):
    for name in "ab":
        make_image(tmp_path / "JPEGImages" / f"{name}.png")
        voc_xml(tmp_path / "Annotations" / f"{name}.xml", [("cat", 2, 3, 20, 12, 0)])
    os.mkfifo(tmp_path / "Annotations" / "c.xml")
    os.mkfifo(tmp_path / "instances.json")
    data = open_data(tmp_path)
    assert len(data) == 2 and data.faults["unread annotation"] == 1


def test_a_pipe_named_itself_is_one_line(tmp_path, capsys):
    os.mkfifo(tmp_path / "x.json")
    for words in (["data", "check"], ["eval", "--data"]):
        assert main([*words, str(tmp_path / "x.json")]) == 2
        assert "x.json" in capsys.readouterr().err


def test_whatever_a_reader_raises_is_bad_data(tmp_path, monkeypatch):
    def unforeseen(*_):
        raise KeyError("of a reader")

    monkeypatch.setattr("detection.data.readers.coco.find_paths", unforeseen)
    with pytest.raises(
        BadDataError, match=r"instances.json: cannot be read as COCO \(KeyError: 'of a reader'\)"
    ) as caught:
        open_data(changed(tmp_path, "images", "height", 60))
    assert isinstance(caught.value.__cause__, KeyError)  # for those who put it right


# ---------------------------------------------------------------- results


@pytest.mark.parametrize("key", ["image_id", "category_id", "bbox", "score", "category_name", "file_name"])
@pytest.mark.parametrize("value", ODD, ids=lambda value: ascii(value)[:12])
def test_results_are_read_or_refused_in_one_line(tmp_path, key, value):
    truth = ground_truth(open_evaluation(changed(tmp_path, "images", "height", 60)))
    row = {
        "image_id": 1,
        "category_id": 1,
        "bbox": [1, 2, 3, 4],
        "score": 0.5,
        "category_name": "cat",
        "file_name": "1.png",
    }
    (tmp_path / "results.json").write_text(json.dumps([row, row | {key: value}]))
    try:
        assert len(read_results(tmp_path / "results.json", truth)) in (1, 2)
    except BadDataError as error:
        assert str(error).startswith(str(tmp_path / "results.json"))


# ---------------------------------------------------------------- YAML


def bomb(levels=9):
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for i in range(1, levels):
        lines.append(f"{chr(97 + i)}: &{chr(97 + i)} [{', '.join([f'*{chr(96 + i)}'] * 9)}]")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (bomb(), "more than 100,000 values, those that aliases repeat counted"),
        ("a: &a [*a]\n", "an alias that holds itself"),
        ("a: " + "[" * 100_000, "nested deeper than 50 levels"),
        ("a: " + "{a: " * 100_000, "nested deeper than 50 levels"),
        ("a: [2001-13-45]\n", "month must be in 1..12"),
        ("a: " + "9" * 5000 + "\n", "a value that means nothing"),
        ("a: !!float x\n", "a value that means nothing"),
        ("a: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
    ],
)
def test_yaml_is_limited_before_anything_is_made_of_it(text, reason):
    began = time.process_time()
    with pytest.raises(MobileSSDError, match=reason) as caught:
        parse_yaml(text, "data.yaml")
    assert str(caught.value).startswith("data.yaml") and time.process_time() - began < 3


def test_aliases_that_repeat_little_are_read():
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: [*a, *a]\n", "x") == {"a": [1, 2], "b": [1, 2], "c": [[1, 2], [1, 2]]}


def test_a_bomb_in_a_data_set_a_recipe_and_an_option_is_one_line(tmp_path, capsys):
    (yolo(tmp_path) / "data.yaml").write_text(bomb() + "train: images\nnames: *i\n")
    (tmp_path / "recipe.yaml").write_text(bomb())
    for words in (["--data", str(tmp_path)], ["--data", ".", "--config", str(tmp_path / "recipe.yaml")]):
        assert main(["train", *words, "--output", str(tmp_path / "run")]) == 2
        assert "more than 100,000 values" in capsys.readouterr().err
    assert main(["train", "--data", ".", "--set", "batch=" + "[" * 5000]) == 2
    assert "no value that YAML can read" in capsys.readouterr().err


def test_what_a_data_yaml_names_is_text(tmp_path):
    for text, reason in [
        ("train: images\nnames: [[a], b]\n", "in the place of a class's name"),
        ("train: [{a: b}]\nnames: [a]\n", "in the place of a folder"),
        ("train: images\nnc: 1000000000\n", "no data set recognised"),
        (f"train: {'x' * 5000}\nnames: [a]\n", "does not exist"),
    ]:
        (yolo(tmp_path) / "data.yaml").write_text(text)
        with pytest.raises(BadDataError, match=reason):
            open_data(tmp_path)


@pytest.mark.parametrize("value", [HUGE, -HUGE, float("inf"), "9" * 400, [HUGE]])
@pytest.mark.parametrize(
    "key", ["batch", "workers", "norm_momentum", "seed", "freeze", "input_size", "input_sizes", "epochs"]
)
def test_numbers_of_any_length_in_a_recipe_are_one_line(key, value):
    with pytest.raises(MobileSSDError, match=key):
        build(TrainConfig, {key: value})


def test_faults_are_counted_by_kinds_that_are_known():
    with pytest.raises(KeyError):
        Faults().add("unforeseen", "x")


BOMB = (
    "<!DOCTYPE a [<!ENTITY b 'ha'>"
    + "".join(f"<!ENTITY b{k} '{f'&b{k - 1 or str()};' * 10}'>" for k in range(1, 5))
    + "]>"
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_of_voc_labels_are_not_unfolded(tmp_path, encoding):
    voc_xml(tmp_path / "Annotations" / "a.xml", [("cat", 2, 3, 20, 12, 0)])
    whole = (tmp_path / "Annotations" / "a.xml").read_text()
    declared = f'<?xml version="1.0" encoding="{encoding}"?>'
    (tmp_path / "Annotations" / "b.xml").write_bytes(
        f"{declared}{BOMB}{whole.replace('<name>cat', '<name>&b4;')}".encode(encoding)
    )
    make_image(tmp_path / "JPEGImages" / "a.png")
    data = open_data(tmp_path)
    assert data.class_names == ("cat",) and "b.xml: no XML that can be read (it declares entities" in str(data.faults)


def test_entities_of_cvat_labels_are_one_line(tmp_path):
    body = '<annotations><image id="0" name="a.jpg" width="60" height="40"><box label="&b4;" xtl="1" ytl="1"/></image>'
    (tmp_path / "annotations.xml").write_text(f'<?xml version="1.0"?>{BOMB}{body}</annotations>')
    with pytest.raises(BadDataError, match="annotations.xml: .*it declares entities, which no labels need"):
        open_data(tmp_path / "annotations.xml")


@pytest.mark.parametrize("form", ["jsonl", "yolo"])
def test_a_folder_that_labels_name_is_looked_into_where_their_images_lie_there(tmp_path, monkeypatch, form):
    """../../outside in a label file is a missing image, and no reason to read what else lies there."""
    data, outside = tmp_path / "data", tmp_path / "secret"
    make_image(data / "a.png")
    outside.write_text("a secret")
    if form == "jsonl":
        lines = [{"file_name": name, "objects": {"bbox": [[1, 1, 9, 9]], "categories": ["cat"]}} for name in NAMED]
        (data / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    else:
        (data / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
        (data / "train.txt").write_text("".join(f"{name}\n" for name in NAMED))
        (data / "data.yaml").write_text("train: train.txt\nnames: [cat]\n")
    os.mkfifo(tmp_path / "pipe.png")  # is there, but no image: as /dev/zero
    assert "secret" not in check(open_data(data if form == "jsonl" else data / "data.yaml"), content=False).text()


NAMED = ("a.png", "../missing.png", "../pipe.png")
