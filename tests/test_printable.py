"""Whatever is in the names of classes, files and cameras, terminals get text: no orders, no line that is another's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_sets import coco

from detection.boxes.detections import Detections
from detection.boxes.drawing import Area, fit_text, put_text
from detection.cli.main import main
from detection.cli.pipes import Printable
from detection.errors import printable

EVIL = "\x1b[2Jcat\x07\x9b31m\u202e\r"
ROOT = Path(__file__).resolve().parents[1]


def test_what_is_no_text_to_be_seen_is_spelt_out():
    assert printable(EVIL) == r"\x1b[2Jcat\x07\x9b31m\u202e\r"
    for fine in ("Tür 3", "猫\u3000犬", "a\u00a0b", "😀", ""):
        assert printable(fine) == fine
    assert printable("a\nb\x1b", "\n") == "a\nb\\x1b" and printable("\ud800") == r"\ud800"


def test_detections_in_words_are_text():
    found = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, int), (EVIL,), (5, 5))
    assert str(found).isprintable() and found.in_words().isprintable() and repr(found).isprintable()
    assert found.names == [EVIL], "data stay as they are"


def test_streams_let_lines_and_progress_bars_through(capsys):
    stream = Printable(sys.stdout)
    stream.write("one\ttwo\r\n\x1b[A\x1b[31mred")
    assert capsys.readouterr().out == "one\ttwo\r\n\x1b[A\\x1b[31mred"
    assert stream.isatty() is sys.stdout.isatty()


def test_the_check_of_a_data_set_prints_text(tmp_path, capsys):
    file = coco(tmp_path, [(1, 1, [2, 3, 20, 10]), (1, 2, [1, 2, 9, 9])], categories=(EVIL, "dog"))
    content = json.loads(file.read_text())
    content["images"][1]["file_name"] = EVIL + ".jpg"
    file.write_text(json.dumps(content))
    assert main(["data", "check", str(file)]) in (0, 2)
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err and r"\x1b[2Jcat" in out


@pytest.mark.parametrize(
    "words", [["detect", EVIL + ".jpg"], ["live", EVIL], ["eval", "--data", EVIL], [EVIL], ["train", "--" + EVIL]]
)
def test_names_on_the_command_line_come_back_as_text(capsys, words):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err and "\x9b" not in out + err and len(err) <= 600


def test_a_process_prints_text_too(tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((9, 9, 3), np.uint8))
    os.rename(tmp_path / "a.jpg", tmp_path / "\x1b[2Ja.jpg")
    (tmp_path / "\x1b[2Jb.jpg").write_text("no image")
    command = [sys.executable, "-m", "detection.cli.main", "detect", str(tmp_path), "--no-draw"]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=False)
    assert (
        b"\x1b" not in done.stdout + done.stderr and rb"\x1b[2Ja.jpg" in done.stdout and rb"\x1b[2Jb.jpg" in done.stderr
    )


def test_drawn_text_is_text():
    assert fit_text(EVIL, 12, 400) == fit_text(printable(EVIL), 12, 400)
    canvases = [np.zeros((40, 400, 3), np.uint8) for _ in range(2)]
    for canvas, text in zip(canvases, (EVIL, printable(EVIL))):
        put_text(canvas, text, Area(0, 0, 400, 40), 0.8, (0, 0, 0))
    assert (canvases[0] == canvases[1]).all()
