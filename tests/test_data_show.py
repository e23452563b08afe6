"""`mobilessd data show`: labelled images on a page that needs nothing else, or in one image."""

import base64
import re

import cv2
import numpy as np
import pytest
from data_sets import coco

from detection.cli.main import main
from detection.data.gallery import choose, doubts
from detection.data.open import open_data


@pytest.fixture
def labelled(tmp_path):
    """Four images: a sound one, one labelled twice, one with a box beyond the image and a thin one, one of two classes."""
    boxes = [(1, 1, [5, 5, 40, 40]), (2, 1, [5, 5, 40, 40]), (2, 1, [5, 5, 40, 41])]
    boxes += [(3, 2, [70, 5, 40, 40]), (3, 2, [5, 5, 0.2, 9]), (4, 1, [5, 5, 40, 40]), (4, 2, [5, 5, 40, 40])]
    return coco(tmp_path / "set <b>", boxes, number=4)


def show(file, output, *options):
    return main(["data", "show", str(file), "--output", str(output), *options])


def test_a_page_holds_the_images_with_their_labels(labelled, tmp_path, capsys):
    assert show(labelled, tmp_path / "page.html") == 0
    text = (tmp_path / "page.html").read_text()
    images = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(images) == 4 and "<b>/images" not in text and "set &lt;b&gt;/images/1.png" in text
    assert "http" not in text and "<script" not in text
    first = cv2.imdecode(np.frombuffer(base64.b64decode(images[0]), np.uint8), cv2.IMREAD_COLOR)
    assert first.shape == (60, 80, 3)
    assert "page.html: 4 of 4 images of" in capsys.readouterr().out


def test_an_image_is_a_grid(labelled, tmp_path):
    assert show(labelled, tmp_path / "grid.png", "--samples", "3") == 0
    assert cv2.imread(str(tmp_path / "grid.png")).shape == (60, 3 * 324 - 4, 3)


def test_by_class_shows_some_of_each(labelled, tmp_path):
    choices = choose(open_data(labelled), "class", 4)
    assert [choice.heading for choice in choices] == ["cat: 3 images", "dog: 2 images"]
    assert [len(choice.images) for choice in choices] == [2, 2]
    assert show(labelled, tmp_path / "page.html", "--order", "class") == 0
    assert "<h2>dog: 2 images</h2>" in (tmp_path / "page.html").read_text()


def test_the_worst_come_first_and_it_is_said_why(labelled, tmp_path):
    data = open_data(labelled)
    assert [doubts(data, index) for index in range(4)] == [
        {}, {"labelled twice": 1}, {"beyond the image": 1, "very thin": 1}, {"of two classes in one place": 1},
    ]  # fmt: skip
    assert choose(data, "worst")[0].images == [2, 1, 3]
    assert show(labelled, tmp_path / "page.html", "--order", "worst") == 0
    assert "<b>1 beyond the image, 1 very thin</b>" in (tmp_path / "page.html").read_text()


def test_only_images_with_the_classes_wanted(labelled, tmp_path, capsys):
    assert show(labelled, tmp_path / "page.html", "--classes", "dog") == 0
    assert "2 of 2 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("page.pdf", [], "page.pdf: name a page (.html) or an image (.png, .jpg, .webp)"),
        ("page.html", ["--order", "best"], "invalid choice: 'best'"),
        ("page.html", ["--classes", "cow"], "none of its classes"),
    ],
)
def test_what_cannot_be_shown_is_one_line(labelled, tmp_path, capsys, name, options, words):
    assert show(labelled, tmp_path / name, *options) == 2
    assert words in capsys.readouterr().err and not (tmp_path / name).exists()


def test_images_that_cannot_be_drawn_are_named(labelled, tmp_path, capsys):
    (labelled.parent / "images" / "2.png").unlink()
    assert show(labelled, tmp_path / "page.html", "--order", "worst") == 0
    said = capsys.readouterr().out
    assert "2 of 4 images" in said and "not drawn: " in said and "2.png: no such file" in said
