"""What overlapping boxes become: who decides it, and that it is the same in Python, in commands and in a bundle."""

import json
from dataclasses import replace

import bulk_help as bulk
import numpy as np
import pytest

from detection import Detector
from detection.boxes.postprocess import DEFAULT_MERGE, MERGES
from detection.cli.main import main
from detection.errors import BadWeightsError, MobileSSDError
from detection.postprocessor import PostProcessor
from detection.weights.card import Card
from detection.weights.checkpoint import read_card, update_card


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return bulk.tiny_weights(tmp_path_factory.mktemp("weights")).with_suffix(".safetensors")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return sorted(bulk.save_images(tmp_path_factory.mktemp("images"), 4).glob("*"))


def same(one, other):
    return np.array_equal(one.boxes, other.boxes) and np.array_equal(one.scores, other.scores)


def test_the_users_word_goes_before_the_cards_and_that_before_the_default(weights):
    card = read_card(weights)
    assert PostProcessor.of(card).settings.merge == DEFAULT_MERGE == "vote"
    assert PostProcessor.of(replace(card, merge="nms")).settings.merge == "nms"
    assert PostProcessor.of(replace(card, merge="nms"), merge="soft").settings.merge == "soft"


def test_the_card_of_a_file_keeps_its_rule(weights, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(weights.read_bytes())
    update_card(copy, merge="nms")
    assert read_card(copy).merge == "nms" and Detector(copy).settings.merge == "nms"


def test_a_card_that_names_no_rule_known_is_one_line(weights):
    card = Card.from_json(read_card(weights).to_json().replace('"merge": null', '"merge": "magic"'))
    with pytest.raises(BadWeightsError, match="merge") as error:
        PostProcessor.of(card, source="a.safetensors")
    assert "\n" not in str(error.value) and "a.safetensors" in str(error.value)


@pytest.mark.parametrize("merge", MERGES)
def test_a_detector_a_call_and_a_stream_have_one_rule(weights, images, merge):
    detector, usual = Detector(weights, score=0.01, merge=merge), Detector(weights, score=0.01)
    found = detector(images)
    assert sum(map(len, found)) > 5
    for other in (usual(images, merge=merge), usual.stream(images, merge=merge), usual.with_rules(merge=merge)(images)):
        assert all(same(one, two) for one, two in zip(found, other, strict=True))


def test_voting_moves_boxes_and_changes_no_score(weights, images):
    detector = Detector(weights, score=0.01)
    plain, voted = detector(images, merge="nms"), detector(images)
    assert all(np.array_equal(one.scores, other.scores) for one, other in zip(plain, voted))
    assert any(not np.array_equal(one.boxes, other.boxes) for one, other in zip(plain, voted))


def test_an_unknown_rule_is_one_line(weights, images):
    for make in (lambda: Detector(weights, merge="mean"), lambda: Detector(weights)(images[0], merge="mean")):
        with pytest.raises(MobileSSDError, match="merge is nms, vote or soft, not 'mean'"):
            make()


def test_views_vote_unless_somebody_says_otherwise(weights, tmp_path):
    copy = tmp_path / "published.safetensors"
    copy.write_bytes(weights.read_bytes())
    update_card(copy, merge="nms")
    assert Detector(copy, tiles="2x2").settings.merge == "vote"
    assert Detector(copy, tiles="2x2", merge="soft").settings.merge == "soft"
    assert Detector(copy, merge="nms").with_views("1+2x2").settings.merge == "nms"
    assert Detector(copy, tiles="2x2").with_rules(merge="nms").settings.merge == "nms"


@pytest.mark.parametrize("merge", MERGES)
def test_views_take_every_rule(weights, images, merge):
    found = Detector(weights, score=0.01, tiles="2x2", merge=merge)(images[0])
    assert len(found) > 3 and (np.diff(found.scores) <= 0).all()


def test_detect_takes_it(weights, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = {}
    for merge in (None, *MERGES):
        words = [] if merge is None else ["--merge", merge]
        command = [
            "detect",
            str(images[0]),
            "--weights",
            str(weights),
            "--score",
            "0.01",
            "--no-draw",
            "--json",
            "a.json",
        ]
        assert main([*command, *words]) == 0
        rows[merge] = json.loads((tmp_path / "a.json").read_text())
    assert rows[None] == rows["vote"] != rows["nms"]
