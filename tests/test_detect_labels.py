"""`mobilessd detect --labels FORMAT DIR`: what was found becomes a data set, which is read like any other."""

import json

import numpy as np
import pytest
from data_sets import make_image
from test_detect_cli import FakeDetector

from detection.cli.main import main
from detection.data.open import open_data


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Two images, of which the brighter one comes with the better score; the fake detector finds a dog in the middle."""
    monkeypatch.setattr("detection.cli.detect.open_detector", lambda args, **_: FakeDetector())
    monkeypatch.setattr("detection.cli.detect_job.open_detector", lambda args, **_: FakeDetector())
    monkeypatch.chdir(tmp_path)
    make_image(tmp_path / "images/a.png"), make_image(tmp_path / "images/sub/b.png", seed=1)
    return tmp_path / "images"


def label(images, format, *more):
    return main(["detect", str(images), "--recursive", "--no-draw", "--labels", format, "labelled", *more])


@pytest.mark.parametrize("format", ["coco", "yolo", "voc"])
def test_what_was_found_is_a_data_set(images, format, capsys):
    assert label(images, format) == 0
    data = open_data("labelled", "all")
    assert len(data) == 2 and not data.faults
    assert np.abs(data.boxes - [20, 15, 60, 45]).max() < 0.01
    assert {data.class_names[i] for i in data.labels} == {"dog"}
    assert "labels in labelled" in capsys.readouterr().out
    if format == "coco":
        assert dict(zip(data.category_ids, data.class_names)) == {1: "person", 18: "dog"}
        assert ((0.4 < data.scores) & (data.scores < 0.6)).all()


def test_label_studio_gets_predictions(images):
    assert label(images, "labelstudio") == 0
    tasks = json.loads((images.parent / "labelled/tasks.json").read_text())
    assert [len(task["predictions"][0]["result"]) for task in tasks] == [1, 1]
    assert not any(task["annotations"] for task in tasks)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--labels", "pascal", "out"], "--labels pascal: known formats are coco, labelstudio, voc, yolo"),
        (["--labels", "coco", "images"], "images: is there already; name a folder that is not, or is empty"),
        (["--labels", "coco", "out", "--shards", "x"], "--labels holds the boxes of all images in memory"),
    ],
)
def test_what_cannot_be_labelled_is_refused_before_any_work(images, capsys, arguments, words):
    assert main(["detect", "images", "--no-draw", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (images.parent / "out").exists()


def test_a_video_is_refused_before_any_work(images, capsys):
    (images.parent / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    assert main(["detect", "images", "film.mp4", "--no-draw", "--labels", "coco", "out"]) == 2
    assert "--labels needs image files, and film.mp4 is none: save its images first" in capsys.readouterr().err
