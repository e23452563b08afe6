"""The int8 form of the default weights: whole, nearly as good, and taken where it is faster and nothing speaks against it."""

import argparse
from pathlib import Path

import numpy as np
import pytest

from detection import Detector, processor
from detection.cli.common import add_detector_arguments, at_own_size, open_detector
from detection.cli.main import main
from detection.errors import MobileSSDError
from detection.export.compare import match
from detection.export.staging import size_of
from detection.files import sha256_of
from detection.runtimes import open as opening
from detection.runtimes import resize
from detection.weights.formats import card_of
from detection.weights.records import DEFAULT, find_record
from detection.weights.resolve import open_weights

pytest.importorskip("openvino", reason="needs openvino")

PHOTOS = Path(__file__).resolve().parents[1] / "photos"
UNROUNDED = 0.2077  # AP of the float32 form on the 552 held-out images, boxes voted (docs/our-weights.md)
SCALES = "ssdlite_mobilenet_v2_scales.mobilessd"  # ships in float32 alone


@pytest.fixture
def fast(monkeypatch):
    """A processor that multiplies bytes, whatever the real one does."""
    monkeypatch.setattr(processor, "processor", lambda: ("made", ("avx2", "avx512_vnni")))
    monkeypatch.setattr(opening, "_has_gpu", lambda: False)


def precision_of(*options, told=None):
    """What the network runs in that `mobilessd detect` opens with these options; `told` gets what is said of it."""
    parser = argparse.ArgumentParser()
    add_detector_arguments(parser)
    tell = [].append if told is None else told.append
    return open_detector(parser.parse_args(["--threads", "1", *options]), tell=tell).runtime.precision


def test_it_is_small_and_made_of_the_file_beside_it():
    weights = open_weights(DEFAULT)
    assert weights.int8 is not None and size_of(weights.int8) < 6_000_000
    card, record = card_of(weights.int8), find_record(DEFAULT)
    assert card is not None and record is not None
    assert card.recipe["quantization"]["of"] == sha256_of(weights.path) == record.sha256
    assert (card.precision, card.input_size, card.class_names) == ("int8", (300, 300), weights.card.class_names)
    assert card.metrics == [dict(metric) for metric in record.int8_metrics] and card.metrics
    assert card.attribution == weights.card.attribution and card.training_images == weights.card.training_images


def test_what_it_loses_is_within_its_bar():
    record = find_record(DEFAULT)
    drops = [UNROUNDED - metric["AP"] for metric in record.int8_metrics if metric["images"] == 552]
    assert drops and max(drops) <= 0.003


def test_it_finds_what_the_float32_one_finds():
    unrounded, rounded = Detector(threads=1, score=0.05), Detector(threads=1, score=0.05, precision="int8")
    assert (unrounded.runtime.precision, rounded.runtime.precision) == ("float32", "int8")
    photos = sorted(PHOTOS.glob("*.jpg"))
    sure = missing = 0
    for photo in photos:
        wanted = unrounded(photo).above(0.5)
        found, lost, _ = match(wanted, rounded(photo), 0.05)
        sure, missing = sure + found, missing + lost
    assert sure >= 3 and missing == 0


def test_where_bytes_are_multiplied_detect_takes_it_and_says_so_in_one_line(fast):
    told = []
    assert precision_of(told=told) == "int8"
    assert len(told) == 1 and "int8" in told[0] and "--precision float32" in told[0] and "\n" not in told[0]


@pytest.mark.parametrize(
    "options",
    [
        ("--precision", "float32"),
        ("--runtime", "onnxruntime"),
        ("--weights", SCALES),
        ("--weights", str(find_record(DEFAULT).shipped)),
    ],
    ids=["asked for", "another runtime", "weights that have none", "a file named by its path"],
)
def test_it_is_not_taken_in_silence_or_in_the_place_of_something_else(fast, options):
    if "onnxruntime" in options:
        pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    told = []
    assert precision_of(*options, told=told) == "float32" and told == []


@pytest.mark.parametrize(
    "views, tiles, alone",
    [(None, "2x2", True), ("1+mirror", None, True), ("300,428", None, False), ("428", "2x2", False)],
)
def test_views_at_another_input_size_keep_float32_for_all(views, tiles, alone):
    assert at_own_size(open_weights(DEFAULT), views, tiles) is alone


def test_asked_for_it_is_what_becomes_another_size(monkeypatch):
    """`tests/test_resize.py` sees what an int8 file is at another size."""
    asked = []
    monkeypatch.setattr(
        resize, "at_size", lambda weights, size: asked.append((weights.card.precision, size)) or weights
    )
    Detector(threads=1, precision="int8", input_size=172)
    Detector(threads=1, input_size=172)
    assert asked == [("int8", 172), ("float16", 172)]


def test_tiles_are_looked_at_in_int8(fast):
    assert precision_of("--tiles", "2x2") == "int8"


def test_an_older_processor_keeps_float32(monkeypatch):
    monkeypatch.setattr(processor, "processor", lambda: ("made", ("avx2", "avx512f")))
    assert precision_of() == "float32"


def test_who_tells_nobody_keeps_float32(fast):
    """As `eval`, whose figures are those of the weights, and as Python, which prints nothing."""
    parser = argparse.ArgumentParser()
    add_detector_arguments(parser)
    assert open_detector(parser.parse_args(["--threads", "1"])).runtime.precision == "float32"
    assert Detector(threads=1).runtime.precision == "float32"


def test_the_command_prints_it_behind_the_detector(fast, capsys, tmp_path):
    assert main(["detect", str(PHOTOS / "hopper.jpg"), "--threads", "1", "--output", str(tmp_path)]) == 0
    first, second, third = capsys.readouterr().out.splitlines()[:3]
    assert "int8" in first and "--precision float32" in second and "person" in third
    assert main(["detect", str(PHOTOS / "hopper.jpg"), "--threads", "1", "--no-draw", "--precision", "float32"]) == 0
    out = capsys.readouterr().out
    assert "float32" in out.splitlines()[0] and ", int8," not in out and "--precision" not in out


def test_it_travels_to_other_processes_in_int8():
    import pickle

    detector = Detector(threads=1, precision="int8")
    again = pickle.loads(pickle.dumps(detector))
    image = np.zeros((1, 300, 300, 3), np.uint8)
    assert again.runtime.precision == "int8"
    assert all(np.array_equal(a, b) for a, b in zip(detector.runtime(image), again.runtime(image)))


def test_weights_without_one_say_how_to_make_it():
    with pytest.raises(MobileSSDError, match="make an int8 file with mobilessd quantize"):
        Detector(SCALES, threads=1, precision="int8")
